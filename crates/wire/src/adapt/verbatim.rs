//! A body for an upstream of the caller's own dialect. The operator's settings apply through targeted edits.
//! Everything else is unchanged.

use serde_json::value::RawValue;

use super::settings::Settings;
use crate::body::{refuse, syntax};
use crate::chat::ApiError;
use crate::json::{self, Members, is_null};
use crate::spelling;

/// Bounds the limits on output, which are at the paths in `limits`, and removes and sets the members that the
/// operator configured. Rejects a member that a server might mistake for one of them.
pub(super) fn override_members(
    body: String,
    settings: &Settings,
    limits: &[&str],
) -> Result<String, ApiError> {
    let mut body = body;
    if let Some(most) = settings.max_output {
        for path in limits {
            if limit(&body, path).is_some_and(|limit| limit > most) {
                body = edit(&body, path, Some(&most.to_string()))?;
            }
        }
    }
    for name in &settings.drop {
        body = edit(&body, name, None)?;
    }
    for (name, json) in &settings.set {
        body = edit(&body, name, Some(json))?;
    }
    Ok(body)
}

/// The number at a path of member names.
fn limit(body: &str, path: &str) -> Option<u64> {
    let mut members = Members::parse(body).ok()?;
    let (names, last) = path.rsplit_once('.').unwrap_or(("", path));
    for name in names.split('.').filter(|name| !name.is_empty()) {
        members = Members::parse(members.get(name)?.get()).ok()?;
    }
    json::count(members.get(last)?)
}

/// Sets or removes the member at a path. Missing objects on the path are created.
fn edit(object: &str, path: &str, value: Option<&str>) -> Result<String, ApiError> {
    let members = Members::parse(object).map_err(|error| syntax(&error))?;
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    if let Some((other, _)) =
        members.0.iter().find(|(key, _)| key != name && spelling::folds_to(key, name))
    {
        return Err(refuse(
            other,
            &format!("differs from `{name}` in case only; spell it `{name}`"),
        ));
    }
    let Some(rest) = rest else { return Ok(members.edit(object, &[(name, value)])) };
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
            (
                r#"{"max_tokens":"7e2","g":{"limit":700.5},"n":3}"#,
                r#"{"max_tokens":100,"g":{"limit":100},"n":1,"thinking":{"type":"off"}}"#,
            ),
        ] {
            let written = override_members(body.to_owned(), &settings, &["max_tokens", "g.limit"]);
            assert_eq!(written.unwrap(), expected);
        }
        let scalar = override_members(r#"{"output_config":7}"#.to_owned(), &settings, &[]);
        assert!(scalar.is_err());
        for (body, named) in [
            (r#"{"User":"u"}"#, "User"),
            (r#"{"output_config":{"EFFORT":"max"}}"#, "EFFORT"),
            (r#"{"Thinking":{}}"#, "Thinking"),
        ] {
            let refused = override_members(body.to_owned(), &settings, &[]).unwrap_err();
            assert_eq!(refused.param.as_deref(), Some(named), "{body}");
        }
        let none = Settings::default();
        assert_eq!(override_members("{ }".to_owned(), &none, &[]).unwrap(), "{ }");
    }
}
