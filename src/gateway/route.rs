//! Where to: a model name to a [`Plan`]. Pure.

use std::sync::Arc;

use super::auth::Caller;
use crate::config::{self, Config, Target};
use crate::error::Error;
use crate::wire::chat::{Fault, Kind};
use crate::wire::rights;

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
        return Err(unknown(model));
    };
    if !config::is_model(upstream) {
        let message = "`model` names a model that no provider has; after the provider's name it must \
                       be 1 to 256 visible ASCII characters without a segment `..`";
        return Err(Error::caller(Fault::field("model", message)));
    }
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

/// Refuses a request that a target would get as it is, and that would run other models there, for a
/// caller who may not use every model.
pub fn permit_members(
    plan: &Plan,
    caller: &Caller,
    dialect: &str,
    body: &str,
) -> Result<(), Error> {
    let passed = |target: &Target| target.provider.dialect.name() == dialect;
    if caller.may_use_all() || !plan.targets.iter().any(passed) {
        return Ok(());
    }
    rights::refuse_other_models(dialect, body).map_err(Error::caller)
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

fn unknown(model: &str) -> Error {
    Error::caller(Fault {
        kind: Kind::NotFound,
        message: format!(
            "there is no model {}; GET /v1/models lists the models, and provider/model names one directly",
            shown(model)
        ),
        code: Some("model_not_found".to_owned()),
        param: Some("model".to_owned()),
    })
}

/// A model name that may be repeated in a message: short, and without control characters.
fn shown(model: &str) -> String {
    let short: String = model.chars().filter(|c| !c.is_control()).take(100).collect();
    format!("`{short}`")
}
