//! Shares of a stream: who may follow it besides its owner, bounded in viewers, until they are revoked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rand::distr::{Alphanumeric, SampleString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// The characters of a share's id.
const ID: usize = 16;

/// The most shares of one stream.
const MOST: usize = 100;

/// All shares of one stream.
#[derive(Debug, Default)]
pub struct Shares(Mutex<HashMap<String, Share>>);

#[derive(Debug)]
struct Share {
    viewers: Arc<Semaphore>,
    revoked: CancellationToken,
}

/// A place among the viewers of a share. Dropping it gives the place back.
#[derive(Debug)]
pub struct Seat {
    _permit: OwnedSemaphorePermit,
    /// Cancelled when the share is revoked.
    pub revoked: CancellationToken,
}

/// A viewer that a share has no place for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeatError {
    /// It was revoked.
    Revoked,
    /// It has as many viewers as it may.
    Full,
}

impl Shares {
    /// Adds a share for so many viewers at once. Returns its id; `None`: there are too many.
    pub fn add(&self, viewers: usize) -> Option<String> {
        let mut shares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if shares.len() >= MOST {
            return None;
        }
        let id = Alphanumeric.sample_string(&mut rand::rng(), ID);
        let viewers = Arc::new(Semaphore::new(viewers));
        shares.insert(id.clone(), Share { viewers, revoked: CancellationToken::new() });
        Some(id)
    }

    /// Has exactly these shares, each with the viewers that it is for. Those that are there already keep their viewers; the
    /// viewers of others are closed.
    pub fn set(&self, all: Vec<(String, usize)>) {
        let mut shares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, gone) in shares.extract_if(|id, _| all.iter().all(|(other, _)| other != id)) {
            gone.revoked.cancel();
        }
        for (id, viewers) in all {
            shares.entry(id).or_insert_with(|| Share {
                viewers: Arc::new(Semaphore::new(viewers)),
                revoked: CancellationToken::new(),
            });
        }
    }

    /// Revokes a share, which closes its viewers. Returns whether there was one.
    pub fn revoke(&self, id: &str) -> bool {
        let share = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        share.inspect(|share| share.revoked.cancel()).is_some()
    }

    /// A place for a viewer.
    pub fn seat(&self, id: &str) -> Result<Seat, SeatError> {
        let shares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let share = shares.get(id).ok_or(SeatError::Revoked)?;
        let permit = Arc::clone(&share.viewers).try_acquire_owned().map_err(|_| SeatError::Full)?;
        Ok(Seat { _permit: permit, revoked: share.revoked.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_has_so_many_places_until_it_is_revoked() {
        let shares = Shares::default();
        let id = shares.add(1).unwrap();
        let seat = shares.seat(&id).unwrap();
        assert_eq!(shares.seat(&id).unwrap_err(), SeatError::Full);
        drop(seat);
        let seat = shares.seat(&id).unwrap();
        assert!(!seat.revoked.is_cancelled());
        assert!(shares.revoke(&id));
        assert!(seat.revoked.is_cancelled());
        assert_eq!(shares.seat(&id).unwrap_err(), SeatError::Revoked);
        assert!(!shares.revoke(&id));
    }

    #[test]
    fn what_others_have_granted_and_revoked_is_taken_over() {
        let shares = Shares::default();
        let (kept, gone) = (shares.add(1).unwrap(), shares.add(1).unwrap());
        let [seat, lost] = [&kept, &gone].map(|id| shares.seat(id).unwrap());
        shares.set(vec![(kept.clone(), 1), ("new".to_owned(), 1)]);
        assert!(lost.revoked.is_cancelled());
        assert_eq!(shares.seat(&gone).unwrap_err(), SeatError::Revoked);
        assert!(!seat.revoked.is_cancelled());
        assert_eq!(shares.seat(&kept).unwrap_err(), SeatError::Full);
        assert!(shares.seat("new").is_ok());
    }

    #[test]
    fn the_shares_of_a_stream_are_bounded() {
        let shares = Shares::default();
        let ids: Vec<_> = (0..MOST).filter_map(|_| shares.add(1)).collect();
        assert_eq!(ids.len(), MOST);
        assert_eq!(shares.add(1), None);
        assert!(shares.revoke(&ids[0]));
        assert!(shares.add(1).is_some());
    }
}
