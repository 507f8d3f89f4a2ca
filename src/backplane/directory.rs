//! Directory of shared streams: which there are, by id, owner, position, chat and idempotency key. It must never return a
//! stream to anybody but its owner.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{try_join, try_join_all};
use rand::distr::{Alphanumeric, SampleString};
use redis::Cmd;
use tokio::time::sleep;

use super::owner::millis;
use super::replica::{Found, Replica};
use super::{Backplane, BackplaneError};
use crate::error::Error;
use crate::streams::generation::Generation;
use crate::streams::head::{RecordedExtent, StreamHead};
use crate::streams::position::Position;
use crate::streams::record::GenerationMeta;
use crate::streams::registry::{Claim, Streams};

/// The bytes of the key by which capabilities are signed.
const SECRET: usize = 43;

/// The most streams of one owner that are listed.
const MAX_LISTED: usize = 1_000;

/// A copy that is being read. Dropped before it has all that there is, also with its request, it is forgotten.
struct Adoption<'a> {
    streams: &'a Streams,
    generation: &'a Generation,
}

impl Drop for Adoption<'_> {
    fn drop(&mut self) {
        if !self.generation.is_opened() {
            self.streams.remove(&self.generation.id);
            self.generation.opened(Err(Error::unavailable(&BackplaneError.to_string())));
        }
    }
}

impl Backplane {
    /// Enters a generation under its owner, epoch, chat and response, or keeps these entries for longer.
    pub(super) async fn index(
        &self,
        generation: &Generation,
        keep: Duration,
    ) -> Result<(), BackplaneError> {
        let (id, origin) = (&generation.id, &generation.origin);
        let (owner, keep) = (&origin.owner, millis(keep.max(self.retention())));
        let names = [
            Some(self.keys.epoch(generation.native.epoch)),
            origin.chat.as_ref().map(|chat| self.keys.chat(owner, chat)),
            origin.dialect.state().map(|api| self.keys.response(owner, &api.id(&origin.context))),
        ];
        let name = |key| redis::cmd("SET").arg(key).arg(id).arg("PX").arg(keep).take();
        let (list, begun) = (self.keys.owner(owner), origin.context.created);
        let oldest = format!("-{}", MAX_LISTED + 1);
        let claim = origin.key.as_ref().map(|(key, _)| self.keys.claim(owner, key));
        let claim = claim.map(|key| redis::cmd("PEXPIRE").arg(key).arg(keep).take());
        let listed = [
            redis::cmd("ZADD").arg(&list).arg(begun).arg(id).take(),
            redis::cmd("ZREMRANGEBYRANK").arg(&list).arg(0).arg(oldest).take(),
            redis::cmd("PEXPIRE").arg(&list).arg(keep).take(),
        ];
        // All at once: a cluster has them in several places.
        let commands: Vec<_> =
            names.into_iter().flatten().map(name).chain(listed).chain(claim).collect();
        try_join_all(commands.iter().map(|command| self.command(command))).await.map(drop)
    }

    /// The generation of an id, for its owner.
    pub async fn find(
        &self,
        owner: &str,
        id: &str,
    ) -> Result<Option<Arc<Generation>>, BackplaneError> {
        let found = self.find_any(id).await?;
        Ok(found.filter(|generation| *generation.origin.owner == *owner))
    }

