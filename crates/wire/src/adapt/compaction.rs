//! Summaries that a vendor has put in the place of earlier turns. Its own endpoint ignores what precedes
//! one; so must every other upstream, since the whole would not fit. It never leaves instructions out.

use super::Dropped;
use crate::chat::{Message, Part, Role};

/// What precedes a summary that can be read.
const READABLE: &str = "[summary of the conversation so far]";
/// What stands for one that only its vendor can read.
const UNREADABLE: &str = "[summary left out: only its own vendor can read it]";

/// Begins the conversation with the last summary that can be read. Others become text in their places.
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

/// Leaves out what precedes a summary but for leading instructions, and makes it a turn of the user's.
fn begin(messages: &mut Vec<Message>, turn: usize, part: usize) {
    let Some(own) = messages.get_mut(turn) else { return };
    let at = own.at.clone();
    own.parts.drain(..part);
    let summary = own.parts.drain(..1).collect();
    let leading = messages.iter().take_while(|message| message.role == Role::System).count();
    messages.drain(leading.min(turn)..turn);
    messages.insert(leading.min(turn), Message { at, role: Role::User, parts: summary });
}
