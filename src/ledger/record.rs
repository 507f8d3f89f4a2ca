//! Records of the ledger, and their frames in a spool segment. Pure; a record must never hold a payload, a key or a message
//! of an upstream.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Microseconds in a quarter hour, the interval of a roll-up. Days of every time zone consist of whole ones.
const QUARTER_US: i64 = 15 * 60 * 1_000_000;

/// The highest amount of one request, in tokens or nano-dollars: sums of 9000 of them still fit into a column.
const MAX_AMOUNT: u64 = 1_000_000_000_000_000;

/// The most bytes of one frame's payload.
const MAX_PAYLOAD: usize = 4 << 20;

/// Bytes before the payload of a frame: its length and its CRC-32, both little-endian.
const HEADER: usize = 8;

/// The gateway's own id of a request: a version 7 UUID, so that ids are in the order of time.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(from = "[u64; 2]", into = "[u64; 2]")]
pub struct RecordId(u128);

/// Halves, the higher one first: not every reader of JSON has such large numbers.
impl From<RecordId> for [u64; 2] {
    fn from(id: RecordId) -> Self {
        let half = |bytes: u128| u64::try_from(bytes & u128::from(u64::MAX)).unwrap_or_default();
        [half(id.0 >> 64), half(id.0)]
    }
}

impl From<[u64; 2]> for RecordId {
    fn from([high, low]: [u64; 2]) -> Self {
        Self(u128::from(high) << 64 | u128::from(low))
    }
}

impl RecordId {
    /// An id from the time since 1970 and random bits.
    pub fn new(unix: Duration, random: u128) -> Self {
        let millis = unix.as_millis() & ((1 << 48) - 1);
        let low = random & ((1 << 62) - 1);
        let middle = random >> 64 & 0xfff;
        Self(millis << 80 | 7 << 76 | middle << 64 | 2 << 62 | low)
    }

    /// Its bytes, in network order.
    pub fn bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The first id of a millisecond since 1970.
    pub fn first_of(millis: u64) -> Self {
        Self(u128::from(millis) << 80)
    }

    /// The time at which the request came in, in microseconds since 1970.
    pub fn started_at(self) -> i64 {
        i64::try_from((self.0 >> 80) * 1000).unwrap_or(i64::MAX)
    }

    /// The quarter hour since 1970 in which it came in.
    pub fn quarter(self) -> i64 {
        self.started_at() / QUARTER_US
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A request that is about to be sent to an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenRecord {
    /// Its id.
    pub id: RecordId,
    /// The caller's name.
    pub caller: Arc<str>,
    /// The caller's dialect.
    pub dialect: Arc<str>,
    /// The configured model.
    pub model: Arc<str>,
    /// The model as the caller named it.
    pub requested: String,
    /// Whether the answer is to be streamed.
    pub streamed: bool,
    /// The tokens of the prompt, as estimated.
    pub input: u64,
    /// The id that the response carries.
    pub request_id: String,
}

/// A request that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloseRecord {
    /// The facts that were known before it was sent.
    #[serde(flatten)]
    pub open: OpenRecord,
    /// `provider/model` of the target that answered; empty if there is none.
    pub target: Arc<str>,
    /// The attempts.
    pub attempts: usize,
    /// The outcome, as in metrics.
    pub outcome: Arc<str>,
    /// The status of the response.
    pub status: Option<u16>,
    /// The error's stable label.
    pub error: Option<Arc<str>>,
    /// From its beginning to its end, in microseconds. `None`: not known.
    pub duration_us: Option<u64>,
    /// From its beginning to the first output, in microseconds.
    pub ttft_us: Option<u64>,
    /// The tokens that were read from a cache.
    pub cache_read: u64,
    /// The tokens that were written to a cache.
    pub cache_write: u64,
    /// The tokens of output.
    pub output: u64,
    /// The tokens of reasoning among them.
    pub reasoning: u64,
    /// The upstream has not counted all tokens.
    pub estimated: bool,
    /// An upstream has worked on it, so that its tokens count.
    pub charged: bool,
    /// The cost in nano-dollars. `None`: no price is known.
    pub cost_nano: Option<u64>,
    /// The upstream's id of the answer.
    pub upstream_id: Option<String>,
}

impl CloseRecord {
    /// A request whose end is not known, because its process ended before.
    pub(super) fn lost(open: OpenRecord) -> Self {
        Self {
            open,
            target: Arc::default(),
            attempts: 0,
            outcome: "lost".into(),
            status: None,
            error: None,
            duration_us: None,
            ttft_us: None,
            cache_read: 0,
            cache_write: 0,
            output: 0,
            reasoning: 0,
            estimated: true,
            charged: true,
            cost_nano: None,
            upstream_id: None,
        }
    }

