//! Building blocks of decoders and encoders: plain structs that dialects compose. They must never know a dialect.

pub(crate) mod fast_path;
