//! `incomplete_details.reason` of responses. A response that is `completed` gives none.

use crate::finish::{Meaning, Row, row};

const OPENAI: &str = "OpenAI API reference, responses, `incomplete_details.reason`";
const COMPATIBLE: &str = "servers that speak the Responses API in part";

/// The vendor's finish reasons and their meanings.
pub(super) const REASONS: &[Row] = &[
    row("max_output_tokens", Meaning::Limit, OPENAI),
    row("content_filter", Meaning::Filter, OPENAI),
    row("max_tokens", Meaning::Limit, COMPATIBLE),
    row("length", Meaning::Limit, COMPATIBLE),
    row("max_tool_calls", Meaning::Limit, COMPATIBLE),
    row("context_length_exceeded", Meaning::Context, COMPATIBLE),
];
