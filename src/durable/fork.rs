//! Forks: streams that begin as another one up to an offset. A fork reads that part from its source's log, and must
//! never see what its source is appended later.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use super::content_type::Mode;
use super::error::StreamError;
use super::headers::{FORK_OFFSET, FORK_SUB_OFFSET, FORKED_FROM, number, single};
use super::json_mode;
use super::offset::Offset;
use super::stream::{Page, Stream};
use crate::durable::ROOT;

/// The longest chain of forks: each read of a fork may pass through all of it.
const MAX_DEPTH: usize = 32;

/// The source of a fork.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) source: Arc<Stream>,
    /// The sequence number of the last append that the fork shares.
    pub(super) at: u64,
    pub(super) request: ForkRequest,
}

/// A request for a fork.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ForkRequest {
    /// The path of the source, below the endpoint's.
    pub(super) from: String,
    /// `None`: all that the source has.
    offset: Option<Offset>,
    /// The bytes, or messages, of the next append that it shares, too.
    beyond: u64,
}

impl ForkRequest {
    /// That of a request. `None`: it asks for a stream of its own.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, StreamError> {
        let (offset, beyond) = (single(headers, &FORK_OFFSET)?, single(headers, &FORK_SUB_OFFSET)?);
        let Some(from) = single(headers, &FORKED_FROM)? else {
            let alone =
                [offset.map(|_| "stream-fork-offset"), beyond.map(|_| "stream-fork-sub-offset")];
            return match alone.into_iter().flatten().next() {
                Some(name) => {
                    Err(StreamError::invalid(name, "needs `stream-forked-from` beside it"))
                }
                None => Ok(None),
            };
        };
        let from = from.strip_prefix(ROOT).filter(|path| !path.is_empty()).ok_or_else(|| {
            let message = format!("must be the path of a stream here, as in `{ROOT}chats/1`");
            StreamError::invalid("stream-forked-from", message)
        })?;
        let offset = offset
            .map(str::parse::<Offset>)
            .transpose()
            .map_err(|error| StreamError::invalid("stream-fork-offset", error.to_string()))?;
        let beyond = beyond.map_or(Ok(0), |text| number(&FORK_SUB_OFFSET, text))?;
        if beyond > 0 && offset.is_none() {
            let message = "needs `stream-fork-offset` beside it: there is nothing after the end";
            return Err(StreamError::invalid("stream-fork-sub-offset", message));
        }
        Ok(Some(Self { from: from.to_owned(), offset, beyond }))
    }

    /// Whether it asks for the fork that was made for another request.
    pub(super) fn is_for(&self, made: &Self) -> bool {
        let offset = self.offset.is_none() || self.offset == made.offset;
        self.from == made.from && offset && self.beyond == made.beyond
    }

    /// The origin of the fork, and the part of an append that it shares.
    pub(super) fn resolve(
        self,
        source: Arc<Stream>,
    ) -> Result<(Origin, Option<Bytes>), StreamError> {
        if depth(&source) >= MAX_DEPTH {
            let message =
                format!("is a fork of forks already, {MAX_DEPTH} deep; fork one of its sources");
            return Err(StreamError::invalid("stream-forked-from", message));
        }
        let wrong = || {
            let message = "must be an offset of the source, and not after its end";
            StreamError::invalid("stream-fork-offset", message)
        };
        let at = match self.offset {
            Some(Offset::Start) => 0,
            Some(Offset::Now) | None => source.tail(),
            Some(Offset::After(position)) => source.seq(position).map_err(|_| wrong())?,
        };
        let part = if self.beyond == 0 { None } else { Some(part(&source, at, self.beyond)?) };
        Ok((Origin { source, at, request: self }, part))
    }
}

/// The first bytes, or messages, of the append after a place.
fn part(source: &Stream, at: u64, count: u64) -> Result<Bytes, StreamError> {
    let Page { appends, .. } = source.page(at, 1);
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let part = appends.first().and_then(|append| match source.content_type.mode() {
        Mode::Json => json_mode::first(append, count),
        Mode::Text | Mode::Binary => (count <= append.len()).then(|| append.slice(..count)),
    });
    part.ok_or_else(|| {
        let message = "is beyond the append that follows `stream-fork-offset`";
        StreamError::invalid("stream-fork-sub-offset", message)
    })
}

/// The number of sources behind a stream.
fn depth(stream: &Stream) -> usize {
    let first = stream.origin.as_ref();
    std::iter::successors(first, |origin| origin.source.origin.as_ref()).count()
}
