//! The forms of calls that callers use: functions, custom tools, which take free text, and functions in the
//! form that `tools` replaced. Elsewhere all of them are functions. No caller gets a form that it did not
//! declare.

use bytes::{BufMut, BytesMut};

use super::answer::string_member;
use crate::chat::{ToolForm, ToolForms};
use crate::free_text::Reader;

const CUSTOM: &str = "custom";
const LEGACY: &str = "function_call";

/// Form of the calls of one tool, as its caller declared it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum CallForm {
    /// `tool_calls` of type `function`.
    #[default]
    Function,
    /// `tool_calls` of type `custom`.
    Custom,
    /// `function_call`, of which a message has one.
    Legacy,
}

impl CallForm {
    /// The form of the calls of a function.
    pub(super) fn of(function: &str, forms: &ToolForms) -> Self {
        match forms.get(function).map(|form| &*form.kind) {
            None => Self::Function,
            Some(LEGACY) => Self::Legacy,
            Some(_) => Self::Custom,
        }
    }

    /// The caller's form of a function of this name.
    pub(super) fn tool(self, name: &str) -> ToolForm {
        let kind = if self == Self::Legacy { LEGACY } else { CUSTOM };
        ToolForm { kind: kind.into(), namespace: None, name: name.to_owned() }
    }

    /// The name of the type, and the member that holds the call's arguments or text.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Function => ("function", "arguments"),
            Self::Custom => (CUSTOM, "input"),
            Self::Legacy => (LEGACY, "arguments"),
        }
    }

    /// Writes the members of a call except for its number and its id.
    pub(super) fn head(self, name: &str, arguments: &str, out: &mut BytesMut) {
        let (kind, member) = self.words();
        if self != Self::Legacy {
            string_member(b"type", kind, out);
            out.put_u8(b',');
        }
        out.put_slice(format!(r#""{kind}":{{"#).as_bytes());
        string_member(b"name", name, out);
        out.put_u8(b',');
        string_member(member.as_bytes(), arguments, out);
        out.put_u8(b'}');
    }

    /// More of a call, as a member.
    pub(super) fn more(self, text: &str, out: &mut BytesMut) {
        let (kind, member) = self.words();
        out.put_slice(format!(r#""{kind}":{{"#).as_bytes());
        string_member(member.as_bytes(), text, out);
        out.put_u8(b'}');
    }
}

/// One call that is being written.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Form of the call, as its caller declared it.
    pub(super) form: CallForm,
    /// Some arguments have been written.
    pub(super) filled: bool,
    /// Of a custom tool: its arguments so far, and the text in them.
    free: Option<(String, Reader)>,
}

impl Written {
    /// A call in this form.
    pub(super) fn new(form: CallForm) -> Self {
        let free = (form == CallForm::Custom).then(Default::default);
        Self { form, filled: false, free }
    }

    /// The text that more arguments bring. `None`: they are passed on unchanged.
    pub(super) fn read(&mut self, json: &str) -> Option<String> {
        let (arguments, reader) = self.free.as_mut()?;
        arguments.push_str(json);
        Some(reader.read(json))
    }

    /// The remaining text to write after the last arguments.
    pub(super) fn rest(&self) -> String {
        match &self.free {
            Some((arguments, reader)) => reader.rest(arguments),
            None if self.filled => String::new(),
            // Clients parse the arguments, so they get an empty object.
            None => "{}".to_owned(),
        }
    }
}

/// The signature of the thoughts before a call, as a member after a comma, where Google has it.
pub(super) fn signature(value: Option<&str>, out: &mut BytesMut) {
    if let Some(value) = value {
        out.put_slice(br#","extra_content":{"google":{"#);
        string_member(b"thought_signature", value, out);
        out.put_slice(b"}}");
    }
}
