//! Answers of upstreams: upstream bytes in, the caller's bytes out, secrets redacted. It must never wait for bytes
//! that have not arrived, except for the first output.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use memchr::{memchr3, memmem};
use tokio::time::Instant;

use super::output_rate::OutputRate;
use super::source::{Chunk, Source};
use super::target_health::InProgress;
use crate::config::Provider;
use crate::error::Error;
use crate::memory::MemoryLease;
use crate::wire::chat::{ApiError, End, Kind};
use crate::wire::dialect::Ending;
use crate::wire::transcode::Transcoder;

/// The approximate maximum of bytes that have already arrived and are forwarded in one write.
const MAX_BATCH: usize = 32 * 1024;

/// A chunk that follows the one before it sooner than this is not the only one on its way.
const SAME_BURST: Duration = Duration::from_millis(1);

/// More bytes for a caller than this do not just pass through.
const LARGE_OUTPUT: usize = 64 * 1024;
/// The longest that output is held back for chunks that keep coming. On a busy worker there may always be another
/// one, because a turn takes longer than the upstream takes for a token.
pub const MAX_HOLD: Duration = Duration::from_millis(20);

/// The same for the first output: a short answer leaves in one write, and the time to first token stays short.
const MAX_FIRST_HOLD: Duration = Duration::from_millis(1);

/// Shorter keys are not redacted: they may be ordinary words.
const MIN_KEY: usize = 8;

/// The prefixes of the ids of operators' accounts, which error messages repeat.
const ACCOUNT_PREFIXES: [&[u8]; 2] = [b"org-", b"proj_"];

/// Shorter ids are not redacted: they may be ordinary words.
const MIN_ID: usize = 12;

/// An upstream that has begun to answer, and the caller's bytes of its first ones.
pub struct Answer {
    /// The provider that answers.
    pub provider: Arc<Provider>,
    /// Upstream headers that may be passed on.
    pub headers: HeaderMap,
    /// The rest of the upstream's body.
    pub source: Source,
    /// Turns upstream bytes into the caller's.
    pub transcoder: Transcoder,
    /// The caller's bytes so far: up to the first model output, or to the end.
    pub ready: BytesMut,
    /// The time of the first model output.
    pub first_output: Instant,
    /// Whether its chunks come in bursts.
    pub burst: BurstDetector,
    /// The memory of the bytes that are kept of it.
    pub lease: MemoryLease,
    /// The time for which a limit of the upstream's is spent, by its own statement.
    pub spent: Option<Duration>,
    /// Its output rate, if its model limits that.
    pub rate: Option<Box<OutputRate>>,
    /// Counts it as one in progress at its target.
    pub in_progress: Option<InProgress>,
    /// Whether the upstream's body had ended when it was read to its end.
    drained: Option<bool>,
}

/// Whether an answer's chunks come one by one or several at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct BurstDetector {
    last: Option<Instant>,
    bursty: bool,
}

impl BurstDetector {
    /// Whether other chunks may have arrived with one: they may if they did the last time, or if it follows the last
    /// one closely. Resets the note of the last time.
    fn expect_more(&mut self, now: Instant) -> bool {
        let close = |last| now.saturating_duration_since(last) < SAME_BURST;
        let last = self.last.replace(now);
        std::mem::take(&mut self.bursty) || last.is_some_and(close)
    }
}

/// The limit of the time for which output is held back. It reads the clock for every chunk while chunks are slow, and for
/// every [`HoldTimer::MAX_INTERVAL`]th one while they are fast: reading it costs as much as taking a small chunk.
struct HoldTimer {
    until: Instant,
    read: Instant,
    interval: u32,
    unread: u32,
}

impl HoldTimer {
    const MAX_INTERVAL: u32 = 8;

    fn new(now: Instant, most: Duration) -> Self {
        Self { until: now + most, read: now, interval: 1, unread: 0 }
    }

    /// Whether the time is over, after another chunk.
    fn is_over(&mut self) -> bool {
        self.unread += 1;
        if self.unread < self.interval {
            return false;
        }
        let now = Instant::now();
        let fast = now.saturating_duration_since(self.read) < SAME_BURST;
        self.interval = if fast { (self.interval * 2).min(Self::MAX_INTERVAL) } else { 1 };
        (self.read, self.unread) = (now, 0);
        now >= self.until
    }
}

