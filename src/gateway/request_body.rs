//! Request bodies: the media type, and reading a body whole, decoded, within its limits of size and time. Never
//! logs or keeps any of it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::BytesMut;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, ORIGIN};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::auth::Caller;
use super::content_encoding::ContentEncoding;
use super::offload::BufferedBody;
use super::state::Gateway;
use crate::error::Error;
use crate::memory::{COPIES, CallerMemory, MemoryLease, MemoryShare};
use crate::wire::chat::{ApiError, End, Kind};
use crate::wire::dialect::CallerDialect;

/// The slowest that a request body may arrive, in bytes per second.
const MIN_BYTES_PER_SECOND: usize = 16 * 1024;

/// The most time that a slow body earns by its progress, because it holds memory meanwhile.
const MAX_EARNED: Duration = Duration::from_mins(2);

/// The most bytes of the body of an info request.
const MAX_INFO_BODY: usize = 64 * 1024;

/// Rejects bodies that are not JSON.
pub(super) fn expect_json(headers: &HeaderMap, dialect: &dyn CallerDialect) -> Result<(), Error> {
    let reject = |message: &str| Err(Error::caller(ApiError::new(Kind::MediaType, message)));
    // Browsers send a preflight request before JSON to another site, and none before a form: a request with
    // an origin must declare JSON.
    if dialect.reads_any_media_type() && !headers.contains_key(ORIGIN) {
        return Ok(());
    }
    let kind = headers.get(CONTENT_TYPE).map(|kind| kind.to_str().unwrap_or("?"));
    match kind.map(|kind| kind.split(';').next().unwrap_or_default().trim()) {
        Some(kind) if kind.eq_ignore_ascii_case("application/json") || kind.ends_with("+json") => {
            Ok(())
        }
        None => reject("the content-type header is missing; send `content-type: application/json`"),
        Some(_) => reject("the body must be JSON; send it with `content-type: application/json`"),
    }
}

/// Rejects bodies that are not forms.
pub(super) fn expect_form(headers: &HeaderMap) -> Result<(), Error> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Ok(());
    }
    let message =
        "the body must be a form; send it with `content-type: application/x-www-form-urlencoded`";
    Err(Error::caller(ApiError::new(Kind::MediaType, message)))
}

/// A size in the unit that it is a multiple of.
fn size(bytes: usize) -> String {
    match bytes {
        bytes if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        bytes if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        bytes => format!("{bytes} bytes"),
    }
}

/// Limits of one request body.
pub(crate) struct BodyLimits<'a> {
    /// The most bytes, compressed or not.
    bytes: usize,
    /// The setting that raises it, or another remedy for a larger body.
    remedy: &'static str,
    /// For the first byte, and for each pause after it.
    pause: Duration,
    /// The memory of all request bodies of the process.
    memory: &'a Arc<MemoryShare>,
    /// The memory that the caller's bodies hold.
    caller: &'a Arc<CallerMemory>,
    /// Cancelled when the drain is over: half a body delays no shutdown.
    closing: &'a CancellationToken,
}

impl<'a> BodyLimits<'a> {
    /// Those of a request for a model.
    pub(crate) fn of(gateway: &'a Gateway, caller: &'a Caller) -> Self {
        let (memory, state) = (&gateway.memory.requests, gateway.state());
        let server = &state.config.server;
        // A body that can never fit into the budget is too large: retrying would not help.
        let room = memory.limit_of_caller() / COPIES;
        let (bytes, remedy) = if server.body_limit <= room {
            (server.body_limit, "send less, or have the gateway's operator raise server.body_limit")
        } else {
            (room, "send less, or have the gateway's operator raise server.memory")
        };
        let (caller, closing) = (&caller.limiter.memory, &gateway.shutdown.closing);
        Self { bytes, remedy, pause: server.header_timeout, memory, caller, closing }
    }

    /// Those of a request with a short body or none.
    pub(crate) fn of_info_request(gateway: &'a Gateway, caller: &'a Caller) -> Self {
        let limits = Self::of(gateway, caller);
        let remedy = "this endpoint needs a short body or none";
        Self { bytes: limits.bytes.min(MAX_INFO_BODY), remedy, ..limits }
    }

    fn too_large(&self) -> Error {
        let (limit, remedy) = (size(self.bytes), self.remedy);
        let message = format!("the request body is larger than the limit of {limit}; {remedy}");
        Error::caller(ApiError::new(Kind::TooLarge, message))
    }

    /// The deadline for the next part of a body, of which `come` bytes have arrived since `started`.
    fn deadline(&self, started: Instant, come: usize) -> Instant {
        // Progress extends the deadline: a trickle is cut off, a slow connection is not.
        let earned = Duration::from_secs((come / MIN_BYTES_PER_SECOND) as u64);
        let all = started + self.pause + earned.min(MAX_EARNED);
        all.min(Instant::now() + self.pause)
    }
}

