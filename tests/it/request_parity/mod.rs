//! Requests that a vendor's own endpoint takes, in front of every other vendor: they are accepted, and what
//! is sent is what its target takes.

#![expect(clippy::needless_pass_by_value, reason = "JSON literals read best where they stand")]

use serde_json::{Value, json};
use streamgate::wire::adapt::{self, Written};
use streamgate::wire::chat::ApiError;
use streamgate::wire::dialect::{self, DIALECTS, Form, Hosting, Quirks, Target};

mod compaction;
mod documents;
mod legacy_functions;
mod media;
mod platforms;
mod schemas;
mod tools;
mod turns;

/// Every dialect but the caller's own.
fn others(caller: &str) -> impl Iterator<Item = &'static str> {
    DIALECTS.iter().map(|dialect| dialect.name()).filter(move |name| *name != caller)
}

/// The translated request for a model of an upstream of another dialect.
fn asked(caller: &str, body: &Value, upstream: &str, model: &str) -> Result<Written, ApiError> {
    let caller = dialect::by_name(caller).unwrap().as_caller().unwrap();
    let mut body = body.clone();
    body["model"] = json!("m");
    let mut request = caller.decode_request(Form::Chat, &body.to_string())?;
    let quirks = Quirks::default();
    let target = Target { model, stream: true, form: Form::Chat, quirks: &quirks };
    adapt::write(&mut request, dialect::by_name(upstream).unwrap(), &target, false)
}

/// The same, which must be accepted: the body, and what was left out.
fn sent(caller: &str, body: &Value, upstream: &str, model: &str) -> (Value, Vec<String>) {
    let written = asked(caller, body, upstream, model)
        .unwrap_or_else(|fault| panic!("{caller} to {upstream}: {}: {body}", fault.message));
    let dropped = written.dropped.iter().map(ToString::to_string).collect();
    (serde_json::from_str(&written.body).unwrap(), dropped)
}

/// The passthrough request for Claude on a platform.
fn passed(body: &Value, hosting: Hosting, betas: Option<Vec<String>>) -> Result<Written, ApiError> {
    let anthropic = dialect::by_name("anthropic").unwrap();
    let mut quirks = Quirks { hosting: Some(hosting), ..Quirks::default() };
    quirks.settings.betas = betas;
    let model = "anthropic.claude-opus-4-6-v1";
    let target = Target { model, stream: true, form: Form::Chat, quirks: &quirks };
    let caller = anthropic.as_caller().unwrap();
    adapt::pass(&body.to_string(), (caller, anthropic), &target, false, &|_| None)
}
