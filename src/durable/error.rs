//! Errors of the Durable Streams protocol: the status, the code and the headers that clients act on. They must never
//! reveal whether a stream of another caller exists.

use axum::response::Response;
use http::{HeaderValue, StatusCode};

use super::headers::{self, CLOSED, PRODUCER_EPOCH, PRODUCER_EXPECTED, PRODUCER_RECEIVED, TRUE};
use crate::error::{Error, MIN_RETRY_AFTER};
use crate::streams::position::Position;
use crate::wire::chat::{ApiError, Kind};

/// A request that is not served.
#[derive(Debug)]
pub(super) enum StreamError {
    /// A rule of the gateway, not of the protocol: authentication, limits, the body.
    Gateway(Error),
    /// No stream of this caller has the path.
    NotFound,
    /// The path belongs to a part of the protocol that is not served.
    Reserved,
    /// The stream was deleted, and is kept for its forks.
    Deleted,
    /// An offset of another stream that had the path before.
    Gone,
    /// A header, a parameter or the body is wrong.
    Invalid { name: String, message: String },
    /// The path has a stream with another configuration.
    Exists { differs: &'static str },
    /// The path had a stream that is kept for its forks.
    Blocked,
    /// The source of a fork was deleted.
    SourceDeleted,
    /// The stream is closed at this offset.
    Closed { tail: Position },
    /// The body has another content type than the stream.
    ContentType { stream: String },
    /// The writer's sequence does not go on.
    Regression,
    /// A producer has left out requests.
    Gap { expected: u64, received: u64 },
    /// A later session of the producer has taken over.
    Fenced { epoch: u64 },
    /// The stream would grow beyond its bound.
    TooLarge { most: usize },
    /// The caller has as many streams, or live reads, as it may.
    TooMany { what: &'static str, most: usize },
    /// There is no memory for it.
    Full,
}

impl From<Error> for StreamError {
    fn from(error: Error) -> Self {
        Self::Gateway(error)
    }
}

impl StreamError {
    /// A wrong header, parameter or body.
    pub(super) fn invalid(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { name: name.into(), message: message.into() }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Gateway(_) | Self::Full => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotFound | Self::Reserved => StatusCode::NOT_FOUND,
            Self::Deleted | Self::Gone => StatusCode::GONE,
            Self::Invalid { .. } => StatusCode::BAD_REQUEST,
            Self::Fenced { .. } => StatusCode::FORBIDDEN,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Exists { .. }
            | Self::Blocked
            | Self::SourceDeleted
            | Self::Closed { .. }
            | Self::ContentType { .. }
            | Self::Regression
            | Self::Gap { .. } => StatusCode::CONFLICT,
        }
    }

    /// The code for programs, and the message for people.
    fn words(&self) -> (&'static str, String) {
        match self {
            Self::Gateway(error) => ("gateway", error.to_string()),
            Self::NotFound => ("stream_not_found", "there is no such stream; create it with PUT".into()),
            Self::Reserved => (
                "not_served",
                "subscriptions of the Durable Streams protocol are not served; follow the streams with `live=sse`".into(),
            ),
            Self::Deleted | Self::Blocked => (
                "stream_deleted",
                "the stream was deleted; its path is free when its forks are deleted, too".into(),
            ),
            Self::Gone => (
                "offset_gone",
                "the offset belongs to an earlier stream of this path; read from `offset=-1`".into(),
            ),
            Self::Invalid { message, .. } => ("invalid_request", message.clone()),
            Self::Exists { differs } => (
                "stream_exists",
                format!("the path has a stream already, with another {differs}; use it, or another path"),
            ),
            Self::SourceDeleted => {
                ("source_deleted", "the stream to fork was deleted; fork another one".into())
            }
            Self::Closed { .. } => {
                ("stream_closed", "the stream is closed and takes no more appends".into())
            }
            Self::ContentType { stream } => (
                "content_type_mismatch",
                format!("the stream's content type is {stream}; send `content-type: {stream}`"),
            ),
            Self::Regression => (
                "sequence_regression",
                "`stream-seq` is not greater than that of the last append; it must increase".into(),
            ),
            Self::Gap { expected, received } => (
                "sequence_gap",
                format!("the producer's next `producer-seq` is {expected}, and {received} was sent"),
            ),
            Self::Fenced { epoch } => (
                "stale_epoch",
                format!("the producer has begun epoch {epoch}; begin a later one to take over"),
            ),
            Self::TooLarge { most } => (
                "stream_too_large",
                format!(
                    "the stream would be larger than {most} bytes (durable.stream_size); close it and go on in another"
                ),
            ),
            Self::TooMany { what, most } => {
                ("too_many", format!("this caller may have {most} {what} at once, and has them"))
            }
            Self::Full => (
                "out_of_memory",
                "the gateway keeps as much of streams as it may, of this caller or of all \
                 (durable.memory); delete streams, or try again later"
                    .into(),
            ),
        }
    }

    /// The error of the gateway that stands for it in records.
    pub(super) fn into_error(self) -> Error {
        let kind = match &self {
            Self::NotFound | Self::Reserved | Self::Deleted | Self::Gone => Kind::NotFound,
            Self::Fenced { .. } => Kind::Permission,
            Self::TooLarge { .. } => Kind::TooLarge,
            Self::TooMany { .. } => Kind::RateLimited,
            _ => Kind::Invalid,
        };
        let (code, message) = self.words();
        match self {
            Self::Gateway(error) => error,
            Self::Full => Error::unavailable(&message).retry_after(MIN_RETRY_AFTER),
            Self::Invalid { name, message } => Error::caller(ApiError::field(name, message)),
            _ => Error::caller(ApiError {
                code: Some(code.to_owned()),
                ..ApiError::new(kind, message)
            }),
        }
    }

    /// Sets the protocol's status and headers of an error response. Errors of the gateway have theirs.
    pub(super) fn mark(&self, response: &mut Response) {
        if matches!(self, Self::Gateway(_)) {
            return;
        }
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        match self {
            Self::Closed { tail } => {
                headers.insert(CLOSED, TRUE);
                headers::set_next(headers, *tail);
            }
            Self::Gap { expected, received } => {
                headers.insert(PRODUCER_EXPECTED, HeaderValue::from(*expected));
                headers.insert(PRODUCER_RECEIVED, HeaderValue::from(*received));
            }
            Self::Fenced { epoch } => {
                headers.insert(PRODUCER_EPOCH, HeaderValue::from(*epoch));
            }
            _ => {}
        }
    }
}
