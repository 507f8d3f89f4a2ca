//! Tools, calls and tool choices in the form that an upstream accepts: names, ids, schemas, and the replacement
//! of a choice that it cannot express.

use std::collections::{HashMap, HashSet};

use serde_json::value::RawValue;

use super::enforceable::{can_be_closed, object_root};
use super::names;
use super::rules::{ForcedCall, Rules};
use super::{Dropped, schema};
use crate::chat::{Format, Message, Part, Request, Role, Tool, ToolChoice, function_name};

/// Replaced names: the caller's own name by the name that the upstream knows.
pub type Names = HashMap<String, String>;

/// Adapts the tools and everything that refers to them.
pub(super) fn adapt(request: &mut Request, rules: &Rules, dropped: &mut Dropped) -> Names {
    unite(&mut request.tools, dropped);
    choose(request, rules, dropped);
    declare(request, rules);
    for tool in &mut request.tools {
        shape(tool, rules, dropped);
    }
    form(request, rules, dropped);
    rename(request, rules)
}

/// Keeps the first function of each name.
fn unite(tools: &mut Vec<Tool>, dropped: &mut Dropped) {
    let mut known: HashSet<String> = HashSet::with_capacity(tools.len());
    tools.retain(|tool| {
        let first = known.insert(tool.name.clone());
        if !first {
            dropped.note("tools");
        }
        first
    });
}

/// Adapts the schema of a tool. It is not enforced where that would change the set of matching arguments.
fn shape(tool: &mut Tool, rules: &Rules, dropped: &mut Dropped) {
    let changed = schema::of_tool(tool.parameters.as_deref(), rules.schemas);
    tool.parameters = changed.or_else(|| tool.parameters.take());
    if tool.strict != Some(true) {
        return;
    }
    let schema = tool.parameters.as_deref();
    if rules.schemas.closed {
        if schema.is_some_and(|schema| !can_be_closed(schema.get())) {
            tool.strict = None;
            dropped.note("strict");
            return;
        }
        let closed = schema.and_then(|schema| schema::of_format(schema, rules.schemas));
        tool.parameters = closed.or_else(|| tool.parameters.take());
    }
    let schema = tool.parameters.as_deref();
    if rules.schemas.whole && !schema.is_some_and(|it| schema::is_whole(it.get())) {
        tool.strict = Some(false);
        dropped.note("strict");
    }
}

/// Whether the upstream accepts a schema for structured output.
fn is_taken(schema: &RawValue, rules: &Rules) -> bool {
    let closed = !rules.schemas.closed || can_be_closed(schema.get());
    closed && (!rules.schemas.root || object_root(schema.get()).is_some())
}

/// Adapts structured output.
fn form(request: &mut Request, rules: &Rules, dropped: &mut Dropped) {
    let taken = match &request.format {
        Some(Format::Schema { schema, .. }) => is_taken(schema, rules),
        Some(Format::Json) | None => true,
    };
    if !taken || rules.format_alone && !request.tools.is_empty() {
        let words = match request.format.take() {
            Some(Format::Schema { schema, .. }) => {
                format!("Answer with JSON that matches this schema: {}", schema.get())
            }
            Some(Format::Json) => "Answer with a JSON object.".to_owned(),
            None => return,
        };
        dropped.note("format");
        ask(request, words);
        return;
    }
    match &mut request.format {
        Some(Format::Schema { schema, name, strict }) => {
            if let Some(changed) = schema::of_format(schema, rules.schemas) {
                *schema = changed;
            }
            if let (Some(name), Some(taken)) = (name, rules.schema_name) {
                *name = taken.name(name).into_owned();
            }
            if *strict == Some(true) && rules.schemas.whole && !schema::is_whole(schema.get()) {
                *strict = Some(false);
                dropped.note("strict");
            }
        }
        Some(Format::Json) if rules.json_said && !says_json(&request.messages) => {
            ask(request, "Answer with a JSON object.".to_owned());
        }
        Some(Format::Json) | None => {}
    }
}

/// Whether the conversation contains the word "JSON".
fn says_json(messages: &[Message]) -> bool {
    let mut parts = messages.iter().flat_map(|message| &message.parts);
    parts.any(|part| match part {
        Part::Text(text) => text.to_ascii_lowercase().contains("json"),
        _ => false,
    })
}

