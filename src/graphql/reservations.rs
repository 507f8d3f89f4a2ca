//! Reservations of connections (single connection mode): the operations of one client, whose results go over one event
//! stream. A reservation must have one connection at most, and none may be kept for a client that does not connect.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::distr::{Alphanumeric, SampleString};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::execution::Operation;
use crate::config;
use crate::error::Error;
use crate::gateway::auth::Caller;
use crate::wire::chat::{ApiError, Kind};

/// The characters of a token: 238 random bits.
const TOKEN: usize = 40;

/// The most reservations of one caller, connected or not.
const MOST: usize = 100;

/// The most operations of one reservation at once.
const MAX_OPERATIONS: usize = 100;

/// The time for which a reservation waits for its connection.
const PATIENCE: Duration = Duration::from_secs(30);

/// The reservations of all callers, by the digests of their tokens.
#[derive(Default)]
pub(super) struct Reservations {
    all: Arc<Mutex<HashMap<[u8; 32], Arc<Reservation>>>>,
    added: Notify,
}

/// A reserved connection.
pub(super) struct Reservation {
    digest: [u8; 32],
    caller: Arc<Caller>,
    /// The end of its patience.
    until: Instant,
    state: Mutex<State>,
    /// An operation has been added.
    pub(super) added: Notify,
}

#[derive(Default)]
struct State {
    connected: bool,
    /// Operations under way, by their clients' ids.
    running: HashMap<String, CancellationToken>,
    /// Those that the connection has not taken.
    waiting: Vec<AcceptedOperation>,
}

/// An operation that has been accepted.
pub(super) struct AcceptedOperation {
    /// The client's id of it.
    pub(super) id: String,
    /// Its results.
    pub(super) operation: Operation,
    /// The client has stopped it.
    pub(super) stopped: CancellationToken,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn limited(message: &str) -> Error {
    Error::caller(ApiError::new(Kind::RateLimited, message)).retry_after(Duration::from_secs(5))
}

fn conflict(message: String) -> Error {
    Error::caller(ApiError::new(Kind::Conflict, message))
}

impl Reservations {
    /// Reserves a connection for a caller, and returns its token.
    pub(super) fn reserve(&self, caller: &Arc<Caller>) -> Result<String, Error> {
        let mut all = lock(&self.all);
        if all.values().filter(|it| it.caller.name == caller.name).count() >= MOST {
            let message = format!("you have {MOST} reserved connections, and may have no more");
            return Err(limited(&message));
        }
        let token = Alphanumeric.sample_string(&mut rand::rng(), TOKEN);
        let digest = config::digest(&token);
        let reservation = Reservation {
            digest,
            caller: Arc::clone(caller),
            until: Instant::now() + PATIENCE,
            state: Mutex::default(),
            added: Notify::new(),
        };
        all.insert(digest, Arc::new(reservation));
        drop(all);
        self.added.notify_one();
        Ok(token)
    }

    /// The reservation of a token. By digest, so that the time of the look-up reveals nothing of it.
    pub(super) fn find(&self, token: &str) -> Option<Arc<Reservation>> {
        let found = lock(&self.all).get(&config::digest(token)).cloned()?;
        (found.is_connected() || Instant::now() < found.until).then_some(found)
    }

    /// Connects to a reservation.
    pub(super) fn connect(
        &self,
        reservation: &Arc<Reservation>,
    ) -> Result<ReservedConnection, Error> {
        let mut state = lock(&reservation.state);
        if state.connected {
            let message = "the reservation has a connection; close that, or reserve another one";
            return Err(conflict(message.to_owned()));
        }
        state.connected = true;
        let all = Arc::clone(&self.all);
        Ok(ReservedConnection { reservation: Arc::clone(reservation), all })
    }

    /// Drops reservations that nobody has connected to in time, for as long as it is polled.
    pub(super) async fn keep(&self) -> Infallible {
        loop {
            let waits = |it: &&Arc<Reservation>| !it.is_connected();
            let due = lock(&self.all).values().filter(waits).map(|it| it.until).min();
            match due {
                // A later one is due after this one.
                Some(due) => sleep_until(due).await,
                None => self.added.notified().await,
            }
            let now = Instant::now();
            lock(&self.all).retain(|_, it| it.is_connected() || now < it.until);
        }
    }
}

impl Reservation {
    /// The caller that has made it.
    pub(super) fn caller(&self) -> &Arc<Caller> {
        &self.caller
    }

    fn is_connected(&self) -> bool {
        lock(&self.state).connected
    }

    /// Adds an operation.
    pub(super) fn add(&self, id: String, operation: Operation) -> Result<(), Error> {
        let mut state = lock(&self.state);
        if state.running.contains_key(&id) {
            let message = "an operation with this `operationId` is under way; choose another id";
            return Err(conflict(message.to_owned()));
        }
        if state.running.len() >= MAX_OPERATIONS {
            let message =
                format!("the connection has {MAX_OPERATIONS} operations, and may have no more");
            return Err(limited(&message));
        }
        let stopped = CancellationToken::new();
        state.running.insert(id.clone(), stopped.clone());
        state.waiting.push(AcceptedOperation { id, operation, stopped });
        drop(state);
        self.added.notify_one();
        Ok(())
    }

    /// Stops an operation, if it is under way.
    pub(super) fn stop(&self, id: &str) {
        let mut state = lock(&self.state);
        state.waiting.retain(|operation| operation.id != id);
        if let Some(stopped) = state.running.remove(id) {
            stopped.cancel();
        }
    }
}

/// The connection of a reservation, which ends with it.
pub(super) struct ReservedConnection {
    reservation: Arc<Reservation>,
    all: Arc<Mutex<HashMap<[u8; 32], Arc<Reservation>>>>,
}

impl ReservedConnection {
    /// The reservation.
    pub(super) fn reservation(&self) -> &Arc<Reservation> {
        &self.reservation
    }

    /// The operations that have been added since the last call.
    pub(super) fn take(&self) -> Vec<AcceptedOperation> {
        std::mem::take(&mut lock(&self.reservation.state).waiting)
    }

    /// An operation has ended by itself: its id is free.
    pub(super) fn ended(&self, id: &str) {
        lock(&self.reservation.state).running.remove(id);
    }
}

impl Drop for ReservedConnection {
    fn drop(&mut self) {
        lock(&self.all).remove(&self.reservation.digest);
    }
}
