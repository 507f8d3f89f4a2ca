//! Probes of clients before they chat: whether the server runs, its version, the loaded models, and a model's details.
//! The gateway answers these itself. Of a model it only has the name and, if configured, the context
//! window.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::body::{parse, refuse};
use crate::chat::ApiError;
use crate::dialect::InfoEndpoint;
use crate::model_list::ModelInfo;

/// The version of this API that is spoken; clients switch parts of theirs off for older ones.
const SPOKEN: &str = "0.12.0";

const ROOT: &str = "/";
const VERSION: &str = "/api/version";
const RUNNING: &str = "/api/ps";
const SHOW: &str = "/api/show";

/// The endpoints.
pub(super) const ENDPOINTS: [InfoEndpoint; 4] = [
    // The vendor's own client, and many others, request this before anything else.
    InfoEndpoint {
        path: ROOT,
        posted: false,
        needs_key: false,
        media_type: "text/plain; charset=utf-8",
    },
    InfoEndpoint { needs_key: false, ..InfoEndpoint::get(VERSION) },
    InfoEndpoint::get(RUNNING),
    InfoEndpoint { posted: true, ..InfoEndpoint::get(SHOW) },
];

#[derive(Deserialize)]
struct Show {
    model: Option<String>,
    /// The original name of `model`.
    name: Option<String>,
}

/// The model that a request to such an endpoint is about, if it is about one.
pub(super) fn model(path: &str, body: &str) -> Result<Option<String>, ApiError> {
    if path != SHOW {
        return Ok(None);
    }
    let Show { model, name } = parse("", body)?;
    let model = model.or(name).filter(|model| !model.is_empty());
    model.map(Some).ok_or_else(|| refuse("model", "is missing: say which model is meant"))
}

/// The answer.
pub(super) fn answer(path: &str, model: Option<&ModelInfo>) -> String {
    match path {
        ROOT => return "Ollama is running".to_owned(),
        VERSION => return json!({ "version": SPOKEN }).to_string(),
        // Nothing is held in memory here, and nothing has to be loaded.
        RUNNING => return json!({ "models": [] }).to_string(),
        _ => {}
    }
    let mut about = json!({ "general.architecture": "unknown" });
    let context = model.and_then(|model| model.context);
    if let (Value::Object(about), Some(context)) = (&mut about, context) {
        // Clients read it below the name of the architecture.
        about.insert("unknown.context_length".to_owned(), context.into());
    }
    json!({
        "license": "",
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": details(),
        "model_info": about,
        // Everything that the gateway can pass to a model; the model itself may reject it. Without
        // `thinking`, which clients request by default where it is listed.
        "capabilities": ["completion", "tools", "vision"],
        "modified_at": "1970-01-01T00:00:00Z",
    })
    .to_string()
}

/// Details that only a server with the models' files has: all empty.
pub(super) fn details() -> Value {
    json!({
        "parent_model": "",
        "format": "",
        "family": "",
        "families": [],
        "parameter_size": "",
        "quantization_level": "",
    })
}
