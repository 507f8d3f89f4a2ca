//! Texts and turns of nothing but blanks, which some upstreams refuse. It never leaves a conversation
//! without a turn, nor one that the user ended with an answer of the model at its end.

use crate::chat::{Message, Part, Role};

/// Stands for a turn of the user's that holds nothing.
const EMPTY: &str = "[empty message]";
/// Stands for a result without text, as of a command without output.
const EMPTY_RESULT: &str = "[empty result]";
/// Stands for a result of media only, which are sent behind it.
const ATTACHED: &str = "[result attached]";

/// What an upstream refuses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Blanks {
    /// Blank texts, and turns of nothing else.
    pub(super) texts: bool,
    /// Results of tools without text.
    pub(super) results: bool,
    /// Turns of reasoning alone, which it is not sent.
    pub(super) reasoning: bool,
}

/// Leaves out blank texts where only visible ones are taken, and turns that hold nothing else. The user's
/// last turn stays, and so do results.
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

/// Whether a turn that holds this part is one.
fn counts(part: &Part, refused: Blanks) -> bool {
    match part {
        Part::Cache(_) => false,
        Part::Reasoning { .. } | Part::RedactedReasoning { .. } => !refused.reasoning,
        _ => true,
    }
}

/// Gives a result without text one.
fn fill_result(part: &mut Part) {
    let Part::ToolResult { parts, .. } = part else { return };
    parts.retain(is_visible);
    if !parts.iter().any(|part| matches!(part, Part::Text(_))) {
        let attached = parts.iter().any(|part| !matches!(part, Part::Cache(_)));
        let text = if attached { ATTACHED } else { EMPTY_RESULT };
        parts.insert(0, Part::Text(text.to_owned()));
    }
}