impl Answer {
    /// An answer of which nothing has been read.
    pub fn new(
        (provider, headers): (Arc<Provider>, HeaderMap),
        source: Source,
        transcoder: Transcoder,
        lease: MemoryLease,
    ) -> Self {
        let now = Instant::now();
        Self {
            provider,
            headers,
            source,
            transcoder,
            ready: BytesMut::new(),
            first_output: now,
            // The head has just come: a chunk that follows it closely is not the only one on its way.
            burst: BurstDetector { last: Some(now), bursty: false },
            lease,
            spent: None,
            rate: None,
            in_progress: None,
            drained: None,
        }
    }

    /// Reads up to the first model output, or to the end if none comes. `burst`: takes the chunks that have arrived
    /// with that output, too, because all leave in one write. An error: there are more than `most` bytes for the
    /// caller by then.
    pub async fn read_first(&mut self, most: usize, burst: bool) -> Result<(), Error> {
        loop {
            let chunk = self.source.chunk().await;
            let now = Instant::now();
            let output = if burst {
                self.take_all(chunk, now, MAX_FIRST_HOLD).await
            } else {
                self.take(chunk)
            };
            if output || self.transcoder.end().is_some() {
                self.first_output = now;
                // Here and not when the answer is sent: a pause then would send its head alone.
                self.read_to_end().await;
                return Ok(());
            }
            if self.ready.len() > most {
                let message = "the upstream sent megabytes without any model output";
                return Err(Error::upstream(ApiError::new(Kind::Upstream, message)));
            }
        }
    }

    /// Takes a chunk of the upstream's body. Returns whether there was model output in it.
    pub fn take(&mut self, chunk: Chunk) -> bool {
        match chunk {
            Ok(Some(bytes)) => {
                let output = self.transcoder.push(bytes, &mut self.ready);
                self.account();
                self.redact_error();
                output
            }
            Ok(None) => {
                self.transcoder.finish(&mut self.ready);
                self.redact_error();
                false
            }
            // Also ends the reading: some bodies repeat their error for ever (failure mode 45).
            Err(error) => {
                tracing::debug!(%error, "upstream body broke");
                self.transcoder.abort(End::Truncated, &mut self.ready);
                false
            }
        }
    }

    /// Holds memory for the bytes that are kept; without room for them, the answer ends.
    fn account(&mut self) {
        if self.transcoder.end().is_none()
            && let Err(end) = self.lease.hold_kept(self.transcoder.kept() + self.ready.len())
        {
            self.transcoder.abort(end, &mut self.ready);
        }
    }

    /// Reads a complete answer to the end of the upstream's body, as far as that has arrived, so that its connection can
    /// be used again. Returns whether there is nothing to wait for: one that was ended at a stop string is to be closed
    /// instead, because its upstream would generate on, and bill.
    pub async fn read_to_end(&mut self) -> bool {
        let complete = matches!(self.transcoder.end(), Some(End::Complete));
        if !complete || self.transcoder.tally().stopped_early {
            return true;
        }
        if self.drained.is_none() {
            self.drained = Some(self.source.discard_arrived().await);
        }
        self.drained == Some(true)
    }

    /// Takes out the caller's bytes. Many of them hold memory until they are sent.
    pub fn take_ready(&mut self) -> Bytes {
        // The buffer goes along: a silent stream keeps none.
        let bytes = std::mem::take(&mut self.ready).freeze();
        if bytes.len() < LARGE_OUTPUT {
            return bytes;
        }
        // The answer's own lease covers what is still buffered.
        self.lease.sibling().attach(bytes)
    }

    /// Writes the end of an answer that broke off and is not continued.
    pub fn release(&mut self) {
        self.transcoder.release(&mut self.ready);
        self.redact_error();
    }

    /// Whether the upstream has stopped, and has not yet reported its output tokens.
    pub fn is_uncounted(&self) -> bool {
        let tally = self.transcoder.tally();
        self.transcoder.end().is_none() && tally.stop.is_some() && tally.usage.output.is_none()
    }

