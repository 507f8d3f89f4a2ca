//! The one integration binary: every suite is a module here, and nothing else is.

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
mod citations;
#[cfg(test)]
mod client_tools;
#[cfg(test)]
mod command_line;
#[cfg(test)]
mod counts;
#[cfg(test)]
mod descriptors;
#[cfg(test)]
mod dialects_page;
#[cfg(test)]
mod egress;
#[cfg(test)]
mod embeddings;
#[cfg(test)]
mod encoders;
#[cfg(test)]
mod endpoints;
#[cfg(test)]
mod failover;
#[cfg(test)]
mod floods;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod gemini;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod growth;
#[cfg(test)]
mod handshakes;
#[cfg(test)]
mod health;
#[cfg(test)]
mod hosted;
#[cfg(test)]
mod idle;
#[cfg(test)]
mod large_bodies;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod lines;
#[cfg(test)]
mod load;
#[cfg(test)]
mod logging;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod mislabelled;
#[cfg(test)]
mod model_names;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod pairs;
#[cfg(test)]
mod passed;
#[cfg(test)]
mod prompts;
#[cfg(test)]
mod provider_lists;
#[cfg(test)]
mod recorded;
#[cfg(test)]
mod refusal_messages;
#[cfg(test)]
mod refusals;
mod refused_requests;
mod request_heads;
#[cfg(test)]
mod request_parity;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod responses;
#[cfg(test)]
mod rights;
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
mod support;
#[cfg(test)]
mod tidy;
#[cfg(test)]
mod tokens;
#[cfg(test)]
mod translation;
#[cfg(test)]
mod transport;
#[cfg(test)]
mod unserved;
#[cfg(test)]
mod words;
#[cfg(test)]
mod wrong_types;
