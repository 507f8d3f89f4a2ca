//! Places of citations: the text of an answer, as far as encoders need it to say which stretch of it a
//! source supports. It must never grow without bound, nor give a place that the text does not have.

use super::chat::Citation;
use super::text_index::TextIndex;

/// Beyond this many bytes of text, places are not reported any more.
const LONGEST: usize = 4 << 20;

/// The longest stretch of text, in bytes, that is repeated beside a source. Sources may support all of an
/// answer, each of them.
const LONGEST_QUOTE: usize = 16 * 1024;

/// The text so far.
#[derive(Debug, Default)]
pub(crate) struct AnswerText {
    said: String,
    index: TextIndex,
    /// Characters, counted beyond [`LONGEST`] too.
    chars: u64,
}

impl AnswerText {
    /// Adds a fragment.
    pub(crate) fn push(&mut self, text: &str) {
        // Nothing is added behind a gap.
        let whole = self.index.chars() == self.chars;
        if whole && self.said.len().saturating_add(text.len()) <= LONGEST {
            self.said.push_str(text);
            self.index.push(text);
            self.chars = self.index.chars();
        } else {
            self.chars = self.chars.saturating_add(text.chars().count() as u64);
        }
    }

    /// The characters that a citation supports, from the first to one past the last: as its upstream
    /// says, else its mark in the text. `None`: all of the answer, as far as anybody knows.
    pub(crate) fn place(&self, citation: &Citation) -> Option<(u64, u64)> {
        match (citation.start, citation.end) {
            (Some(start), Some(end)) if start <= end => {
                Some((start.min(self.chars), end.min(self.chars)))
            }
            _ => self.index.mark(citation.mark?),
        }
    }

    /// The same, where a place is demanded.
    pub(crate) fn span(&self, citation: &Citation) -> (u64, u64) {
        self.place(citation).unwrap_or((0, self.chars))
    }

    /// The text between two characters, and the bytes of UTF-8 where it begins and ends. A text that is
    /// longer than 16 KiB is not given.
    pub(crate) fn between(&self, (start, end): (u64, u64)) -> (&str, (usize, usize)) {
        let first = self.index.byte_of(start, &self.said);
        let last = self.index.byte_of(end.max(start), &self.said);
        let quoted = self.said.get(first..last).filter(|text| text.len() <= LONGEST_QUOTE);
        (quoted.unwrap_or_default(), (first, last))
    }

    /// The characters before a byte of the text. `None`: there is no such byte, or it is within a
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

    /// What is repeated beside each source is bounded, its place is not.
    #[test]
    fn a_long_stretch_is_not_repeated() {
        let text = said(&"é".repeat(LONGEST_QUOTE / 2 + 1));
        let chars = LONGEST_QUOTE as u64 / 2;
        assert_eq!(text.between((1, chars + 1)).0.len(), LONGEST_QUOTE);
        assert_eq!(text.between((0, chars + 1)), ("", (0, LONGEST_QUOTE + 2)));
    }
}
