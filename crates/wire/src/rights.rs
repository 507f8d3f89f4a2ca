//! Members of requests by which an upstream would run other models (`rights.txt`). Callers whose permissions
//! exclude some models may not send them.
//!
//! A member is a row of the table, with its source; this file names none.

use std::sync::LazyLock;

use serde_json::value::RawValue;

use super::chat::{ApiError, Kind};
use super::json::{self, Members};
use super::spelling::folds_to;

const TABLE: &str = include_str!("rights.txt");

/// One row of the table.
#[derive(Debug)]
struct Row {
    /// Names separated by blanks.
    dialects: &'static str,
    member: &'static str,
    value: Option<&'static str>,
}

static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| TABLE.lines().filter_map(row).collect());

/// Parses a line of the table. `None` for comments, blank lines and malformed lines.
fn row(line: &'static str) -> Option<Row> {
    let mut cells = line.split('|').map(str::trim);
    let dialects = cells.next().filter(|cell| !cell.is_empty() && !cell.starts_with('#'))?;
    let member = cells.next().filter(|member| !member.is_empty())?;
    cells.next().filter(|source| !source.is_empty())?;
    let (member, value) = member.split_once('=').map_or((member, None), |(m, v)| (m, Some(v)));
    Some(Row { dialects, member, value })
}

impl Row {
    fn is_of(&self, dialect: &str) -> bool {
        self.dialects.split(' ').any(|name| name == dialect)
    }
}

/// Rejects a request that would run models other than the one it names, for a caller without access to all of
/// them. The error names the member. A body that is not an object is accepted.
pub fn refuse_other_models(dialect: &str, body: &str) -> Result<(), ApiError> {
    let Ok(members) = Members::parse(body) else { return Ok(()) };
    let rows = || ROWS.iter().filter(|row| row.is_of(dialect));
    for (key, value) in &members.0 {
        for row in rows() {
            let (name, rest) = row.member.split_once('.').map_or((row.member, ""), |pair| pair);
            if folds_to(key, name) && holds(value, rest, row.value) {
                return Err(refusal(row));
            }
        }
    }
    Ok(())
}

/// Whether a value has a member at the rest of a path. With `wanted`, the member must be this text, in any
/// case.
fn holds(value: &RawValue, rest: &str, wanted: Option<&str>) -> bool {
    if value.get().starts_with('[') && !rest.is_empty() {
        let items: Vec<&RawValue> = serde_json::from_str(value.get()).unwrap_or_default();
        return items.iter().any(|item| holds(item, rest, wanted));
    }
    if rest.is_empty() {
        return match wanted {
            Some(wanted) => json::text(value).is_some_and(|text| text.eq_ignore_ascii_case(wanted)),
            None => !json::is_null(value),
        };
    }
    let (name, rest) = rest.split_once('.').unwrap_or((rest, ""));
    let members = Members::parse(value.get()).unwrap_or_default();
    members.0.iter().any(|(key, value)| folds_to(key, name) && holds(value, rest, wanted))
}

fn refusal(row: &Row) -> ApiError {
    let shown = row.value.map_or_else(
        || format!("`{}`", row.member),
        |value| format!("`{}` with the value `{value}`", row.member),
    );
    ApiError {
        kind: Kind::Permission,
        message: format!(
            "this key may not use every model, and {shown} lets the upstream run others; leave it out"
        ),
        code: Some("model_not_allowed".to_owned()),
        param: Some(row.member.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::caller_dialects;

    #[test]
    fn every_row_is_a_member_of_a_dialect_with_a_source() {
        let said = |line: &&str| !line.is_empty() && !line.starts_with('#');
        for line in TABLE.lines().filter(said) {
            let row = row(line).unwrap_or_else(|| panic!("{line}"));
            for name in row.dialects.split(' ') {
                assert!(caller_dialects().any(|dialect| dialect.name() == name), "{line}");
            }
            let same = |other: &&Row| (other.member, other.value) == (row.member, row.value);
            assert_eq!(ROWS.iter().filter(same).count(), 1, "{line}");
        }
        assert_eq!(ROWS.len(), TABLE.lines().filter(said).count());
    }

    #[test]
    fn a_member_that_names_other_models_is_refused_by_its_path() {
        for (dialect, body, param) in [
            ("openai-chat", r#"{"model":"a","models":["b"]}"#, "models"),
            ("openai-chat", r#"{"Model\u0053":["b"]}"#, "models"),
            ("openai-chat", r#"{"route":"fallback"}"#, "route"),
            ("openai-chat", r#"{"plugins":[{"id":"web"},{"id":"fusion"}]}"#, "plugins.id"),
            (
                "openai-chat",
                r#"{"plugins":[{"id":"auto","allowed_models":[]}]}"#,
                "plugins.allowed_models",
            ),
            ("openai-chat", r#"{"compound_custom":{"models":{}}}"#, "compound_custom.models"),
            ("anthropic", r#"{"tools":[{"type":"advisor_20260301","model":"m"}]}"#, "tools.model"),
            ("anthropic", r#"{"fallbacks":[{"model":"m"}]}"#, "fallbacks"),
            (
                "gemini",
                r#"{"generation_config":{"routingConfig":{"manualMode":{}}}}"#,
                "generation_config.routingConfig",
            ),
        ] {
            let fault = refuse_other_models(dialect, body).unwrap_err();
            assert_eq!(fault.kind, Kind::Permission, "{body}");
            assert_eq!(fault.param.as_deref(), Some(param), "{body}");
        }
    }

    #[test]
    fn what_names_no_other_model_passes() {
        for (dialect, body) in [
            ("openai-chat", r#"{"model":"a","models":null,"provider":{"sort":"price"}}"#),
            ("openai-chat", r#"{"plugins":[{"id":"web"}],"tools":[{"type":"function"}]}"#),
            ("openai-chat", r#"{"messages":[{"models":["b"]}],"metadata":{"route":"x"}}"#),
            ("ollama", r#"{"models":["b"]}"#),
            ("openai-chat", "[]"),
            ("openai-chat", "no JSON"),
        ] {
            assert_eq!(refuse_other_models(dialect, body), Ok(()), "{body}");
        }
    }
}
