//! A body for an upstream of the caller's own dialect: the operator's settings hold there, too, by surgery.
//! Nothing else of it is changed.

use serde_json::value::RawValue;

use super::settings::Settings;
use crate::wire::body::syntax;
use crate::wire::chat::Fault;
use crate::wire::json::{self, Members, is_null};

/// Bounds the limit on output, which stands in one of `limits`, and leaves out and sets the members
/// that the operator names.
pub(super) fn override_members(
    body: String,
    settings: &Settings,
    limits: &[&str],
) -> Result<String, Fault> {
    let bounded = settings.max_output.and_then(|most| {
        let over = |path: &&&str| limit(&body, path).is_some_and(|limit| limit > most);
        let path = limits.iter().find(over)?;
        Some(edit(&body, path, Some(&most.to_string())))
    });
    let mut body = bounded.transpose()?.unwrap_or(body);
    for name in &settings.drop {
        body = edit(&body, name, None)?;
    }
    for (name, json) in &settings.set {
        body = edit(&body, name, Some(json))?;
    }
    Ok(body)
}

/// The count at a path of member names.
fn limit(body: &str, path: &str) -> Option<u64> {
    let value = path
        .split('.')
        .try_fold(body, |object, name| Members::parse(object).ok()?.get(name).map(RawValue::get))?;
    value.parse().ok()
}

/// Sets or removes the member at a path; the objects on the way to a new one are made.
fn edit(object: &str, path: &str, value: Option<&str>) -> Result<String, Fault> {
    let wrong = |error: serde_json::Error| syntax(&error);
    let Some((name, rest)) = path.split_once('.') else {
        return json::edit(object, &[(path, value)]).map_err(wrong);
    };
    let members = Members::parse(object).map_err(wrong)?;
    let inner = members.get(name).filter(|inner| !is_null(inner)).map(RawValue::get);
    let inner = match (inner, value) {
        (None, None) => return Ok(object.to_owned()),
        (inner, value) => edit(inner.unwrap_or("{}"), rest, value)?,
    };
    Ok(members.edit(object, &[(name, Some(&inner))]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_left_out_set_and_bounded() {
        let set = |name: &str, json: &str| (name.to_owned(), json.to_owned());
        let settings = Settings {
            max_output: Some(100),
            drop: vec!["user".to_owned(), "output_config.effort".to_owned(), "a.b".to_owned()],
            set: vec![set("thinking.type", "\"off\""), set("n", "1")],
            ..Settings::default()
        };
        for (body, expected) in [
            (
                r#"{"max_tokens": 200,"user":"u","output_config":{"effort":"max","x":1}}"#,
                r#"{"max_tokens": 100,"output_config":{"x":1},"thinking":{"type":"off"},"n":1}"#,
            ),
            (r#"{"g":{"limit":7},"n":3}"#, r#"{"g":{"limit":7},"n":1,"thinking":{"type":"off"}}"#),
            (r#"{"g":{"limit":700}}"#, r#"{"g":{"limit":100},"thinking":{"type":"off"},"n":1}"#),
        ] {
            let written = override_members(body.to_owned(), &settings, &["max_tokens", "g.limit"]);
            assert_eq!(written.unwrap(), expected);
        }
        let scalar = override_members(r#"{"output_config":7}"#.to_owned(), &settings, &[]);
        assert!(scalar.is_err());
        let none = Settings::default();
        assert_eq!(override_members("{ }".to_owned(), &none, &[]).unwrap(), "{ }");
    }
}
