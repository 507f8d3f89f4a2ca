//! Messages for a server whose chat templates take one system message, the first one. Only messages of the
//! system and texts of the user beside them change; every other one stays byte for byte.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::json::{self, Members, quoted};

/// One message on its way.
struct Message<'a> {
    /// The message as it was sent. `None`: it is written from its text.
    json: Option<&'a str>,
    /// The text of a message of the user's, if it is nothing but text.
    said: Option<String>,
}

/// The list of messages with one system message, the first one. `None`: the list is in that form already,
/// or is not a list of messages with text, which the server rejects.
pub(super) fn system_first(messages: &RawValue) -> Option<String> {
    let items: Vec<&RawValue> = serde_json::from_str(messages.get()).ok()?;
    let items: Vec<(&RawValue, Members<'_>)> = items
        .iter()
        .map(|item| Some((*item, Members::parse(item.get()).ok()?)))
        .collect::<Option<_>>()?;
    let instructs = |members: &Members<'_>| {
        let role = members.get("role").and_then(json::text).unwrap_or_default();
        matches!(role.as_ref(), "system" | "developer")
    };
    items.iter().skip(1).any(|(_, members)| instructs(members)).then_some(())?;
    let mut leading = Vec::new();
    let mut out: Vec<Message<'_>> = Vec::with_capacity(items.len());
    // The text that was added last may take the next one of the user's.
    let mut added = false;
    for (item, members) in &items {
        let content = members.get("content");
        if instructs(members) {
            let text = text(content?)?;
            if out.is_empty() {
                leading.push(text);
            } else if !text.is_empty() {
                say(&format!("<system-reminder>\n{text}\n</system-reminder>"), &mut out);
                added = true;
            }
            continue;
        }
        let user = members.get("role").and_then(json::text).is_some_and(|role| role == "user");
        let said = content.filter(|_| user).and_then(json::text).map(Cow::into_owned);
        match said {
            Some(said) if std::mem::take(&mut added) => say(&said, &mut out),
            said => {
                added = false;
                out.push(Message { json: Some(item.get()), said });
            }
        }
    }
    let system = (!leading.is_empty()).then(|| written("system", &leading.join("\n\n")));
    let rest = out.iter().map(|message| match message.json {
        Some(json) => Cow::Borrowed(json),
        None => Cow::Owned(written("user", message.said.as_deref().unwrap_or_default())),
    });
    let all: Vec<Cow<'_, str>> = system.map(Cow::Owned).into_iter().chain(rest).collect();
    Some(format!("[{}]", all.join(",")))
}

/// The text of a message: a string, or parts of text.
fn text(content: &RawValue) -> Option<String> {
    if let Some(text) = json::text(content) {
        return Some(text.into_owned());
    }
    let parts: Vec<Members<'_>> = serde_json::from_str(content.get()).ok()?;
    let texts: Option<Vec<String>> =
        parts.iter().map(|part| Some(json::text(part.get("text")?)?.into_owned())).collect();
    texts.map(|texts| texts.join("\n\n"))
}

/// Appends text to the last message of the user, or begins a new one.
fn say(text: &str, out: &mut Vec<Message<'_>>) {
    if let Some(last) = out.last_mut()
        && let Some(said) = &mut last.said
    {
        said.push_str("\n\n");
        said.push_str(text);
        last.json = None;
    } else {
        out.push(Message { json: None, said: Some(text.to_owned()) });
    }
}

fn written(role: &str, text: &str) -> String {
    format!(r#"{{"role":"{role}","content":{}}}"#, quoted(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(messages: &str) -> Option<String> {
        system_first(&RawValue::from_string(messages.to_owned()).unwrap())
    }

    #[test]
    fn instructions_lead_in_one_message_and_later_ones_are_the_users_text() {
        let given = r#"[{"role":"system","content":"a"},{"role":"developer","content":[{"type":"text","text":"b"}]},{"role":"user","content":"q"},{"role":"assistant","content":"x","y": 1},{"role":"system","content":"mid"},{"role":"user","content":"r"},{"role":"system","content":"end"}]"#;
        let expected = r#"[{"role":"system","content":"a\n\nb"},{"role":"user","content":"q"},{"role":"assistant","content":"x","y": 1},{"role":"user","content":"<system-reminder>\nmid\n</system-reminder>\n\nr\n\n<system-reminder>\nend\n</system-reminder>"}]"#;
        assert_eq!(first(given).unwrap(), expected);
        for fine in [
            r#"[{"role":"system","content":"a"},{"role":"user","content":"q"}]"#,
            "[]",
            "7",
            r#"[{"role":"user"},{"role":"system"}]"#,
        ] {
            assert_eq!(first(fine), None, "{fine}");
        }
    }
}
