//! Embeddings endpoints of OpenAI, Ollama and Cohere, and the vectors of all vendors.
//!
//! A vector depends on its text and its length only, so that all vendors return the same and a wrong order is
//! visible.

use axum::http::Uri;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::answer::Piece;
use super::encoder::{Encoder, Event, Totals, set};
use super::request::{Fields, RequestError, SimRequest};
use super::vendor::Vendor;
use super::{cohere, ollama, openai};

/// Default number of dimensions.
const DIMENSIONS: u64 = 8;
/// The most dimensions that a request may set.
const MOST: u64 = 4096;

/// The vector of a text: multiples of 1/8 between -4 and 4, which every number format represents exactly.
pub(super) fn vector(text: &str, dimensions: u64) -> Vec<f64> {
    // FNV-1a, one pass over the text for each dimension.
    let mut hash: u32 = 0x811c_9dc5;
    let mut number = |at: u64| {
        for byte in text.bytes().chain(at.to_le_bytes()) {
            hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
        f64::from(hash >> 26) / 8.0 - 4.0
    };
    (0..dimensions.clamp(1, MOST)).map(&mut number).collect()
}

/// The requested vectors: one per text of `repeated`.
pub(super) fn vectors(repeated: &Value) -> Vec<Vec<f64>> {
    let dimensions = repeated["dimensions"].as_u64().unwrap_or(DIMENSIONS);
    let texts = repeated["texts"].as_array().into_iter().flatten();
    texts.map(|text| vector(text.as_str().unwrap_or_default(), dimensions)).collect()
}

/// The request data that an answer needs, as JSON.
pub(super) fn repeated(texts: &[String], dimensions: Option<u64>, form: &Value) -> Value {
    json!({ "texts": texts, "dimensions": dimensions, "form": form })
}

/// The vendors' endpoints.
pub(super) enum Embeddings {
    OpenAi,
    Ollama,
    Cohere,
}

impl Embeddings {
    fn vendor(&self) -> &'static dyn Vendor {
        match self {
            Self::OpenAi => &openai::OpenAi,
            Self::Ollama => &ollama::Ollama,
            Self::Cohere => &cohere::Cohere,
        }
    }

    fn members(&self, uri: &Uri) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::OpenAi => ("input", "dimensions", "encoding_format"),
            Self::Ollama if uri.path() == "/api/embeddings" => ("prompt", "dimensions", "prompt"),
            Self::Ollama => ("input", "dimensions", "options"),
            Self::Cohere => ("texts", "output_dimension", "embedding_types"),
        }
    }
}

impl Vendor for Embeddings {
    fn paths(&self) -> &'static [&'static str] {
        match self {
            Self::OpenAi => &["/v1/embeddings", "/embeddings"],
            Self::Ollama => &["/api/embed", "/api/embeddings"],
            Self::Cohere => &["/v2/embed"],
        }
    }

    fn request_id(&self) -> &'static str {
        self.vendor().request_id()
    }

    fn read(&self, uri: &Uri, body: &[u8]) -> Result<SimRequest, RequestError> {
        let fields = Fields::read(self, body)?;
        let (input, dimensions, form) = self.members(uri);
        let model = fields.text("model")?;
        if matches!(self, Self::Cohere) {
            fields.text("input_type")?;
        }
        let texts: Vec<String> = match fields.value.get(input) {
            Some(Value::String(text)) => vec![text.clone()],
            Some(Value::Array(texts)) => {
                // Token ids are used as text.
                let text =
                    |text: &Value| text.as_str().map_or_else(|| text.to_string(), str::to_owned);
                texts.iter().map(text).collect()
            }
            _ => return Err(fields.missing(input)),
        };
        let form = fields.value.get(form).cloned().unwrap_or_default();
        Ok(SimRequest {
            model,
            stream: false,
            form: if input == "prompt" { "embedding" } else { "embeddings" },
            usage: true,
            choices: 1,
            max_tokens: None,
            tools: Vec::new(),
            answers_tools: false,
            repeated: repeated(&texts, fields.number(dimensions)?, &form),
            prompt_tokens: fields.prompt_tokens,
        })
    }

    fn encoder(&self, number: u64, ask: &SimRequest) -> Box<dyn Encoder> {
        let write = match self {
            Self::OpenAi => openai_body,
            Self::Ollama => ollama_body,
            Self::Cohere => cohere_body,
        };
        Box::new(Vectors { number, ask: ask.clone(), write })
    }

    fn refusal(&self, refused: &RequestError, request_id: &str) -> Value {
        self.vendor().refusal(refused, request_id)
    }

    fn missing(&self, field: &str) -> String {
        self.vendor().missing(field)
    }

    fn wrong_type(&self, field: &str, wanted: &str) -> String {
        self.vendor().wrong_type(field, wanted)
    }
}

