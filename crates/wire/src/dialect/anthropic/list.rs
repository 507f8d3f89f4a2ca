//! The list of models: towards callers with its pages, and as upstreams give it.

use serde::Deserialize;
use serde_json::Value;

use crate::chat::ApiError;
use crate::json::quoted;
use crate::model_list::{ModelInfo, entries, page_size, parameter, tokens};

/// The path at upstreams, with the longest page.
pub(super) const PATH: &str = "/v1/models?limit=1000";

/// One model.
pub(super) fn model(model: &ModelInfo) -> String {
    let name = quoted(&model.id);
    let limits = [("max_input_tokens", model.context), ("max_tokens", model.max_output)];
    let limits: String = limits
        .iter()
        .filter_map(|(member, tokens)| tokens.map(|tokens| format!(r#","{member}":{tokens}"#)))
        .collect();
    format!(
        r#"{{"type":"model","id":{name},"display_name":{name},"created_at":"1970-01-01T00:00:00Z"{limits}}}"#
    )
}

/// The page that the query requests; the whole list if the query sets no page bounds.
pub(super) fn list(models: &[ModelInfo], query: &str) -> Result<String, ApiError> {
    let size = page_size(query, "limit", 1000)?.unwrap_or(models.len());
    let place = |name: &str| {
        let Some(id) = parameter(query, name) else { return Ok(None) };
        let place = models.iter().position(|model| model.id == id);
        place.map(Some).ok_or_else(|| ApiError::field(name, "names no model of this list"))
    };
    let (page, has_more) = match (place("after_id")?, place("before_id")?) {
        (None, Some(end)) => {
            let start = end.saturating_sub(size);
            (models.get(start..end), start > 0)
        }
        (after, _) => {
            let start = after.map_or(0, |place| place + 1);
            let end = start.saturating_add(size).min(models.len());
            (models.get(start..end), end < models.len())
        }
    };
    let page = page.unwrap_or_default();
    let data = page.iter().map(model).collect::<Vec<_>>().join(",");
    let id = |model: Option<&ModelInfo>| {
        model.map_or_else(|| "null".to_owned(), |model| quoted(&model.id))
    };
    let (first, last) = (id(page.first()), id(page.last()));
    Ok(format!(r#"{{"data":[{data}],"has_more":{has_more},"first_id":{first},"last_id":{last}}}"#))
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    max_input_tokens: Option<Value>,
    max_tokens: Option<Value>,
}

/// Reads an upstream's list.
pub(super) fn read(body: &[u8]) -> Result<Vec<ModelInfo>, ApiError> {
    entries(body, "data", |entry: Entry| ModelInfo {
        id: entry.id,
        context: tokens(&entry.max_input_tokens),
        max_output: tokens(&entry.max_tokens),
    })
}
