//! Texts and turns of nothing but blanks, which some upstreams refuse. It never leaves a conversation
//! without a turn, nor one that the user ended with an answer of the model at its end.

use crate::wire::chat::{Message, Part, Role};

/// Stands for a turn of the user's that holds nothing.
const EMPTY: &str = "[empty message]";

/// Leaves out blank texts where only visible ones are taken, and turns that hold nothing else. The user's
/// last turn stays.
pub(super) fn leave_out(messages: &mut Vec<Message>, visible: bool) {
    if !visible {
        return;
    }
    let seen = |part: &Part| match part {
        Part::Text(text) | Part::Refusal(text) => !text.trim().is_empty(),
        _ => true,
    };
    for message in messages.iter_mut() {
        message.parts.retain(seen);
    }
    let holds =
        |message: &Message| message.parts.iter().any(|part| !matches!(part, Part::Cache(_)));
    let last = messages.iter().rposition(|message| message.role != Role::System);
    if let Some(last) = last.and_then(|last| messages.get_mut(last))
        && last.role == Role::User
        && !holds(last)
    {
        last.parts.insert(0, Part::Text(EMPTY.to_owned()));
    }
    messages.retain(holds);
}
