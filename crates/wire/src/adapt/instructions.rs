//! Instructions in the places that an upstream takes. Those that lead are never moved, and later ones stay
//! close to where they were said, so that a cached beginning of the prompt stays the same.

use super::settings::Instructions;
use crate::chat::{Message, Part, Role};

/// Moves instructions to where they are taken.
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

/// Instructions that lead become one message.
fn lead_as_one(messages: &mut Vec<Message>) {
    let leading = messages.iter().take_while(|message| message.role == Role::System).count();
    if leading > 1 {
        let joined: Vec<Message> = messages.drain(1..leading).collect();
        if let Some(first) = messages.first_mut() {
            first.parts.extend(joined.into_iter().flat_map(|message| message.parts));
        }
    }
}

/// Later instructions become marked text of the user, where `wanted` by the turn before them.
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

/// Later instructions that no turn of the user precedes go behind the next one, and those that follow
/// each other become one.
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

/// Texts of the user add to the turn before them: templates that take instructions first only take turns
/// in alternation only.
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

/// Adds parts; a text to a text becomes a paragraph of it.
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
