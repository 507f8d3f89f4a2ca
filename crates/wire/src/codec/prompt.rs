//! Rendered prompts in a caller's JSON: messages before the caller's own, and the model and parameters that the
//! caller does not set. The member `prompt` must be removed, since upstreams do not accept it.

use serde_json::Value;

use super::surface::Surface;
use crate::body::refuse;
use crate::chat::{ApiError, Rendered, Role};
use crate::json::{self, Members, quoted};

/// Parameters of a prompt, which dialects map to their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parameter {
    Temperature,
    TopP,
    TopK,
    MaxTokens,
    Stop,
    PresencePenalty,
    FrequencyPenalty,
    Seed,
}

impl Parameter {
    /// The value, if the prompt sets one.
    fn of(self, prompt: &Rendered) -> Option<Value> {
        let given = &prompt.parameters;
        match self {
            Self::Temperature => given.temperature.map(Value::from),
            Self::TopP => given.top_p.map(Value::from),
            Self::TopK => given.top_k.map(Value::from),
            Self::MaxTokens => given.max_tokens.map(Value::from),
            Self::Stop => (!given.stop.is_empty()).then(|| Value::from(given.stop.clone())),
            Self::PresencePenalty => given.presence_penalty.map(Value::from),
            Self::FrequencyPenalty => given.frequency_penalty.map(Value::from),
            Self::Seed => given.seed.map(Value::from),
        }
    }
}

/// Names of a parameter in a dialect. The first one is written, and any of them counts as set.
pub(crate) type Name = (Parameter, &'static [&'static str]);

/// The parameters that the caller does not set, by the dialect's names.
pub(crate) fn parameters(
    said: &Members<'_>,
    prompt: &Rendered,
    names: &[Name],
) -> Vec<(&'static str, String)> {
    let added = names.iter().filter_map(|(parameter, names)| {
        let unsaid = names.iter().all(|name| json::is_unsaid(said, name));
        let value = parameter.of(prompt).filter(|_| unsaid)?;
        Some((*names.first()?, value.to_string()))
    });
    added.collect()
}

/// Returns the object with the parameters that it does not set. `None` if nothing changes.
pub(crate) fn with_parameters(
    object: &str,
    prompt: &Rendered,
    names: &[Name],
) -> Result<Option<String>, serde_json::Error> {
    let members = Members::parse(object)?;
    let added = parameters(&members, prompt, names);
    let edits: Vec<_> = added.iter().map(|(name, json)| (*name, Some(json.as_str()))).collect();
    Ok((!edits.is_empty()).then(|| members.edit(object, &edits)))
}

impl Surface<'_> {
    /// Removes `prompt`, and inserts its messages, written as JSON, before those of a list.
    pub(crate) fn prepend(
        &mut self,
        name: &'static str,
        messages: &[String],
        what: &str,
    ) -> Result<(), ApiError> {
        let own = self.members.get(name).filter(|own| !json::is_null(own));
        let own = own.map_or("[]", |own| own.get());
        let all = json::prepend(own, messages).ok_or_else(|| refuse(name, what))?;
        self.remove("prompt");
        self.set(name, all);
        Ok(())
    }

    /// Adds the parameters that the caller does not set.
    pub(crate) fn add_parameters(&mut self, prompt: &Rendered, names: &[Name]) {
        for (name, value) in parameters(&self.members, prompt, names) {
            self.set(name, value);
        }
    }

    /// Sets the prompt's model if the caller names none. SDKs require a model; an empty one counts as none.
    pub(crate) fn add_model(&mut self, prompt: &Rendered) {
        let unnamed =
            |own: &serde_json::value::RawValue| json::is_null(own) || own.get() == r#""""#;
        if let Some(model) = &prompt.model
            && self.members.get("model").is_none_or(unnamed)
        {
            self.set("model", quoted(model));
        }
    }
}

/// A message in the shape that most vendors share.
pub(crate) fn message((role, text): &(Role, String)) -> String {
    let role = match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    format!(r#"{{"role":"{role}","content":{}}}"#, quoted(text))
}
