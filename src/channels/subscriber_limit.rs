//! Limit of subscribers: of one user, and of all together. A permit that is dropped makes room.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Channels;

/// The subscribers that are connected.
#[derive(Debug, Default)]
pub(super) struct SubscriberLimit(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: u32,
    users: HashMap<Arc<str>, u32>,
}

/// A limit of subscribers that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitError {
    /// That of one user.
    User(NonZeroU32),
    /// That of all users together.
    All(NonZeroU32),
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(most) => write!(
                f,
                "you have {most} subscriptions open, and may have no more (channels.connections_per_user); close one"
            ),
            Self::All(most) => write!(
                f,
                "there are {most} subscriptions open, and may be no more (channels.connections); come back later"
            ),
        }
    }
}

impl std::error::Error for LimitError {}

impl SubscriberLimit {
    /// Counts a subscriber of a user, if there is room.
    pub(super) fn acquire(&self, user: &Arc<str>, settings: &Channels) -> Result<(), LimitError> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let reached =
            |count: u32, most: Option<NonZeroU32>| most.filter(|most| count >= most.get());
        let own = counts.users.get(user).copied().unwrap_or_default();
        if let Some(most) = reached(own, settings.connections_per_user) {
            return Err(LimitError::User(most));
        }
        if let Some(most) = reached(counts.all, settings.connections) {
            return Err(LimitError::All(most));
        }
        counts.all += 1;
        counts.users.insert(Arc::clone(user), own + 1);
        Ok(())
    }

    /// A subscriber of a user has left.
    pub(super) fn release(&self, user: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all = counts.all.saturating_sub(1);
        if let Some(own) = counts.users.get_mut(user) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                counts.users.remove(user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscriber_that_leaves_makes_room() {
        let count = |count| NonZeroU32::new(count);
        let settings = Channels {
            connections: count(3),
            connections_per_user: count(2),
            ..Channels::default()
        };
        let limit = SubscriberLimit::default();
        let [alice, bob] = ["alice", "bob"].map(Arc::<str>::from);
        assert_eq!(limit.acquire(&alice, &settings), Ok(()));
        assert_eq!(limit.acquire(&alice, &settings), Ok(()));
        assert_eq!(limit.acquire(&alice, &settings), Err(LimitError::User(count(2).unwrap())));
        assert_eq!(limit.acquire(&bob, &settings), Ok(()));
        assert_eq!(limit.acquire(&bob, &settings), Err(LimitError::All(count(3).unwrap())));
        limit.release("alice");
        assert_eq!(limit.acquire(&bob, &settings), Ok(()));
        limit.release("alice");
        limit.release("nobody");
        let unlimited = Channels { connections: None, connections_per_user: None, ..settings };
        for _ in 0..100 {
            assert_eq!(limit.acquire(&alice, &unlimited), Ok(()));
        }
    }
}
