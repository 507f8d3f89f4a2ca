//! Tickets: short-lived credentials for URLs, since a browser's `EventSource` sends no headers. A ticket is for the
//! streams and channels that it names, and can be used again until it ends, because a reconnect repeats the URL. Only
//! digests of tickets are kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::distr::{Alphanumeric, SampleString};
use tokio::time::Instant;

use super::Caller;
use crate::config;
use crate::error::Error;
use crate::wire::chat::{ApiError, Kind};

/// The characters of a ticket: 238 random bits.
const LENGTH: usize = 40;

/// The most tickets of one caller at once.
const MOST: usize = 1_000;

/// The rights of a ticket.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// The caller that it was made for.
    pub caller: Arc<Caller>,
    /// The ids of streams.
    pub streams: Vec<String>,
    /// The names of channels.
    pub channels: Vec<String>,
    /// The time at which it ends.
    pub expires: Instant,
}

/// The error for a ticket that is unknown or has ended.
pub fn bad_ticket() -> Error {
    let message = "the ticket is unknown or has ended; make another with POST /v1/tickets";
    Error::caller(ApiError::new(Kind::Authentication, message))
}

/// All tickets of the process.
#[derive(Debug, Default)]
pub struct Tickets(Mutex<HashMap<[u8; 32], Ticket>>);

impl Tickets {
    /// Makes a ticket for some time. `None`: the caller has too many.
    pub fn issue(
        &self,
        caller: &Arc<Caller>,
        (streams, channels): (Vec<String>, Vec<String>),
        time: Duration,
    ) -> Option<String> {
        let now = Instant::now();
        let mut tickets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tickets.retain(|_, ticket| now < ticket.expires);
        if tickets.values().filter(|ticket| ticket.caller.name == caller.name).count() >= MOST {
            return None;
        }
        let text = Alphanumeric.sample_string(&mut rand::rng(), LENGTH);
        let ticket = Ticket { caller: Arc::clone(caller), streams, channels, expires: now + time };
        tickets.insert(config::digest(&text), ticket);
        Some(text)
    }

    /// The rights of a ticket, if it has not ended. By digest, so that the time of the look-up reveals nothing of it.
    pub fn redeem(&self, text: &str) -> Option<Ticket> {
        let tickets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = tickets.get(&config::digest(text))?;
        (Instant::now() < ticket.expires).then(|| ticket.clone())
    }
}
