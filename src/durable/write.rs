//! Writing: creating a stream (PUT), appending to it and closing it (POST), deleting it. A request that is refused must
//! never leave anything behind.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::time::Instant;

use super::content_type::{ContentType, Mode};
use super::error::StreamError;
use super::expiry::Expiry;
use super::fork::ForkRequest;
use super::headers::{self, CLOSED, PRODUCER_EPOCH, PRODUCER_SEQ, SEQ, TRUE};
use super::json_mode::{self, JsonError};
use super::producer::ProducerStamp;
use super::store::Configuration;
use super::stream::{AppendRequest, Appended, NewStream, Stream};
use super::{Call, Head};
use crate::gateway::clock::unix;
use crate::gateway::offload;

/// The longest `stream-seq`.
const MAX_SEQ: usize = 1024;

/// Creates a stream, or finds it as it was created.
pub(super) async fn create(call: &Call<'_>, body: Bytes) -> Result<Head, StreamError> {
    let headers = &call.head.headers;
    let asked = Configuration {
        content_type: ContentType::of(headers)?,
        expiry: Expiry::of(headers)?,
        closed: headers::closes(headers),
        fork: ForkRequest::of(headers)?,
    };
    let (stream, is_new) = match call.streams.find(&call.owner, call.path) {
        Ok(stream) => {
            asked.check(&stream)?;
            (stream, false)
        }
        Err(StreamError::Deleted) => return Err(StreamError::Blocked),
        Err(_) => {
            let new = new_stream(call, &asked, body).await?;
            call.streams.add(&call.owner, new, &asked, &call.settings)?
        }
    };
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, stream.content_type.header.clone());
    headers::set_next(&mut headers, stream.at(stream.tail()));
    if stream.is_closed() {
        headers.insert(CLOSED, TRUE);
    }
    if is_new && let Some(location) = call.location() {
        headers.insert(LOCATION, location);
    }
    Ok(Head { status, headers })
}

/// The parts of a stream that does not exist yet.
async fn new_stream(
    call: &Call<'_>,
    asked: &Configuration,
    body: Bytes,
) -> Result<NewStream, StreamError> {
    let fork = asked.fork.clone().map(|fork| {
        let source = call.streams.find(&call.owner, &fork.from);
        let source = source.map_err(|error| match error {
            StreamError::Deleted => StreamError::SourceDeleted,
            error => error,
        })?;
        if asked.content_type.as_ref().is_some_and(|asked| *asked != source.content_type) {
            let stream = source.content_type.name().to_owned();
            return Err(StreamError::ContentType { stream });
        }
        fork.resolve(source)
    });
    let (origin, part) =
        fork.transpose()?.map_or((None, None), |(origin, part)| (Some(origin), part));
    let source = origin.as_ref().map(|origin| &*origin.source);
    let content_type = asked.content_type.clone();
    let content_type = content_type.or_else(|| Some(source?.content_type.clone()));
    let content_type = content_type.unwrap_or_else(ContentType::default_type);
    let born = (Instant::now(), unix());
    if let Some(expiry @ Expiry::At { .. }) = &asked.expiry
        && expiry.deadline(born.0, born) == Some(born.0)
    {
        return Err(StreamError::invalid("stream-expires-at", "is in the past"));
    }
    let inherited = || source.and_then(|source| source.expiry.clone());
    let default = || call.settings.ttl.map(Expiry::Ttl);
    let content = content(content_type.mode(), body).await?;
    Ok(NewStream {
        path: call.path.to_owned(),
        expiry: asked.expiry.clone().or_else(inherited).or_else(default),
        own_expiry: asked.expiry.is_some(),
        content_type,
        appends: part.into_iter().chain([content]).filter(|append| !append.is_empty()).collect(),
        origin,
        born,
        closed: asked.closed,
    })
}

/// A body as it is appended. Empty: it has nothing to append.
async fn content(mode: Mode, body: Bytes) -> Result<Bytes, StreamError> {
    if body.is_empty() || mode != Mode::Json {
        return Ok(body);
    }
    let messages = if body.len() > offload::LARGE {
        offload::run(move || json_mode::messages(&body)).await?
    } else {
        json_mode::messages(&body)
    };
    messages.map_err(|JsonError(message)| StreamError::invalid("body", message))
}

/// Appends to a stream, and closes it if that is asked for.
pub(super) async fn append(call: &Call<'_>, body: Bytes) -> Result<Head, StreamError> {
    let headers = &call.head.headers;
    let stream = call.streams.find(&call.owner, call.path)?;
    stream.touch()?;
    let close = headers::closes(headers);
    let producer = ProducerStamp::of(headers)?;
    let seq = headers::single(headers, &SEQ)?.map(Box::<str>::from);
    if seq.as_ref().is_some_and(|seq| seq.len() > MAX_SEQ) {
        let message = format!("has more than {MAX_SEQ} characters");
        return Err(StreamError::invalid("stream-seq", message));
    }
    let body = checked(&stream, headers, body, close).await?;
    let request = AppendRequest { body, producer, seq, close };
    let appended = stream.append(&request, call.settings.stream_size)?;
    Ok(acknowledgement(&request, &appended))
}

/// The body of an append, in the form of its stream.
async fn checked(
    stream: &Stream,
    headers: &HeaderMap,
    body: Bytes,
    close: bool,
) -> Result<Bytes, StreamError> {
    if body.is_empty() {
        if close {
            return Ok(body);
        }
        let message = "is empty; send what to append, or `stream-closed: true` to close the stream";
        return Err(StreamError::invalid("body", message));
    }
    let Some(content_type) = ContentType::of(headers)? else {
        return Err(StreamError::invalid("content-type", "is missing; send that of the stream"));
    };
    // That it is closed matters more than a wrong body.
    if stream.is_closed() {
        return Ok(body);
    }
    if content_type != stream.content_type {
        return Err(StreamError::ContentType { stream: stream.content_type.name().to_owned() });
    }
    let content = content(stream.content_type.mode(), body).await?;
    if content.is_empty() {
        return Err(StreamError::invalid("body", "is an empty array; send one message at least"));
    }
    Ok(content)
}

fn acknowledgement(request: &AppendRequest, appended: &Appended) -> Head {
    let is_news = !appended.duplicate && !request.body.is_empty();
    let status = match &request.producer {
        Some(_) if is_news => StatusCode::OK,
        _ => StatusCode::NO_CONTENT,
    };
    let mut headers = HeaderMap::new();
    headers::set_next(&mut headers, appended.next);
    if appended.closed {
        headers.insert(CLOSED, TRUE);
    }
    if let Some(stamp) = &request.producer {
        headers.insert(PRODUCER_EPOCH, HeaderValue::from(stamp.epoch));
        headers.insert(PRODUCER_SEQ, HeaderValue::from(appended.highest.unwrap_or(stamp.seq)));
    }
    Head { status, headers }
}

/// Deletes a stream.
pub(super) fn delete(call: &Call<'_>) -> Result<Head, StreamError> {
    call.streams.delete(&call.owner, call.path)?;
    Ok(Head { status: StatusCode::NO_CONTENT, headers: HeaderMap::new() })
}
