//! Rights to streams and channels that hold on every node: tickets and shares. Without Redis a ticket is good on the node
//! that made it, and a share is not granted.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::auth::Caller;
use super::auth::tickets::Ticket;
use super::clock::unix_seconds;
use super::state::Gateway;
use super::stream_lookup::unreachable;
use crate::channels::{ChannelRights, Selector};
use crate::config;
use crate::error::Error;
use crate::streams::generation::Generation;

/// A ticket as nodes share it. What it is for was checked when it was made.
#[derive(Serialize, Deserialize)]
struct TicketRecord {
    caller: String,
    streams: Vec<String>,
    channels: Vec<String>,
    /// Unix seconds.
    expires: u64,
}

impl Gateway {
    /// Makes a ticket for some time. `None`: the caller has too many.
    pub async fn issue_ticket(
        &self,
        caller: &Arc<Caller>,
        (streams, channels): (Vec<String>, Vec<String>),
        time: Duration,
    ) -> Option<String> {
        let record = TicketRecord {
            caller: caller.name.to_string(),
            streams: streams.clone(),
            // Of those that it names, the ticket opens what its caller may subscribe to.
            channels: channels.iter().filter(|name| may_subscribe(caller, name)).cloned().collect(),
            expires: unix_seconds() + time.as_secs(),
        };
        let text = self.tickets.issue(caller, (streams, channels), time)?;
        if let (Some(backplane), Ok(record)) =
            (self.reachable_backplane(), serde_json::to_string(&record))
        {
            // Without Redis it is good on this node.
            let _unreachable = backplane.put_ticket(config::digest(&text), &record, time).await;
        }
        Some(text)
    }

    /// The rights of a ticket, if it has not ended.
    pub async fn redeem_ticket(&self, text: &str) -> Option<Ticket> {
        if let Some(ticket) = self.tickets.redeem(text) {
            return Some(ticket);
        }
        let found = self.reachable_backplane()?.ticket(config::digest(text)).await.ok()??;
        let record: TicketRecord = serde_json::from_str(&found).ok()?;
        let left = record.expires.checked_sub(unix_seconds())?;
        let subscribe = record.channels.iter().filter_map(|name| name.parse().ok()).collect();
        let rights = ChannelRights { subscribe, publish: Vec::new() };
        Some(Ticket {
            caller: self.bearer(&record.caller, rights),
            streams: record.streams,
            channels: record.channels,
            expires: Instant::now() + Duration::from_secs(left),
        })
    }

    /// Adds a share of a stream for so many viewers and some time. Returns its id; `None`: there are too many. An error:
    /// other nodes would not know of it.
    pub async fn add_share(
        &self,
        stream: &Generation,
        viewers: usize,
        time: Duration,
    ) -> Result<Option<String>, Error> {
        let Some(share) = stream.shares.add(viewers) else { return Ok(None) };
        let Some(backplane) = &self.backplane else { return Ok(Some(share)) };
        match backplane.put_share(&stream.id, &share, viewers, time).await {
            Ok(()) => Ok(Some(share)),
            Err(error) => {
                stream.shares.revoke(&share);
                Err(unreachable(error))
            }
        }
    }

    /// Revokes a share. Returns whether there was one. An error: other nodes do not know of it.
    pub async fn revoke_share(&self, stream: &Generation, share: &str) -> Result<bool, Error> {
        let here = stream.shares.revoke(share);
        let Some(backplane) = &self.backplane else { return Ok(here) };
        Ok(backplane.revoke_share(&stream.id, share).await.map_err(unreachable)? || here)
    }

    /// Takes over what other nodes have granted and revoked.
    pub async fn refresh_shares(&self, stream: &Generation) {
        let Some(backplane) = self.reachable_backplane() else { return };
        if let Ok(shares) = backplane.shares(&stream.id).await {
            stream.shares.set(shares);
        }
    }
}

fn may_subscribe(caller: &Caller, name: &str) -> bool {
    name.parse().is_ok_and(|selector: Selector| caller.channels.may_subscribe(&selector))
}
