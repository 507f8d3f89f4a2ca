//! State that only the account which issued it can use, encrypted reasoning and stored responses: digests of it in answers
//! and in requests, by which a request finds that account again. Pure. It must never keep or change the state itself.
//!
//! OpenAI: "encrypted content could not be verified" (`invalid_encrypted_content`) is the answer of another organization,
//! project or Azure resource. Anthropic's signatures are valid for every account, so they have no digest.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use memchr::memmem;

use crate::chat::{ApiError, Delta, Scheme};
use crate::json::{self, Members};
use crate::seal;

/// The most values of a request, the last ones first.
const MAX_VALUES: usize = 4;

/// The member that holds encrypted reasoning in requests.
const REASONING: &str = "\"encrypted_content\"";

/// The member of a request that names a stored response. One that is stored here is not there any more.
const PREVIOUS: &str = "previous_response_id";

/// The vendors whose state is bound to an account.
const BOUND: [Scheme; 2] = [Scheme::OpenAi, Scheme::XAi];

/// The digest of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StateDigest(u64);

impl StateDigest {
    fn of(value: &str) -> Self {
        let mut hash = DefaultHasher::new();
        value.hash(&mut hash);
        Self(hash.finish())
    }

    /// That of the id of a response which its upstream stores.
    pub fn of_response(id: &str) -> Self {
        Self::of(id)
    }

    /// That of a delta, if it is such state.
    pub fn of_delta(delta: &Delta<'_>) -> Option<Self> {
        match delta {
            Delta::Signature { value, scheme } if BOUND.contains(scheme) => Some(Self::of(value)),
            Delta::RedactedReasoning { data, scheme } if BOUND.contains(scheme) => {
                Some(Self::of(data))
            }
            _ => None,
        }
    }
}

/// The digests of the state in a request of any dialect, the last first. Text of the conversation cannot be mistaken for
/// it: its quotes are escaped.
pub fn digests(body: &str) -> Vec<StateDigest> {
    let mut found = Vec::new();
    for at in memmem::rfind_iter(body.as_bytes(), REASONING).take(MAX_VALUES) {
        let rest = body.get(at + REASONING.len()..).unwrap_or_default().trim_start();
        let value = rest.strip_prefix(':').map(str::trim_start);
        let value = value.and_then(|value| value.strip_prefix('"')).and_then(string);
        found.extend(value.map(|value| StateDigest::of(unmarked(value))));
    }
    let marked = memmem::rfind_iter(body.as_bytes(), seal::MARK).take(MAX_VALUES);
    for at in marked {
        let value = body.get(at..).and_then(string);
        let bound = value.and_then(|value| seal::given_back(value, Scheme::Anthropic));
        let bound = bound.filter(|(_, scheme, _)| BOUND.contains(scheme));
        found.extend(bound.map(|(value, ..)| StateDigest::of(value)));
    }
    if memmem::find(body.as_bytes(), PREVIOUS.as_bytes()).is_some() {
        let members = Members::parse(body).unwrap_or_default();
        let id = members.get(PREVIOUS).and_then(json::text);
        found.extend(id.map(|id| StateDigest::of_response(&id)));
    }
    found
}

/// The beginning of a text up to the quote that ends it. Values are base64, which needs no escapes.
fn string(text: &str) -> Option<&str> {
    text.find('"').and_then(|end| text.get(..end)).filter(|value| !value.is_empty())
}

fn unmarked(value: &str) -> &str {
    seal::given_back(value, Scheme::OpenAi).map_or(value, |(value, ..)| value)
}

/// The errors of an account that has not issued the state of a request, as OpenAI and Azure report them.
const FOREIGN: [&str; 2] = ["invalid_encrypted_content", "previous_response_not_found"];

/// Whether an upstream cannot use the state of a request, because another account has issued it.
pub fn is_of_another_account(fault: &ApiError) -> bool {
    fault.code.as_deref().is_some_and(|code| FOREIGN.contains(&code))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn state_is_found_again_in_requests_of_every_dialect() {
        let value = "gAAAAABo+/Zx==";
        let state = |scheme| Delta::Signature { value: Cow::Borrowed(value), scheme };
        let issued = StateDigest::of_delta(&state(Scheme::OpenAi)).expect("it is bound");
        assert_eq!(StateDigest::of_delta(&state(Scheme::Anthropic)), None);
        for body in [
            format!(r#"{{"input":[{{"type":"reasoning","encrypted_content" : "{value}"}}]}}"#),
            format!(r#"{{"input":[{{"encrypted_content":"streamgate:openai:data:{value}"}}]}}"#),
            format!(
                r#"{{"messages":[{{"content":[{{"signature":"streamgate:openai:signature:{value}"}}]}}]}}"#
            ),
        ] {
            assert_eq!(digests(&body).first(), Some(&issued), "{body}");
        }
        for body in [
            format!(r#"{{"input":"\"encrypted_content\":\"{value}\""}}"#),
            format!(r#"{{"signature":"streamgate:anthropic:signature:{value}"}}"#),
            r#"{"encrypted_content":null}"#.to_owned(),
        ] {
            assert_eq!(digests(&body), [], "{body}");
        }
    }

    #[test]
    fn the_last_state_is_the_first() {
        let item = |number: usize| format!(r#"{{"encrypted_content":"v{number}"}}"#);
        let body: String = (0..9).map(item).collect();
        let expected: Vec<_> = ["v8", "v7", "v6", "v5"].map(StateDigest::of).into();
        assert_eq!(digests(&body), expected);
    }

    proptest! {
        #[test]
        fn nothing_panics(body in "(\"encrypted_content\"|\"previous_response_id\"|streamgate:|openai:|[:\" ä\\\\]|[a-z]{0,3}){0,12}") {
            let _ = digests(&body);
        }
    }
}
