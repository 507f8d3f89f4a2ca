//! Streamgate: an LLM token-streaming gateway. The modules, in reading order.

pub mod admin;
pub mod app;
pub mod config;
pub mod error;
pub mod gateway;
pub mod load;
pub mod prompts;
pub mod server;
pub mod sim;
pub mod telemetry;
pub mod wire;
