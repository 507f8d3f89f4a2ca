//! Custom tools, which take free text: how calls of them read, and which tools they are.
//!
//! Elsewhere they are functions. Here their callers are told of them as they asked for them.

use std::collections::HashSet;

use bytes::{BufMut, BytesMut};

use super::answer::string_member;
use crate::wire::free_text::Reader;
use crate::wire::json::{self, Members};

/// The names of the custom tools in a request, as a JSON list; nothing if there are none.
pub(super) fn echo(body: &str) -> String {
    let members = Members::parse(body).unwrap_or_default();
    let tools: Option<Vec<Members<'_>>> =
        members.get("tools").and_then(|tools| serde_json::from_str(tools.get()).ok());
    let name = |tool: Members<'_>| {
        let custom = Members::parse(tool.get("custom")?.get()).ok()?;
        custom.get("name").and_then(json::text).map(std::borrow::Cow::into_owned)
    };
    let names: Vec<String> = tools.into_iter().flatten().filter_map(name).collect();
    if names.is_empty() { String::new() } else { serde_json::json!(names).to_string() }
}

/// The names in such a list.
pub(super) fn names(echo: &str) -> HashSet<String> {
    serde_json::from_str(echo).unwrap_or_default()
}

/// One call that is being written.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Anything was written of its arguments.
    pub(super) filled: bool,
    /// Of a custom tool: its arguments so far, and the text in them.
    pub(super) free: Option<(String, Reader)>,
}

impl Written {
    /// A call of a tool, custom or not.
    pub(super) fn new(free: bool) -> Self {
        Self { filled: false, free: free.then(Default::default) }
    }

    /// The text that more arguments bring. `None`: they are to be told as they are.
    pub(super) fn read(&mut self, json: &str) -> Option<String> {
        let (arguments, reader) = self.free.as_mut()?;
        arguments.push_str(json);
        Some(reader.read(json))
    }

    /// What is left to be said when there are no more.
    pub(super) fn rest(&self) -> String {
        match &self.free {
            Some((arguments, reader)) => reader.rest(arguments),
            None if self.filled => String::new(),
            // Clients parse what they get.
            None => "{}".to_owned(),
        }
    }
}

/// What a call is besides its number and its id, as members.
pub(super) fn head(free: bool, name: &str, arguments: &str, out: &mut BytesMut) {
    let (kind, member) = words(free);
    string_member(b"type", kind, out);
    out.put_slice(format!(r#","{kind}":{{"#).as_bytes());
    string_member(b"name", name, out);
    out.put_u8(b',');
    string_member(member.as_bytes(), arguments, out);
    out.put_u8(b'}');
}

/// The signature of the thoughts before a call, as a member after a comma, where Google has it.
pub(super) fn signature(value: Option<&str>, out: &mut BytesMut) {
    if let Some(value) = value {
        out.put_slice(br#","extra_content":{"google":{"#);
        string_member(b"thought_signature", value, out);
        out.put_slice(b"}}");
    }
}

/// More of a call, as a member.
pub(super) fn more(free: bool, text: &str, out: &mut BytesMut) {
    let (kind, member) = words(free);
    out.put_slice(format!(r#""{kind}":{{"#).as_bytes());
    string_member(member.as_bytes(), text, out);
    out.put_u8(b'}');
}

fn words(free: bool) -> (&'static str, &'static str) {
    if free { ("custom", "input") } else { ("function", "arguments") }
}
