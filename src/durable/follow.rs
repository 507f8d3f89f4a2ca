//! Following: the body of an event stream, which is polled and holds a position only. Dropping the body ends it; a slow
//! reader must never slow another one, nor the writer.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_stream::stream;
use bytes::Bytes;
use futures_util::Stream as Body;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use rand::RngExt as _;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::content_type::Mode;
use super::error::StreamError;
use super::headers::DATA_ENCODING;
use super::read::{PAGE, Query};
use super::sse::{self, Control};
use super::store::Reader;
use super::stream::{Page, Reach, Stream};
use super::{Call, cursor};
use crate::gateway::account::Account;
use crate::gateway::clock::unix;
use crate::wire::chat::End;
use crate::wire::tally::Tally;

/// The range of the time after which browsers connect again, in milliseconds: different for each connection, so that
/// not all come back at once.
const RETRY: std::ops::RangeInclusive<u64> = 2000..=5000;

/// One reader of a stream.
pub(super) struct Follower {
    stream: Arc<Stream>,
    /// The sequence number of the last append that was sent.
    sent: u64,
    /// The state in the last control event.
    told: Option<Reach>,
    cursor: u64,
    heartbeat: Duration,
    /// The time at which the body ends.
    until: Instant,
    stopping: CancellationToken,
    _reader: Reader,
}

impl Follower {
    /// A reader at the place that a request names.
    pub(super) fn new(
        call: &Call<'_>,
        query: &Query,
        (stream, reader): (Arc<Stream>, Reader),
    ) -> Result<Self, StreamError> {
        let age = call.settings.connection_age;
        Ok(Self {
            sent: query.place(&stream)?,
            told: None,
            stream,
            cursor: cursor::next(query.cursor, unix()),
            heartbeat: call.heartbeat,
            until: Instant::now() + age.mul_f64(rand::rng().random_range(0.8..=1.0)),
            stopping: call.stopping.clone(),
            _reader: reader,
        })
    }

    /// The headers of the response.
    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        if self.mode() == Mode::Binary {
            headers.insert(DATA_ENCODING, HeaderValue::from_static("base64"));
        }
        self.stream.set_place(&mut headers, self.sent, self.stream.reach(self.sent));
        headers
    }

    fn mode(&self) -> Mode {
        self.stream.content_type.mode()
    }

    /// The next bytes; `None`: the body ends.
    async fn next(&mut self, account: &mut Account) -> Option<Bytes> {
        let due = Instant::now() + self.heartbeat;
        let stream = Arc::clone(&self.stream);
        loop {
            let changed = stream.changed();
            let is_over = Instant::now() >= self.until || self.stopping.is_cancelled();
            if is_over || self.told == Some(Reach::End) || stream.check_present().is_err() {
                return None;
            }
            if let Some(events) = self.events() {
                return Some(events);
            }
            if Instant::now() >= due {
                account.heartbeat();
                return Some(Bytes::from_static(sse::HEARTBEAT.as_bytes()));
            }
            let ends = [Some(self.until), stream.deadline()];
            let wake = ends.into_iter().flatten().fold(due, Instant::min);
            tokio::select! {
                () = changed => {}
                () = sleep_until(wake) => {}
                () = self.stopping.cancelled() => {}
            }
        }
    }

    /// The events after what was sent, if there is any news.
    fn events(&mut self) -> Option<Bytes> {
        let mode = self.mode();
        let Page { mut appends, next, mut reach } = self.stream.page(self.sent, PAGE);
        let whole = if reach == Reach::End { appends.len() } else { sse::whole(mode, &appends) };
        let held = appends.len() - whole;
        if held > 0 {
            appends.truncate(whole);
            reach = Reach::Partial;
        }
        let is_first = self.told.is_none();
        if appends.is_empty() && !is_first && reach != Reach::End {
            return None;
        }
        self.sent = next - held as u64;
        self.told = Some(reach);
        let next = self.stream.at(self.sent);
        let mut events = String::new();
        if !appends.is_empty() {
            sse::write_data(&mut events, mode, &appends, next);
        }
        let retry = is_first.then(|| Duration::from_millis(rand::rng().random_range(RETRY)));
        Control { next, reach, cursor: self.cursor, retry }.write(&mut events);
        Some(events.into())
    }
}

/// The body of an event stream. The account is settled when it ends.
pub(super) fn body(
    mut follower: Follower,
    mut account: Box<Account>,
) -> impl Body<Item = Result<Bytes, Infallible>> + Send {
    stream! {
        while let Some(bytes) = follower.next(&mut account).await {
            yield Ok(bytes);
        }
        account.settle(&Tally::default(), Some(&End::Complete));
    }
}