    /// The generation of an id, for the holder of a capability.
    pub async fn find_any(&self, id: &str) -> Result<Option<Arc<Generation>>, BackplaneError> {
        let Some(found) = self.read(id, 0, None).await? else { return Ok(None) };
        let restored = found.meta.get("meta").map(|meta| GenerationMeta::decode(meta));
        let meta = match restored {
            Some(Ok(meta)) => meta,
            Some(Err(error)) => {
                tracing::warn!(stream = id, %error, "a stream in Redis cannot be read");
                return Ok(None);
            }
            None => return Ok(None),
        };
        let (generation, is_new) = match self.streams.adopt(&meta, &self.clock) {
            Ok(adopted) => adopted,
            Err(error) => {
                tracing::warn!(stream = id, %error, "a stream in Redis cannot be read");
                return Ok(None);
            }
        };
        if !is_new {
            // Another request may be reading it.
            if generation.is_copy {
                generation.head().await.map_err(|_| BackplaneError)?;
            }
            return Ok(Some(generation));
        }
        let replica = Arc::new(Replica::new(Arc::clone(&generation)));
        let adoption = Adoption { streams: &self.streams, generation: &generation };
        let more = replica.take(&found);
        if (more || generation.extent().end.is_none()) && self.catch_up(&replica).await?.is_none() {
            return Ok(None);
        }
        generation.opened(Ok(meta.headers()));
        drop(adoption);
        if generation.extent().end.is_none() {
            // An error: the process is stopping.
            let _stopped = self.replicas.send(replica).await;
        }
        Ok(Some(generation))
    }

    /// The generation of a position in its native track, for its owner.
    pub async fn at(
        &self,
        owner: &str,
        position: Position,
    ) -> Result<Option<Arc<Generation>>, BackplaneError> {
        let epoch = self.keys.epoch(position.epoch);
        self.named(owner, redis::cmd("GET").arg(epoch)).await
    }

    /// The last generation of a chat, for its owner.
    pub async fn of_chat(
        &self,
        owner: &str,
        chat: &str,
    ) -> Result<Option<Arc<Generation>>, BackplaneError> {
        self.named(owner, redis::cmd("GET").arg(self.keys.chat(owner, chat))).await
    }

    /// The generation of a response of a dialect that keeps state, for its owner.
    pub async fn of_response(
        &self,
        owner: &str,
        response: &str,
    ) -> Result<Option<Arc<Generation>>, BackplaneError> {
        self.named(owner, redis::cmd("GET").arg(self.keys.response(owner, response))).await
    }

    async fn named(
        &self,
        owner: &str,
        command: &Cmd,
    ) -> Result<Option<Arc<Generation>>, BackplaneError> {
        let id = self.answered(self.connection.query::<Option<String>>(command).await)?;
        match id {
            Some(id) => self.find(owner, &id).await,
            None => Ok(None),
        }
    }

    /// The generations of an owner that other nodes produce or have produced.
    pub async fn heads(&self, owner: &str) -> Result<Vec<StreamHead>, BackplaneError> {
        let list = redis::cmd("ZRANGE").arg(self.keys.owner(owner)).arg(0).arg(-1).take();
        let mut ids = self.answered(self.connection.query::<Vec<String>>(&list).await)?;
        ids.retain(|id| self.streams.get(owner, id).is_none_or(|known| known.is_copy));
        let heads = try_join_all(ids.iter().map(|id| self.head(owner, id))).await?;
        Ok(heads.into_iter().flatten().collect())
    }

    /// The head of a generation in Redis; without it, its entry under its owner goes.
    async fn head(&self, owner: &str, id: &str) -> Result<Option<StreamHead>, BackplaneError> {
        let meta = self.keys.meta(id);
        let (fields, expires) =
            (redis::cmd("HGETALL").arg(&meta).take(), redis::cmd("EXPIRETIME").arg(&meta).take());
        let answers = try_join(
            self.connection.query::<HashMap<String, Bytes>>(&fields),
            self.connection.query::<i64>(&expires),
        );
        let (meta, expires) = self.answered(answers.await)?;
        let found = Found { meta, entries: Vec::new() };
        let Some(Ok(meta)) = found.meta.get("meta").map(|meta| GenerationMeta::decode(meta)) else {
            self.command(redis::cmd("ZREM").arg(self.keys.owner(owner)).arg(id)).await?;
            return Ok(None);
        };
        let extent = RecordedExtent {
            earliest: found.number("earliest"),
            tail: found.number("tail"),
            bytes: usize::try_from(found.number("bytes")).unwrap_or(usize::MAX),
        };
        let expires = u64::try_from(expires).unwrap_or_default();
        let head = StreamHead::recorded(meta, found.end(), extent, expires);
        let viewers = self.streams.get(owner, id).map_or(0, |copy| copy.viewers());
        Ok(Some(StreamHead { viewers, ..head }))
    }

