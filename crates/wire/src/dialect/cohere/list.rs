//! The list of models: towards callers with its pages, and as upstreams give it.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::chat::ApiError;
use crate::model_list::{ModelInfo, entries, page, tokens};

/// The path at upstreams, with the longest page, and without models that do not chat.
pub(super) const PATH: &str = "/v1/models?page_size=1000&endpoint=chat";

/// One model.
pub(super) fn model(model: &ModelInfo) -> Value {
    let mut shown = json!({
        "name": model.id,
        "endpoints": ["chat"],
        "default_endpoints": [],
        "features": [],
        "finetuned": false,
        "is_deprecated": false,
    });
    if let (Value::Object(shown), Some(context)) = (&mut shown, model.context) {
        shown.insert("context_length".to_owned(), context.into());
    }
    shown
}

/// The page that the query requests; the whole list if the query sets no page bounds.
pub(super) fn list(models: &[ModelInfo], query: &str) -> Result<String, ApiError> {
    let (part, next) = page(models, query, ("page_size", "page_token"))?;
    let mut body = json!({ "models": part.iter().map(model).collect::<Vec<_>>() });
    if let (Value::Object(body), Some(next)) = (&mut body, next) {
        body.insert("next_page_token".to_owned(), next.into());
    }
    Ok(body.to_string())
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    context_length: Option<Value>,
}

/// Reads an upstream's list.
pub(super) fn read(body: &[u8]) -> Result<Vec<ModelInfo>, ApiError> {
    entries(body, "models", |entry: Entry| ModelInfo {
        id: entry.name,
        context: tokens(&entry.context_length),
        max_output: None,
    })
}
