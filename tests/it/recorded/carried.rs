//! What an answer carries beside its words: sources, opaque state and log probabilities. It must never
//! ask the gateway's decoders.

use serde_json::Value;

use super::extract::recorded_by;
use crate::support::{self, must};

/// Read of a recording, and of what a caller got.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Carried {
    /// Address and title of each source, empty where it has none.
    pub(super) sources: Vec<(String, String)>,
    /// Signatures and encrypted reasoning: whose, and the value.
    pub(super) seals: Vec<(Whose, String)>,
    /// Tokens whose probability is told.
    pub(super) tokens: Vec<String>,
}

/// Who alone can read a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whose {
    Anthropic,
    Google,
    OpenAi,
}

/// A text within a value; empty if it is not there.
pub(super) fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A list within a value.
pub(super) fn list<'v>(value: &'v Value, pointer: &str) -> impl Iterator<Item = &'v Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

impl Carried {
    pub(super) fn source(&mut self, url: String, title: String) {
        if !(url.is_empty() && title.is_empty()) {
            self.sources.push((url, title));
        }
    }

    pub(super) fn seal(&mut self, whose: Whose, value: String) {
        if !value.is_empty() {
            self.seals.push((whose, value));
        }
    }
}

/// What the payloads of a dialect carry.
pub(super) fn carried(dialect: &str, payloads: &[(String, String)]) -> Carried {
    (recorded_by(dialect).carried)(&super::extract::values(payloads))
}

/// What a caller has read in its stream.
pub(super) fn read(caller: &str, out: &[u8]) -> Carried {
    let payloads = support::payloads(caller, out).expect("it was read before");
    let payloads: Vec<(String, String)> =
        payloads.into_iter().map(|(event, data)| (event.unwrap_or_default(), data)).collect();
    carried(caller, &payloads)
}

/// What a caller's language has a place for arrives there, and nothing else does.
pub(super) fn same(caller: &str, got: Carried, recorded: &Carried) -> Result<(), String> {
    let mut expected = recorded.clone();
    let (sources, tokens, may_read): (bool, bool, fn(Whose) -> bool) = match caller {
        "openai-chat" | "openai-responses" => (true, true, |_| true),
        // Its sources hold a value of the vendor's that nobody else can make.
        "anthropic" => (false, false, |whose| whose == Whose::Anthropic),
        // It has a place for them on calls only: none is lost there (29), and none is made up.
        "gemini" => (true, true, |whose| whose == Whose::Google),
        "cohere" => (true, false, |_| false),
        "ollama" => (false, true, |_| false),
        other => panic!("say what callers of {other} are told"),
    };
    expected.seals.retain(|(whose, _)| may_read(*whose));
    if caller == "gemini" {
        expected.seals.retain(|seal| got.seals.contains(seal));
    }
    if !sources {
        expected.sources.clear();
    }
    if !tokens {
        expected.tokens.clear();
    }
    let sorted = |mut carried: Carried| {
        carried.sources.sort();
        if caller == "gemini" {
            // Where places cannot be told, a repeated source is the same one.
            carried.sources.dedup();
        }
        carried
    };
    let (got, expected) = (sorted(got), sorted(expected));
    must(got == expected, || format!("beside its words {got:?}, recorded {expected:?}"))
}
