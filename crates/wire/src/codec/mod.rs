//! Building blocks of decoders and encoders: plain structs that dialects compose. They must never depend on a
//! dialect.

pub(crate) mod call_ids;
pub(crate) mod fast_path;
pub(crate) mod open_blocks;
pub(crate) mod prompt;
pub(crate) mod split_surrogate;
pub(crate) mod surface;
pub(crate) mod unreadable;
pub(crate) mod unsupported;
