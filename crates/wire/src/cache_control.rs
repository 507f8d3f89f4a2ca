//! `cache_control`, the mark of a prompt that is worth caching, which stands on messages, parts of them
//! and tools. Read leniently: of what is in it only the time to live is kept.

use serde::Deserialize;

use super::chat::{CacheMark, Part};

/// `{"type": "ephemeral", "ttl": "1h"}`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct CacheControl {
    ttl: Option<String>,
}

impl CacheControl {
    /// The mark.
    pub(crate) fn mark(self) -> CacheMark {
        self.ttl
    }

    /// The mark behind a part.
    pub(crate) fn part(self) -> Part {
        Part::Cache(self.ttl)
    }
}

/// The result of a call, and behind it the last mark that stands in it.
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