    /// The roll-up that counts it.
    pub(super) fn key(&self) -> RollupKey {
        RollupKey {
            quarter: self.open.id.quarter(),
            caller: Arc::clone(&self.open.caller),
            model: Arc::clone(&self.open.model),
            target: Arc::clone(&self.target),
            outcome: Arc::clone(&self.outcome),
        }
    }

    /// Its share of that roll-up.
    pub(super) fn sums(&self) -> Sums {
        Sums {
            requests: 1,
            unpriced: u64::from(self.charged && self.cost_nano.is_none()),
            input: amount(self.open.input),
            cache_read: amount(self.cache_read),
            cache_write: amount(self.cache_write),
            output: amount(self.output),
            reasoning: amount(self.reasoning),
            cost_nano: amount(self.cost_nano.unwrap_or_default()),
        }
    }
}

/// An amount that columns and their sums can hold.
pub(super) fn amount(value: u64) -> u64 {
    value.min(MAX_AMOUNT)
}

/// The key of a roll-up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct RollupKey {
    /// Quarter hours since 1970, UTC.
    pub quarter: i64,
    pub caller: Arc<str>,
    pub model: Arc<str>,
    pub target: Arc<str>,
    pub outcome: Arc<str>,
}

/// Sums of requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// The requests.
    pub requests: u64,
    /// Those among them that have tokens and no known price.
    pub unpriced: u64,
    /// Tokens of input.
    pub input: u64,
    /// Tokens of input that were read from a cache.
    pub cache_read: u64,
    /// Tokens of input that were written to a cache.
    pub cache_write: u64,
    /// Tokens of output.
    pub output: u64,
    /// Tokens of reasoning.
    pub reasoning: u64,
    /// Nano-dollars.
    pub cost_nano: u64,
}

impl Sums {
    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        let Self {
            requests,
            unpriced,
            input,
            cache_read,
            cache_write,
            output,
            reasoning,
            cost_nano,
        } = self;
        for (sum, more) in [
            (requests, other.requests),
            (unpriced, other.unpriced),
            (input, other.input),
            (cache_read, other.cache_read),
            (cache_write, other.cache_write),
            (output, other.output),
            (reasoning, other.reasoning),
            (cost_nano, other.cost_nano),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}

/// Requests for which the spool had no room, counted together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AggregateRecord {
    /// Its id.
    pub id: RecordId,
    pub(super) key: RollupKey,
    pub(super) sums: Sums,
    /// The requests, as far as they are known one by one: they are not lost.
    pub(super) closed: Vec<RecordId>,
}

/// A record of the spool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Record {
    /// A request is about to be sent.
    Open(OpenRecord),
    /// A request has ended.
    Close(CloseRecord),
    /// Requests have ended, which are counted together.
    Aggregate(AggregateRecord),
}

impl Record {
    /// The request that it opens.
    pub(super) fn opens(&self) -> Option<RecordId> {
        if let Self::Open(open) = self { Some(open.id) } else { None }
    }

    /// The request that it closes.
    pub(super) fn closes(&self) -> Option<RecordId> {
        if let Self::Close(close) = self { Some(close.open.id) } else { None }
    }
}

/// Appends the frame of a record. Returns whether it has one: a record that is too large has none.
pub(super) fn encode(record: &Record, to: &mut Vec<u8>) -> bool {
    let Ok(payload) = serde_json::to_vec(record) else { return false };
    let Some(length) = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= MAX_PAYLOAD)
    else {
        return false;
    };
    to.extend_from_slice(&length.to_le_bytes());
    to.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
    to.extend_from_slice(&payload);
    true
}

/// The content of a segment at a position.
#[derive(Debug, PartialEq)]
pub(super) enum Decoded {
    /// A record, and the bytes of its frame.
    Record(Box<Record>, usize),
    /// The beginning of a frame, or nothing.
    Incomplete,
    /// No frame. What follows it cannot be read either.
    Damaged,
}

/// Reads the frame at the beginning of some bytes.
pub(super) fn decode(bytes: &[u8]) -> Decoded {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Decoded::Incomplete };
    let Some((checksum, rest)) = rest.split_first_chunk::<4>() else { return Decoded::Incomplete };
    let length = u32::from_le_bytes(*length) as usize;
    if length > MAX_PAYLOAD {
        return Decoded::Damaged;
    }
    let Some(payload) = rest.get(..length) else { return Decoded::Incomplete };
    if crc32fast::hash(payload) != u32::from_le_bytes(*checksum) {
        return Decoded::Damaged;
    }
    serde_json::from_slice(payload)
        .map_or(Decoded::Damaged, |record| Decoded::Record(Box::new(record), HEADER + length))
}