    /// An error may repeat the credential that it is about. Answers stay as they are.
    fn redact_error(&mut self) {
        if let Some(End::Failed(_)) = self.transcoder.end() {
            let words = redacted(self.ready.split().freeze(), &self.provider);
            self.ready.extend_from_slice(&words);
        }
    }

    /// The end of the body, after the last of `ready`.
    pub fn ending(&mut self) -> Ending {
        match self.transcoder.ending() {
            Ending::Closed => Ending::Closed,
            Ending::Aborted { error } => Ending::Aborted { error: redacted(error, &self.provider) },
        }
    }

    /// The error of an answer that ended badly, returned in its place.
    pub fn failure(&self, end: &End) -> Error {
        let End::Failed(fault) = end else { return Error::from_end(end) };
        let clean = |words: &String| {
            let words = redacted(words.clone().into(), &self.provider);
            String::from_utf8_lossy(&words).into_owned()
        };
        Error::from_end(&End::Failed(ApiError {
            message: clean(&fault.message),
            code: fault.code.as_ref().map(clean),
            param: fault.param.as_ref().map(clean),
            kind: fault.kind,
        }))
    }

    /// Takes a chunk and, in a burst, all others that have already arrived, so that they leave in one write. A lone
    /// chunk leaves without waiting a turn, and no chunk waits much longer than `max_hold` for others.
    pub async fn take_all(&mut self, chunk: Chunk, now: Instant, max_hold: Duration) -> bool {
        let size =
            |chunk: &Chunk| chunk.as_ref().ok().and_then(Option::as_ref).map_or(0, Bytes::len);
        // Bytes read count, not bytes written: endless pings must not hold the loop.
        let mut taken = size(&chunk);
        let mut output = self.take(chunk);
        let more = self.burst.expect_more(now);
        let mut hold = HoldTimer::new(now, max_hold);
        while more && self.transcoder.end().is_none() && taken < MAX_BATCH {
            let Some(chunk) = self.source.arrived().await else { break };
            self.burst.bursty = true;
            taken += size(&chunk);
            output |= self.take(chunk);
            // A lone chunk reads no clock.
            if hold.is_over() {
                break;
            }
        }
        output
    }

    /// Takes the chunks that have already arrived, up to about one write.
    pub async fn take_arrived(&mut self) {
        let (mut hold, mut taken) = (HoldTimer::new(Instant::now(), MAX_HOLD), 0);
        while self.transcoder.end().is_none() && taken < MAX_BATCH {
            let Some(chunk) = self.source.arrived().await else { break };
            taken += chunk.as_ref().ok().and_then(Option::as_ref).map_or(0, Bytes::len);
            self.take(chunk);
            if hold.is_over() {
                break;
            }
        }
    }
}

/// An upstream's message without the secrets that were sent to it and without account ids, which it may repeat, as
/// AWS does when a signature is wrong. Given whole bodies or whole events, so that no cut of the
/// bytes can hide it.
pub(super) fn redacted(words: Bytes, provider: &Provider) -> Bytes {
    let token = provider.aws.as_ref().and_then(|aws| aws.session_token.as_ref());
    let keys = provider.api_key.as_ref().into_iter().chain(token);
    let words = keys.fold(words, |words, key| without(words, key.expose()));
    let headers = provider.headers.iter().filter_map(|(name, value)| {
        let value = value.to_str().ok().filter(|_| !is_public(name.as_str()))?;
        // Without its scheme, if it has one: `Basic ...`.
        Some([value, value.rsplit(' ').next().unwrap_or(value)])
    });
    let query = provider.query.iter().filter(|(name, _)| !is_public(name));
    let settings = headers.flatten().chain(query.map(|(_, value)| value.as_str()));
    let words = settings.fold(words, without);
    ACCOUNT_PREFIXES.iter().fold(words, |words, prefix| without_ids(words, prefix))
}

/// Whether a header or parameter of the operator's is known to hold no secret, and errors are clearer
/// with it: versions and features.
fn is_public(name: &str) -> bool {
    const PUBLIC: [&str; 2] = ["version", "beta"];
    PUBLIC.iter().any(|end| name.to_ascii_lowercase().ends_with(end))
}

