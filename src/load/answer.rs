//! Completeness of one answer: every token of a counting program once, in order, then the terminal.
//! Pure: it must know neither clock nor transport.

use std::collections::BTreeSet;

use super::failure::{Kind, LoadError};

/// A gap in the numbers wider than this is not a loss but another text.
const MAX_GAP: u64 = 100_000;

/// The state of reading a response whose token `i` is `t{i} `.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// The next number.
    next: u64,
    /// Numbers below `next` that have not arrived.
    missing: BTreeSet<u64>,
    /// Numbers that arrived after a larger one.
    late: u64,
    repeated: u64,
    /// The beginning of an incomplete token.
    partial: String,
}

impl Answer {
    /// Reads a part of the text; returns how many tokens it completes.
    pub(super) fn text(&mut self, text: &str) -> Result<u64, LoadError> {
        let mut tokens = 0_u64;
        for piece in text.split_inclusive(' ') {
            let Some(end) = piece.strip_suffix(' ') else {
                self.partial.push_str(piece);
                if self.partial.len() > 64 {
                    return Err(foreign(&self.partial));
                }
                continue;
            };
            let token = std::mem::take(&mut self.partial) + end;
            self.token(&token)?;
            tokens = tokens.saturating_add(1);
        }
        Ok(tokens)
    }

    /// The number of different tokens that have arrived.
    pub(super) fn tokens(&self) -> u64 {
        self.next.saturating_sub(u64::try_from(self.missing.len()).unwrap_or(u64::MAX))
    }

    /// The failure of the tokens so far, if any.
    pub(super) fn flaw(&self) -> Option<LoadError> {
        let flaw = |kind, detail| Some(LoadError::new(kind, detail));
        if self.repeated > 0 {
            return flaw(Kind::Duplicated, format!("{} tokens came twice", self.repeated));
        }
        if let Some(first) = self.missing.first() {
            let count = self.missing.len();
            return flaw(Kind::Lost, format!("{count} tokens never came, the first is t{first}"));
        }
        if self.late > 0 {
            return flaw(Kind::OutOfOrder, format!("{} tokens came late", self.late));
        }
        None
    }

    /// The failure of a response that has ended with its terminal after `expected` tokens.
    pub(super) fn verdict(&self, expected: u64) -> Option<LoadError> {
        let flaw = self.flaw();
        if flaw.is_some() {
            return flaw;
        }
        if !self.partial.is_empty() {
            return Some(foreign(&self.partial));
        }
        let detail = format!("{} of {expected} tokens, then the terminal event", self.next);
        match self.next.cmp(&expected) {
            std::cmp::Ordering::Less => Some(LoadError::new(Kind::Lost, detail)),
            std::cmp::Ordering::Greater => Some(LoadError::new(Kind::Junk, detail)),
            std::cmp::Ordering::Equal => None,
        }
    }

    fn token(&mut self, token: &str) -> Result<(), LoadError> {
        let number: Option<u64> = token.strip_prefix('t').and_then(|digits| digits.parse().ok());
        let number = number.ok_or_else(|| foreign(token))?;
        match number.checked_sub(self.next) {
            Some(gap) if gap > MAX_GAP => return Err(foreign(token)),
            Some(_) => {
                self.missing.extend(self.next..number);
                self.next = number.saturating_add(1);
            }
            None if self.missing.remove(&number) => self.late = self.late.saturating_add(1),
            None => self.repeated = self.repeated.saturating_add(1),
        }
        Ok(())
    }
}

fn foreign(token: &str) -> LoadError {
    let detail = format!("`{token}` is no token of the simulated upstream (`t0 t1 t2 ...`)");
    LoadError::new(Kind::Junk, detail)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbered(numbers: impl IntoIterator<Item = u64>) -> String {
        let mut text = String::new();
        for number in numbers {
            text.extend(["t".to_owned(), number.to_string(), " ".to_owned()]);
        }
        text
    }

    fn kind(text: &str, expected: u64) -> Option<Kind> {
        let mut answer = Answer::default();
        match answer.text(text) {
            Ok(_) => answer.verdict(expected).map(|failure| failure.kind),
            Err(failure) => Some(failure.kind),
        }
    }

    #[test]
    fn verdicts() {
        for (text, expected, wanted) in [
            ("t0 t1 t2 ", 3, None),
            ("", 0, None),
            ("t0 t1 ", 3, Some(Kind::Lost)),
            ("t0 t2 ", 3, Some(Kind::Lost)),
            ("t1 t2 ", 3, Some(Kind::Lost)),
            ("t0 t2 t1 ", 3, Some(Kind::OutOfOrder)),
            ("t0 t1 t1 t2 ", 3, Some(Kind::Duplicated)),
            ("t0 t0 t2 ", 3, Some(Kind::Duplicated)),
            ("t0 t1 t2 t3 ", 3, Some(Kind::Junk)),
            ("t0 t1 t2", 3, Some(Kind::Junk)),
            ("Hello world ", 2, Some(Kind::Junk)),
            ("t0 t99999999999999999999 ", 2, Some(Kind::Junk)),
            ("t18446744073709551615 ", 2, Some(Kind::Junk)),
            ("t0  t1 ", 2, Some(Kind::Junk)),
        ] {
            assert_eq!(kind(text, expected), wanted, "{text:?}");
        }
        assert_eq!(kind(&"x".repeat(100), 1), Some(Kind::Junk));
    }

    proptest! {
        #[test]
        fn pieces_change_nothing(count in 0_u64..40, size in 1_usize..9) {
            let whole = numbered(0..count);
            let mut answer = Answer::default();
            let mut tokens = 0;
            for piece in whole.as_bytes().chunks(size) {
                tokens += answer.text(std::str::from_utf8(piece).unwrap()).unwrap();
            }
            prop_assert_eq!((tokens, answer.tokens()), (count, count));
            prop_assert!(answer.verdict(count).is_none());
            prop_assert!(answer.verdict(count + 1).is_some());
        }

        #[test]
        fn any_other_order_is_noticed(order in Just((0_u64..12).collect::<Vec<u64>>()).prop_shuffle()) {
            let text = numbered(order.iter().copied());
            let sorted = order.is_sorted();
            prop_assert_eq!(kind(&text, 12), (!sorted).then_some(Kind::OutOfOrder));
        }

        #[test]
        fn no_text_panics(text in "[t0-9 x]{0,80}") {
            prop_assert!(kind(&text, 0).is_none() == text.is_empty());
        }
    }
}
