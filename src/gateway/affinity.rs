//! Session affinity: the requests of a session go to the same target, by weighted rendezvous hashing. It must never
//! remember anything: every process, of whatever build, ranks targets alike.

use http::HeaderMap;
use sha2::{Digest as _, Sha256};

use crate::config::{Affinity, SessionSource, Target};

/// The headers that name a session, the first of them first.
const HEADERS: [&str; 3] = ["streamgate-session", "x-session-id", "x-claude-code-session-id"];

/// A session of a caller, as a digest: none can steer those of another caller.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Session {
    digest: u64,
    /// The most answers in progress of its target, as a multiple of the average. `None`: any.
    pub(super) slack: Option<f64>,
}

impl Session {
    /// The session of a request, by the first source that it has. `body`: the body, if a source is there.
    pub fn of(
        affinity: &Affinity,
        (headers, caller): (&HeaderMap, &str),
        body: &str,
    ) -> Option<Self> {
        let name = affinity.by.iter().flatten().find_map(|source| match source {
            SessionSource::Header => {
                let value = HEADERS.iter().find_map(|name| headers.get(*name))?;
                Some(value.as_bytes().to_vec())
            }
            SessionSource::Body(key) => key.of(body).map(String::into_bytes),
            SessionSource::Caller => Some(Vec::new()),
        })?;
        Some(Self { digest: digest(&[caller.as_bytes(), &name]), slack: affinity.slack })
    }

    /// The score of a target: the highest one has the session. A target that is added or removed moves no more than its
    /// own share of the sessions.
    pub(super) fn score(self, target: &Target, weight: f64) -> f64 {
        let key = target.provider.key.as_deref().unwrap_or_default();
        let hash = digest(&[&self.digest.to_be_bytes(), target.name().as_bytes(), key.as_bytes()]);
        // The upper half, between 0 and 1.
        let upper = u32::try_from(hash >> 32).unwrap_or(u32::MAX);
        let share = (f64::from(upper) + 0.5) / (f64::from(u32::MAX) + 1.0);
        -weight / share.ln()
    }
}

/// Whether a source is in the body.
pub(super) fn needs_body(affinity: &Affinity) -> bool {
    affinity.by.iter().flatten().any(|source| matches!(source, SessionSource::Body(_)))
}

/// The beginning of the SHA-256 of parts, each behind its length.
fn digest(parts: &[&[u8]]) -> u64 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    digest.first_chunk().map_or(0, |beginning| u64::from_be_bytes(*beginning))
}
