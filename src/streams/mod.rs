//! Durable streams: logs that outlive the connections of those who write and read them. It must never know of HTTP,
//! nor of an upstream.

pub mod archived;
pub mod capability;
pub mod conversation_archive;
pub mod conversations;
pub mod event;
pub mod generation;
pub mod head;
pub mod log;
pub mod position;
pub mod record;
pub mod registry;
pub mod response_archive;
pub mod share;
pub mod stored;
pub mod track;
pub mod viewer;
