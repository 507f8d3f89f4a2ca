//! The wire: bytes in, values out, and back.
//!
//! Everything below this module is pure. It never awaits, reads a clock, draws randomness, reads the
//! environment or logs; identities and times come in as arguments. `tests/it/tidy.rs` checks it.

pub mod adapt;
pub mod arguments;
pub mod aws_eventstream;
pub mod aws_fault;
pub mod body;
pub mod cache_control;
pub mod chat;
pub mod citations;
pub mod claude;
pub mod dialect;
pub mod error_body;
pub mod finish;
pub mod framing;
pub mod free_text;
pub mod json;
pub mod json_array;
pub mod logprobs;
pub mod ndjson;
pub mod refusal;
pub mod reset;
pub mod rights;
pub mod scan;
pub mod seal;
pub mod spelling;
pub mod sse;
pub mod template;
pub mod transcode;
