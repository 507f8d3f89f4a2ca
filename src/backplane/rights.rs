//! Rights that nodes share: tickets, of which only digests are kept, and the shares of streams.

use std::time::Duration;

use super::owner::millis;
use super::{Backplane, BackplaneError};

impl Backplane {
    /// Keeps the record of a ticket. `digest`: the SHA-256 of its text.
    pub async fn put_ticket(
        &self,
        digest: [u8; 32],
        record: &str,
        time: Duration,
    ) -> Result<(), BackplaneError> {
        let key = self.keys.ticket(digest);
        self.command(redis::cmd("SET").arg(key).arg(record).arg("PX").arg(millis(time))).await
    }

    /// The record of a ticket that another node has made.
    pub async fn ticket(&self, digest: [u8; 32]) -> Result<Option<String>, BackplaneError> {
        let get = redis::cmd("GET").arg(self.keys.ticket(digest)).take();
        self.answered(self.connection.query(&get).await)
    }

    /// Adds a share of a stream, for so many viewers on each node. `time`: that for which it is kept at least.
    pub async fn put_share(
        &self,
        stream: &str,
        share: &str,
        viewers: usize,
        time: Duration,
    ) -> Result<(), BackplaneError> {
        let key = self.keys.shares(stream);
        self.command(redis::cmd("HSET").arg(&key).arg(share).arg(viewers)).await?;
        // The first sets it where there is none, the second only prolongs it for other shares.
        for condition in ["NX", "GT"] {
            let expiry = redis::cmd("PEXPIRE").arg(&key).arg(millis(time)).arg(condition).take();
            self.command(&expiry).await?;
        }
        Ok(())
    }

    /// Revokes a share on all nodes. Returns whether there was one.
    pub async fn revoke_share(&self, stream: &str, share: &str) -> Result<bool, BackplaneError> {
        let delete = redis::cmd("HDEL").arg(self.keys.shares(stream)).arg(share).take();
        let deleted = self.answered(self.connection.query::<bool>(&delete).await)?;
        let message = format!("R{stream} {share}");
        self.command(redis::cmd("PUBLISH").arg(self.keys.nodes()).arg(message)).await?;
        Ok(deleted)
    }

    /// The shares of a stream, each with the viewers that it is for.
    pub async fn shares(&self, stream: &str) -> Result<Vec<(String, usize)>, BackplaneError> {
        let all = redis::cmd("HGETALL").arg(self.keys.shares(stream)).take();
        self.answered(self.connection.query(&all).await)
    }
}
