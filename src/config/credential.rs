//! Location of a provider's credential in the configuration, for the log. It must never hold the credential: of a text it
//! keeps only the references `${NAME}` and `${file:PATH}`.

use std::fmt;

use super::aws::AWS;
use super::field::Key;
use super::provider::{API_KEY, HEADERS};
use super::reader::Table;
use super::tree::{Node, Value};

/// The location of a provider's credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialSource {
    /// `providers.NAME.api_key`, or a variable of the environment.
    field: String,
    /// The line of the configuration file, from 1; 0: it is not in a file.
    line: usize,
    /// The references that its value is read from: `${NAME}`, `${file:PATH}`.
    references: Vec<String>,
}

impl CredentialSource {
    /// The location in a provider's table; without a credential, that of the table.
    pub(super) fn of(provider: &str, table: &Table<'_>) -> Self {
        let keys: [&Key; 3] = [&API_KEY, &AWS, &HEADERS];
        let found = keys.iter().find_map(|key| Some((key.name, table.get(key)?)));
        let Some((field, node)) = found else {
            return Self { line: table.at.line, ..Self::unset(provider) };
        };
        let references =
            if let Value::Text(raw) = &node.value { references(raw) } else { Vec::new() };
        Self { field: format!("providers.{provider}.{field}"), line: node.at.line, references }
    }

    /// The location of one of a provider's keys.
    pub(super) fn of_key(provider: &str, key: &str, node: Option<&Node>) -> Self {
        let (line, references) = match node {
            Some(Node { at, value: Value::Text(raw) }) => (at.line, references(raw)),
            Some(node) => (node.at.line, Vec::new()),
            None => (0, Vec::new()),
        };
        Self { field: format!("providers.{provider}.keys.{key}"), line, references }
    }

    /// A provider of which no credential is known.
    pub(super) fn unset(provider: &str) -> Self {
        Self {
            field: format!("providers.{provider}.{}", API_KEY.name),
            line: 0,
            references: Vec::new(),
        }
    }

    /// A variable of the environment that makes a provider by itself.
    pub(super) fn variable(name: &str) -> Self {
        Self { field: format!("${{{name}}}"), line: 0, references: Vec::new() }
    }
}

impl fmt::Display for CredentialSource {
    /// ``providers.openai.api_key (line 12), from ${OPENAI_API_KEY}``.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.field)?;
        if self.line > 0 {
            write!(f, " (line {})", self.line)?;
        }
        for reference in &self.references {
            write!(f, ", from {reference}")?;
        }
        Ok(())
    }
}

/// The `${...}` of a text, without defaults, which are values.
fn references(raw: &str) -> Vec<String> {
    let parts = raw.split("${").skip(1).filter_map(|part| Some(part.split_once('}')?.0));
    let name =
        |part: &str| format!("${{{}}}", part.split_once(":-").map_or(part, |(name, _)| name));
    parts.map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_located_and_never_shown() {
        assert_eq!(references("sk-canary"), [""; 0]);
        assert_eq!(references("Bearer ${A} ${file:b/c}"), ["${A}", "${file:b/c}"]);
        assert_eq!(references("${A:-sk-canary}"), ["${A}"]);
        let source = CredentialSource {
            field: "providers.a.api_key".to_owned(),
            line: 3,
            references: references("x${A}"),
        };
        assert_eq!(source.to_string(), "providers.a.api_key (line 3), from ${A}");
        assert_eq!(CredentialSource::variable("A").to_string(), "${A}");
    }
}
