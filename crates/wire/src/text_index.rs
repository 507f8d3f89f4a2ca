//! Index of a growing text: the positions of its characters, and of marks like `[1]`. A text must never be read
//! twice, so that a lookup costs the same at every position.

use std::collections::HashMap;

/// Bytes between two indexed positions. A lookup counts characters over at most this distance.
const STRIDE: usize = 128;

/// The most marks of one text. No vendor sends more sources.
const MOST_MARKS: usize = 4096;

/// Index of a text. The text itself is kept by its owner.
#[derive(Debug, Default)]
pub(crate) struct TextIndex {
    bytes: usize,
    chars: u64,
    /// Number of characters before each multiple of [`STRIDE`] bytes.
    counts: Vec<u64>,
    /// Character position of the first occurrence of each mark.
    marks: HashMap<u32, u64>,
    open: Option<OpenMark>,
}

/// The start of a mark at the end of the text.
#[derive(Debug, Clone, Copy)]
struct OpenMark {
    start: u64,
    number: u32,
    digits: u32,
}

impl TextIndex {
    /// Adds the next fragment of the text.
    pub(crate) fn push(&mut self, text: &str) {
        self.find_marks(text);
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let into = self.bytes % STRIDE;
            if into == 0 {
                self.counts.push(self.chars);
            }
            let (now, later) = rest.split_at(rest.len().min(STRIDE - into));
            self.chars += starts(now);
            self.bytes += now.len();
            rest = later;
        }
    }

    /// Number of characters so far.
    pub(crate) fn chars(&self) -> u64 {
        self.chars
    }

    /// Number of characters before a byte of `text`, the indexed text. `None` if the byte is out of range or
    /// not the start of a character.
    pub(crate) fn chars_before(&self, byte: usize, text: &str) -> Option<u64> {
        if !text.is_char_boundary(byte) {
            return None;
        }
        let stride = byte / STRIDE;
        let known = self.counts.get(stride).copied().unwrap_or(self.chars);
        Some(known + text.as_bytes().get(stride * STRIDE..byte).map_or(0, starts))
    }

    /// Byte offset of a character in `text`, the indexed text. The end of the text if it has fewer characters.
    pub(crate) fn byte_of(&self, char: u64, text: &str) -> usize {
        if char >= self.chars {
            return text.len();
        }
        let stride = self.counts.partition_point(|before| *before <= char).saturating_sub(1);
        let begin = stride * STRIDE;
        let more = char - self.counts.get(stride).copied().unwrap_or_default();
        let bytes = text.as_bytes().get(begin..).unwrap_or_default();
        let begins = bytes.iter().enumerate().filter(|(_, byte)| begins_char(**byte));
        let found = begins.map(|(at, _)| at).nth(usize::try_from(more).unwrap_or(usize::MAX));
        found.map_or(text.len(), |at| begin + at)
    }

    /// First occurrence of the mark `[number]`, from its first character to one past the last.
    pub(crate) fn mark(&self, number: u32) -> Option<(u64, u64)> {
        let start = *self.marks.get(&number)?;
        Some((start, start + u64::from(number.checked_ilog10().unwrap_or(0)) + 3))
    }

    fn find_marks(&mut self, text: &str) {
        if self.open.is_none() && memchr::memchr(b'[', text.as_bytes()).is_none() {
            return;
        }
        for (start, c) in (self.chars..).zip(text.chars()) {
            self.open = match (c, self.open) {
                ('[', _) => Some(OpenMark { start, number: 0, digits: 0 }),
                (']', Some(mark)) => {
                    if mark.digits > 0 && self.marks.len() < MOST_MARKS {
                        self.marks.entry(mark.number).or_insert(mark.start);
                    }
                    None
                }
                (c, Some(mark)) => mark.and_digit(c),
                (_, None) => None,
            };
        }
    }
}

impl OpenMark {
    /// Extends the mark by a digit. `None` if that is not a mark. Numbers have no leading zeros.
    fn and_digit(self, c: char) -> Option<Self> {
        if self.number == 0 && self.digits > 0 {
            return None;
        }
        let number = self.number.checked_mul(10)?.checked_add(c.to_digit(10)?)?;
        Some(Self { number, digits: self.digits + 1, ..self })
    }
}

fn begins_char(byte: u8) -> bool {
    byte & 0xC0 != 0x80
}

fn starts(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| begins_char(**byte)).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks against counting from the start, for texts with characters of every length, cut anywhere.
    #[test]
    fn places_are_those_that_counting_finds() {
        for (characters, piece) in [("a", 1), ("aé", 3), ("€😀x", 7), ("😀", 1021)] {
            let text = characters.repeat(2000);
            let mut index = TextIndex::default();
            let all: Vec<char> = text.chars().collect();
            for chars in all.chunks(piece) {
                index.push(&chars.iter().collect::<String>());
            }
            assert_eq!(index.chars(), all.len() as u64);
            for (number, (byte, _)) in text.char_indices().enumerate() {
                assert_eq!(index.byte_of(number as u64, &text), byte);
                assert_eq!(index.chars_before(byte, &text), Some(number as u64));
            }
            assert_eq!(index.byte_of(all.len() as u64, &text), text.len());
            assert_eq!(index.chars_before(text.len(), &text), Some(all.len() as u64));
            assert_eq!(index.chars_before(text.len() + 1, &text), None);
        }
        let mut index = TextIndex::default();
        index.push("é");
        assert_eq!(index.chars_before(1, "é"), None);
    }

    #[test]
    fn marks_are_found_where_they_stand_first_whatever_the_cuts() {
        let text = "é[1][12] [01] [[7] [] [x] [0] [1] [99999999999]";
        for piece in 1..5 {
            let mut index = TextIndex::default();
            for chars in text.chars().collect::<Vec<_>>().chunks(piece) {
                index.push(&chars.iter().collect::<String>());
            }
            let places = [1, 12, 7, 0, 2].map(|number| index.mark(number));
            assert_eq!(places, [Some((1, 4)), Some((4, 8)), Some((15, 18)), Some((26, 29)), None]);
        }
    }
}
