//! `done_reason` of lines.

use crate::finish::{Meaning, Row, row};

const SERVER: &str = "ollama llm/server.go, `DoneReason`";
const ROUTES: &str = "ollama server/routes.go, answers to requests that only load a model";

/// The vendor's finish reasons and their meanings.
pub(super) const REASONS: &[Row] = &[
    row("stop", Meaning::End, SERVER),
    row("length", Meaning::Limit, SERVER),
    row("", Meaning::End, SERVER),
    row("load", Meaning::End, ROUTES),
    row("unload", Meaning::End, ROUTES),
];
