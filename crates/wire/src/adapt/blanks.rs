//! Blank texts and blank turns, which some upstreams reject. The module never leaves a conversation without a
//! turn, and never ends it with an answer of the model if the user had the last turn.

use crate::chat::{Message, Part, Role};

/// Placeholder for an empty user turn.
const EMPTY: &str = "[empty message]";
/// Placeholder for a result without text, such as that of a command without output.
const EMPTY_RESULT: &str = "[empty result]";
/// Placeholder for a result that consists of media only. The media follow it.
const ATTACHED: &str = "[result attached]";

/// The kinds of blanks that an upstream rejects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Blanks {
    /// Blank texts, and turns that hold nothing else.
    pub(super) texts: bool,
    /// Tool results without text.
    pub(super) results: bool,
    /// Turns that consist of reasoning alone, where reasoning is not sent to the upstream.
    pub(super) reasoning: bool,
}

/// Removes blank texts where the upstream requires visible ones, and turns that hold nothing else. The user's
/// last turn and tool results are kept.
pub(super) fn leave_out(messages: &mut Vec<Message>, refused: Blanks) {
    if !refused.texts {
        return;
    }
    for message in messages.iter_mut() {
        message.parts.retain(is_visible);
        if refused.results {
            message.parts.iter_mut().for_each(fill_result);
        }
    }
    let holds = |message: &Message| message.parts.iter().any(|part| counts(part, refused));
    let last = messages.iter().rposition(|message| message.role != Role::System);
    if let Some(last) = last.and_then(|last| messages.get_mut(last))
        && last.role == Role::User
        && !holds(last)
    {
        last.parts.insert(0, Part::Text(EMPTY.to_owned()));
    }
    messages.retain(holds);
}

fn is_visible(part: &Part) -> bool {
    match part {
        Part::Text(text) | Part::Refusal(text) => !text.trim().is_empty(),
        _ => true,
    }
}

/// Whether this part makes its turn non-empty.
fn counts(part: &Part, refused: Blanks) -> bool {
    match part {
        Part::Cache(_) => false,
        Part::Reasoning { .. } | Part::RedactedReasoning { .. } => !refused.reasoning,
        _ => true,
    }
}

/// Adds a placeholder text to a result without text.
fn fill_result(part: &mut Part) {
    let Part::ToolResult { parts, .. } = part else { return };
    parts.retain(is_visible);
    if !parts.iter().any(|part| matches!(part, Part::Text(_))) {
        let attached = parts.iter().any(|part| !matches!(part, Part::Cache(_)));
        let text = if attached { ATTACHED } else { EMPTY_RESULT };
        parts.insert(0, Part::Text(text.to_owned()));
    }
}