/// A message without the ids that begin with `prefix`, in one pass.
fn without_ids(words: Bytes, prefix: &[u8]) -> Bytes {
    if memmem::find(&words, prefix).is_none() {
        return words;
    }
    let mut clean = BytesMut::with_capacity(words.len());
    let mut rest = &words[..];
    while let Some(at) = memmem::find(rest, prefix) {
        let (before, found) = rest.split_at(at);
        let (prefix, after) = found.split_at(prefix.len());
        let length = after.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        let (id, after) = after.split_at(length);
        clean.extend_from_slice(before);
        let inside = clean.last().is_some_and(u8::is_ascii_alphanumeric);
        if length >= MIN_ID && !inside {
            clean.extend_from_slice(b"[redacted]");
        } else {
            clean.extend_from_slice(prefix);
            clean.extend_from_slice(id);
        }
        rest = after;
    }
    clean.extend_from_slice(rest);
    clean.freeze()
}

/// A message without a secret, as it is, with JSON's escapes, or percent-encoded.
fn without(words: Bytes, secret: &str) -> Bytes {
    let there = memmem::find(&words, secret.as_bytes()).is_some();
    let encoded = memchr3(b'\\', b'%', b'+', &words).is_some();
    if secret.len() < MIN_KEY || !there && !encoded {
        return words;
    }
    let mut clean = BytesMut::with_capacity(words.len());
    let mut rest = &words[..];
    while let Some((byte, after)) = rest.split_first() {
        if let Some(after) = after_secret(rest, secret) {
            clean.extend_from_slice(b"[redacted]");
            rest = after;
        } else {
            clean.extend_from_slice(&[*byte]);
            rest = after;
        }
    }
    clean.freeze()
}

/// The rest of a message that begins with a secret.
fn after_secret<'w>(words: &'w [u8], secret: &str) -> Option<&'w [u8]> {
    words
        .strip_prefix(secret.as_bytes())
        .or_else(|| secret.chars().try_fold(words, after_character))
}

/// The rest after a character in any encoding.
fn after_character(words: &[u8], c: char) -> Option<&[u8]> {
    match words.strip_prefix(c.encode_utf8(&mut [0; 4]).as_bytes()) {
        // A backslash or a percent sign may begin its own encoding.
        Some(rest) if c != '\\' && !(c == '%' && rest.starts_with(b"25")) => Some(rest),
        _ if c == ' ' && words.first() == Some(&b'+') => words.get(1..),
        _ if words.first() == Some(&b'%') => {
            c.encode_utf8(&mut [0; 4]).bytes().try_fold(words, after_percent)
        }
        _ => c.encode_utf16(&mut [0; 2]).iter().copied().try_fold(words, after_escaped),
    }
}

/// The rest after a percent-encoded byte; encoded again, perhaps, as an address within an address is.
fn after_percent(words: &[u8], byte: u8) -> Option<&[u8]> {
    let mut rest = words.strip_prefix(b"%")?;
    while let Some(inner) = rest.strip_prefix(b"25").filter(|_| byte != b'%') {
        rest = inner;
    }
    let (digits, rest) = rest.split_at_checked(2)?;
    let digits = std::str::from_utf8(digits).ok()?;
    (u8::from_str_radix(digits, 16) == Ok(byte)).then_some(rest)
}

/// The rest after an escaped UTF-16 unit; escaped again, perhaps, as JSON within JSON is.
fn after_escaped(words: &[u8], unit: u16) -> Option<&[u8]> {
    let slashes = words.iter().take_while(|byte| **byte == b'\\').count();
    let escaped = words.get(slashes..).filter(|_| slashes > 0)?;
    let hexadecimal = escaped.strip_prefix(b"u").and_then(|rest| rest.split_at_checked(4));
    let digits = hexadecimal.and_then(|(digits, _)| std::str::from_utf8(digits).ok());
    if digits.is_some_and(|digits| u16::from_str_radix(digits, 16) == Ok(unit)) {
        return hexadecimal.map(|(_, rest)| rest);
    }
    if unit == u16::from(b'\\') {
        return Some(escaped);
    }
    let (byte, rest) = escaped.split_first()?;
    (u16::from(*byte) == unit && byte.is_ascii_punctuation()).then_some(rest)
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
