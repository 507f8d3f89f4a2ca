//! `cache_control`, the cache mark on messages, their parts and tools. Parsing is lenient: only the time to
//! live is kept.

use serde::Deserialize;

use super::chat::{CacheMark, Part};

/// `{"type": "ephemeral", "ttl": "1h"}`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct CacheControl {
    ttl: Option<String>,
}

impl CacheControl {
    /// The cache mark.
    pub(crate) fn mark(self) -> CacheMark {
        self.ttl
    }

    /// The part that represents the mark.
    pub(crate) fn part(self) -> Part {
        Part::Cache(self.ttl)
    }
}

/// The result of a call, followed by the last mark within it.
pub(crate) fn marked_result(id: String, mut parts: Vec<Part>, is_error: bool) -> Vec<Part> {
    let mut mark = None;
    parts.retain_mut(|part| match part {
        Part::Cache(ttl) => {
            mark = Some(Part::Cache(ttl.take()));
            false
        }
        _ => true,
    });
    std::iter::once(Part::ToolResult { id, parts, is_error }).chain(mark).collect()
}
