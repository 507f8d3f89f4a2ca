//! Cursors: the position of one connection in all the logs that it follows, as one event id. A cursor must never be a
//! right, and it must mean the same whatever order the sources are named in.
//!
//! All channels of a hub share one sequence of numbers, so that one number covers all of them, also those of a pattern
//! that come later. A log with an epoch of its own, such as a generation, adds a position: `EPOCH_SEQ.EPOCH_SEQ`. The
//! alternative, a number for each channel, would make ids as long as the list of channels.

use std::fmt;
use std::str::FromStr;

use crate::streams::position::{Epoch, Position};

/// The most positions of a cursor: those of the hub and of every other source.
const MAX_POSITIONS: usize = 65;

/// A position in each of several logs, at most one for an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(Vec<Position>);

/// A text that is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CursorError;

impl fmt::Display for CursorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "must be the `id` of an event that this server has sent, as in `k3v9XbQ0aZ71_0000000042`",
        )
    }
}

impl std::error::Error for CursorError {}

impl Cursor {
    /// A cursor of these positions. A second one of an epoch is ignored.
    pub fn new(positions: impl IntoIterator<Item = Position>) -> Self {
        let mut cursor = Self(Vec::new());
        for position in positions {
            if cursor.of(position.epoch).is_none() {
                cursor.0.push(position);
            }
        }
        cursor
    }

    /// The number in the log of an epoch.
    pub fn of(&self, epoch: Epoch) -> Option<u64> {
        self.0.iter().find(|position| position.epoch == epoch).map(|position| position.seq)
    }

    /// Its positions.
    pub fn positions(&self) -> &[Position] {
        &self.0
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, position) in self.0.iter().enumerate() {
            let dot = if at == 0 { "" } else { "." };
            write!(f, "{dot}{position}")?;
        }
        Ok(())
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let positions: Result<Vec<Position>, _> =
            text.split('.').take(MAX_POSITIONS + 1).map(str::parse).collect();
        let positions = positions.map_err(|_| CursorError)?;
        let cursor = Self::new(positions.iter().copied());
        if positions.len() <= MAX_POSITIONS && cursor.0.len() == positions.len() {
            Ok(cursor)
        } else {
            Err(CursorError)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_that_is_no_cursor_is_rejected() {
        let position = Epoch::random().at(7).to_string();
        for text in [
            String::new(),
            "now".to_owned(),
            ".".to_owned(),
            format!("{position}."),
            format!("{position} "),
            format!("{position}.{position}"),
            (0..=MAX_POSITIONS)
                .map(|_| Epoch::random().at(1).to_string())
                .collect::<Vec<_>>()
                .join("."),
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(CursorError), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_cursor_is_read_as_it_was_written(numbers in proptest::collection::vec(any::<u64>(), 1..20)) {
            let positions: Vec<_> =
                numbers.iter().map(|number| Epoch::random().at(*number)).collect();
            let cursor = Cursor::new(positions.iter().copied());
            prop_assert_eq!(cursor.to_string().parse::<Cursor>(), Ok(cursor.clone()));
            for position in &positions {
                prop_assert_eq!(cursor.of(position.epoch), Some(position.seq));
            }
            prop_assert_eq!(cursor.of(Epoch::random()), None);
        }

        #[test]
        fn no_text_panics(text in "[a-z0-9_.]{0,80}|.{0,60}") {
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }
    }
}