/// Replaces a choice that the upstream cannot express: only that tool is offered, and the prompt requests the
/// call.
fn choose(request: &mut Request, rules: &Rules, dropped: &mut Dropped) {
    if !request.forces_a_call() || rules.forced_call == ForcedCall::Named {
        return;
    }
    if let Some(ToolChoice::Named(name)) = &request.tool_choice {
        if request.tools.iter().any(|tool| tool.name == *name) {
            request.tools.retain(|tool| tool.name == *name);
        }
        request.tool_choice = Some(ToolChoice::Required);
    }
    if rules.forced_call == ForcedCall::None {
        dropped.note("tool_choice");
        request.tool_choice = None;
        let words = match request.tools.as_slice() {
            [tool] => format!("Answer with a call of the tool `{}`.", tool.name),
            _ => "Answer with a call of one of the tools.".to_owned(),
        };
        ask(request, words);
    }
}

/// Appends a text to the user's last turn.
pub(super) fn ask(request: &mut Request, words: String) {
    let last = request.messages.last_mut().filter(|message| message.role == Role::User);
    if let Some(message) = last {
        message.parts.push(Part::Text(words));
        return;
    }
    let parts = vec![Part::Text(words)];
    request.messages.push(Message { at: String::new(), role: Role::User, parts });
}

/// Declares the tools of calls in earlier turns. Tools that the caller did not offer must not be called.
fn declare(request: &mut Request, rules: &Rules) {
    if !rules.tools_declared || request.has_tools() {
        return;
    }
    let mut declared = HashSet::new();
    for part in request.messages.iter().flat_map(|message| &message.parts) {
        if let Part::ToolCall { name, .. } = part
            && declared.insert(name)
        {
            request.tools.push(Tool { name: name.clone(), ..Tool::default() });
            request.tool_choice = Some(ToolChoice::None);
        }
    }
}

/// Replaces names and ids that the upstream does not accept.
fn rename(request: &mut Request, rules: &Rules) -> Names {
    let mut names = Names::new();
    let hosted: Vec<&str> = request.hosted.iter().map(|tool| tool.kind.name()).collect();
    let reserved = |name: &str| rules.runs("named") && hosted.contains(&name);
    let mut own = |name: &mut String| {
        let fitting = match rules.tool_name {
            _ if reserved(name) => function_name(None, name, &reserved),
            Some(taken) if !taken.fits(name) => taken.name(name).into_owned(),
            _ => return,
        };
        let original = std::mem::replace(name, fitting.clone());
        names.entry(fitting).or_insert(original);
    };
    request.tools.iter_mut().for_each(|tool| own(&mut tool.name));
    if let Some(ToolChoice::Named(name)) = &mut request.tool_choice {
        own(name);
    }
    for part in request.messages.iter_mut().flat_map(|message| &mut message.parts) {
        let id = match part {
            Part::ToolCall { id, name, .. } => {
                own(name);
                id
            }
            Part::ToolResult { id, .. } => id,
            _ => continue,
        };
        if let Some(taken) = rules.call_id.filter(|taken| !taken.fits(id)) {
            *id = taken.id(id).into_owned();
        }
    }
    names
}

/// Replaces identifiers that are too long by their digests.
pub(super) fn identify(request: &mut Request, rules: &Rules) {
    if request.cache_key.is_none() {
        request.cache_key = request.user.as_deref().and_then(session);
    }
    for (id, longest) in
        [(&mut request.user, rules.user), (&mut request.cache_key, rules.cache_key)]
    {
        if let Some(digest) = id.as_deref().and_then(|id| names::digested(id, longest)) {
            *id = Some(digest);
        }
    }
}

/// The session that some clients put into the end user's id (`{"session_id": "..."}`, `user_..._session_...`).
/// Its requests share a prompt.
fn session(user: &str) -> Option<String> {
    if !user.starts_with('{') {
        return user.split_once("_session_").map(|(_, session)| session.to_owned());
    }
    let members = crate::json::Members::parse(user).ok()?;
    let session = crate::json::text(members.get("session_id")?)?.into_owned();
    Some(session).filter(|session| !session.is_empty())
}
