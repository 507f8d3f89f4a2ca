//! Surrogate pairs split across two fragments of a text: one half as an escape at the end of a fragment, the
//! other half at the start of the next. A whole character must never be lost.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::json;

/// The pending half, as an escape. Usually none.
#[derive(Debug, Default)]
pub(crate) struct SplitSurrogate(String);

impl SplitSurrogate {
    /// Reads a fragment together with the pending half. `None` if it yields no text. A half that is not
    /// followed by its other half becomes U+FFFD.
    pub(crate) fn join<'f>(&mut self, raw: &'f RawValue) -> Option<Cow<'f, str>> {
        let text = if self.0.is_empty() && json::trailing_high_surrogate(raw).is_none() {
            json::text(raw)?
        } else {
            Cow::Owned(self.join_half(raw)?)
        };
        (!text.is_empty()).then_some(text)
    }

    /// Whether no half is pending.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Drops the pending half.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    fn join_half(&mut self, raw: &RawValue) -> Option<String> {
        let rest = raw.get().strip_prefix('"')?;
        let literal = RawValue::from_string(format!("\"{}{rest}", self.0)).ok()?;
        self.0.clear();
        let Some(half) = json::trailing_high_surrogate(&literal) else {
            return json::text(&literal).map(Cow::into_owned);
        };
        half.clone_into(&mut self.0);
        let inner = literal.get().strip_suffix('"')?.strip_suffix(half)?;
        let whole = RawValue::from_string(format!("{inner}\"")).ok()?;
        json::text(&whole).map(Cow::into_owned)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::SplitSurrogate;

    fn joined(fragments: &[&str]) -> (Vec<Option<String>>, bool) {
        let mut split = SplitSurrogate::default();
        let mut out = Vec::new();
        for fragment in fragments {
            let raw = RawValue::from_string((*fragment).to_owned()).unwrap();
            out.push(split.join(&raw).map(std::borrow::Cow::into_owned));
        }
        (out, split.is_empty())
    }

    #[test]
    fn halves_are_joined_across_fragments() {
        let some = |text: &str| Some(text.to_owned());
        for (fragments, expected, empty) in [
            (&[r#""a""#, r#""""#, "7"][..], vec![some("a"), None, None], true),
            (&[r#""a\ud83d""#, r#""\ude00b""#], vec![some("a"), some("😀b")], true),
            (&[r#""\ud83d""#, r#""""#, r#""\ude00""#], vec![None, None, some("😀")], true),
            (&[r#""\ud83d""#, r#""x""#], vec![None, some("\u{FFFD}x")], true),
            (&[r#""a\ud83d\ud83d""#, r#""\ude00""#], vec![some("a\u{FFFD}"), some("😀")], true),
            (&[r#""a\ud83d""#], vec![some("a")], false),
            (&[r#""a\\ud83d""#], vec![some(r"a\ud83d")], true),
        ] {
            assert_eq!(joined(fragments), (expected, empty), "{fragments:?}");
        }
    }
}
