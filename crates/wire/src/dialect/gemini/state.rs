//! Reasoning state on its way to a caller: `thoughtSignature` as the vendor gave it, or that of other
//! vendors, packed. It must never unpack one nor make one up.
//!
//! Clients of this dialect keep signatures and leave thoughts out, so other vendors' state is packed with
//! the text that it signs.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::write::Generations;
use crate::chat::{Delta, Scheme};
use crate::json::{self, Members, map_elements};
use crate::seal::{self, Sealed};

/// The state that no part has carried yet.
#[derive(Debug, Default)]
pub(super) struct State {
    own: Option<String>,
    foreign: Vec<Sealed>,
    /// Thoughts since the last state.
    thought: String,
}

impl State {
    /// Updates the state from a delta.
    pub(super) fn note(&mut self, delta: &Delta<'_>) {
        match delta {
            Delta::Reasoning { choice: 0, text } => self.thought.push_str(text),
            Delta::Signature { value, scheme: Scheme::Gemini } => {
                self.own = Some(value.to_string());
                self.thought.clear();
            }
            Delta::Signature { value, scheme } => {
                let text = std::mem::take(&mut self.thought);
                self.foreign.push(Sealed::signed(value, *scheme, text));
            }
            Delta::RedactedReasoning { data, scheme } => {
                self.foreign.push(Sealed::redacted(data, *scheme));
            }
            _ => {}
        }
    }

    /// The value for the next part that carries one.
    pub(super) fn take(&mut self) -> Option<String> {
        let foreign = std::mem::take(&mut self.foreign);
        self.own.take().or_else(|| (!foreign.is_empty()).then(|| seal::packed(&foreign)))
    }
}

/// Placeholder for the signature of a call that has none, as the vendor documents it.
pub(super) const UNSIGNED: &str = "skip_thought_signature_validator";

/// A request without other vendors' state, for an upstream of this dialect.
pub(super) fn without_foreign<'b>(body: &'b str, model: &str) -> Cow<'b, str> {
    if !seal::may_be_packed(body) {
        return Cow::Borrowed(body);
    }
    // Older models need no signature on calls.
    let instead = (Generations::of(model) == Generations::Levels).then_some(UNSIGNED);
    let edited = || {
        let members = Members::parse(body).ok()?;
        let contents = map_elements(members.get("contents")?.get(), |content| {
            Some(edited(content, "parts", |parts| {
                map_elements(parts, |piece| Some(part(piece, instead)))
            }))
        })?;
        Some(members.edit(body, &[("contents", Some(&contents))]))
    };
    edited().map_or(Cow::Borrowed(body), Cow::Owned)
}

/// An object with one member replaced, if it is there.
fn edited<'a>(
    object: &'a str,
    name: &str,
    edit: impl FnOnce(&'a str) -> Option<String>,
) -> Cow<'a, str> {
    let Ok(members) = Members::parse(object) else { return Cow::Borrowed(object) };
    let value = members.get(name).map(RawValue::get).and_then(edit);
    value.map_or(Cow::Borrowed(object), |value| {
        Cow::Owned(members.edit(object, &[(name, Some(&value))]))
    })
}

/// A part without other vendors' state. A call gets the placeholder `instead`, if there is one.
fn part<'p>(part: &'p str, instead: Option<&str>) -> Cow<'p, str> {
    let members = Members::parse(part).unwrap_or_default();
    let called = ["functionCall", "function_call"].iter().any(|name| members.get(name).is_some());
    let instead = instead.filter(|_| called).map(json::quoted);
    for name in ["thoughtSignature", "thought_signature"] {
        let value = members.get(name).and_then(json::text);
        if value.is_some_and(|value| seal::unpacked(&value).is_some()) {
            return Cow::Owned(members.edit(part, &[(name, instead.as_deref())]));
        }
    }
    Cow::Borrowed(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_foreign_goes() {
        let mut state = State::default();
        state.note(&Delta::Reasoning { choice: 0, text: "Hm.".into() });
        state.note(&Delta::Signature { value: "EqQB".into(), scheme: Scheme::Anthropic });
        let packed = state.take().expect("state");
        assert_eq!(state.take(), None);
        let body = |text: &str, call: &str| {
            format!(
                r#"{{"contents":[{{"role":"model","parts":[{{"text":""{text}}},{{"functionCall":{{}}{call}}}]}}],"x": 1}}"#
            )
        };
        let signed = |value: &str| format!(r#","thoughtSignature":"{value}""#);
        let given = body(&signed(&packed), &signed(&packed));
        assert_eq!(without_foreign(&given, "gemini-3-pro"), body("", &signed(UNSIGNED)));
        assert_eq!(without_foreign(&given, "gemini-2.5-pro"), body("", ""));
        let own = body(&signed("U0lHTg=="), &signed("U0lHTg=="));
        assert_eq!(without_foreign(&own, "gemini-3-pro"), own);
    }
}
