//! Building blocks of decoders and encoders: plain structs that dialects compose. They must never know a dialect.

pub(crate) mod call_ids;
pub(crate) mod fast_path;
pub(crate) mod open_blocks;
pub(crate) mod split_surrogate;
pub(crate) mod unreadable;
