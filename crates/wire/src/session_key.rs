//! Session keys of requests: the members of a body by which requests of one conversation, or of one user, know each other.
//! Pure. It must never change a body, nor fail on one that is no request.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::Members;

/// The most bytes of a prompt's beginning.
const MAX_PREFIX: usize = 4096;

/// The part of a body that makes a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionKey {
    /// `prompt_cache_key`, or the conversation.
    Conversation,
    /// The end user: `metadata.user_id`, `safety_identifier` or `user`.
    User,
    /// The beginning of the prompt: tools, instructions and the turns up to the first one of the user. Later turns of the
    /// conversation do not change it.
    Prefix,
}

impl SessionKey {
    /// Its value in a body. `None`: there is none.
    pub fn of(self, body: &str) -> Option<String> {
        let members = Members::parse(body).ok()?;
        match self {
            Self::Conversation => conversation(&members),
            Self::User => user(&members),
            Self::Prefix => prefix(&members),
        }
    }
}

fn text(json: &RawValue) -> Option<String> {
    serde_json::from_str::<String>(json.get()).ok().filter(|text| !text.is_empty())
}

fn member(json: &RawValue, name: &str) -> Option<String> {
    text(Members::parse(json.get()).ok()?.get(name)?)
}

fn conversation(members: &Members<'_>) -> Option<String> {
    let key = members.get("prompt_cache_key").and_then(text);
    let conversation = || members.get("conversation");
    key.or_else(|| text(conversation()?)).or_else(|| member(conversation()?, "id"))
}

fn user(members: &Members<'_>) -> Option<String> {
    let own =
        || ["safety_identifier", "user"].into_iter().find_map(|name| text(members.get(name)?));
    members.get("metadata").and_then(|metadata| member(metadata, "user_id")).or_else(own)
}

fn prefix(members: &Members<'_>) -> Option<String> {
    let mut out = String::new();
    let before = ["tools", "system", "instructions", "systemInstruction", "system_instruction"];
    let before = before.into_iter().filter_map(|name| members.get(name));
    out.extend(before.map(RawValue::get));
    let turns = ["messages", "input", "contents", "prompt", "message"];
    let turns = turns.into_iter().find_map(|name| members.get(name))?;
    match serde_json::from_str::<Vec<&RawValue>>(turns.get()) {
        Ok(turns) => {
            for turn in turns {
                out.push_str(turn.get());
                if is_users(turn) || out.len() >= MAX_PREFIX {
                    break;
                }
            }
        }
        // A single text.
        Err(_) => out.push_str(turns.get()),
    }
    out.truncate(out.floor_char_boundary(MAX_PREFIX));
    Some(out).filter(|prefix| !prefix.is_empty())
}

/// Whether a turn is the user's; one without a role is.
fn is_users(turn: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Turn {
        role: Option<String>,
    }
    let turn: Option<Turn> = serde_json::from_str(turn.get()).ok();
    turn.is_none_or(|turn| turn.role.is_none_or(|role| role == "user"))
}

#[cfg(test)]
mod tests {
    use super::SessionKey::{Conversation, Prefix, User};

    #[test]
    fn keys_of_conversations_and_users() {
        for (key, body, value) in [
            (Conversation, r#"{"prompt_cache_key":"k","conversation":"c"}"#, Some("k")),
            (Conversation, r#"{"conversation":"c"}"#, Some("c")),
            (Conversation, r#"{"conversation":{"id":"c\u0031"}}"#, Some("c1")),
            (Conversation, r#"{"conversation":{}}"#, None),
            (User, r#"{"metadata":{"user_id":"u"},"user":"v"}"#, Some("u")),
            (User, r#"{"metadata":null,"safety_identifier":"s","user":"v"}"#, Some("s")),
            (User, r#"{"user":"v"}"#, Some("v")),
            (User, r#"{"user":""}"#, None),
            (User, r#"{"user":{"deep":[]}}"#, None),
            (User, "[]", None),
            (Prefix, "{}", None),
            (Prefix, "not json", None),
        ] {
            assert_eq!(key.of(body).as_deref(), value, "{body}");
        }
    }

    /// Later turns do not change it, and another beginning does.
    #[test]
    fn the_beginning_of_a_prompt_stays() {
        let body = |system: &str, first: &str, more: &str| {
            format!(
                r#"{{"model":"m","messages":[{{"role":"system","content":"{system}"}},{{"role":"user","content":"{first}"}}{more}]}}"#
            )
        };
        let later = r#",{"role":"assistant","content":"x"},{"role":"user","content":"y"}"#;
        let first = Prefix.of(&body("s", "a", "")).unwrap();
        assert_eq!(Prefix.of(&body("s", "a", later)).as_ref(), Some(&first));
        assert_ne!(Prefix.of(&body("s", "b", later)).as_ref(), Some(&first));
        assert_ne!(Prefix.of(&body("t", "a", "")).as_ref(), Some(&first));
        let gemini = r#"{"contents":[{"parts":[{"text":"a"}]},{"role":"model","parts":[]}]}"#;
        assert_eq!(Prefix.of(gemini).as_deref(), Some(r#"{"parts":[{"text":"a"}]}"#));
        assert_eq!(Prefix.of(r#"{"input":"hi"}"#).as_deref(), Some("\"hi\""));
        let long = "é".repeat(5000);
        assert_eq!(Prefix.of(&body("s", &long, "")).unwrap().len(), 4095);
    }
}
