//! `finishReason` of candidates, by name and by number.

use crate::chat::Kind;
use crate::finish::{Meaning, Row, row};

const API: &str = "Gemini API reference, `Candidate.FinishReason`";
const VERTEX: &str = "Vertex AI reference, `Candidate.FinishReason`";

/// The vendor's finish reasons and their meanings. The first [`NUMBERED`] are in the order of the vendor's
/// numbers, from 0, for requests with numeric enumerations (`$alt=json;enum-encoding=int`).
pub(super) const REASONS: &[Row] = &[
    row("FINISH_REASON_UNSPECIFIED", Meaning::Unsaid, API),
    row("STOP", Meaning::End, API),
    row("MAX_TOKENS", Meaning::Limit, API),
    row("SAFETY", Meaning::Filter, API),
    row("RECITATION", Meaning::Filter, API),
    row("OTHER", Meaning::Failed(Kind::Upstream), API),
    row("LANGUAGE", Meaning::Filter, API),
    row("BLOCKLIST", Meaning::Filter, API),
    row("PROHIBITED_CONTENT", Meaning::Filter, API),
    row("SPII", Meaning::Filter, API),
    row("MALFORMED_FUNCTION_CALL", Meaning::Failed(Kind::Upstream), API),
    row("IMAGE_SAFETY", Meaning::Filter, API),
    row("UNEXPECTED_TOOL_CALL", Meaning::Failed(Kind::Upstream), API),
    row("TOO_MANY_TOOL_CALLS", Meaning::Failed(Kind::Upstream), API),
    row("IMAGE_PROHIBITED_CONTENT", Meaning::Filter, API),
    row("IMAGE_OTHER", Meaning::Filter, API),
    row("NO_IMAGE", Meaning::Failed(Kind::Upstream), API),
    row("IMAGE_RECITATION", Meaning::Filter, API),
    row("MISSING_THOUGHT_SIGNATURE", Meaning::Failed(Kind::Upstream), API),
    row("MALFORMED_RESPONSE", Meaning::Failed(Kind::Upstream), API),
    row("MODEL_ARMOR", Meaning::Filter, VERTEX),
    row("CONTINUATION", Meaning::Pause, VERTEX),
];

/// Number of finish reasons that have a number.
pub(super) const NUMBERED: usize = 19;
