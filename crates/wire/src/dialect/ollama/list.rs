//! The list of models, in the shape of `/api/tags`: towards callers, and as upstreams give it.

use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::info::details;
use crate::chat::ApiError;
use crate::model_list::{ModelInfo, entries};

/// The path of the list.
pub(super) const PATH: &str = "/api/tags";

/// The list. Fields that only a server with the models' files has are empty, except for the digest: clients
/// show its first twelve digits and distinguish models by it.
pub(super) fn list(models: &[ModelInfo]) -> String {
    let entry = |model: &ModelInfo| {
        json!({
            "name": model.id,
            "model": model.id,
            "modified_at": "1970-01-01T00:00:00Z",
            "size": 0,
            "digest": digest(&model.id),
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

#[derive(Deserialize)]
struct Entry {
    name: String,
}

/// Reads an upstream's list, which has no context windows.
pub(super) fn read(body: &[u8]) -> Result<Vec<ModelInfo>, ApiError> {
    entries(body, "models", |entry: Entry| ModelInfo::named(entry.name))
}
