//! Places of citations: the text of an answer, as far as encoders need it to say which stretch of it a
//! source supports. It must never grow without bound, nor give a place that the text does not have.

use super::chat::Citation;

/// Beyond this many bytes of text, places are not told any more.
const LONGEST: usize = 4 << 20;

/// The text so far.
#[derive(Debug, Default)]
pub struct AnswerText {
    said: String,
    /// Characters, counted beyond [`LONGEST`] too.
    chars: u64,
}

impl AnswerText {
    /// Adds a fragment.
    pub fn push(&mut self, text: &str) {
        self.chars = self.chars.saturating_add(text.chars().count() as u64);
        if self.said.len().saturating_add(text.len()) <= LONGEST {
            self.said.push_str(text);
        }
    }

    /// The characters that a citation supports, from the first to one past the last: as its upstream
    /// says, else its mark in the text. `None`: all of the answer, as far as anybody knows.
    pub fn place(&self, citation: &Citation) -> Option<(u64, u64)> {
        match (citation.start, citation.end) {
            (Some(start), Some(end)) if start <= end => {
                Some((start.min(self.chars), end.min(self.chars)))
            }
            _ => mark(citation, &self.said),
        }
    }

    /// The same, where a place is demanded.
    pub fn span(&self, citation: &Citation) -> (u64, u64) {
        self.place(citation).unwrap_or((0, self.chars))
    }

    /// The text between two characters, and the bytes of UTF-8 where it begins and ends.
    pub fn between(&self, (start, end): (u64, u64)) -> (&str, (usize, usize)) {
        let mut starts = self.said.char_indices().map(|(at, _)| at);
        let skip = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let first = starts.nth(skip(start)).unwrap_or(self.said.len());
        let last = match end.saturating_sub(start) {
            0 => first,
            length => starts.nth(skip(length - 1)).unwrap_or(self.said.len()),
        };
        (self.said.get(first..last).unwrap_or_default(), (first, last))
    }
}

/// Where a citation's mark stands first in a text: the characters of `[n]`.
pub fn mark(citation: &Citation, text: &str) -> Option<(u64, u64)> {
    let mark = format!("[{}]", citation.mark?);
    let at = text.find(&mark)?;
    let start = text.get(..at)?.chars().count() as u64;
    Some((start, start + mark.len() as u64))
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
}
