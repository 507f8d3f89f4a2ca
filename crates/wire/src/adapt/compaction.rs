//! Summaries by which a vendor replaces earlier turns. The vendor's own endpoint ignores everything before a
//! summary. Every other upstream must do the same, since the whole conversation would not fit. Instructions are
//! never removed.

use super::Dropped;
use crate::chat::{Message, Part, Role};

/// Heading of a readable summary.
const READABLE: &str = "[summary of the conversation so far]";
/// Placeholder for a summary that only its own vendor can read.
const UNREADABLE: &str = "[summary left out: only its own vendor can read it]";

/// Starts the conversation at the last readable summary. Other summaries become text in place.
pub(super) fn apply(messages: &mut Vec<Message>, dropped: &mut Dropped) {
    let is_summary = |part: &Part| matches!(part, Part::Summary(_));
    if !messages.iter().any(|message| message.parts.iter().any(is_summary)) {
        return;
    }
    let readable = |part: &Part| matches!(part, Part::Summary(Some(_)));
    let last =
        messages.iter().enumerate().rev().find_map(|(i, message)| {
            message.parts.iter().rposition(readable).map(|part| (i, part))
        });
    if let Some((turn, part)) = last {
        begin(messages, turn, part);
    }
    for message in messages {
        for part in &mut message.parts {
            if let Part::Summary(summary) = part {
                let text = summary.take().map_or_else(
                    || {
                        dropped.note("compaction");
                        UNREADABLE.to_owned()
                    },
                    |text| format!("{READABLE}\n{text}"),
                );
                *part = Part::Text(text);
            }
        }
    }
}

/// Removes the turns before a summary, except leading instructions, and makes the summary a user turn.
fn begin(messages: &mut Vec<Message>, turn: usize, part: usize) {
    let Some(own) = messages.get_mut(turn) else { return };
    let at = own.at.clone();
    own.parts.drain(..part);
    let summary = own.parts.drain(..1).collect();
    let leading = messages.iter().take_while(|message| message.role == Role::System).count();
    messages.drain(leading.min(turn)..turn);
    messages.insert(leading.min(turn), Message { at, role: Role::User, parts: summary });
}
