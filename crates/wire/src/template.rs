//! A shortcut for streams whose payloads differ from token to token in one string only.
//!
//! If all bytes around that string are those of a payload that has been read before, this one means
//! the same but for the string: nothing need be parsed. It never guesses: any other byte, or an
//! escape within the string, and the payload is left to the parser.

/// The bytes around the string.
#[derive(Debug, Default)]
pub(crate) struct Template {
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Template {
    /// Remembers a payload in which `text`, a part of it, was read as a string of its own. Returns
    /// whether it can be used.
    pub(crate) fn learn(&mut self, payload: &[u8], text: &str) -> bool {
        self.before.clear();
        self.after.clear();
        let place = (text.as_ptr() as usize).checked_sub(payload.as_ptr() as usize);
        let Some((before, rest)) = place.and_then(|place| payload.split_at_checked(place)) else {
            return false;
        };
        let Some(after) = rest.strip_prefix(text.as_bytes()) else { return false };
        if before.last() != Some(&b'"') || after.first() != Some(&b'"') {
            return false;
        }
        self.before.extend_from_slice(before);
        self.after.extend_from_slice(after);
        true
    }

    /// The string of a payload that is otherwise the one that was remembered.
    pub(crate) fn read<'f>(&self, payload: &'f [u8]) -> Option<&'f str> {
        if self.before.is_empty() {
            return None;
        }
        let text = payload.strip_prefix(&*self.before)?.strip_suffix(&*self.after)?;
        let plain = |byte: &u8| *byte >= 0x20 && *byte != b'"' && *byte != b'\\';
        if text.is_empty() || !text.iter().all(plain) {
            return None;
        }
        std::str::from_utf8(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::Template;

    const FIRST: &str = r#"{"id":"1","delta":{"content":"Hello"},"n":null}"#;

    /// A part of `FIRST` itself, not a copy of it.
    fn part(words: &str) -> &'static str {
        let at = FIRST.find(words).unwrap();
        FIRST.get(at..at + words.len()).unwrap()
    }

    fn learnt() -> Template {
        let mut template = Template::default();
        assert!(template.learn(FIRST.as_bytes(), part("Hello")));
        template
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
            assert_eq!(learnt().read(payload.as_bytes()), expected, "{payload}");
        }
    }

    #[test]
    fn text_from_elsewhere_is_not_learnt() {
        let mut template = Template::default();
        let elsewhere = String::from("Hello");
        assert!(!template.learn(FIRST.as_bytes(), &elsewhere));
        assert!(!template.learn(FIRST.as_bytes(), part("d\":\"1")), "not a whole string");
        assert_eq!(template.read(FIRST.as_bytes()), None);
        assert_eq!(Template::default().read(b""), None);
    }
}
