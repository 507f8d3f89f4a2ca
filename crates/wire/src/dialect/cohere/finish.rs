//! `finish_reason` of chat, in both versions of the API.

use crate::chat::Kind;
use crate::finish::{Meaning, Row, row};

const V2: &str = "Cohere API reference, v2 chat, `finish_reason`";
const V1: &str = "Cohere API reference, v1 chat, `finish_reason`";

/// The vendor's finish reasons and their meanings.
pub(super) const REASONS: &[Row] = &[
    row("COMPLETE", Meaning::End, V2),
    row("STOP_SEQUENCE", Meaning::Sequence, V2),
    row("MAX_TOKENS", Meaning::Limit, V2),
    row("TOOL_CALL", Meaning::Tools, V2),
    row("ERROR", Meaning::Failed(Kind::Upstream), V2),
    row("TIMEOUT", Meaning::Failed(Kind::Timeout), V2),
    row("ERROR_TOXIC", Meaning::Filter, V1),
    row("ERROR_LIMIT", Meaning::Context, V1),
    row("USER_CANCEL", Meaning::Failed(Kind::Upstream), V1),
];
