//! The list of models, in the shape of `/api/tags`.

use serde_json::json;
use sha2::{Digest, Sha256};

use super::about::details;

/// The list. What only a server that keeps the models' files could know is empty, but for the digest:
/// clients show its first twelve digits and tell models apart by it.
pub(super) fn models(models: &[&str]) -> String {
    let entry = |name: &&str| {
        json!({
            "name": name,
            "model": name,
            "modified_at": "1970-01-01T00:00:00Z",
            "size": 0,
            "digest": digest(name),
            "details": details(),
        })
    };
    json!({ "models": models.iter().map(entry).collect::<Vec<_>>() }).to_string()
}

fn digest(name: &str) -> String {
    use std::fmt::Write;
    let mut digits = String::with_capacity(64);
    for byte in Sha256::digest(name.as_bytes()) {
        // Writing to a string cannot fail.
        write!(digits, "{byte:02x}").unwrap_or_default();
    }
    digits
}
