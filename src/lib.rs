//! Streamgate: an LLM token-streaming gateway. The modules, in reading order; `wire` and `sim` are
//! packages of their own under `crates/`.

pub mod admin;
pub mod app;
pub mod config;
pub mod durable;
pub mod error;
pub mod gateway;
pub mod load;
pub mod prompts;
pub mod server;
pub mod streams;
pub mod telemetry;

pub use streamgate_sim as sim;
pub use streamgate_wire as wire;
