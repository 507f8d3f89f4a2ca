//! Content of an answer beside its text: sources, opaque state and log probabilities. It must never
//! ask the gateway's decoders.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
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

/// The only vendor that can read a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whose {
    Anthropic,
    Google,
    OpenAi,
    XAi,
}

fn named(vendor: &str) -> Whose {
    match vendor {
        "anthropic" => Whose::Anthropic,
        "gemini" => Whose::Google,
        "openai" => Whose::OpenAi,
        "xai" => Whose::XAi,
        other => panic!("nobody is called {other}"),
    }
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

    /// Others' state is told behind their names; in base64, several together.
    pub(super) fn seal(&mut self, whose: Whose, value: String) {
        let parts: Vec<&str> = value.splitn(4, ':').collect();
        if let ["streamgate", vendor, "signature" | "data", value] = *parts {
            return self.seals.push((named(vendor), value.to_owned()));
        }
        let packed = BASE64_STANDARD.decode(&value).ok();
        let json = packed.as_deref().and_then(|packed| packed.strip_prefix(b"streamgate:"));
        if let Some(json) = json {
            let list: Value = serde_json::from_slice(json).expect("JSON");
            for sealed in list.as_array().expect("a list") {
                self.seals.push((named(&text(sealed, "/vendor")), text(sealed, "/value")));
            }
        } else if !value.is_empty() {
            self.seals.push((whose, value));
        }
    }
}

/// The content of a dialect's payloads beside text.
pub(super) fn carried(dialect: &str, payloads: &[(String, String)]) -> Carried {
    (recorded_by(dialect).carried)(&super::extract::values(payloads))
}

/// The same of a caller's stream.
pub(super) fn read(caller: &str, out: &[u8]) -> Carried {
    let payloads = support::payloads(caller, out).expect("it was read before");
    let payloads: Vec<(String, String)> =
        payloads.into_iter().map(|(event, data)| (event.unwrap_or_default(), data)).collect();
    carried(caller, &payloads)
}

/// Content that a caller's dialect can express arrives, and nothing else does.
pub(super) fn same(caller: &str, got: Carried, recorded: &Carried) -> Result<(), String> {
    let mut expected = recorded.clone();
    let (sources, tokens, seals) = match caller {
        "openai-chat" | "openai-responses" | "gemini" => (true, true, true),
        "anthropic" => (true, false, true),
        "cohere" => (true, false, false),
        "ollama" => (false, true, false),
        other => panic!("say what callers of {other} are told"),
    };
    if !seals {
        expected.seals.clear();
    }
    if caller == "gemini" {
        // It has a place for them on calls and at the end only: none is lost there (29), and none is
        // made up. Documents have a place of their own, results of functions have none.
        expected.seals.retain(|seal| got.seals.contains(seal));
        expected.sources.retain(|source| !source.0.is_empty() || got.sources.contains(source));
    } else if caller != "cohere" {
        expected.sources.retain(|(url, _)| !url.is_empty());
    }
    if !sources {
        expected.sources.clear();
    }
    if caller != "cohere" {
        for (url, title) in &mut expected.sources {
            // Where a title is required, it is the URL.
            if title.is_empty() {
                title.clone_from(url);
            }
        }
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
