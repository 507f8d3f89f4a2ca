//! Excerpts: the lines of a file that its errors are about, each with a caret, for people at a terminal. It must never show a
//! line that may hold a credential.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::error::{ConfigError, ConfigErrors};
use super::field::{Item, Key};
use super::root::ROOT;

/// The longest line that is shown, in characters.
const MAX_LINE: usize = 120;
/// The longest word that is shown. Keys of providers are longer.
const MAX_WORD: usize = 24;
/// Tables of texts that may be credentials.
const TABLES: [&str; 2] = ["headers", "query"];

/// The errors, each with the line that it is about as far as that may be shown.
pub fn with_excerpts(errors: &ConfigErrors) -> String {
    let secrets = secret_keys(ROOT.keys);
    let mut texts = BTreeMap::new();
    let mut out = String::new();
    for error in &errors.list {
        let one = ConfigErrors { list: vec![error.clone()], ..errors.clone() };
        out.push_str(if out.is_empty() { "" } else { "\n" });
        out.push_str(&one.to_string());
        let path: &Path = error.file.as_deref().unwrap_or(&errors.path);
        let text =
            texts.entry(path).or_insert_with(|| fs::read_to_string(path).unwrap_or_default());
        out.push_str(&excerpt(text, error, &secrets).unwrap_or_default());
    }
    out
}

/// The line of an error and a caret below its column.
fn excerpt(text: &str, error: &ConfigError, secrets: &BTreeSet<&str>) -> Option<String> {
    let line = text.lines().nth(error.line.checked_sub(1)?)?;
    let words = || line.split(|c: char| c.is_whitespace() || "{}[],:\"'".contains(c));
    let hidden = words().any(|word| secrets.contains(word) || word.chars().count() > MAX_WORD);
    let plain = !line.chars().any(|c| c.is_control() && c != '\t');
    if hidden || !plain || line.chars().count() > MAX_LINE {
        return None;
    }
    let number = error.line.to_string();
    let before = line.chars().take(error.column.saturating_sub(1));
    // A tab is as wide above as below.
    let blank: String = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let mut out = String::new();
    write!(out, "\n{number} | {line}\n{} | {blank}^", " ".repeat(number.len())).ok()?;
    Some(out)
}

/// The names of keys with values that no message shows.
fn secret_keys(keys: &'static [Key]) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::from(TABLES);
    for key in keys {
        if let Item::Scalar(scalar) | Item::ScalarOrTable(scalar, _) = key.item
            && scalar.is_secret
        {
            found.insert(key.name);
        }
        found.extend(secret_keys(key.keys()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::error::Location;
    use super::*;

    fn excerpt_of(text: &str, line: usize, column: usize) -> Option<String> {
        let error = Location { line, column }.error("x");
        excerpt(text, &error, &secret_keys(ROOT.keys))
    }

    #[test]
    fn the_caret_is_below_the_column() {
        let text = "server:\n  listne: 1\n\tx: 2\n";
        assert_eq!(excerpt_of(text, 2, 3).unwrap(), "\n2 |   listne: 1\n  |   ^");
        assert_eq!(excerpt_of(text, 3, 2).unwrap(), "\n3 | \tx: 2\n  | \t^");
        assert_eq!(excerpt_of(text, 0, 0), None, "the file as a whole");
        assert_eq!(excerpt_of(text, 9, 1), None, "the end of the file");
    }

    #[test]
    fn no_line_that_may_hold_a_credential_is_shown() {
        for line in [
            "  a: { dialect: x, api_key: canary }",
            "  base_url: \"http://u:canary@x\"",
            "  headers: { x-team: canary }",
            "  query: { key: canary }",
            "  sha256: canary",
            "  listen: sk-canary-canary-canary-canary",
            "  listen: \u{1b}[2Jx",
        ] {
            assert_eq!(excerpt_of(line, 1, 1), None, "{line}");
        }
    }
}