    /// The generation that a request with this idempotency key has begun on another node, and the SHA-256 of that
    /// request.
    pub async fn claimed(&self, owner: &str, key: &str) -> Result<Option<Claim>, BackplaneError> {
        let command = redis::cmd("GET").arg(self.keys.claim(owner, key)).take();
        let claim = self.answered(self.connection.query::<Option<Vec<u8>>>(&command).await)?;
        let Some((digest, id)) = claim.as_deref().and_then(|claim| claim.split_first_chunk())
        else {
            return Ok(None);
        };
        let id = String::from_utf8_lossy(id);
        let found = self.find(owner, &id).await?;
        let claim = |generation| Claim { digest: *digest, generation: Arc::downgrade(&generation) };
        Ok(found.map(claim))
    }

    /// Claims an idempotency key for a generation that other nodes know already. Returns the claim of another request, if
    /// there is one.
    pub async fn claim(
        &self,
        (key, digest): (&str, [u8; 32]),
        generation: &Generation,
        keep: Duration,
    ) -> Result<Option<Claim>, BackplaneError> {
        let owner = &*generation.origin.owner;
        let value = [&digest[..], generation.id.as_bytes()].concat();
        let (name, keep) = (self.keys.claim(owner, key), millis(keep.max(self.retention())));
        let set = |only_new: bool| {
            let mut set = redis::cmd("SET").arg(&name).arg(&value).arg("PX").arg(keep).take();
            if only_new { set.arg("NX").take() } else { set }
        };
        if self.answered(self.connection.query::<Option<String>>(&set(true)).await)?.is_some() {
            return Ok(None);
        }
        let claim = self.claimed(owner, key).await?;
        if claim.is_none() {
            // Its generation is no longer there.
            self.command(&set(false)).await?;
        }
        Ok(claim)
    }

    /// Asks the node that produces a stream to cancel it.
    pub(super) async fn cancel(&self, id: &str) {
        let mut invocation = self.scripts.cancel.prepare_invoke();
        invocation.key(self.keys.meta(id));
        let answer = self.connection.run::<Option<String>>(&invocation).await;
        if let Ok(Some(node)) = self.answered(answer) {
            let publish =
                redis::cmd("PUBLISH").arg(self.keys.node(&node)).arg(format!("C{id}")).take();
            // If it is missed, the owner finds the request when it renews its lease.
            let _missed = self.command(&publish).await;
        }
    }

    /// Forgets a stream.
    pub async fn delete(&self, id: &str) -> Result<(), BackplaneError> {
        let mut invocation = self.scripts.delete.prepare_invoke();
        invocation.key(self.keys.meta(id)).key(self.keys.log(id)).arg(millis(self.retention()));
        self.answered(self.connection.run::<redis::Value>(&invocation).await)?;
        let publish = redis::cmd("PUBLISH").arg(self.keys.nodes()).arg(format!("D{id}")).take();
        self.command(&publish).await
    }

    /// Shares the key by which capabilities are signed with all nodes. Resolves never.
    pub(super) async fn share_secret(&self) -> Infallible {
        let own = Alphanumeric.sample_string(&mut rand::rng(), SECRET);
        let set = redis::cmd("SET").arg(self.keys.secret()).arg(own).arg("NX").take();
        let get = redis::cmd("GET").arg(self.keys.secret()).take();
        loop {
            if self.command(&set).await.is_ok()
                && let Ok(secret) = self.answered(self.connection.query::<String>(&get).await)
            {
                self.streams.sign_with(crate::config::digest(&secret));
                return std::future::pending().await;
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// The time for which a stream is kept in Redis at least.
    pub(super) fn retention(&self) -> Duration {
        self.lease * 30
    }

    pub(super) async fn command(&self, command: &Cmd) -> Result<(), BackplaneError> {
        self.answered(self.connection.query::<redis::Value>(command).await).map(drop)
    }
}
