//! Prompts: named, versioned templates of messages, kept by the gateway and rendered with the variables of a request.
//!
//! A variable is data: it becomes text within a message and must never become a message, a role or a template. This module
//! must never read a file: `config` does, and passes valid prompts on.

mod template;
mod version;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::wire::chat::{ApiError, Parameters, Rendered, Role};
use crate::wire::json;

use template::MAX_TEXT;
pub use template::{Template, TemplateError};
pub use version::Version;

/// The most bytes of a variable's value.
pub const MAX_VALUE: usize = 1 << 20;

/// One version of a prompt.
#[derive(Debug)]
pub struct Prompt {
    /// The id in requests.
    pub id: String,
    /// Its version among the prompts of that id.
    pub version: Version,
    /// Description for people.
    pub description: Option<String>,
    /// The model for requests that name none.
    pub model: Option<String>,
    /// Parameters for requests that do not set them.
    pub parameters: Parameters,
    /// Variables, in the order of the file.
    pub variables: Vec<Variable>,
    /// Roles and templates.
    pub messages: Vec<(Role, Template)>,
    /// The file that it was read from.
    pub file: PathBuf,
}

/// A variable of a prompt.
#[derive(Debug)]
pub struct Variable {
    /// Its name in templates and requests.
    pub name: String,
    /// Description for people.
    pub description: Option<String>,
    /// Value for requests that give none; `None`: requests must give one.
    pub default: Option<Scalar>,
}

/// A variable's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// A string.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Decimal(f64),
    /// True or false.
    Boolean(bool),
}

impl Scalar {
    /// Reads a value of a request. The error continues a sentence that names the variable.
    pub fn from_json(value: &RawValue) -> Result<Self, &'static str> {
        if let Some(text) = json::text(value) {
            let fits = text.len() <= MAX_VALUE;
            return fits.then(|| Self::Text(text.into_owned())).ok_or("is longer than 1 MiB");
        }
        let raw = value.get();
        if let Ok(value) = raw.parse() {
            return Ok(Self::Boolean(value));
        }
        if !raw.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            return Err("must be a string, a number or a boolean");
        }
        if raw.contains(['.', 'e', 'E']) {
            let number = raw.parse().ok().filter(|number: &f64| number.is_finite());
            return number.map(Self::Decimal).ok_or("is too large a number; send it as a string");
        }
        raw.parse().map(Self::Integer).map_err(|_| "is too large a number; send it as a string")
    }

    /// Reads a default of a file, where `false` and `3` may stand without quotes. A text is a number only if the number is
    /// written the same.
    pub fn from_text(text: &str) -> Self {
        if let Ok(value) = text.parse() {
            return Self::Boolean(value);
        }
        match text.parse::<i64>() {
            Ok(number) if number.to_string() == text => Self::Integer(number),
            _ => Self::Text(text.to_owned()),
        }
    }

    /// As JSON.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Integer(number) => (*number).into(),
            Self::Decimal(number) => (*number).into(),
            Self::Boolean(value) => (*value).into(),
        }
    }
}

impl Prompt {
    /// Renders the messages with the variables of a request. The error names a variable that is missing or unknown.
    pub fn render(&self, given: &BTreeMap<String, Scalar>) -> Result<Rendered, ApiError> {
        let known = |name: &str| self.variables.iter().any(|variable| variable.name == name);
        if let Some(name) = given.keys().find(|name| !known(name)) {
            let (name, field) = (shown(name), field(name));
            return Err(ApiError::field(
                field,
                format!("prompt `{}` has no variable {name}", self.id),
            ));
        }
        let mut values = BTreeMap::new();
        for Variable { name, default, .. } in &self.variables {
            let Some(value) = given.get(name).or(default.as_ref()) else {
                let message = format!("prompt `{}` needs the variable `{name}`", self.id);
                return Err(ApiError::field(field(name), message));
            };
            values.insert(name.as_str(), value);
        }
        let mut messages = Vec::with_capacity(self.messages.len());
        let mut room = MAX_TEXT;
        for (index, (role, template)) in self.messages.iter().enumerate() {
            let text =
                template.render(&values, room).map_err(|error| self.failed(index, &error))?;
            room = room.saturating_sub(text.len());
            // A message that a condition left empty is left out; vendors reject empty ones.
            if !text.is_empty() {
                messages.push((*role, text));
            }
        }
        Ok(Rendered { model: self.model.clone(), parameters: self.parameters.clone(), messages })
    }

    /// Renders once with defaults, so that errors of the templates show before a request. Errors that may depend on a
    /// variable without a default are left out.
    pub fn try_out(&self) -> Vec<(usize, TemplateError)> {
        let sample = Scalar::Text("text".to_owned());
        let value =
            |variable: &Variable| variable.default.clone().unwrap_or_else(|| sample.clone());
        let values: Vec<(&str, Scalar)> =
            self.variables.iter().map(|known| (known.name.as_str(), value(known))).collect();
        let values = values.iter().map(|(name, value)| (*name, value)).collect();
        let certain = self.variables.iter().all(|variable| variable.default.is_some());
        let tried = self.messages.iter().enumerate();
        tried
            .filter_map(|(index, (_, template))| {
                Some((index, template.render(&values, MAX_TEXT).err()?))
            })
            .filter(|(_, error)| error.always || certain)
            .collect()
    }

    fn failed(&self, index: usize, error: &TemplateError) -> ApiError {
        let Self { id, version, .. } = self;
        let line = error.line.map_or_else(String::new, |line| format!(", line {line}"));
        let (version, kind) = (version.as_str(), &error.kind);
        ApiError::field(
            "prompt.variables",
            format!(
                "prompt `{id}` version `{version}` cannot be rendered with these variables: {kind} \
                 (messages[{index}]{line})"
            ),
        )
    }
}

/// The field of a request that gives a variable.
pub fn field(variable: &str) -> String {
    format!("prompt.variables.{}", plain(variable))
}

/// A name from a request, for a message.
pub fn shown(name: &str) -> String {
    format!("`{}`", plain(name))
}

/// Short, and without control characters.
fn plain(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}

/// All prompts of a configuration.
#[derive(Debug, Clone, Default)]
pub struct Prompts(BTreeMap<String, BTreeMap<Version, Arc<Prompt>>>);

impl Prompts {
    /// Adds a prompt, unless there is one of the same id and version: that one is returned then.
    pub fn add(&mut self, prompt: Arc<Prompt>) -> Result<(), Arc<Prompt>> {
        let versions = self.0.entry(prompt.id.clone()).or_default();
        if let Some(there) = versions.get(&prompt.version) {
            return Err(Arc::clone(there));
        }
        versions.insert(prompt.version.clone(), prompt);
        Ok(())
    }

    /// The versions of a prompt, the oldest first.
    pub fn versions(&self, id: &str) -> impl DoubleEndedIterator<Item = &Arc<Prompt>> {
        self.0.get(id).into_iter().flat_map(BTreeMap::values)
    }

    /// All ids, in alphabetical order.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The number of all versions of all prompts.
    pub fn count(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    /// Adds the prompts that `before` had from a file, which is not valid any more, unless another file has taken their
    /// id and version.
    pub fn keep(&mut self, before: &Self, file: &Path) {
        for prompt in before.0.values().flat_map(BTreeMap::values) {
            if prompt.file == file {
                self.add(Arc::clone(prompt)).ok();
            }
        }
    }
}
