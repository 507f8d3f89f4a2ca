//! How much: a caller to an [`Admission`], the guard that gives back what it took when dropped.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::Clock;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Limits;
use crate::error::Error;
use crate::wire::chat::{Fault, Kind};

/// The gates of all callers. They outlive a reload, so that it gives nobody a second burst.
#[derive(Debug, Default)]
pub struct Gates(Mutex<HashMap<String, Arc<Gate>>>);

impl Gates {
    /// The gate of a caller: the one it has, unless its limits have changed.
    pub fn of(&self, caller: &str, limits: Limits) -> Arc<Gate> {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get(caller).filter(|gate| gate.limits == limits) {
            return Arc::clone(gate);
        }
        let gate = Arc::new(Gate::new(limits));
        gates.insert(caller.to_owned(), Arc::clone(&gate));
        gate
    }
}

/// What one caller may use of us, and how much of it is used.
#[derive(Debug)]
pub struct Gate {
    limits: Limits,
    requests: Option<DefaultDirectRateLimiter>,
    streams: Option<Arc<Semaphore>>,
}

/// The right to have one request under way. The concurrency permit returns when it is dropped.
#[derive(Debug)]
pub struct Admission {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Gate {
    /// A gate on which nothing has been used yet.
    pub fn new(limits: Limits) -> Self {
        let requests = limits.requests_per_minute.map(|per_minute| {
            let burst: NonZeroU32 = limits.burst.unwrap_or(per_minute);
            RateLimiter::direct(Quota::per_minute(per_minute).allow_burst(burst))
        });
        let streams = limits.concurrent_streams.map(|n| Arc::new(Semaphore::new(n)));
        Self { limits, requests, streams }
    }

    /// Lets one request in, or says when to come back. A refused request uses nothing up.
    pub fn admit(&self) -> Result<Admission, Error> {
        let permit = match &self.streams {
            None => None,
            Some(streams) => Some(Arc::clone(streams).try_acquire_owned().map_err(|_| {
                let limit = self.limits.concurrent_streams.unwrap_or_default();
                let message = format!(
                    "all {limit} concurrent streams of this key are in use; wait for one to end"
                );
                refused(message, Duration::from_secs(1))
            })?),
        };
        if let Some(requests) = &self.requests {
            requests.check().map_err(|not_until| {
                let wait = not_until.wait_time_from(governor::clock::DefaultClock::default().now());
                let limit = self.limits.requests_per_minute.map_or(0, NonZeroU32::get);
                refused(
                    format!("this key may send {limit} requests per minute and has used them up"),
                    wait,
                )
            })?;
        }
        Ok(Admission { _permit: permit })
    }
}

fn refused(message: String, wait: Duration) -> Error {
    let fault = Fault {
        kind: Kind::RateLimited,
        message,
        code: Some("rate_limit_exceeded".to_owned()),
        param: None,
    };
    Error::caller(fault).retry_after(wait)
}
