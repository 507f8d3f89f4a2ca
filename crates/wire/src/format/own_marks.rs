//! Marks of the gateway's own encoders in an answer that is read again: a stage that restores what they stand for, so
//! that no viewer takes them for content, nor an encoder for something to mark once more. State of a vendor is opaque
//! and stays as it was issued.

use std::borrow::Cow;

use crate::arguments;
use crate::chat::{Delta, Scheme};
use crate::seal;
use crate::stage::Stage;

/// The stage.
#[derive(Debug)]
pub(super) struct OwnMarks;

impl Stage for OwnMarks {
    fn pass(&mut self, deltas: &mut Vec<Delta<'_>>) {
        for delta in deltas {
            match delta {
                Delta::Signature { value: shown, scheme }
                | Delta::RedactedReasoning { data: shown, scheme } => {
                    if let Some(own) = state(shown, *scheme) {
                        *delta = own;
                    }
                }
                Delta::ToolArguments { json, .. } => {
                    if let Some(cut) = arguments::cut_off(json) {
                        *json = Cow::Owned(cut);
                    }
                }
                _ => {}
            }
        }
    }
}

/// Reasoning state of another vendor as that vendor issued it; `None`: it is not marked.
fn state(shown: &str, scheme: Scheme) -> Option<Delta<'static>> {
    let (value, scheme, redacted) = seal::given_back(shown, scheme)?;
    let value: Cow<'static, str> = Cow::Owned(value.to_owned());
    Some(if redacted? {
        Delta::RedactedReasoning { data: value, scheme }
    } else {
        Delta::Signature { value, scheme }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_what_it_was_before_an_encoder_marked_it() {
        for scheme in [Scheme::Anthropic, Scheme::OpenAi, Scheme::Gemini, Scheme::XAi] {
            for own in [Scheme::Anthropic, Scheme::OpenAi] {
                let signed = seal::shown("s:1", scheme, false, own);
                let sealed = seal::shown("d:1", scheme, true, own);
                let mut deltas = vec![
                    Delta::Signature { value: signed.into(), scheme: own },
                    // Responses have one member for both.
                    Delta::Signature { value: sealed.clone().into(), scheme: own },
                    Delta::RedactedReasoning { data: sealed.into(), scheme: own },
                    Delta::Text { choice: 0, text: "streamgate:gemini:data:x".into() },
                ];
                OwnMarks.pass(&mut deltas);
                let data = || Delta::RedactedReasoning { data: "d:1".into(), scheme };
                let kept = Delta::Signature { value: "d:1".into(), scheme };
                assert_eq!(
                    deltas,
                    [
                        Delta::Signature { value: "s:1".into(), scheme },
                        if scheme == own { kept } else { data() },
                        data(),
                        Delta::Text { choice: 0, text: "streamgate:gemini:data:x".into() },
                    ]
                );
            }
        }
    }

    /// A client must not run a tool with what was cut off.
    #[test]
    fn cut_arguments_are_cut_again() {
        for (shown, restored) in [
            (r#"{"_truncated":"{\"a\": \"b"}"#, r#"{"a": "b"#),
            (r#"{"_truncated":"x","b":1}"#, r#"{"_truncated":"x","b":1}"#),
            (r#"{"_truncated":1}"#, r#"{"_truncated":1}"#),
            (r#"{"_truncated":"#, r#"{"_truncated":"#),
            (r#"{"a":"_truncated"}"#, r#"{"a":"_truncated"}"#),
        ] {
            let delta =
                |json: &'static str| Delta::ToolArguments { choice: 0, call: 0, json: json.into() };
            let mut deltas = vec![delta(shown)];
            OwnMarks.pass(&mut deltas);
            assert_eq!(deltas, [delta(restored)]);
        }
    }
}
