//! Member names that must be unambiguous: each member that the gateway reads or edits may appear once in a
//! request, in its exact spelling.
//!
//! Some servers match names case-insensitively (Go's `encoding/json`), and of duplicates some use the first and
//! others the last. Otherwise the gateway and the upstream could read different values. Other members are never
//! checked, and nothing is allocated except for nested objects.

use std::collections::HashSet;

use serde_json::value::RawValue;

use super::body::refuse;
use super::chat::ApiError;
use super::json::Members;

/// A member that the gateway reads or edits.
#[derive(Debug)]
pub(crate) struct Known {
    /// Its names. Several names are spellings of one member, and a request may contain one of them.
    names: &'static [&'static str],
    /// The known members of its value, which is an object or a list of objects.
    within: &'static [Self],
}

/// A member whose value is not checked.
pub(crate) const fn member(names: &'static [&'static str]) -> Known {
    Known { names, within: &[] }
}

/// A member whose value is an object with known members, or a list of such objects.
pub(crate) const fn object(names: &'static [&'static str], within: &'static [Known]) -> Known {
    Known { names, within }
}

/// Rejects a member that differs from a known one only by case folding, and a duplicate of a known one. The
/// error names the member by its path.
pub(crate) fn check(members: &Members<'_>, known: &[Known]) -> Result<(), ApiError> {
    check_at(&String::new, members, known)
}

/// The same for top-level members of a request, each with a single spelling.
pub(crate) fn check_names(members: &Members<'_>, names: &[&str]) -> Result<(), ApiError> {
    let mut seen = HashSet::new();
    for (key, _) in &members.0 {
        let Some(name) = names.iter().find(|name| folds_to(key, name)) else { continue };
        if key != name {
            return Err(refuse(key, &differs(name)));
        }
        if !seen.insert(name) {
            return Err(refuse(key, "is there twice"));
        }
    }
    Ok(())
}

fn differs(name: &str) -> String {
    format!(
        "differs from `{name}` in case only, and servers disagree on what that means; spell it `{name}`"
    )
}

/// The path of a member, which is built only for an error.
type Path<'a> = &'a dyn Fn() -> String;

fn check_at(path: Path<'_>, members: &Members<'_>, known: &[Known]) -> Result<(), ApiError> {
    let mut seen = 0_u32;
    for (key, value) in &members.0 {
        let of = |(_, entry): &(usize, &Known)| entry.names.iter().any(|name| folds_to(key, name));
        let Some((place, entry)) = known.iter().enumerate().find(of) else { continue };
        let here = || {
            let path = path();
            if path.is_empty() { key.to_string() } else { format!("{path}.{key}") }
        };
        if !entry.names.iter().any(|name| name == key) {
            let name = entry.names.first().copied().unwrap_or_default();
            return Err(refuse(&here(), &differs(name)));
        }
        let bit = 1_u32.checked_shl(u32::try_from(place).unwrap_or(u32::MAX)).unwrap_or_default();
        if seen & bit != 0 {
            return Err(refuse(&here(), &twice(entry)));
        }
        seen |= bit;
        if !entry.within.is_empty() {
            check_value(&here, value, entry.within)?;
        }
    }
    Ok(())
}

fn check_value(path: Path<'_>, value: &RawValue, known: &[Known]) -> Result<(), ApiError> {
    let json = value.get();
    if json.starts_with('{') {
        // Other faults are reported where the value is read.
        return Members::parse(json).map_or(Ok(()), |inner| check_at(path, &inner, known));
    }
    if !json.starts_with('[') {
        return Ok(());
    }
    let items: Vec<&RawValue> = serde_json::from_str(json).unwrap_or_default();
    for (at, item) in items.iter().enumerate() {
        if let Ok(inner) = Members::parse(item.get()) {
            check_at(&|| format!("{}[{at}]", path()), &inner, known)?;
        }
    }
    Ok(())
}

fn twice(entry: &Known) -> String {
    match entry.names {
        [first, second, ..] => format!("is there twice (`{first}` and `{second}` are the same)"),
        _ => "is there twice".to_owned(),
    }
}

/// Whether a name equals a known one, which is ASCII, under Unicode simple case folding. Two characters
/// beyond ASCII fold into it: U+017F to `s`, U+212A to `k`.
pub(crate) fn folds_to(name: &str, known: &str) -> bool {
    if name.len() == known.len() {
        return name.eq_ignore_ascii_case(known);
    }
    if name.len() < known.len() || name.is_ascii() {
        return false;
    }
    let folded = name.chars().map(|c| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    });
    folded.eq(known.chars().map(|c| c.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Known] = &[
        member(&["model"]),
        member(&["stream"]),
        member(&["top_k"]),
        object(&["generationConfig", "generation_config"], &[member(&["maxTokens", "max_tokens"])]),
        object(&["requests"], &[member(&["model"])]),
    ];

    fn refused(body: &str) -> Option<(String, String)> {
        let fault = check(&Members::parse(body).unwrap(), KNOWN).err()?;
        Some((fault.param.unwrap_or_default(), fault.message))
    }

    #[test]
    fn members_that_differ_by_case_folding_are_refused_by_name() {
        for (body, param) in [
            (r#"{"model":"a","Model":"b"}"#, "Model"),
            (r#"{"MODEL":"b"}"#, "MODEL"),
            (r#"{"mod\u0045l":"b"}"#, "modEl"),
            ("{\"\\u017ftream\":true}", "\u{17f}tream"),
            ("{\"\u{17f}tream\":true}", "\u{17f}tream"),
            ("{\"top_\u{212a}\":1}", "top_\u{212a}"),
            (r#"{"generationConfig":{"MaxTokens":1}}"#, "generationConfig.MaxTokens"),
            (r#"{"generation_Config":{}}"#, "generation_Config"),
            (r#"{"requests":[{"model":"a"},{"Model":"b"}]}"#, "requests[1].Model"),
        ] {
            let (named, message) = refused(body).unwrap_or_else(|| panic!("{body}"));
            assert_eq!(named, param, "{body}");
            assert!(message.contains("in case only"), "{message}");
        }
    }

    #[test]
    fn two_values_for_one_member_are_refused() {
        for (body, param) in [
            (r#"{"model":"a","x":1,"model":"a"}"#, "model"),
            (r#"{"model":null,"mo\u0064el":"a"}"#, "model"),
            (r#"{"generationConfig":{},"generation_config":{}}"#, "generation_config"),
            (
                r#"{"generation_config":{"max_tokens":1,"maxTokens":1}}"#,
                "generation_config.maxTokens",
            ),
            (r#"{"requests":{"model":"a","model":"b"}}"#, "requests.model"),
        ] {
            let (named, message) = refused(body).unwrap_or_else(|| panic!("{body}"));
            assert_eq!(named, param, "{body}");
            assert!(message.contains("is there twice"), "{message}");
        }
    }

    #[test]
    fn other_members_are_not_looked_at() {
        for body in [
            r#"{"model":"a","stream":true,"top_k":1,"generationConfig":{"max_tokens":1}}"#,
            r#"{"mode":1,"models":1,"Models":1,"x":1,"X":1,"x":2,"s\u0131ream":1,"":1}"#,
            r#"{"requests":[{"model":"a"},{"model":"b"},7,"x"],"generation_config":[]}"#,
            "{\"m\u{f6}del\":1,\"top_\u{ff4b}\":1,\"\u{17f}\":1}",
            r#"{"other":{"Model":1,"model":1,"model":1}}"#,
        ] {
            assert_eq!(refused(body), None, "{body}");
        }
    }
}