/// State of one answer, which is never streamed.
struct Vectors {
    number: u64,
    ask: SimRequest,
    write: fn(u64, &SimRequest) -> Value,
}

impl Encoder for Vectors {
    fn opening(&mut self, _first: Option<&Piece>) -> Vec<Event> {
        Vec::new()
    }

    fn say(&mut self, _piece: &Piece) -> Vec<Event> {
        Vec::new()
    }

    fn closing(&mut self, _totals: Totals) -> Vec<Event> {
        Vec::new()
    }

    fn failure(&self) -> Vec<Event> {
        Vec::new()
    }

    fn junk(&self) -> Event {
        Event { name: None, data: String::new() }
    }

    fn whole(&self, _pieces: &[Piece], _totals: Totals) -> Value {
        (self.write)(self.number, &self.ask)
    }
}

fn repeated_of<'a>(ask: &'a SimRequest, name: &str) -> &'a Value {
    ask.repeated.get(name).unwrap_or(&Value::Null)
}

#[expect(clippy::cast_possible_truncation, reason = "every vector fits into 32 bits")]
fn base64(vector: &[f64]) -> Value {
    let bytes: Vec<u8> = vector.iter().flat_map(|float| (*float as f32).to_le_bytes()).collect();
    BASE64_STANDARD.encode(bytes).into()
}

fn openai_body(_number: u64, ask: &SimRequest) -> Value {
    let packed = repeated_of(ask, "form") == "base64";
    let item = |(index, vector): (usize, &Vec<f64>)| {
        let vector = if packed { base64(vector) } else { json!(vector) };
        json!({ "object": "embedding", "index": index, "embedding": vector })
    };
    let tokens = ask.prompt_tokens;
    let data: Vec<Value> = vectors(&ask.repeated).iter().enumerate().map(item).collect();
    json!({
        "object": "list",
        "data": data,
        "model": ask.model,
        "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
    })
}

fn ollama_body(_number: u64, ask: &SimRequest) -> Value {
    let vectors = vectors(&ask.repeated);
    if ask.form == "embedding" {
        return json!({ "embedding": vectors.first() });
    }
    json!({
        "model": ask.model,
        "embeddings": vectors,
        "total_duration": 2_000_000,
        "load_duration": 1_000_000,
        "prompt_eval_count": ask.prompt_tokens,
    })
}

fn cohere_body(number: u64, ask: &SimRequest) -> Value {
    let floats = vectors(&ask.repeated);
    let packed: Vec<Value> = floats.iter().map(|vector| base64(vector)).collect();
    let wants = |kind: &str| {
        let types = repeated_of(ask, "form").as_array();
        types.is_some_and(|types| types.iter().any(|wanted| wanted == kind))
    };
    let mut embeddings = json!({});
    if !wants("base64") || wants("float") {
        set(&mut embeddings, "float", json!(floats));
    }
    if wants("base64") {
        set(&mut embeddings, "base64", json!(packed));
    }
    json!({
        "id": format!("00000000-0000-4000-8000-{number:012}"),
        "embeddings": embeddings,
        "texts": repeated_of(ask, "texts"),
        "meta": { "api_version": { "version": "2" }, "billed_units": { "input_tokens": ask.prompt_tokens } },
        "response_type": "embeddings_by_type",
    })
}
