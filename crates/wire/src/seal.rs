//! Sealed reasoning state of one vendor, held by a caller of another. It is marked, so that it returns to the
//! vendor that issued it and to no other.
//!
//! State is opaque: it is never read, changed or invented here.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use super::chat::{Part, Scheme, Signature};

/// Prefix of marked state.
pub const MARK: &str = "streamgate:";
/// Start of the prefix in base64.
const MARK_BASE64: &str = "c3RyZWFtZ2F0";

/// State in the form for a caller of the vendor `own`, whose own state stays unmarked.
pub fn shown(value: &str, scheme: Scheme, redacted: bool, own: Scheme) -> String {
    if scheme == own {
        return value.to_owned();
    }
    let kind = if redacted { "data" } else { "signature" };
    format!("{MARK}{}:{kind}:{value}", scheme.name())
}

/// Parses such state when a caller sends it back: the value, its vendor, and whether it holds redacted
/// reasoning, if marked. `None` if the mark is malformed.
pub fn given_back(shown: &str, own: Scheme) -> Option<(&str, Scheme, Option<bool>)> {
    let Some(marked) = shown.strip_prefix(MARK) else {
        return Some((shown, own, None));
    };
    let (name, rest) = marked.split_once(':')?;
    let (kind, value) = rest.split_once(':')?;
    Some((value, Scheme::by_name(name)?, Some(kind == "data")))
}

/// One piece of state with the text that it signs, for callers that keep only one of both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    vendor: String,
    /// The state holds redacted reasoning.
    #[serde(default)]
    redacted: bool,
    value: String,
    #[serde(default)]
    text: String,
}

impl Sealed {
    /// A signature over a text.
    pub fn signed(value: &str, scheme: Scheme, text: String) -> Self {
        let (vendor, value) = (scheme.name().to_owned(), value.to_owned());
        Self { vendor, redacted: false, value, text }
    }

    /// Redacted reasoning that only its vendor can read.
    pub fn redacted(value: &str, scheme: Scheme) -> Self {
        Self { redacted: true, ..Self::signed(value, scheme, String::new()) }
    }

    fn part(self) -> Option<Part> {
        let scheme = Scheme::by_name(&self.vendor)?;
        let (text, value) = (self.text, self.value);
        Some(if self.redacted {
            Part::RedactedReasoning { data: value, scheme }
        } else {
            Part::Reasoning { text, signature: Some(Signature { value, scheme }) }
        })
    }
}

/// Several pieces in one base64 value, for dialects with a field for bytes only.
pub fn packed(sealed: &[Sealed]) -> String {
    let json = serde_json::to_string(sealed).unwrap_or_default();
    BASE64_STANDARD.encode(format!("{MARK}{json}"))
}

/// Whether a value may be a result of [`packed`].
pub fn may_be_packed(value: &str) -> bool {
    value.contains(MARK_BASE64)
}

/// Unpacks such a value into parts of a turn. `None` if it was not packed here.
pub fn unpacked(value: &str) -> Option<Vec<Part>> {
    if !value.starts_with(MARK_BASE64) {
        return None;
    }
    // Clients may use the URL-safe alphabet and omit the padding.
    let standard: String = value
        .trim_end_matches('=')
        .chars()
        .map(|c| match c {
            '-' => '+',
            '_' => '/',
            c => c,
        })
        .collect();
    let bytes = base64::prelude::BASE64_STANDARD_NO_PAD.decode(standard).ok()?;
    let json = std::str::from_utf8(&bytes).ok()?.strip_prefix(MARK)?;
    let sealed: Vec<Sealed> = serde_json::from_str(json).ok()?;
    Some(sealed.into_iter().filter_map(Sealed::part).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Scheme; 4] = [Scheme::Anthropic, Scheme::OpenAi, Scheme::Gemini, Scheme::XAi];

    #[test]
    fn state_comes_back_as_it_went() {
        for own in ALL {
            for scheme in ALL {
                for redacted in [false, true] {
                    let shown = shown("a:b", scheme, redacted, own);
                    assert_eq!(shown.starts_with(MARK), scheme != own);
                    let told = (scheme != own).then_some(redacted);
                    assert_eq!(given_back(&shown, own), Some(("a:b", scheme, told)));
                }
            }
        }
        assert_eq!(given_back("streamgate:nobody:data:x", Scheme::OpenAi), None);
        assert_eq!(given_back("streamgate:", Scheme::OpenAi), None);
    }

    #[test]
    fn packed_state_survives_either_alphabet() {
        let sealed = [
            Sealed::signed("s>>>???", Scheme::Anthropic, "Thöught?>".into()),
            Sealed::redacted("data", Scheme::OpenAi),
        ];
        let packed = packed(&sealed);
        assert!(may_be_packed(&packed));
        let parts = unpacked(&packed).expect("parts");
        let addressed = packed.replace('+', "-").replace('/', "_");
        let again = unpacked(addressed.trim_end_matches('=')).expect("parts");
        assert_eq!(format!("{parts:?}"), format!("{again:?}"));
        let [
            Part::Reasoning { text, signature: Some(signature) },
            Part::RedactedReasoning { data, scheme },
        ] = &*parts
        else {
            panic!("{parts:?}")
        };
        assert_eq!((text.as_str(), signature.value.as_str()), ("Thöught?>", "s>>>???"));
        assert_eq!(signature.scheme, Scheme::Anthropic);
        assert_eq!((data.as_str(), *scheme), ("data", Scheme::OpenAi));
        assert!(unpacked("U0lHTg==").is_none());
        assert!(unpacked("c3RyZWFtZ2F0!").is_none());
    }
}
