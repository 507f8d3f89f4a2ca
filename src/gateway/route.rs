//! Where to: a model name to a [`Plan`]. Pure.

use std::sync::Arc;

use super::auth::Caller;
use crate::config::{Config, Target};
use crate::error::Error;
use crate::wire::chat::{Fault, Kind};

/// The ordered attempts for one request.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Never empty.
    pub targets: Vec<Target>,
    /// The model for metrics: a configured name, so that labels stay bounded.
    pub label: String,
    /// The caller named `provider/model` and no configured model.
    pub direct: bool,
}

/// Resolves the model that a caller names: a configured one, or `provider/upstream-model`.
pub fn plan(config: &Config, caller: &Caller, model: &str) -> Result<Plan, Error> {
    if let Some(targets) = config.models.get(model) {
        permit(caller, model)?;
        return Ok(Plan { targets: targets.clone(), label: model.to_owned(), direct: false });
    }
    let direct = model.split_once('/').and_then(|(provider, upstream)| {
        config
            .providers
            .get(provider)
            .filter(|_| !upstream.is_empty())
            .map(|found| (found, upstream))
    });
    let Some((provider, upstream)) = direct else {
        return Err(unknown(config, caller, model));
    };
    permit(caller, model)?;
    Ok(Plan {
        label: format!("{}/*", provider.name),
        direct: true,
        targets: vec![Target {
            provider: Arc::clone(provider),
            model: upstream.to_owned(),
            context: None,
            quirks: Arc::clone(&provider.quirks),
        }],
    })
}

/// The configured models that a caller may use, by name.
pub fn models<'a>(config: &'a Config, caller: &Caller) -> Vec<&'a str> {
    config.models.keys().map(String::as_str).filter(|model| caller.may_use(model)).collect()
}

fn permit(caller: &Caller, model: &str) -> Result<(), Error> {
    if caller.may_use(model) {
        return Ok(());
    }
    Err(Error::caller(Fault {
        kind: Kind::Permission,
        message: format!(
            "this key may not use the model {}; GET /v1/models lists those it may",
            shown(model)
        ),
        code: Some("model_not_allowed".to_owned()),
        param: Some("model".to_owned()),
    }))
}

fn unknown(config: &Config, caller: &Caller, model: &str) -> Error {
    let guess = near(config, caller, model);
    let guess = guess.map_or_else(String::new, |name| format!("did you mean {}? ", shown(name)));
    Error::caller(Fault {
        kind: Kind::NotFound,
        message: format!(
            "there is no model {}; {guess}GET /v1/models lists the models, and provider/model names one directly",
            shown(model)
        ),
        code: Some("model_not_found".to_owned()),
        param: Some("model".to_owned()),
    })
}

/// The model whose name a caller may have mistyped, of those that it may use.
fn near<'a>(config: &'a Config, caller: &Caller, model: &str) -> Option<&'a str> {
    let typed: String = model.chars().take(100).collect();
    let names = config.models.keys().map(String::as_str).filter(|name| caller.may_use(name));
    let nearest = names.map(|name| (strsim::osa_distance(&typed, name), name)).min();
    nearest.filter(|(distance, name)| *distance <= name.len() / 3).map(|(_, name)| name)
}

/// A model name that may be repeated in a message: short, and without control characters.
fn shown(model: &str) -> String {
    let short: String = model.chars().filter(|c| !c.is_control()).take(100).collect();
    format!("`{short}`")
}
