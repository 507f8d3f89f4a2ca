//! Places of citations: the text of an answer, as far as encoders need it to locate the stretch that a source
//! supports. It must never grow without bound, nor report a place outside the text.

use super::chat::Citation;
use super::text_index::TextIndex;

/// The most bytes of text for which places are reported.
const LONGEST: usize = 4 << 20;

/// The longest stretch of text, in bytes, that is repeated beside a source. Every source may support the whole
/// answer.
const LONGEST_QUOTE: usize = 16 * 1024;

/// The text of the answer so far.
#[derive(Debug, Default)]
pub(crate) struct AnswerText {
    said: String,
    index: TextIndex,
    /// Number of characters, including those beyond [`LONGEST`].
    chars: u64,
}

impl AnswerText {
    /// Adds a fragment.
    pub(crate) fn push(&mut self, text: &str) {
        // No text is added after a gap.
        let whole = self.index.chars() == self.chars;
        if whole && self.said.len().saturating_add(text.len()) <= LONGEST {
            self.said.push_str(text);
            self.index.push(text);
            self.chars = self.index.chars();
        } else {
            self.chars = self.chars.saturating_add(text.chars().count() as u64);
        }
    }

    /// The characters that a citation supports, from the first to one past the last, as the upstream reported
    /// them or by the mark in the text. `None` if unknown, which means the whole answer.
    pub(crate) fn place(&self, citation: &Citation) -> Option<(u64, u64)> {
        match (citation.start, citation.end) {
            (Some(start), Some(end)) if start <= end => {
                Some((start.min(self.chars), end.min(self.chars)))
            }
            _ => self.index.mark(citation.mark?),
        }
    }

    /// The same, with the whole answer if the place is unknown.
    pub(crate) fn span(&self, citation: &Citation) -> (u64, u64) {
        self.place(citation).unwrap_or((0, self.chars))
    }

    /// The text between two characters, and the byte offsets of its start and end in UTF-8. The text is empty
    /// if it is longer than 16 KiB.
    pub(crate) fn between(&self, (start, end): (u64, u64)) -> (&str, (usize, usize)) {
        let first = self.index.byte_of(start, &self.said);
        let last = self.index.byte_of(end.max(start), &self.said);
        let quoted = self.said.get(first..last).filter(|text| text.len() <= LONGEST_QUOTE);
        (quoted.unwrap_or_default(), (first, last))
    }

    /// Number of characters before a byte of the text. `None` if the byte is out of range or within a
    /// character.
    pub(crate) fn chars_before(&self, byte: u64) -> Option<u64> {
        self.index.chars_before(usize::try_from(byte).ok()?, &self.said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> AnswerText {
        let mut said = AnswerText::default();
        for fragment in text.split_inclusive(' ') {
            said.push(fragment);
        }
        said
    }

    #[test]
    fn a_place_is_within_the_text() {
        let text = said("Où est Rome?");
        let at = |start, end| Citation { start, end, ..Citation::default() };
        assert_eq!(text.span(&at(Some(3), Some(6))), (3, 6));
        assert_eq!(text.between((3, 6)), ("est", (4, 7)));
        assert_eq!(text.between((0, 2)), ("Où", (0, 3)));
        assert_eq!(text.between((12, 12)), ("", (13, 13)));
        assert_eq!(text.span(&at(Some(7), Some(99))), (7, 12));
        assert_eq!(text.span(&at(Some(6), Some(3))), (0, 12));
        assert_eq!(text.span(&at(None, None)), (0, 12));
    }

    #[test]
    fn a_mark_is_a_place() {
        let text = said("Où est Rome[1][12]? [1]");
        let marked = |mark| Citation { mark: Some(mark), ..Citation::default() };
        assert_eq!(text.place(&marked(1)), Some((11, 14)));
        assert_eq!(text.place(&marked(12)), Some((14, 18)));
        assert_eq!(text.place(&marked(2)), None);
    }

    /// The text repeated beside each source is bounded; its place is not.
    #[test]
    fn a_long_stretch_is_not_repeated() {
        let text = said(&"é".repeat(LONGEST_QUOTE / 2 + 1));
        let chars = LONGEST_QUOTE as u64 / 2;
        assert_eq!(text.between((1, chars + 1)).0.len(), LONGEST_QUOTE);
        assert_eq!(text.between((0, chars + 1)), ("", (0, LONGEST_QUOTE + 2)));
    }
}
