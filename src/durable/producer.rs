//! Idempotent producers: sessions (epochs) and sequence numbers by which repeated appends are recognized. Pure. An
//! append must never be accepted twice, nor one of a session that another has taken over.

use std::collections::HashMap;

use http::{HeaderMap, HeaderName};

use super::error::StreamError;
use super::headers::{PRODUCER_EPOCH, PRODUCER_ID, PRODUCER_SEQ, number, single};

/// The largest epoch or sequence number: beyond it, JavaScript's numbers are not exact.
const MAX_NUMBER: u64 = (1 << 53) - 1;

/// The longest id.
const MAX_ID: usize = 256;

/// The memory that a producer takes beside its id.
const OVERHEAD: usize = 64;

/// The identity of one append: `producer-id`, `producer-epoch`, `producer-seq`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProducerStamp {
    pub(super) id: Box<str>,
    pub(super) epoch: u64,
    pub(super) seq: u64,
}

impl ProducerStamp {
    /// That of a request: all three headers, or none.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, StreamError> {
        let id = single(headers, &PRODUCER_ID)?;
        let (epoch, seq) = (single(headers, &PRODUCER_EPOCH)?, single(headers, &PRODUCER_SEQ)?);
        let (id, epoch, seq) = match (id, epoch, seq) {
            (None, None, None) => return Ok(None),
            (Some(id), Some(epoch), Some(seq)) => (id, epoch, seq),
            _ => {
                let message =
                    "needs `producer-epoch` and `producer-seq` beside it; send all three, or none";
                return Err(StreamError::invalid("producer-id", message));
            }
        };
        if id.is_empty() || id.len() > MAX_ID {
            let message = format!("must have between 1 and {MAX_ID} characters");
            return Err(StreamError::invalid("producer-id", message));
        }
        let bounded = |name: HeaderName, text: &str| {
            number(&name, text).ok().filter(|number| *number <= MAX_NUMBER)
        };
        let wrong = |name| StreamError::invalid(name, "must be a whole number from 0 to 2^53 - 1");
        Ok(Some(Self {
            id: id.into(),
            epoch: bounded(PRODUCER_EPOCH, epoch).ok_or_else(|| wrong("producer-epoch"))?,
            seq: bounded(PRODUCER_SEQ, seq).ok_or_else(|| wrong("producer-seq"))?,
        }))
    }
}

/// The producers of one stream.
#[derive(Debug, Default)]
pub(super) struct Producers {
    sessions: HashMap<Box<str>, Session>,
    bytes: usize,
}

/// The session of a producer, and the last append of it.
#[derive(Debug, Clone, Copy)]
struct Session {
    epoch: u64,
    seq: u64,
}

/// The verdict on an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the next one.
    Accepted,
    /// It was accepted before. `highest`: the last sequence number that was.
    Duplicate { highest: u64 },
}

impl Producers {
    /// Judges an append, and changes nothing.
    pub(super) fn judge(&self, stamp: &ProducerStamp) -> Result<Verdict, StreamError> {
        let Some(Session { epoch, seq }) = self.sessions.get(&stamp.id).copied() else {
            return expect(0, stamp.seq);
        };
        if stamp.epoch < epoch {
            return Err(StreamError::Fenced { epoch });
        }
        if stamp.epoch > epoch {
            if stamp.seq > 0 {
                let message = "must be 0 for the first append of a new `producer-epoch`";
                return Err(StreamError::invalid("producer-seq", message));
            }
            return Ok(Verdict::Accepted);
        }
        if stamp.seq <= seq {
            return Ok(Verdict::Duplicate { highest: seq });
        }
        expect(seq + 1, stamp.seq)
    }

    /// Records an append that was accepted.
    pub(super) fn accept(&mut self, stamp: &ProducerStamp) {
        let session = Session { epoch: stamp.epoch, seq: stamp.seq };
        if self.sessions.insert(stamp.id.clone(), session).is_none() {
            self.bytes += stamp.id.len() + OVERHEAD;
        }
    }

