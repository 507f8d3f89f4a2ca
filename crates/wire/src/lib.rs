//! Codecs of LLM vendors' APIs: framings, requests, streamed answers, and translation between them. Bytes in,
//! values out, and back.
//!
//! This package is pure. It never awaits, reads a clock, draws randomness, reads the environment or logs;
//! identities and times are arguments. Its dependencies and `tests/it/tidy/mod.rs` enforce that.

pub mod adapt;
pub(crate) mod arguments;
pub(crate) mod aws_eventstream;
pub(crate) mod aws_fault;
pub(crate) mod body;
pub(crate) mod cache_control;
pub mod chat;
pub(crate) mod citations;
pub(crate) mod claude;
pub(crate) mod codec;
pub mod continuation;
pub mod count;
pub mod dialect;
pub mod embeddings;
pub mod encrypted_state;
pub(crate) mod error_body;
pub mod finish;
pub mod format;
pub mod forwarded_headers;
pub mod framing;
pub(crate) mod free_text;
pub(crate) mod hosted_body;
pub mod json;
pub(crate) mod json_array;
pub(crate) mod kept;
pub(crate) mod logprobs;
pub mod model_list;
pub(crate) mod ndjson;
pub(crate) mod open_calls;
pub mod overflow;
pub mod ranges;
#[cfg(test)]
mod recordings_for_tests;
pub mod refusal;
pub mod request_features;
pub(crate) mod reset;
pub mod rights;
pub(crate) mod scan;
pub mod seal;
pub mod session_key;
pub mod side_effects;
pub(crate) mod spelling;
pub mod sse;
pub mod stage;
pub mod stop_strings;
pub mod tally;
pub(crate) mod text_index;
pub mod transcode;
pub(crate) mod typed_json;
