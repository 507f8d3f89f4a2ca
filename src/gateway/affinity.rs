//! Session affinity: the requests of a session go to the same target, by weighted rendezvous hashing. It must never
//! remember anything: every process ranks targets alike.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use http::HeaderMap;

use crate::config::Target;

/// The headers that name a session, the first of them first.
const HEADERS: [&str; 3] = ["streamgate-session", "x-session-id", "x-claude-code-session-id"];

/// A session of a caller, as a digest: none can steer those of another caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session(u64);

impl Session {
    /// The session that a request names.
    pub fn of(headers: &HeaderMap, caller: &str) -> Option<Self> {
        let name = HEADERS.iter().find_map(|name| headers.get(*name))?;
        let mut hash = DefaultHasher::new();
        (caller, name.as_bytes()).hash(&mut hash);
        Some(Self(hash.finish()))
    }

    /// The score of a target: the highest one has the session. A target that is added or removed moves no more than its
    /// own share of the sessions.
    pub(super) fn score(self, target: &Target, weight: f64) -> f64 {
        let mut hash = DefaultHasher::new();
        (self.0, target.identity()).hash(&mut hash);
        // The upper half, between 0 and 1.
        let upper = u32::try_from(hash.finish() >> 32).unwrap_or(u32::MAX);
        let share = (f64::from(upper) + 0.5) / (f64::from(u32::MAX) + 1.0);
        -weight / share.ln()
    }
}
