//! The one integration test binary: every suite is a module here.
//!
//! The modules are `#[cfg(test)]`, which a test binary needs for nothing else but clippy: its permission
//! to panic in tests (`allow-unwrap-in-tests` and others in `clippy.toml`) covers test functions and such
//! modules, but not the plain functions beside them.

#[cfg(test)]
mod access;
#[cfg(test)]
mod adapted;
#[cfg(test)]
mod admin;
#[cfg(test)]
mod anonymous;
#[cfg(test)]
mod answers;
#[cfg(test)]
mod aws;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod bombs;
#[cfg(test)]
mod call_ids;
#[cfg(test)]
mod channels;
#[cfg(test)]
mod citations;
#[cfg(test)]
mod client_tools;
#[cfg(test)]
mod command_line;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod console;
#[cfg(test)]
mod content_types;
#[cfg(test)]
mod continuation;
#[cfg(test)]
mod counts;
#[cfg(test)]
mod descriptors;
#[cfg(test)]
mod dialects_page;
#[cfg(test)]
mod durable;
#[cfg(test)]
mod egress;
#[cfg(test)]
mod embeddings;
#[cfg(test)]
mod encoders;
#[cfg(test)]
mod endpoints;
#[cfg(test)]
mod error_messages;
#[cfg(test)]
mod failover;
#[cfg(test)]
mod floods;
#[cfg(test)]
mod formats;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod gemini;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod graphql;
#[cfg(test)]
mod growth;
#[cfg(test)]
mod handshakes;
#[cfg(test)]
mod health;
#[cfg(test)]
mod hosted;
#[cfg(test)]
mod idle_timeout;
#[cfg(test)]
mod jwt;
#[cfg(test)]
mod large_bodies;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod load;
#[cfg(test)]
mod logging;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod mercure;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod mistakes;
#[cfg(test)]
mod model_names;
#[cfg(test)]
mod model_permissions;
#[cfg(test)]
mod ollama_and_cohere;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod pairs;
#[cfg(test)]
mod passthrough;
#[cfg(test)]
mod prices;
#[cfg(test)]
mod prompts;
#[cfg(test)]
mod provider_lists;
#[cfg(test)]
mod rate_limits;
#[cfg(test)]
mod recorded;
#[cfg(test)]
mod refusal_messages;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod refused_requests;
#[cfg(test)]
mod request_heads;
#[cfg(test)]
mod request_parity;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod responses;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod shutdown_times;
#[cfg(test)]
mod sockets;
#[cfg(test)]
mod statuses;
#[cfg(test)]
mod stop_strings;
#[cfg(test)]
mod streaming;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tidy;
#[cfg(test)]
mod translation;
#[cfg(test)]
mod transport;
#[cfg(test)]
mod unserved_paths;
#[cfg(test)]
mod wrong_types;
