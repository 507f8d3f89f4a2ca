//! Ids of tool calls: upstreams of this dialect take letters, digits, `_` and `-` only, others take
//! more. Callers are shown ids as they come.
//!
//! The mapping is a pure function of the id, so that a call and its result, which arrive in
//! different requests, always meet again. It never lets two ids of one message collide.

use std::collections::HashMap;
use std::fmt::Write;

/// An id that this dialect accepts. An acceptable one stays as it is; any other has its foreign
/// characters replaced and a digest of the original appended, so that `f.0` and `f:0` stay apart.
pub(super) fn sanitised(id: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !id.is_empty() && id.chars().all(fits) {
        return id.to_owned();
    }
    let mut out: String = id.chars().map(|c| if fits(c) { c } else { '_' }).collect();
    // FNV-1a: stable for ever, unlike the standard library's hashers.
    let digest = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // Writing to a string cannot fail.
    write!(out, "_{digest:016x}").unwrap_or_default();
    out
}

/// The ids given out within one message, each with the number of the next one that is made of it.
#[derive(Debug, Default)]
pub(super) struct Ids {
    calls: HashMap<String, u32>,
    searches: u32,
}

impl Ids {
    /// The id to show for an upstream's id: the same, unless it is empty or was given out before. No
    /// client checks its characters, and some models need their own ids back (Kimi K2's
    /// `functions.NAME:0`).
    pub(super) fn assign(&mut self, id: &str) -> String {
        let wanted = if id.is_empty() { "toolu" } else { id };
        let mut n = self.calls.get(wanted).copied().unwrap_or(1);
        let mut unique = wanted.to_owned();
        while n > 1 && self.calls.contains_key(&unique) {
            unique = format!("{wanted}_{n}");
            n = n.saturating_add(1);
        }
        self.calls.insert(wanted.to_owned(), n.max(2));
        self.calls.entry(unique.clone()).or_insert(2);
        unique
    }

    /// The number of a new search.
    pub(super) fn search(&mut self) -> u32 {
        self.searches = self.searches.saturating_add(1);
        self.searches
    }

    /// The number of the last search.
    pub(super) fn searches(&self) -> u32 {
        self.searches
    }
}
