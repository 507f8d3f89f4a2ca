//! Fast path for streams whose payloads differ from token to token in one string only.
//!
//! If all bytes around that string equal those of a payload that was parsed before, only the string has changed
//! and no parsing is needed. The fast path must never guess: on any other byte, or an escape within the string,
//! the payload goes to the parser.

use std::borrow::Cow;

use crate::chat::Delta;

/// A parsed payload and its delta. `S` is the decoder's destination of such a delta.
#[derive(Debug, Default)]
pub(crate) struct FastPath<S> {
    before: Vec<u8>,
    after: Vec<u8>,
    /// Index of the alternative, and whether the string is reasoning.
    delta: (u32, bool),
    slot: Option<S>,
}

impl<S: Copy> FastPath<S> {
    /// Learns a payload that yielded only this delta. Returns `false` if it cannot: the text must be a slice of
    /// the payload, and other kinds of deltas are ignored.
    pub(crate) fn learn(&mut self, payload: &[u8], delta: &Delta<'_>, slot: S) -> bool {
        let (choice, reasoning, text) = match delta {
            Delta::Text { choice, text: Cow::Borrowed(text) } => (*choice, false, text),
            Delta::Reasoning { choice, text: Cow::Borrowed(text) } => (*choice, true, text),
            _ => return false,
        };
        self.delta = (choice, reasoning);
        self.slot = self.learn_bytes(payload, text).map(|()| slot);
        self.slot.is_some()
    }

    fn learn_bytes(&mut self, payload: &[u8], text: &str) -> Option<()> {
        self.before.clear();
        self.after.clear();
        let place = (text.as_ptr() as usize).checked_sub(payload.as_ptr() as usize)?;
        let (before, rest) = payload.split_at_checked(place)?;
        let after = rest.strip_prefix(text.as_bytes())?;
        if before.last() != Some(&b'"') || after.first() != Some(&b'"') {
            return None;
        }
        self.before.extend_from_slice(before);
        self.after.extend_from_slice(after);
        Some(())
    }

    /// Destination of the deltas that it reads. `None` if it has not learnt a payload.
    pub(crate) fn slot(&self) -> Option<S> {
        self.slot
    }

    /// The delta of a payload that differs from the learnt one in its string only.
    pub(crate) fn read<'f>(&self, payload: &'f [u8]) -> Option<Delta<'f>> {
        self.slot?;
        let text = payload.strip_prefix(&*self.before)?.strip_suffix(&*self.after)?;
        let plain = |byte: &u8| *byte >= 0x20 && *byte != b'"' && *byte != b'\\';
        if text.is_empty() || !text.iter().all(plain) {
            return None;
        }
        let text = Cow::Borrowed(std::str::from_utf8(text).ok()?);
        let (choice, reasoning) = self.delta;
        Some(if reasoning {
            Delta::Reasoning { choice, text }
        } else {
            Delta::Text { choice, text }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::FastPath;
    use crate::chat::Delta;

    const FIRST: &str = r#"{"id":"1","delta":{"content":"Hello"},"n":null}"#;

    /// A slice of `FIRST` itself, not a copy.
    fn part(words: &str) -> Delta<'static> {
        let at = FIRST.find(words).unwrap();
        text(FIRST.get(at..at + words.len()).unwrap())
    }

    fn text(text: &str) -> Delta<'_> {
        Delta::Text { choice: 3, text: Cow::Borrowed(text) }
    }

    fn learnt() -> FastPath<u64> {
        let mut path = FastPath::default();
        assert!(path.learn(FIRST.as_bytes(), &part("Hello"), 7));
        path
    }

    #[test]
    fn only_the_string_may_differ() {
        for (payload, expected) in [
            (r#"{"id":"1","delta":{"content":" wörld"},"n":null}"#, Some(" wörld")),
            (r#"{"id":"1","delta":{"content":""},"n":null}"#, None),
            (r#"{"id":"2","delta":{"content":"x"},"n":null}"#, None),
            (r#"{"id":"1","delta":{"content":"x"},"n":1}"#, None),
            (r#"{"id":"1","delta":{"content":"x","more":"y"},"n":null}"#, None),
            (r#"{"id":"1","delta":{"content":"a\nb"},"n":null}"#, None),
            ("{\"id\":\"1\",\"delta\":{\"content\":\"a\nb\"},\"n\":null}", None),
            (r#"{"id":"1","delta":{"content":"#, None),
        ] {
            let path = learnt();
            assert_eq!(path.read(payload.as_bytes()), expected.map(text), "{payload}");
            assert_eq!(path.slot(), Some(7));
        }
    }

    #[test]
    fn text_from_elsewhere_is_not_learnt() {
        let mut path = learnt();
        let elsewhere = String::from("Hello");
        assert!(!path.learn(FIRST.as_bytes(), &text(&elsewhere), 7));
        assert_eq!(path.slot(), None);
        assert!(!path.learn(FIRST.as_bytes(), &part("d\":\"1"), 7));
        assert_eq!((path.slot(), path.read(FIRST.as_bytes())), (None, None), "not a whole string");
        assert_eq!(FastPath::<()>::default().read(b""), None);
    }

    #[test]
    fn reasoning_stays_reasoning_and_other_deltas_change_nothing() {
        let mut path = learnt();
        assert!(!path.learn(FIRST.as_bytes(), &Delta::Opaque, 8));
        assert_eq!((path.slot(), path.read(FIRST.as_bytes())), (Some(7), Some(part("Hello"))));
        let Delta::Text { text, .. } = part("Hello") else { panic!("a text") };
        let reasoning = Delta::Reasoning { choice: 0, text };
        assert!(path.learn(FIRST.as_bytes(), &reasoning, 9));
        assert_eq!((path.slot(), path.read(FIRST.as_bytes())), (Some(9), Some(reasoning)));
    }
}