/// Reads the body of a request that must have one.
pub(super) async fn read_some(
    body: &mut Body,
    headers: &HeaderMap,
    limits: &BodyLimits<'_>,
) -> Result<BufferedBody, Error> {
    let body = read(body, headers, limits).await?;
    if body.trim_ascii().is_empty() {
        let message = "the request body is empty; send a JSON object";
        return Err(Error::caller(ApiError::new(Kind::Invalid, message)));
    }
    Ok(body)
}

/// Reads the request body whole, as text.
pub(super) async fn read(
    body: &mut Body,
    headers: &HeaderMap,
    limits: &BodyLimits<'_>,
) -> Result<BufferedBody, Error> {
    let encoding = ContentEncoding::of(headers)?;
    let (whole, lease) = read_bytes(body, headers, limits).await?;
    let text = String::from_utf8(whole).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let compressed =
            ContentEncoding::recognize(error.as_bytes()).filter(|_| encoding.is_none());
        let hint = compressed.map(ContentEncoding::name).map(|name| {
            format!("; it begins like {name}, so send it with `content-encoding: {name}`")
        });
        let hint = hint.unwrap_or_default();
        Error::caller(ApiError::new(
            Kind::Invalid,
            format!("the body is not valid UTF-8 (at byte {at}){hint}"),
        ))
    })?;
    Ok(BufferedBody { text, lease })
}

/// Reads the request body whole: bytes left in the connection's buffer would hide a hang-up. Decodes it if it is
/// compressed, away from the worker's streams: only callers who may call get here (failure mode 68).
pub(crate) async fn read_bytes(
    body: &mut Body,
    headers: &HeaderMap,
    limits: &BodyLimits<'_>,
) -> Result<(Vec<u8>, MemoryLease), Error> {
    let encoding = ContentEncoding::of(headers)?;
    let reading = limits.closing.run_until_cancelled(whole(body, limits)).await;
    let (mut whole, mut lease) = reading.ok_or_else(|| Error::from_end(&End::ShuttingDown))??;
    if let Some(encoding) = encoding {
        let most = limits.bytes;
        let decoding = tokio::task::spawn_blocking(move || {
            let encoded = whole.len();
            let room = |decoded| lease.hold_body(encoded.saturating_add(decoded));
            let decoded = encoding.decode::<Error>(&whole, most, room)?;
            drop(whole);
            lease.hold_body(decoded.len())?;
            Ok::<_, Error>((decoded, lease))
        });
        let decoded = decoding.await;
        (whole, lease) =
            decoded.map_err(|error| Error::internal("a decoder failed").because(error))??;
    }
    Ok((whole, lease))
}

/// The bytes as they come, each of which is acquired of the budget when it has come: a declared length
/// acquires nothing.
async fn whole(body: &mut Body, limits: &BodyLimits<'_>) -> Result<(Vec<u8>, MemoryLease), Error> {
    let declared = http_body::Body::size_hint(body).lower();
    let declared = usize::try_from(declared).unwrap_or(usize::MAX);
    if declared > limits.bytes {
        return Err(limits.too_large());
    }
    if !limits.memory.has_room(declared.saturating_mul(COPIES)) {
        return Err(limits.memory.refuse_body());
    }
    let mut whole = BytesMut::new();
    let mut lease = limits.memory.lease_for(limits.caller);
    let started = Instant::now();
    loop {
        let deadline = limits.deadline(started, whole.len());
        let frame = timeout_at(deadline, body.frame()).await.map_err(|_| {
            Error::caller(ApiError::new(Kind::TooSlow, "the request body did not arrive in time"))
        })?;
        match frame {
            None => break,
            Some(Err(error)) => {
                return Err(Error::caller(ApiError::new(
                    Kind::Invalid,
                    "the request body broke off",
                ))
                .because(error));
            }
            Some(Ok(frame)) => {
                let data = frame.into_data().unwrap_or_default();
                let come = whole.len() + data.len();
                if come > limits.bytes {
                    return Err(limits.too_large());
                }
                lease.hold_body(come)?;
                whole.extend_from_slice(&data);
            }
        }
    }
    Ok((whole.into(), lease))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryBudget;
    use crate::telemetry::Metrics;

    /// A body may pause for as long as a head may take, and a slow one gets two minutes more at most.
    #[tokio::test(start_paused = true)]
    async fn the_body_timeout_of_a_slow_body_is_bounded() {
        let memory = MemoryBudget::new(1 << 30, &Metrics::default());
        let pause = Duration::from_secs(10);
        let (memory, caller) = (&memory.requests, &Arc::default());
        let closing = &CancellationToken::new();
        let limits = BodyLimits { bytes: 1, remedy: "", pause, memory, caller, closing };
        let started = Instant::now();
        let left = |come: usize| limits.deadline(started, come) - started;
        assert_eq!([left(0), left(32 << 20)], [pause; 2], "a pause");
        for (after, come, seconds) in [
            (5, 0, 10),
            (5, 3 * MIN_BYTES_PER_SECOND, 13),
            (5, 32 << 20, 15),
            (125, 32 << 20, 130),
            (129, usize::MAX, 130),
        ] {
            tokio::time::advance(started + Duration::from_secs(after) - Instant::now()).await;
            assert_eq!(left(come), Duration::from_secs(seconds), "{come} bytes after {after} s");
        }
    }
}