    /// The memory that they take, with that of one more append.
    pub(super) fn bytes_with(&self, stamp: Option<&ProducerStamp>) -> usize {
        let new = stamp.filter(|stamp| !self.sessions.contains_key(&stamp.id));
        self.bytes + new.map_or(0, |stamp| stamp.id.len() + OVERHEAD)
    }
}

fn expect(expected: u64, received: u64) -> Result<Verdict, StreamError> {
    if received == expected {
        return Ok(Verdict::Accepted);
    }
    Err(StreamError::Gap { expected, received })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn stamp(id: &str, epoch: u64, seq: u64) -> ProducerStamp {
        ProducerStamp { id: id.into(), epoch, seq }
    }

    #[test]
    fn each_append_of_a_producer_is_accepted_once() {
        let mut producers = Producers::default();
        for seq in 0..3 {
            assert_eq!(producers.judge(&stamp("a", 0, seq)).unwrap(), Verdict::Accepted);
            producers.accept(&stamp("a", 0, seq));
            for earlier in 0..=seq {
                let again = producers.judge(&stamp("a", 0, earlier)).unwrap();
                assert_eq!(again, Verdict::Duplicate { highest: seq });
            }
        }
        let gap = producers.judge(&stamp("a", 0, 4)).unwrap_err();
        assert!(matches!(gap, StreamError::Gap { expected: 3, received: 4 }), "{gap:?}");
        let unknown = producers.judge(&stamp("b", 0, 1)).unwrap_err();
        assert!(matches!(unknown, StreamError::Gap { expected: 0, received: 1 }), "{unknown:?}");
    }

    #[test]
    fn a_later_session_fences_the_earlier_one() {
        let mut producers = Producers::default();
        producers.accept(&stamp("a", 1, 5));
        let late = producers.judge(&stamp("a", 2, 1)).unwrap_err();
        assert!(matches!(late, StreamError::Invalid { .. }), "{late:?}");
        assert_eq!(producers.judge(&stamp("a", 3, 0)).unwrap(), Verdict::Accepted);
        producers.accept(&stamp("a", 3, 0));
        for (epoch, seq) in [(1, 6), (2, 0), (0, 0)] {
            let zombie = producers.judge(&stamp("a", epoch, seq)).unwrap_err();
            assert!(matches!(zombie, StreamError::Fenced { epoch: 3 }), "{zombie:?}");
        }
    }

    #[test]
    fn producer_headers_are_all_there_or_none() {
        let headers = |pairs: &[(HeaderName, &'static str)]| {
            let pairs = pairs.iter().cloned();
            let pairs = pairs.map(|(name, value)| (name, HeaderValue::from_static(value)));
            pairs.collect::<HeaderMap>()
        };
        assert_eq!(ProducerStamp::of(&headers(&[])).unwrap(), None);
        let all = |id, epoch, seq| {
            headers(&[(PRODUCER_ID, id), (PRODUCER_EPOCH, epoch), (PRODUCER_SEQ, seq)])
        };
        let read = ProducerStamp::of(&all("p", "0", "9007199254740991")).unwrap();
        assert_eq!(read, Some(stamp("p", 0, MAX_NUMBER)));
        for wrong in [
            headers(&[(PRODUCER_ID, "p")]),
            headers(&[(PRODUCER_ID, "p"), (PRODUCER_EPOCH, "0")]),
            headers(&[(PRODUCER_EPOCH, "0"), (PRODUCER_SEQ, "0")]),
            all("", "0", "0"),
            all("p", "-1", "0"),
            all("p", "0", "1e3"),
            all("p", "0", "0x"),
            all("p", "", "0"),
            all("p", "9007199254740992", "0"),
            all("p", "0", "99999999999999999999999"),
        ] {
            let error = ProducerStamp::of(&wrong).unwrap_err();
            assert!(matches!(error, StreamError::Invalid { .. }), "{wrong:?}: {error:?}");
        }
    }
}
