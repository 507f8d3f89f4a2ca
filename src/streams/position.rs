//! Positions in a stream: `{epoch}_{seq}`, the value of an event's `id` and of `last-event-id`. A position must never
//! be a right: it is public, and every reader is checked.

use std::fmt;
use std::str::FromStr;

use rand::RngExt as _;
use rand::distr::Alphanumeric;
use sha2::{Digest, Sha256};

/// The characters of an epoch.
const EPOCH: usize = 12;

/// The digits of a sequence number. One beyond 9,999,999,999 has more: the sequence of all channels may get there.
const DIGITS: usize = 10;

/// One incarnation of a stream: 12 random letters and digits. A position of another epoch belongs to another stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch([u8; EPOCH]);

impl Epoch {
    /// Another one.
    pub fn random() -> Self {
        let mut rng = rand::rng();
        Self(std::array::from_fn(|_| rng.sample(Alphanumeric)))
    }

    /// That of a name, always the same.
    pub fn named(name: &str) -> Self {
        Self([b'0'; EPOCH]).derived(name)
    }

    /// That of a stream that is derived from this one, always the same for the same name.
    #[must_use]
    pub fn derived(self, name: &str) -> Self {
        const ALPHABET: &[u8; 62] =
            b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let mut digest = Sha256::new();
        digest.update(self.0);
        digest.update(name);
        let digest = digest.finalize();
        let letter = |byte: &u8| ALPHABET.get(usize::from(*byte) % ALPHABET.len()).copied();
        let mut letters = digest.iter().filter_map(letter);
        Self(std::array::from_fn(|_| letters.next().unwrap_or(b'0')))
    }

    /// The epoch of its text.
    pub fn parse(text: &str) -> Option<Self> {
        let epoch = <[u8; EPOCH]>::try_from(text.as_bytes()).ok()?;
        epoch.iter().all(u8::is_ascii_alphanumeric).then_some(Self(epoch))
    }

    /// A position in this incarnation.
    pub fn at(self, seq: u64) -> Position {
        Position { epoch: self, seq }
    }
}

/// A position: everything up to and including an entry has been received. Written with a fixed width, so that
/// positions of a stream sort as texts: `k3v9XbQ0aZ71_0000000042`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// The incarnation of the stream.
    pub epoch: Epoch,
    /// The sequence number of the last entry that was received; 0: none.
    pub seq: u64,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{}", char::from(*byte)))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{:0width$}", self.epoch, self.seq, width = DIGITS)
    }
}

/// A text that is no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PositionError;

impl fmt::Display for PositionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be the `id` of an event of this stream, as in `k3v9XbQ0aZ71_0000000042`")
    }
}

impl std::error::Error for PositionError {}

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let (epoch, digits) = text.split_once('_').ok_or(PositionError)?;
        let epoch = Epoch::parse(epoch).ok_or(PositionError)?;
        let canonical = digits.len() == DIGITS || digits.len() > DIGITS && !digits.starts_with('0');
        if !canonical || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(PositionError);
        }
        let seq = digits.parse().map_err(|_| PositionError)?;
        Ok(Self { epoch, seq })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_position_is_read_as_it_was_written_and_sorts_as_text() {
        let epoch = Epoch::random();
        for seq in [0, 1, 42, 9_999_999_999, 10_000_000_000, u64::MAX] {
            let position = epoch.at(seq);
            assert_eq!(position.to_string().parse(), Ok(position));
        }
        let texts = [epoch.at(9).to_string(), epoch.at(10).to_string()];
        assert!(texts.is_sorted(), "{texts:?}");
    }

    #[test]
    fn a_text_that_is_no_position_is_rejected() {
        for text in [
            "",
            "_",
            "-1",
            "now",
            "aaaaaaaaaaaa",
            "aaaaaaaaaaaa_",
            "aaaaaaaaaaaa_1",
            "aaaaaaaaaaa_0000000001",
            "aaaaaaaaaaaaa_0000000001",
            "aaaaaaaaaaaa_000000000x",
            "aaaaaaaaaaaa_00000000001",
            "aaaaaaaaaaaa_18446744073709551616",
            "aaaaaaaaaaaa_+000000001",
            "aaaaaaaaaaa\u{e9}_0000000001",
            "aaaaaaaaaa!a_0000000001",
            " aaaaaaaaaaaa_0000000001",
            "aaaaaaaaaaaa_0000000001\n",
        ] {
            assert_eq!(text.parse::<Position>(), Err(PositionError), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            if let Ok(position) = text.parse::<Position>() {
                prop_assert_eq!(position.to_string(), text);
            }
        }
    }
}
