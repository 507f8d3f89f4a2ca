//! Cache marks of prompts: the caller's marks where the upstream accepts them, and marks that replace the
//! automatic caching of the caller's own vendor. The caller's marks are never moved.

use super::rules::Marks;
use crate::chat::{Part, Request, Role};

/// Keeps as many marks as the upstream accepts, or sets some where there are none.
pub(super) fn mark(request: &mut Request, marks: Marks, auto: bool) {
    if !marks.tools {
        request.tools.iter_mut().for_each(|tool| tool.cache = None);
    }
    let there = count(request);
    if there == 0 {
        if auto && marks.auto && request.caches_itself {
            set(request, marks);
        }
    } else if marks.most == 0 || there > marks.most {
        keep(request, there, marks.most);
    }
}

fn count(request: &Request) -> usize {
    let tools = request.tools.iter().filter(|tool| tool.cache.is_some()).count();
    let parts = request.messages.iter().flat_map(|message| &message.parts);
    let marks = |part: &Part| match part {
        Part::Cache(_) => 1,
        Part::ToolResult { parts, .. } => {
            parts.iter().filter(|part| matches!(part, Part::Cache(_))).count()
        }
        _ => 0,
    };
    tools + parts.map(marks).sum::<usize>()
}

/// Keeps the first of `there` marks, behind the most stable part of the prompt, and the last ones.
fn keep(request: &mut Request, there: usize, most: usize) {
    let mut number = 0;
    let mut kept = || {
        number += 1;
        most > 0 && (number == 1 || there - number < most - 1)
    };
    for tool in &mut request.tools {
        if tool.cache.is_some() && !kept() {
            tool.cache = None;
        }
    }
    for message in &mut request.messages {
        message.parts.retain_mut(|part| match part {
            Part::Cache(_) => kept(),
            Part::ToolResult { parts, .. } => {
                parts.retain(|part| !matches!(part, Part::Cache(_)) || kept());
                true
            }
            _ => true,
        });
    }
}

/// Marks the tools, the instructions, the user's last turn, and the user's turn before that one, with which the
/// preceding request ended.
fn set(request: &mut Request, marks: Marks) {
    if let Some(tool) = request.tools.last_mut().filter(|_| marks.tools) {
        tool.cache = Some(None);
    }
    let leading = request.messages.iter().take_while(|message| message.role == Role::System);
    let leading = leading.count();
    let users = request.messages.iter().enumerate().skip(leading);
    let users = users.filter(|(_, message)| message.role == Role::User).map(|(i, _)| i);
    let last = users.rev().take(2).chain(leading.checked_sub(1));
    for at in last.collect::<Vec<_>>() {
        if let Some(message) = request.messages.get_mut(at) {
            message.parts.push(Part::Cache(None));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Message, Tool};

    const MARKS: Marks = Marks { most: 4, tools: true, auto: true };

    fn turn(role: Role, text: &str, marked: bool) -> Message {
        let text = Part::Text(text.to_owned());
        let mark = marked.then(|| Part::Cache(Some("1h".to_owned())));
        let parts = std::iter::once(text).chain(mark).collect();
        Message { at: String::new(), role, parts }
    }

    fn marked(request: &Request) -> Vec<bool> {
        let is_mark = |part: &Part| matches!(part, Part::Cache(_));
        let turns = request.messages.iter().map(|message| message.parts.iter().any(is_mark));
        request.tools.iter().map(|tool| tool.cache.is_some()).chain(turns).collect()
    }

    fn conversation(marked: bool) -> Request {
        let turns = [Role::System, Role::User, Role::Assistant, Role::User, Role::User];
        let messages = turns.into_iter().map(|role| turn(role, "t", marked)).collect();
        let tool = Tool { cache: marked.then_some(None), ..Tool::default() };
        Request { messages, tools: vec![tool], caches_itself: true, ..Request::default() }
    }

    #[test]
    fn marks_are_set_where_the_callers_vendor_would_cache_by_itself() {
        let after = |request: &mut Request, marks, auto| {
            mark(request, marks, auto);
            marked(request)
        };
        let set = vec![true, true, false, false, true, true];
        assert_eq!(after(&mut conversation(false), MARKS, true), set);
        let none = vec![false; 6];
        assert_eq!(after(&mut conversation(false), MARKS, false), none);
        let other = Marks { auto: false, ..MARKS };
        assert_eq!(after(&mut conversation(false), other, true), none);
        let mut own = Request { caches_itself: false, ..conversation(false) };
        assert_eq!(after(&mut own, MARKS, true), none);
    }

    #[test]
    fn no_more_marks_are_kept_than_are_taken() {
        let mut many = conversation(true);
        mark(&mut many, MARKS, true);
        assert_eq!(marked(&many), [true, false, false, true, true, true]);
        let mut some = conversation(true);
        mark(&mut some, Marks { tools: false, ..MARKS }, true);
        assert_eq!(marked(&some), [false, true, false, true, true, true]);
        let mut none = conversation(true);
        mark(&mut none, Marks::default(), true);
        assert_eq!(marked(&none), [false; 6]);
    }
}
