//! Prompt references in requests: resolved, rendered, and spliced into the caller's JSON, for every dialect. No other
//! file must read a request's `prompt`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use memchr::memmem;
use serde_json::value::RawValue;

use super::auth::Caller;
use crate::error::Error;
use crate::prompts::{Prompt, Prompts, Scalar, Variable, field, shown};
use crate::wire::chat::{ApiError, Kind};
use crate::wire::dialect::CallerDialect;
use crate::wire::json::{self, Members};

/// The members of a request's `prompt`.
const KNOWN: [&str; 3] = ["id", "version", "variables"];

/// The prompt that a body names, if it names one, and the body in which it has become messages. A body
/// without one stays as it is.
pub fn fill_in(
    prompts: &Prompts,
    caller: &Caller,
    dialect: &dyn CallerDialect,
    body: String,
) -> (Option<Arc<Prompt>>, Result<String, Error>) {
    let named = match Named::find(&body, dialect) {
        Ok(Some(named)) => named,
        Ok(None) => return (None, Ok(body)),
        Err(fault) => return (None, Err(fault.into())),
    };
    let prompt = match choose(prompts, caller, &named) {
        Ok(prompt) => prompt,
        Err(fault) => return (None, Err(fault.into())),
    };
    let filled = prompt.render(&named.variables).map_err(Error::from);
    let body = filled.and_then(|filled| Ok(dialect.prepend(&body, &filled)?));
    (Some(Arc::clone(prompt)), body)
}

/// A request's reference to a prompt.
#[derive(Debug)]
struct Named {
    id: String,
    version: Option<String>,
    variables: BTreeMap<String, Scalar>,
}

impl Named {
    /// Looks for the member `prompt`. A string there, an object without `id`, or one with an id of the vendor's, is not
    /// a reference. Neither is a body that is not JSON, which a later step rejects.
    fn find(body: &str, dialect: &dyn CallerDialect) -> Result<Option<Self>, ApiError> {
        // The name stands nowhere in most bodies, which are therefore not parsed for it.
        if memmem::find(body.as_bytes(), br#""prompt""#).is_none() {
            return Ok(None);
        }
        let Ok(members) = Members::parse(body) else { return Ok(None) };
        let Some(prompt) = members.get("prompt") else { return Ok(None) };
        let Ok(said) = Members::parse(prompt.get()) else { return Ok(None) };
        let kept = |id: &RawValue| json::text(id).is_some_and(|id| dialect.keeps_prompt(&id));
        match said.get("id") {
            Some(id) if !kept(id) => Self::read(&said).map(Some),
            _ => Ok(None),
        }
    }

    fn read(said: &Members<'_>) -> Result<Self, ApiError> {
        if let Some((name, _)) = said.0.iter().find(|(name, _)| !KNOWN.contains(&name.as_ref())) {
            let message = format!(
                "`prompt` has an unknown member {}; it may have `id`, `version` and `variables`",
                shown(name)
            );
            return Err(ApiError::field("prompt", message));
        }
        let text = |name: &str| {
            let value = said.get(name).filter(|value| !json::is_null(value));
            let text = value.map(|value| json::text(value).map(Cow::into_owned));
            let field = format!("prompt.{name}");
            text.map(|text| text.ok_or_else(|| wrong(field, "must be a string"))).transpose()
        };
        let id = text("id")?.ok_or_else(|| wrong("prompt.id".to_owned(), "must be a string"))?;
        Ok(Self { id, version: text("version")?, variables: variables(said.get("variables"))? })
    }
}

fn variables(value: Option<&RawValue>) -> Result<BTreeMap<String, Scalar>, ApiError> {
    let mut variables = BTreeMap::new();
    let Some(value) = value.filter(|value| !json::is_null(value)) else { return Ok(variables) };
    let members = Members::parse(value.get())
        .map_err(|_| wrong("prompt.variables".to_owned(), "must be an object"))?;
    for (name, value) in members.0 {
        let value = Scalar::from_json(value).map_err(|why| wrong(field(&name), why))?;
        if variables.insert(name.clone().into_owned(), value).is_some() {
            return Err(wrong(field(&name), "is given twice"));
        }
    }
    Ok(variables)
}

fn wrong(field: String, why: &str) -> ApiError {
    let message = format!("`{field}` {why}");
    ApiError::field(field, message)
}

/// The requested version, or else the newest, of those that the caller may see.
fn choose<'p>(
    prompts: &'p Prompts,
    caller: &Caller,
    Named { id, version, .. }: &Named,
) -> Result<&'p Arc<Prompt>, ApiError> {
    let mut seen = prompts.versions(id).filter(|prompt| may_see(caller, prompt)).peekable();
    if seen.peek().is_none() {
        let message = format!("there is no prompt {}; GET /v1/prompts lists them", shown(id));
        return Err(not_found("prompt.id", message));
    }
    let Some(version) = version else {
        return seen.next_back().ok_or_else(|| not_found("prompt.id", String::new()));
    };
    seen.find(|prompt| prompt.version.as_str() == version).ok_or_else(|| {
        let (id, version) = (shown(id), shown(version));
        let message =
            format!("prompt {id} has no version {version}; GET /v1/prompts lists those it has");
        not_found("prompt.version", message)
    })
}

fn not_found(field: &str, message: String) -> ApiError {
    let code = Some("prompt_not_found".to_owned());
    ApiError { kind: Kind::NotFound, message, code, param: Some(field.to_owned()) }
}

/// A prompt is for callers who may use its model; one without a model is for all.
fn may_see(caller: &Caller, prompt: &Prompt) -> bool {
    prompt.model.as_ref().is_none_or(|model| caller.may_use(model))
}

/// The JSON body of the list of prompts that a caller may use, the newest version first.
pub fn list(prompts: &Prompts, caller: &Caller) -> String {
    let variable = |Variable { name, description, default }: &Variable| {
        serde_json::json!({
            "name": name,
            "description": description,
            "required": default.is_none(),
            "default": default.as_ref().map(Scalar::to_json),
        })
    };
    let version = |prompt: &Arc<Prompt>| {
        serde_json::json!({
            "version": prompt.version.as_str(),
            "description": prompt.description,
            "model": prompt.model,
            "variables": prompt.variables.iter().map(variable).collect::<Vec<_>>(),
        })
    };
    let mut data = Vec::new();
    for id in prompts.ids() {
        let seen = prompts.versions(id).rev().filter(|prompt| may_see(caller, prompt));
        let versions: Vec<_> = seen.map(version).collect();
        if !versions.is_empty() {
            data.push(serde_json::json!({"id": id, "object": "prompt", "versions": versions}));
        }
    }
    serde_json::json!({"object": "list", "data": data}).to_string()
}
