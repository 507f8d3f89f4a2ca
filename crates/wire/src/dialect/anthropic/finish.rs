//! `stop_reason` of messages.

use crate::finish::{Meaning, Row, row};

const MESSAGES: &str = "Messages API reference, `stop_reason`";
const COMPACTION: &str = "Messages API, beta of server-side compaction, `stop_reason`";

/// The vendor's finish reasons and their meanings.
pub(super) const REASONS: &[Row] = &[
    row("end_turn", Meaning::End, MESSAGES),
    row("stop_sequence", Meaning::Sequence, MESSAGES),
    row("max_tokens", Meaning::Limit, MESSAGES),
    row("model_context_window_exceeded", Meaning::Context, MESSAGES),
    row("tool_use", Meaning::Tools, MESSAGES),
    row("pause_turn", Meaning::Pause, MESSAGES),
    row("refusal", Meaning::Refusal, MESSAGES),
    row("compaction", Meaning::Pause, COMPACTION),
];
