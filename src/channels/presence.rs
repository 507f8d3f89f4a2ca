//! Presence: the users who are subscribed to a channel. A user whose connection is renewed must not be announced as
//! gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// The time for which a user without a connection is still present: longer than the `retry` of any client.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// The users who are subscribed to one channel.
#[derive(Debug, Default)]
pub(super) struct Presence(BTreeMap<Arc<str>, Present>);

#[derive(Debug)]
struct Present {
    connections: usize,
    /// The time at which the last connection ended, if there is none.
    left: Option<Instant>,
}

impl Presence {
    /// Adds a connection of a user. Whether the user was absent.
    pub(super) fn join(&mut self, user: &Arc<str>) -> bool {
        let absent = !self.0.contains_key(user);
        let present =
            self.0.entry(Arc::clone(user)).or_insert(Present { connections: 0, left: None });
        present.connections += 1;
        present.left = None;
        absent
    }

    /// Removes a connection of a user. The time at which the user is gone, if there is no other one.
    pub(super) fn leave(&mut self, user: &str, now: Instant) -> Option<Instant> {
        let present = self.0.get_mut(user)?;
        present.connections = present.connections.saturating_sub(1);
        (present.connections == 0).then(|| {
            present.left = Some(now);
            now + GRACE
        })
    }

    /// Removes the users who are gone, and returns them.
    pub(super) fn gone(&mut self, now: Instant) -> Vec<Arc<str>> {
        let is_gone = |present: &Present| present.left.is_some_and(|left| left + GRACE <= now);
        self.0.extract_if(.., |_, present| is_gone(present)).map(|(user, _)| user).collect()
    }

    /// The earliest time at which somebody may be gone.
    pub(super) fn due(&self) -> Option<Instant> {
        self.0.values().filter_map(|present| present.left).min().map(|left| left + GRACE)
    }

    /// The users, with the counts of their connections.
    pub(super) fn users(&self) -> impl Iterator<Item = (&Arc<str>, usize)> {
        self.0.iter().map(|(user, present)| (user, present.connections))
    }

    /// Whether a user is present.
    pub(super) fn has(&self, user: &str) -> bool {
        self.0.contains_key(user)
    }

    /// Whether nobody is present.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_gone_a_while_after_the_last_connection() {
        let (mut presence, alice) = (Presence::default(), Arc::<str>::from("alice"));
        let start = Instant::now();
        assert!(presence.join(&alice));
        assert!(!presence.join(&alice));
        assert_eq!(presence.leave("alice", start), None);
        assert_eq!(presence.leave("alice", start), Some(start + GRACE));
        assert_eq!(presence.due(), Some(start + GRACE));
        assert_eq!(presence.gone(start + GRACE / 2), [] as [Arc<str>; 0]);
        // Back in time: nothing is announced.
        assert!(!presence.join(&alice));
        assert_eq!(presence.gone(start + GRACE * 2), [] as [Arc<str>; 0]);
        assert_eq!(presence.users().collect::<Vec<_>>(), [(&alice, 1)]);
        presence.leave("alice", start + GRACE);
        assert_eq!(presence.gone(start + GRACE * 2), std::slice::from_ref(&alice));
        assert!(presence.is_empty());
        assert_eq!(presence.due(), None);
        assert!(presence.join(&alice));
        assert_eq!(presence.leave("bob", start), None);
    }
}
