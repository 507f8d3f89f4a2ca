//! `stopReason` of Converse.

use crate::chat::Kind;
use crate::finish::{Meaning, Row, row};

const CONVERSE: &str = "botocore bedrock-runtime model, `StopReason`";

/// The vendor's finish reasons and their meanings.
pub(super) const REASONS: &[Row] = &[
    row("end_turn", Meaning::End, CONVERSE),
    // The vendor does not report which sequence.
    row("stop_sequence", Meaning::Sequence, CONVERSE),
    row("max_tokens", Meaning::Limit, CONVERSE),
    row("model_context_window_exceeded", Meaning::Context, CONVERSE),
    row("tool_use", Meaning::Tools, CONVERSE),
    row("content_filtered", Meaning::Filter, CONVERSE),
    row("guardrail_intervened", Meaning::Filter, CONVERSE),
    row("malformed_model_output", Meaning::Failed(Kind::Upstream), CONVERSE),
    row("malformed_tool_use", Meaning::Failed(Kind::Upstream), CONVERSE),
];
