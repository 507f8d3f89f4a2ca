//! Instructions in the places that an upstream accepts. Leading instructions are never moved, and later ones
//! stay close to their original place, so that a cached prefix of the prompt stays the same.

use super::settings::Instructions;
use crate::chat::{Message, Part, Role};

/// Moves instructions to the places that the upstream accepts.
pub(super) fn place(messages: &mut Vec<Message>, place: Instructions) {
    if matches!(place, Instructions::Anywhere | Instructions::First) {
        lead_as_one(messages);
    }
    let instructs = |message: &Message| message.role == Role::System;
    let later = messages.iter().skip_while(|message| instructs(message)).any(instructs);
    match place {
        Instructions::First => {
            if later {
                demote(messages, |_| true);
            }
            alternate(messages);
        }
        Instructions::Apart if later => demote(messages, |_| true),
        Instructions::AfterUser if later => {
            after_user(messages);
            demote(messages, |before| before != Role::User);
        }
        Instructions::Anywhere | Instructions::Apart | Instructions::AfterUser => {}
    }
}

/// Merges leading instructions into one message.
fn lead_as_one(messages: &mut Vec<Message>) {
    let leading = messages.iter().take_while(|message| message.role == Role::System).count();
    if leading > 1 {
        let joined: Vec<Message> = messages.drain(1..leading).collect();
        if let Some(first) = messages.first_mut() {
            first.parts.extend(joined.into_iter().flat_map(|message| message.parts));
        }
    }
}

/// Turns later instructions into marked text of the user where `wanted` returns true for the role of the turn
/// before them.
fn demote(messages: &mut [Message], wanted: impl Fn(Role) -> bool) {
    let mut before = Role::System;
    let mut leads = true;
    for message in messages {
        leads &= message.role == Role::System;
        if !leads && message.role == Role::System && wanted(before) {
            message.role = Role::User;
            for part in &mut message.parts {
                if let Part::Text(text) = part {
                    *text = format!("<system-reminder>\n{text}\n</system-reminder>");
                }
            }
        }
        before = message.role;
    }
}

/// Moves later instructions without a preceding user turn behind the next one, and merges adjacent ones.
fn after_user(messages: &mut Vec<Message>) {
    let mut out: Vec<Message> = Vec::with_capacity(messages.len());
    let mut waiting: Vec<Message> = Vec::new();
    let mut leads = true;
    for message in std::mem::take(messages) {
        leads &= message.role == Role::System;
        match (message.role, out.last().map(|last| last.role)) {
            _ if leads => out.push(message),
            (Role::System, Some(Role::User)) => out.push(message),
            (Role::System, Some(Role::System)) => {
                if let Some(last) = out.last_mut() {
                    last.parts.extend(message.parts);
                }
            }
            (Role::System, _) => waiting.push(message),
            (Role::User, _) => {
                out.push(message);
                out.extend(one(&mut waiting));
            }
            (Role::Assistant, _) => {
                out.append(&mut waiting);
                out.push(message);
            }
        }
    }
    out.append(&mut waiting);
    *messages = out;
}

fn one(waiting: &mut Vec<Message>) -> Option<Message> {
    let mut all = waiting.drain(..);
    let mut first = all.next()?;
    first.parts.extend(all.flat_map(|message| message.parts));
    Some(first)
}

/// Merges adjacent texts of the user. Chat templates that accept instructions in first place only also require
/// alternating turns.
fn alternate(messages: &mut Vec<Message>) {
    let spoken = |message: &Message| {
        let text = |part: &Part| matches!(part, Part::Text(_) | Part::Cache(_));
        message.role == Role::User && message.parts.iter().all(text)
    };
    let adds = |pair: &[Message]| matches!(pair, [before, message] if before.role == Role::User && spoken(message));
    if !messages.windows(2).any(adds) {
        return;
    }
    let mut out: Vec<Message> = Vec::with_capacity(messages.len());
    for mut message in std::mem::take(messages) {
        match out.last_mut().filter(|last| last.role == Role::User && spoken(&message)) {
            Some(last) => join(&mut last.parts, &mut message.parts),
            None => out.push(message),
        }
    }
    *messages = out;
}

/// Appends parts. A text that follows a text becomes a paragraph of it.
fn join(parts: &mut Vec<Part>, more: &mut Vec<Part>) {
    for part in more.drain(..) {
        match (parts.last_mut(), part) {
            (Some(Part::Text(text)), Part::Text(more)) => {
                text.push_str("\n\n");
                text.push_str(&more);
            }
            (_, part) => parts.push(part),
        }
    }
}
