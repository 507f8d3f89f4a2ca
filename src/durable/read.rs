//! Reading: a stream's metadata (HEAD), what it has (catch-up), and what it will have (long poll). A reader is a
//! position: nothing is queued for it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::time::{Instant, sleep_until};
use url::form_urlencoded;

use super::content_type::Mode;
use super::error::StreamError;
use super::headers::{CLOSED, CURSOR, LAST_EVENT_ID, TRUE};
use super::offset::Offset;
use super::stream::{Page, Reach, Stream};
use super::{Call, Head, cursor, etag, headers, json_mode};
use crate::gateway::clock::unix;

/// About the most bytes of one response, or of one event.
pub(super) const PAGE: usize = 1 << 20;

/// The headers in which callers send their credential: a cache must not answer one with what another may read.
const CREDENTIALS: &str = "authorization, x-api-key, api-key, x-goog-api-key";

/// The mode of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Live {
    /// `live=long-poll`.
    LongPoll,
    /// `live=sse`.
    Sse,
}

/// The query of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) offset: Option<Offset>,
    /// `None`: what there is.
    pub(super) live: Option<Live>,
    pub(super) cursor: Option<u64>,
}

impl Query {
    /// That of a request.
    pub(super) fn of(query: Option<&str>, headers: &HeaderMap) -> Result<Self, StreamError> {
        let (mut offset, mut live, mut cursor) = (None, None, None);
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match &*name {
                "offset" if offset.is_some() => {
                    let message = "is there more than once; send it once";
                    return Err(StreamError::invalid("offset", message));
                }
                "offset" => offset = Some(read_offset("offset", &value)?),
                "live" => live = Some(mode(&value)?),
                "cursor" => cursor = value.parse().ok(),
                _ => {}
            }
        }
        // A browser's EventSource repeats its address when it connects again, and adds the place that it has reached.
        if live == Some(Live::Sse)
            && let Some(id) = headers::single(headers, &LAST_EVENT_ID)?.filter(|id| !id.is_empty())
        {
            offset = Some(read_offset("last-event-id", id)?);
        }
        if live.is_some() && offset.is_none() {
            let message =
                "is missing; send `offset=-1`, `offset=now`, or the last `stream-next-offset`";
            return Err(StreamError::invalid("offset", message));
        }
        Ok(Self { offset, live, cursor })
    }

    /// The sequence number after which to read.
    pub(super) fn place(&self, stream: &Stream) -> Result<u64, StreamError> {
        match self.offset {
            None | Some(Offset::Start) => Ok(0),
            Some(Offset::Now) => Ok(stream.tail()),
            Some(Offset::After(position)) => stream.seq(position),
        }
    }
}

fn read_offset(name: &'static str, text: &str) -> Result<Offset, StreamError> {
    text.parse()
        .map_err(|error: super::offset::OffsetError| StreamError::invalid(name, error.to_string()))
}

fn mode(text: &str) -> Result<Live, StreamError> {
    match text {
        "long-poll" => Ok(Live::LongPoll),
        "sse" => Ok(Live::Sse),
        _ => Err(StreamError::invalid("live", "must be `long-poll` or `sse`, or be left out")),
    }
}

/// The metadata of a stream.
pub(super) fn metadata(call: &Call<'_>) -> Result<Head, StreamError> {
    let stream = call.streams.find(&call.owner, call.path)?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, stream.content_type.header.clone());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers::set_next(&mut headers, stream.at(stream.tail()));
    if stream.is_closed() {
        headers.insert(CLOSED, TRUE);
    }
    if let Some(expiry) = &stream.expiry {
        expiry.set(&mut headers);
    }
    Ok(Head { status: StatusCode::OK, headers })
}

/// Catch-up: the appends after an offset.
pub(super) fn catch_up(call: &Call<'_>, query: &Query) -> Result<(Head, Bytes), StreamError> {
    let stream = call.streams.find(&call.owner, call.path)?;
    stream.touch()?;
    if query.offset != Some(Offset::Now) {
        let after = query.place(&stream)?;
        let page = stream.page(after, PAGE);
        return Ok(response(call, &stream, after, &page));
    }
    let end = stream.end();
    let (mut head, body) = response(call, &stream, end.next, &end);
    head.headers.remove(ETAG);
    head.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok((head, body))
}

/// The appends after an offset, as soon as there are some.
pub(super) async fn long_poll(
    call: &Call<'_>,
    query: &Query,
    stream: &Arc<Stream>,
) -> Result<(Head, Bytes), StreamError> {
    let after = query.place(stream)?;
    let due = Instant::now() + call.settings.long_poll;
    let cursor = HeaderValue::from(cursor::next(query.cursor, unix()));
    loop {
        let changed = stream.changed();
        let page = stream.page(after, PAGE);
        if !page.appends.is_empty() {
            let (mut head, body) = response(call, stream, after, &page);
            head.headers.insert(CURSOR, cursor);
            return Ok((head, body));
        }
        stream.check_present()?;
        if page.reach == Reach::End || Instant::now() >= due || call.stopping.is_cancelled() {
            let mut headers = HeaderMap::new();
            stream.set_place(&mut headers, after, page.reach);
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            headers.insert(CURSOR, cursor);
            return Ok((Head { status: StatusCode::NO_CONTENT, headers }, Bytes::new()));
        }
        let until = stream.deadline().map_or(due, |end| end.min(due));
        tokio::select! {
            () = changed => {}
            () = sleep_until(until) => {}
            () = call.stopping.cancelled() => {}
        }
    }
}

/// A page as a response, or the news that the client has it already.
fn response(call: &Call<'_>, stream: &Stream, after: u64, page: &Page) -> (Head, Bytes) {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, stream.content_type.header.clone());
    // A later append makes it incomplete: a cache may keep it, and has to ask each time.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(VARY, HeaderValue::from_static(CREDENTIALS));
    stream.set_place(&mut headers, page.next, page.reach);
    let tag = etag::of(stream, after, page);
    let known = tag.as_ref().is_some_and(|tag| etag::is_known(&call.head.headers, tag));
    headers.extend(tag.map(|tag| (ETAG, tag)));
    if known {
        headers.remove(CONTENT_TYPE);
        return (Head { status: StatusCode::NOT_MODIFIED, headers }, Bytes::new());
    }
    (Head { status: StatusCode::OK, headers }, body(stream.content_type.mode(), &page.appends))
}

/// The appends of a page in one body.
pub(super) fn body(mode: Mode, appends: &[Bytes]) -> Bytes {
    match (mode, appends) {
        (Mode::Json, _) => json_mode::array(appends),
        (_, [append]) => append.clone(),
        _ => {
            let mut body = BytesMut::with_capacity(appends.iter().map(Bytes::len).sum());
            for append in appends {
                body.extend_from_slice(append);
            }
            body.freeze()
        }
    }
}
