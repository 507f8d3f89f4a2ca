//! The wire: bytes in, values out, and back.
//!
//! Everything below this module is pure. It never awaits, reads a clock, draws randomness, reads the
//! environment or logs; identities and times come in as arguments. `tests/it/tidy/mod.rs` checks it.

pub mod adapt;
pub mod arguments;
pub mod aws_eventstream;
pub mod aws_fault;
pub mod body;
pub mod cache_control;
pub mod chat;
pub mod citations;
pub mod claude;
pub mod count;
pub mod dialect;
pub mod embeddings;
pub mod error_body;
pub mod finish;
pub mod forwarded_headers;
pub mod framing;
pub mod free_text;
pub mod hosted_body;
pub mod json;
pub mod json_array;
pub mod kept;
pub mod logprobs;
pub mod model_list;
pub mod ndjson;
pub mod open_calls;
pub mod overflow;
pub mod ranges;
pub mod refusal;
pub mod reset;
pub mod rights;
pub mod scan;
pub mod seal;
pub mod spelling;
pub mod sse;
pub mod stop_strings;
pub mod tally;
pub mod template;
pub mod text_index;
pub mod transcode;
pub mod typed_json;
