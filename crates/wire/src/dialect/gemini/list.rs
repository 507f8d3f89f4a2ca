//! The list of models: towards callers with its pages, and as upstreams give it.

use serde::Deserialize;
use serde_json::{Value, json};

use super::path::bare;
use crate::chat::ApiError;
use crate::model_list::{ModelInfo, entries, page, tokens};

/// The path below the base URL of upstreams, with the longest page.
pub(super) const PATH: &str = "/models?pageSize=1000";

/// Method that a listed model must support; other models are left out.
const GENERATES: &str = "generateContent";

/// One model.
pub(super) fn model(model: &ModelInfo) -> Value {
    let mut shown = json!({
        "name": format!("models/{}", model.id),
        "version": "1",
        "displayName": model.id,
        "supportedGenerationMethods": [GENERATES, "countTokens"],
    });
    let limits = [("inputTokenLimit", model.context), ("outputTokenLimit", model.max_output)];
    for (member, tokens) in limits {
        if let (Value::Object(shown), Some(tokens)) = (&mut shown, tokens) {
            shown.insert(member.to_owned(), tokens.into());
        }
    }
    shown
}

/// The page that the query requests; the whole list if the query sets no page bounds.
pub(super) fn list(models: &[ModelInfo], query: &str) -> Result<String, ApiError> {
    let (part, next) = page(models, query, ("pageSize", "pageToken"))?;
    let mut body = json!({ "models": part.iter().map(model).collect::<Vec<_>>() });
    if let (Value::Object(body), Some(next)) = (&mut body, next) {
        body.insert("nextPageToken".to_owned(), next.into());
    }
    Ok(body.to_string())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    name: String,
    input_token_limit: Option<Value>,
    output_token_limit: Option<Value>,
    supported_generation_methods: Option<Vec<String>>,
}

/// Reads an upstream's list, without models that generate no content.
pub(super) fn read(body: &[u8]) -> Result<Vec<ModelInfo>, ApiError> {
    entries(body, "models", |entry: Entry| {
        let methods = entry.supported_generation_methods;
        let generates =
            methods.is_none_or(|methods| methods.iter().any(|method| method == GENERATES));
        ModelInfo {
            // An empty name is left out.
            id: if generates { bare(&entry.name).to_owned() } else { String::new() },
            context: tokens(&entry.input_token_limit),
            max_output: tokens(&entry.output_token_limit),
        }
    })
}
