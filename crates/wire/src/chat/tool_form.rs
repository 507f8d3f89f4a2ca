//! Tool forms: the original form, in the caller's dialect, of a tool that is a function in
//! [`Request`](super::Request). Only that dialect creates and reads them; no other code may branch on one.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The most bytes of a function name that every vendor accepts.
const LONGEST: usize = 64;

/// The most bytes of a name before its digest.
const KEPT: usize = 55;

/// A tool of the caller's dialect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolForm {
    /// The dialect's own name for this kind of tool.
    pub kind: Cow<'static, str>,
    /// The group that it belongs to, if the dialect has groups.
    pub namespace: Option<String>,
    /// Its name within the group.
    pub name: String,
}

/// The tool forms of one request, by the names of their functions. A tool without an entry is a function of the
/// same name in the caller's dialect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolForms(HashMap<String, ToolForm>);

impl ToolForms {
    /// Adds the form of a function. The first form of a name is kept.
    pub fn insert(&mut self, function: String, form: ToolForm) {
        self.0.entry(function).or_insert(form);
    }

    /// The form of a function.
    pub fn get(&self, function: &str) -> Option<&ToolForm> {
        self.0.get(function)
    }
}

/// The function name for a tool of a namespace: `NAMESPACE__NAME` in 64 bytes. A name that would be longer, or
/// is `taken`, ends in a digest of both. The same tool has the same name in every request.
pub fn function_name(namespace: Option<&str>, name: &str, taken: &dyn Fn(&str) -> bool) -> String {
    let joined = match namespace {
        Some(namespace) if namespace.ends_with("__") => format!("{namespace}{name}"),
        Some(namespace) => format!("{namespace}__{name}"),
        None => name.to_owned(),
    };
    if joined.len() <= LONGEST && !taken(&joined) {
        return joined;
    }
    let mut digest = String::with_capacity(9);
    for byte in Sha256::digest(format!("{}\0{name}", namespace.unwrap_or_default())).iter().take(4)
    {
        // Writing to a string cannot fail.
        write!(digest, "{byte:02x}").unwrap_or_default();
    }
    format!("{}_{digest}", joined.get(..joined.floor_char_boundary(KEPT)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_are_told_apart() {
        let none = |_: &str| false;
        assert_eq!(function_name(Some("crm"), "find", &none), "crm__find");
        assert_eq!(function_name(Some("mcp__crm__"), "find", &none), "mcp__crm__find");
        assert_eq!(function_name(None, "shell", &none), "shell");
        let exact = function_name(Some(&"n".repeat(30)), &"t".repeat(32), &none);
        assert_eq!(exact, format!("{}__{}", "n".repeat(30), "t".repeat(32)));
        let long = function_name(Some(&"n".repeat(30)), &"t".repeat(33), &none);
        assert_eq!(long.len(), 64);
        assert!(long.starts_with(&format!("{}__{}_", "n".repeat(30), "t".repeat(23))), "{long}");
        let other = function_name(Some(&"n".repeat(30)), &format!("{}u", "t".repeat(32)), &none);
        assert_ne!(long, other);
        let taken = |name: &str| name == "crm__find";
        let apart = function_name(Some("crm"), "find", &taken);
        assert!(apart.starts_with("crm__find_") && apart.len() == 18, "{apart}");
        // The boundary between namespace and name is part of the digest.
        let taken = |name: &str| name == "a__b__c";
        let one = function_name(Some("a"), "b__c", &taken);
        assert_ne!(one, function_name(Some("a__b"), "c", &taken));
        assert_eq!(one, function_name(Some("a"), "b__c", &taken));
        // The limit counts bytes, and characters are never cut.
        assert!(function_name(Some("ü"), &"ü".repeat(40), &none).len() <= 64);
    }
}
