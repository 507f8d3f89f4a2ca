//! Streamgate: an LLM token-streaming gateway. The modules, in reading order; `wire` and `sim` are
//! packages of their own under `crates/`.

pub mod admin;
pub mod app;
pub mod archive;
pub mod backplane;
pub mod channel_api;
pub mod channels;
pub mod config;
pub mod console;
pub mod durable;
pub mod error;
pub mod gateway;
pub mod graphql;
pub mod ledger;
pub mod load;
pub mod memory;
pub mod mercure;
pub mod prices;
pub mod prompts;
pub mod server;
pub mod stream_api;
pub mod streams;
pub mod telemetry;

pub use streamgate_sim as sim;
pub use streamgate_wire as wire;
