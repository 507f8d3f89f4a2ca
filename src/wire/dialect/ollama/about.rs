//! What clients ask before they chat: the version of the server, and what a model is. The gateway
//! answers for itself; of a model it knows no more than that it may be asked.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::wire::body::{parse, refuse};
use crate::wire::chat::Fault;
use crate::wire::dialect::Question;

/// The version of this API that is spoken; clients switch parts of theirs off for older ones.
const SPOKEN: &str = "0.12.0";

const VERSION: &str = "/api/version";

/// The questions.
pub(super) const QUESTIONS: [Question; 2] =
    [Question { path: VERSION, posted: false }, Question { path: "/api/show", posted: true }];

#[derive(Deserialize)]
struct Show {
    model: Option<String>,
    /// What it was called at first.
    name: Option<String>,
}

/// The model that a question is about, if it is about one.
pub(super) fn model(path: &str, body: &str) -> Result<Option<String>, Fault> {
    if path == VERSION {
        return Ok(None);
    }
    let Show { model, name } = parse("", body)?;
    let model = model.or(name).filter(|model| !model.is_empty());
    model.map(Some).ok_or_else(|| refuse("model", "is missing: say which model is meant"))
}

/// The answer.
pub(super) fn answer(path: &str) -> String {
    if path == VERSION {
        return json!({ "version": SPOKEN }).to_string();
    }
    json!({
        "license": "",
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": details(),
        "model_info": { "general.architecture": "unknown" },
        // What can be carried to the model, and whether it can do it is for the model to say. Not
        // `thinking`, which clients ask for unasked where it is listed.
        "capabilities": ["completion", "tools", "vision"],
        "modified_at": "1970-01-01T00:00:00Z",
    })
    .to_string()
}

/// What only a server that keeps the models' files could know.
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
