//! A tool call that is being written, in the form in which its caller has the tool. Arguments that do not
//! fit a typed tool are never made to: such a call stays a call of a function, so that its client answers
//! the model with an error.

use bytes::{BufMut, BytesMut};

use super::client_tools::{CUSTOM, ClientTool};
use crate::chat::ToolForm;
use crate::free_text::Reader;
use crate::json::write_str;
use crate::scan::Scan;

/// The form in which the arguments of a call are written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// As a string of JSON, in deltas.
    Arguments,
    /// As free text, in deltas.
    Input,
    /// As members of the item, all at once.
    Members(&'static ClientTool),
}

/// A tool call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) number: u32,
    id: String,
    /// The tool's name here, and the namespace that it is in.
    pub(super) name: String,
    namespace: Option<String>,
    pub(super) shape: Shape,
    pub(super) arguments: String,
    scan: Scan,
    /// Free text that was received since the last call of [`Self::fresh`].
    fresh: String,
    text: Reader,
}

impl Call {
    /// A call of a function, which may be another kind of tool here.
    pub(super) fn new(number: u32, id: &str, function: &str, form: Option<&ToolForm>) -> Self {
        let shape = match form.map(|form| &*form.kind) {
            Some(CUSTOM) => Shape::Input,
            Some(kind) => ClientTool::of_kind(kind).map_or(Shape::Arguments, Shape::Members),
            None => Shape::Arguments,
        };
        Self {
            number,
            id: id.to_owned(),
            name: form.map_or(function, |form| &form.name).to_owned(),
            namespace: form.and_then(|form| form.namespace.clone()),
            shape,
            arguments: String::new(),
            scan: Scan::default(),
            fresh: String::new(),
            text: Reader::default(),
        }
    }

    /// The call as it begins.
    pub(super) fn unsaid(&self) -> Self {
        Self {
            number: self.number,
            id: self.id.clone(),
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            shape: self.shape,
            arguments: String::new(),
            scan: Scan::default(),
            fresh: String::new(),
            text: Reader::default(),
        }
    }

    /// Adds to its arguments.
    pub(super) fn says(&mut self, json: &str) {
        self.arguments.push_str(json);
        self.scan.read(json);
        if matches!(self.shape, Shape::Input) {
            self.fresh.push_str(&self.text.read(json));
        }
    }

    /// Arguments for a call that ends without any, since clients parse them. `None` for free text.
    pub(super) fn settle(&mut self) -> Option<&'static str> {
        let lacks = self.arguments.is_empty() && !matches!(self.shape, Shape::Input);
        lacks.then(|| self.says("{}"))?;
        Some("{}")
    }

    /// Whether its arguments are.
    pub(super) fn is_whole(&self) -> bool {
        self.scan.is_complete()
    }

    /// The free text that was received since the last call; with `over`, all that is left of it.
    pub(super) fn fresh(&mut self, over: bool) -> String {
        let fresh = std::mem::take(&mut self.fresh);
        if over { fresh + &self.text.rest(&self.arguments) } else { fresh }
    }

    /// The arguments, or the free text in them, as received so far.
    pub(super) fn said(&self) -> String {
        match self.shape {
            Shape::Input => self.text.all(&self.arguments),
            Shape::Arguments | Shape::Members(_) => self.arguments.clone(),
        }
    }

    /// Prefix of the item's id.
    pub(super) fn prefix(&self) -> &'static str {
        match self.shape {
            Shape::Arguments => "fc",
            Shape::Input => "ctc",
            Shape::Members(tool) => tool.prefix,
        }
    }

    /// The whole item.
    pub(super) fn write(&self, id: &str, status: &str, out: &mut BytesMut) {
        let members = match self.shape {
            Shape::Members(tool) => tool.members(&self.arguments).map(|members| (tool, members)),
            Shape::Arguments | Shape::Input => None,
        };
        let (kind, member) = match (&members, self.shape) {
            (Some((tool, _)), _) => (tool.call, ""),
            (None, Shape::Input) => ("custom_tool_call", "input"),
            (None, _) => ("function_call", "arguments"),
        };
        let head = format!(r#"{{"id":"{id}","type":"{kind}","status":"{status}","call_id":"#);
        out.put_slice(head.as_bytes());
        write_str(&self.id, out);
        out.put_u8(b',');
        if let Some((_, members)) = members {
            out.put_slice(members.as_bytes());
        } else {
            if let Some(namespace) = &self.namespace {
                out.put_slice(br#""namespace":"#);
                write_str(namespace, out);
                out.put_u8(b',');
            }
            out.put_slice(br#""name":"#);
            write_str(&self.name, out);
            out.put_slice(format!(r#","{member}":"#).as_bytes());
            write_str(&self.said(), out);
        }
        out.put_u8(b'}');
    }
}
