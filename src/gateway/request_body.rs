//! Request bodies: the media type, and reading a body whole, decoded, within its limits of size and time. Never
//! logs or keeps any of it.

use std::time::Duration;

use axum::body::Body;
use bytes::BytesMut;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, ORIGIN};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use super::content_encoding::ContentEncoding;
use crate::config::Server;
use crate::error::Error;
use crate::wire::chat::{Fault, Kind};
use crate::wire::dialect::CallerDialect;

/// The slowest that a request body may arrive, in bytes per second.
const MIN_BYTES_PER_SECOND: usize = 16 * 1024;

/// Rejects bodies that are not JSON.
pub(super) fn expect_json(headers: &HeaderMap, dialect: &dyn CallerDialect) -> Result<(), Error> {
    let reject = |message: &str| Err(Error::caller(Fault::new(Kind::MediaType, message)));
    // A browser asks before it sends JSON to another site, and not before it sends a form: what has
    // an origin must say that it is JSON.
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

/// A size in the unit that it is a multiple of.
fn size(bytes: usize) -> String {
    match bytes {
        bytes if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        bytes if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        bytes => format!("{bytes} bytes"),
    }
}

/// Reads the body of a request that must have one.
pub(super) async fn read_some(
    body: &mut Body,
    headers: &HeaderMap,
    server: &Server,
) -> Result<String, Error> {
    let body = read(body, headers, server).await?;
    if body.trim_ascii().is_empty() {
        let message = "the request body is empty; send a JSON object";
        return Err(Error::caller(Fault::new(Kind::Invalid, message)));
    }
    Ok(body)
}

/// Reads the request body whole: bytes left in the connection's buffer would hide a hang-up. Decodes it if it is
/// compressed, away from the worker's streams: only callers who may call get here (failure mode 68).
pub(super) async fn read(
    body: &mut Body,
    headers: &HeaderMap,
    server: &Server,
) -> Result<String, Error> {
    let encoding = ContentEncoding::of(headers)?;
    let mut whole = whole(body, server).await?;
    if let Some(encoding) = encoding {
        let limit = server.body_limit;
        let decoded = tokio::task::spawn_blocking(move || encoding.decode(&whole, limit)).await;
        whole = decoded.map_err(|error| Error::internal("a decoder failed").because(error))??;
    }
    String::from_utf8(whole).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let compressed =
            ContentEncoding::recognize(error.as_bytes()).filter(|_| encoding.is_none());
        let hint = compressed.map(ContentEncoding::name).map(|name| {
            format!("; it begins like {name}, so send it with `content-encoding: {name}`")
        });
        let hint = hint.unwrap_or_default();
        Error::caller(Fault::new(
            Kind::Invalid,
            format!("the body is not valid UTF-8 (at byte {at}){hint}"),
        ))
    })
}

async fn whole(body: &mut Body, server: &Server) -> Result<Vec<u8>, Error> {
    let too_large = || {
        let limit = size(server.body_limit);
        let message = format!(
            "the request body is larger than the limit of {limit}; send less, or have the gateway's operator raise server.body_limit"
        );
        Error::caller(Fault::new(Kind::TooLarge, message))
    };
    if http_body::Body::size_hint(body).lower() > server.body_limit as u64 {
        return Err(too_large());
    }
    let mut whole = BytesMut::new();
    let started = Instant::now();
    loop {
        // What has come buys time for more, so that a trickle is cut and a slow line is not.
        let earned = Duration::from_secs((whole.len() / MIN_BYTES_PER_SECOND) as u64);
        let deadline = started + server.header_timeout + earned;
        let frame = timeout_at(deadline, body.frame()).await.map_err(|_| {
            Error::caller(Fault::new(Kind::TooSlow, "the request body did not arrive in time"))
        })?;
        match frame {
            None => break,
            Some(Err(error)) => {
                return Err(Error::caller(Fault::new(Kind::Invalid, "the request body broke off"))
                    .because(error));
            }
            Some(Ok(frame)) => {
                let data = frame.into_data().unwrap_or_default();
                if whole.len() + data.len() > server.body_limit {
                    return Err(too_large());
                }
                whole.extend_from_slice(&data);
            }
        }
    }
    Ok(whole.into())
}
