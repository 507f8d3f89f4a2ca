//! Offsets: the places of a stream as clients name them in `offset` and `last-event-id`. A server must never mint the
//! sentinels `-1` and `now`, which are no places.

use std::fmt;
use std::str::FromStr;

use crate::streams::position::Position;

/// The start in the notation of the protocol's reference server, which clients and its conformance suite write down
/// without having received it.
const REFERENCE_START: &str = "0000000000000000_0000000000000000";

/// A place of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offset {
    /// Before everything: `-1`.
    Start,
    /// After everything that there is at the moment: `now`.
    Now,
    /// After everything up to an append; the token of a `stream-next-offset`.
    After(Position),
}

/// A text that is no offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OffsetError;

impl fmt::Display for OffsetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be `-1`, `now`, or the `stream-next-offset` of an earlier response")
    }
}

impl std::error::Error for OffsetError {}

impl FromStr for Offset {
    type Err = OffsetError;

    fn from_str(text: &str) -> Result<Self, OffsetError> {
        match text {
            "-1" | REFERENCE_START => Ok(Self::Start),
            "now" => Ok(Self::Now),
            _ => text.parse().map(Self::After).map_err(|_| OffsetError),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::streams::position::Epoch;

    #[test]
    fn sentinels_and_minted_tokens_are_offsets() {
        let position = Epoch::random().at(7);
        for (text, offset) in [
            ("-1", Offset::Start),
            ("now", Offset::Now),
            ("0000000000000000_0000000000000000", Offset::Start),
            (&position.to_string(), Offset::After(position)),
        ] {
            assert_eq!(text.parse(), Ok(offset), "{text}");
        }
        for text in ["", "0", "-2", "NOW", "0_0", "9999999999999999_9999999999999999"] {
            assert_eq!(text.parse::<Offset>(), Err(OffsetError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_with_reserved_characters_is_no_offset(
            (before, mark, after) in (".{0,20}", "[,&=?/ \\n\\r\\x00]", ".{0,20}")
        ) {
            let text = format!("{before}{mark}{after}");
            prop_assert_eq!(text.parse::<Offset>(), Err(OffsetError));
        }
    }
}
