//! Look-up of durable streams: in memory, then in the archive on disk, then among those that other nodes share. It must
//! never return a stream to anybody but its owner.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::clock::unix_seconds;
use super::state::Gateway;
use crate::backplane::{Backplane, BackplaneError};
use crate::error::Error;
use crate::streams::event::State;
use crate::streams::generation::Generation;
use crate::streams::head::StreamHead;
use crate::streams::position::Position;
use crate::streams::registry::Claim;
use crate::wire::chat::{ApiError, Kind};
use crate::wire::dialect::StateApi;

/// The time after which a request that needs another node's stream is worth repeating.
const RETRY_AFTER: Duration = Duration::from_secs(2);

impl Gateway {
    /// The stream of an id, for its owner.
    pub async fn stream(
        &self,
        owner: &Arc<str>,
        id: &str,
    ) -> Result<Option<Arc<Generation>>, Error> {
        match (self.archived.get(owner, id).await?, &self.backplane) {
            (None, Some(backplane)) if is_id(id) => {
                backplane.find(owner, id).await.map_err(unreachable)
            }
            (local, _) => read(local).await,
        }
    }

    /// The stream of an id, for anybody who holds a capability for it.
    pub async fn shared_stream(&self, id: &str) -> Result<Option<Arc<Generation>>, Error> {
        match (self.streams.any(id), &self.backplane) {
            (None, Some(backplane)) if is_id(id) => {
                backplane.find_any(id).await.map_err(unreachable)
            }
            (local, _) => read(local).await,
        }
    }

    /// The stream of a position in its native track, for its owner.
    pub async fn stream_at(
        &self,
        owner: &Arc<str>,
        position: Position,
    ) -> Result<Option<Arc<Generation>>, Error> {
        match (self.archived.at(owner, position).await?, &self.backplane) {
            (None, Some(backplane)) => backplane.at(owner, position).await.map_err(unreachable),
            (local, _) => read(local).await,
        }
    }

    /// The running stream of a chat, for its owner.
    pub async fn stream_of_chat(
        &self,
        owner: &Arc<str>,
        chat: &str,
    ) -> Result<Option<Arc<Generation>>, Error> {
        let running = |stream: &Arc<Generation>| stream.state() == State::Streaming;
        let local = self.streams.of_chat(owner, chat).filter(running);
        match (local, &self.backplane) {
            (None, Some(backplane)) => {
                let found = backplane.of_chat(owner, chat).await.map_err(unreachable)?;
                Ok(found.filter(running))
            }
            (local, _) => read(local).await,
        }
    }

    /// The stream of a response of a dialect that keeps state, for its owner.
    pub async fn stream_of_response(
        &self,
        owner: &Arc<str>,
        api: &dyn StateApi,
        response: &str,
    ) -> Result<Option<Arc<Generation>>, Error> {
        let mut local = self.streams.of(owner).into_iter();
        let local = local.find(|stream| api.id(&stream.origin.context) == response);
        let local = match local {
            Some(present) => Some(present),
            None => self.archived.of_response(owner, response).await?,
        };
        match (local, &self.backplane) {
            (None, Some(backplane)) => {
                backplane.of_response(owner, response).await.map_err(unreachable)
            }
            (local, _) => read(local).await,
        }
    }

    /// The claim of an idempotency key that is not in memory. A failure is as if there were none: it must not refuse new
    /// requests.
    pub(super) async fn claim_elsewhere(&self, owner: &Arc<str>, key: &str) -> Option<Claim> {
        if let Some(archived) = self.archived.of_key(owner, key).await {
            let (_, digest) = archived.origin.key.clone()?;
            return Some(Claim { digest, generation: Arc::downgrade(&archived) });
        }
        self.reachable_backplane()?.claimed(owner, key).await.ok()?
    }

    /// All streams of an owner, the oldest first. Without Redis, those that this node has. `keep`: the time for which
    /// they are kept after their end. `most`: of the archived ones.
    pub async fn stream_heads(
        &self,
        owner: &Arc<str>,
        keep: Duration,
        most: usize,
    ) -> Result<Vec<StreamHead>, Error> {
        let mut all = self.archived.list(owner, most).await?;
        let elsewhere = match self.reachable_backplane() {
            Some(backplane) => backplane.heads(owner).await.unwrap_or_default(),
            None => Vec::new(),
        };
        let (now, unix) = (Instant::now(), unix_seconds());
        for stream in self.streams.of(owner) {
            // A copy that nobody follows may be behind.
            if !elsewhere.iter().any(|head| head.id == stream.id) {
                all.push(StreamHead::of(&stream, keep, now, unix));
            }
        }
        all.extend(elsewhere);
        all.sort_by_key(|head| head.created);
        Ok(all)
    }

    /// Forgets a stream of an owner, here and elsewhere.
    pub async fn forget_stream(&self, owner: &Arc<str>, id: &str) -> Result<(), Error> {
        self.archived.remove(owner, id).await?;
        match &self.backplane {
            Some(backplane) => backplane.delete(id).await.map_err(unreachable),
            None => Ok(()),
        }
    }

    /// The backplane, while Redis answers.
    pub fn reachable_backplane(&self) -> Option<&Arc<Backplane>> {
        self.backplane.as_ref().filter(|backplane| backplane.is_reachable())
    }
}

/// A stream with all that there is of it: a copy of another node's may just be read by another request.
async fn read(local: Option<Arc<Generation>>) -> Result<Option<Arc<Generation>>, Error> {
    if let Some(copy) = local.as_ref().filter(|stream| stream.is_copy) {
        copy.head().await?;
    }
    Ok(local)
}

/// Whether a text may be the id of a stream: nothing else becomes a part of a key.
fn is_id(text: &str) -> bool {
    text.len() == 24 && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The error of a request that needs Redis. Not 404, which would end the client's attempts for good.
pub(super) fn unreachable(error: BackplaneError) -> Error {
    Error::caller(ApiError::new(Kind::Overloaded, error.to_string())).retry_after(RETRY_AFTER)
}
