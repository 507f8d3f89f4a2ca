//! Free-text tools for upstreams that support functions only: a function with one text parameter, `input`.
//!
//! The text is forwarded as it arrives, fragment by fragment. Other arguments of a model are not corrected:
//! they are forwarded as the text.

use serde_json::value::RawValue;

use super::json::{self, Members, quoted, trailing_high_surrogate};

/// Schema of such a function's arguments.
const SCHEMA: &str = r#"{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],"additionalProperties":false}"#;

/// The most bytes before the text. Longer arguments do not have the expected form.
const LONGEST_HEAD: usize = 64;

/// The schema as JSON.
pub(crate) fn schema() -> Option<Box<RawValue>> {
    RawValue::from_string(SCHEMA.to_owned()).ok()
}

/// Free text as the function's arguments.
pub(crate) fn arguments(input: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(format!(r#"{{"input":{}}}"#, quoted(input))).ok()
}

/// The description of the function, with the grammar as text, since other vendors cannot enforce it. `grammar`
/// is the object with its `definition` and `syntax`.
pub(crate) fn description(said: Option<String>, grammar: Option<&RawValue>) -> Option<String> {
    let members = grammar.and_then(|grammar| Members::parse(grammar.get()).ok());
    let text = |name: &str| members.as_ref()?.get(name).and_then(json::text);
    let Some(definition) = text("definition") else { return said };
    let syntax = text("syntax").unwrap_or_default();
    let said = said.map(|said| said + "\n\n").unwrap_or_default();
    Some(format!("{said}`input` must match this {syntax} grammar:\n{definition}"))
}

/// The text in complete arguments.
fn whole(arguments: &str) -> String {
    let members = Members::parse(arguments).ok();
    let input = members.and_then(|members| members.get("input").and_then(json::text));
    input.map_or_else(|| arguments.to_owned(), std::borrow::Cow::into_owned)
}

/// Extracts the text from arguments that arrive in fragments.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// Input that is not forwarded yet: the part before the text, or an incomplete end of a fragment.
    kept: String,
    place: ScanState,
    /// The text so far.
    text: String,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum ScanState {
    #[default]
    Before,
    Within,
    After,
    /// The arguments do not have the expected form.
    Elsewhere,
}

impl Reader {
    /// Reads one more fragment and returns the text that it adds.
    pub(crate) fn read(&mut self, fragment: &str) -> String {
        if matches!(self.place, ScanState::After | ScanState::Elsewhere) {
            return String::new();
        }
        self.kept.push_str(fragment);
        if self.place == ScanState::Before {
            if let Some(text) = text_begins(&self.kept) {
                self.kept = text.to_owned();
                self.place = ScanState::Within;
            } else {
                if self.kept.len() > LONGEST_HEAD {
                    self.place = ScanState::Elsewhere;
                }
                return String::new();
            }
        }
        let (whole, ends) = whole_characters(&self.kept);
        let text = unescaped(self.kept.get(..whole).unwrap_or_default());
        self.kept.drain(..whole);
        if ends {
            self.place = ScanState::After;
        }
        self.text.push_str(&text);
        text
    }

    /// The text after the end of its arguments: the forwarded text, or all of the arguments in another form.
    pub(crate) fn all(&self, arguments: &str) -> String {
        if self.found() { self.text.clone() } else { whole(arguments) }
    }

    /// The text that was not forwarded yet.
    pub(crate) fn rest(&self, arguments: &str) -> String {
        if self.found() { String::new() } else { whole(arguments) }
    }

    fn found(&self) -> bool {
        matches!(self.place, ScanState::Within | ScanState::After)
    }
}

/// Remainder of the JSON after `{"input":"`.
fn text_begins(json: &str) -> Option<&str> {
    let name = json.trim_start().strip_prefix('{')?.trim_start().strip_prefix("\"input\"")?;
    name.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')
}

/// Decodes the inside of a string literal. Raw line ends, which are invalid in one, are kept, and an invalid
/// literal is returned unchanged.
fn unescaped(inside: &str) -> String {
    let mut literal = String::with_capacity(inside.len() + 2);
    literal.push('"');
    for c in inside.chars() {
        match c {
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            '\t' => literal.push_str("\\t"),
            c => literal.push(c),
        }
    }
    literal.push('"');
    let literal = RawValue::from_string(literal).ok();
    let text = literal.as_deref().and_then(json::text).map(std::borrow::Cow::into_owned);
    text.unwrap_or_else(|| inside.to_owned())
}

/// Length in bytes of the complete characters inside a string literal, and whether the literal ends there.
fn whole_characters(inside: &str) -> (usize, bool) {
    let bytes = inside.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, bytes.get(at + 1)) {
            (b'"', _) => return (at, true),
            (b'\\', None) => return (at, false),
            (b'\\', Some(b'u')) if bytes.len() < at + 6 => return (at, false),
            (b'\\', Some(b'u')) => {
                let half = inside.get(at..at + 6).map(|half| format!("\"{half}\""));
                let half = half.and_then(|half| RawValue::from_string(half).ok());
                // The other half of the surrogate pair may follow.
                let next = bytes.get(at + 6..).unwrap_or_default();
                let may_come = next.len() < 6 && b"\\u".iter().zip(next).all(|(a, b)| a == b);
                if may_come && half.as_deref().and_then(trailing_high_surrogate).is_some() {
                    return (at, false);
                }
                at += 6;
            }
            (b'\\', Some(_)) => at += 2,
            _ => at += 1,
        }
    }
    (at, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cut into two fragments at every position, and character by character.
    #[test]
    fn the_text_comes_out_whatever_the_cuts() {
        for (arguments, text) in [
            (r#"{"input":"a \"b\" \\ \u00e9 \ud83d\ude00 é"}"#, "a \"b\" \\ é 😀 é"),
            (r#" { "input" : "x\ny" } "#, "x\ny"),
            (r#"{"input":""}"#, ""),
            (r#"{"input":"\ud83d!"}"#, "\u{FFFD}!"),
            (r#"{"other":1}"#, r#"{"other":1}"#),
            (
                r#"{"other":"something that is rather longer than any head may be, yes","input":"x"}"#,
                "x",
            ),
            ("[1,", "[1,"),
        ] {
            let cuts = arguments.char_indices().map(|(at, _)| at);
            for cut in cuts.clone().chain([arguments.len()]) {
                let (one, two) = arguments.split_at(cut);
                let mut reader = Reader::default();
                let told = reader.read(one) + &reader.read(two);
                assert_eq!(told + &reader.rest(arguments), text, "{arguments} at {cut}");
            }
            let mut reader = Reader::default();
            let mut told = String::new();
            for c in arguments.chars() {
                told += &reader.read(c.encode_utf8(&mut [0; 4]));
            }
            assert_eq!(told + &reader.rest(arguments), text, "{arguments}");
        }
    }

    /// Output of models is not always JSON. Nothing of it may be lost.
    #[test]
    fn text_that_is_no_literal_is_told_as_it_is() {
        for (arguments, text) in [
            ("{\"input\":\"a\nb\tc\"}", "a\nb\tc"),
            (r#"{"input":"a\xb"}"#, r"a\xb"),
            ("{\"input\":\"a\u{1}b\"}", "a\u{1}b"),
        ] {
            let mut reader = Reader::default();
            let told = reader.read(arguments);
            assert_eq!((told.as_str(), reader.all(arguments).as_str()), (text, text));
            assert_eq!(reader.rest(arguments), "");
        }
    }

    /// The text is forwarded immediately, and text cut off by a limit stays what it is.
    #[test]
    fn the_text_comes_at_once() {
        let mut reader = Reader::default();
        assert_eq!(reader.read(r#"{"input":"one "#), "one ");
        assert_eq!(reader.read("two"), "two");
        assert_eq!(reader.rest(r#"{"input":"one two"#), "");
        assert_eq!(reader.all(r#"{"input":"one two"#), "one two");
    }
}
