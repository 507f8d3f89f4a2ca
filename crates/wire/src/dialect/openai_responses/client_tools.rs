//! The typed tools that the client runs, as functions: their schemas, and the items in which this dialect
//! has their calls. Tools that the vendor runs are not here.
//!
//! Shapes: `OpenAI` API reference (2026-11), as the vendor's Python library types them.

use serde_json::value::RawValue;

use crate::json::{self, Members};

/// Type of tools whose calls are `function_call` items.
pub(super) const FUNCTION: &str = "function";
/// Type of tools whose calls are `custom_tool_call` items.
pub(super) const CUSTOM: &str = "custom";
/// Type of the search among tools that are not loaded yet.
pub(super) const TOOL_SEARCH: &str = "tool_search";

/// JSON Schema of one action of a computer.
macro_rules! computer_action {
    () => {
        r#"{"type":"object","properties":{"type":{"type":"string","enum":["click","double_click","drag","keypress","move","screenshot","scroll","type","wait"]},"x":{"type":"integer"},"y":{"type":"integer"},"button":{"type":"string","enum":["left","right","wheel","back","forward"],"description":"Of click"},"path":{"type":"array","items":{"type":"object","properties":{"x":{"type":"integer"},"y":{"type":"integer"}},"required":["x","y"]},"description":"Of drag"},"keys":{"type":"array","items":{"type":"string"},"description":"Of keypress, or held meanwhile"},"scroll_x":{"type":"integer"},"scroll_y":{"type":"integer"},"text":{"type":"string","description":"Of type"}},"required":["type"]}"#
    };
}
/// A type of tool with call items of its own.
#[derive(Debug)]
pub(super) struct ClientTool {
    /// The `type` of the tool, which is the name of the function, too.
    pub(super) kind: &'static str,
    /// The `type` of a call.
    pub(super) call: &'static str,
    /// The `type` of its output.
    pub(super) output: &'static str,
    /// Prefix of the ids of its calls.
    pub(super) prefix: &'static str,
    /// The member of a call that holds the function's arguments.
    member: &'static str,
    /// Description of the function.
    pub(super) description: &'static str,
    /// JSON Schema of its arguments.
    pub(super) schema: &'static str,
    /// Members of that member which the function's arguments lack, as JSON.
    filled: &'static [(&'static str, &'static str)],
    /// Members of a call beside it, as JSON after a comma.
    beside: &'static str,
    /// Whether arguments are such that a client can read the call.
    fits: fn(&Members<'_>) -> bool,
}

/// Every one.
static CLIENT_TOOLS: [ClientTool; 6] = [
    ClientTool {
        kind: TOOL_SEARCH,
        call: "tool_search_call",
        output: "tool_search_output",
        prefix: "tsc",
        member: "arguments",
        description: "Searches for tools that are not loaded yet, and loads those that it finds.",
        schema: r#"{"type":"object","properties":{"query":{"type":"string"}},"required":["query"]}"#,
        filled: &[],
        beside: r#","execution":"client""#,
        fits: |_| true,
    },
    ClientTool {
        kind: "local_shell",
        call: "local_shell_call",
        output: "local_shell_call_output",
        prefix: "lsh",
        member: "action",
        description: "Runs a command on the user's machine.",
        schema: r#"{"type":"object","properties":{"command":{"type":"array","items":{"type":"string"},"description":"The program and its arguments; for a shell command [\"bash\",\"-lc\",COMMAND]"},"working_directory":{"type":"string"},"timeout_ms":{"type":"integer"},"env":{"type":"object","additionalProperties":{"type":"string"}},"user":{"type":"string"}},"required":["command"]}"#,
        filled: &[("type", r#""exec""#), ("env", "{}")],
        beside: "",
        fits: |action| is_texts(action.get("command")),
    },
    ClientTool {
        kind: "shell",
        call: "shell_call",
        output: "shell_call_output",
        prefix: "sh",
        member: "action",
        description: "Runs shell commands on the user's machine, one after another.",
        schema: r#"{"type":"object","properties":{"commands":{"type":"array","items":{"type":"string"},"description":"Shell commands"},"timeout_ms":{"type":"integer"},"max_output_length":{"type":"integer","description":"The most characters of output"}},"required":["commands"]}"#,
        filled: &[("timeout_ms", "null"), ("max_output_length", "null")],
        beside: "",
        fits: |action| is_texts(action.get("commands")),
    },
    ClientTool {
        kind: "apply_patch",
        call: "apply_patch_call",
        output: "apply_patch_call_output",
        prefix: "apc",
        member: "operation",
        description: "Creates, updates or deletes one file. `diff` is in the V4A format: for a new file every line begins with `+`; for an update sections begin with `@@` and their lines with ` `, `-` or `+`.",
        schema: r#"{"type":"object","properties":{"type":{"type":"string","enum":["create_file","update_file","delete_file"]},"path":{"type":"string","description":"The file, relative to the workspace"},"diff":{"type":"string","description":"Not for delete_file"}},"required":["type","path"]}"#,
        filled: &[],
        beside: "",
        fits: is_operation,
    },
    ClientTool {
        kind: "computer",
        call: "computer_call",
        output: "computer_call_output",
        prefix: "cu",
        member: "actions",
        description: "Controls the mouse and the keyboard of a computer, and answers with a screenshot.",
        schema: concat!(
            r#"{"type":"object","properties":{"actions":{"type":"array","items":"#,
            computer_action!(),
            r#"}},"required":["actions"]}"#
        ),
        filled: &[],
        beside: r#","pending_safety_checks":[]"#,
        fits: |arguments| arguments.get("actions").is_some_and(is_actions),
    },
    ClientTool {
        kind: "computer_use_preview",
        call: "computer_call",
        output: "computer_call_output",
        prefix: "cu",
        member: "action",
        description: "Controls the mouse and the keyboard of a computer, one action a call, and answers with a screenshot.",
        schema: computer_action!(),
        filled: &[],
        beside: r#","pending_safety_checks":[]"#,
        fits: |action| action.get("type").and_then(json::text).is_some(),
    },
];

impl ClientTool {
    /// The tool of this type.
    pub(super) fn of_kind(kind: &str) -> Option<&'static Self> {
        CLIENT_TOOLS.iter().find(|tool| tool.kind == kind)
    }

    /// The tools whose calls are items of this type.
    pub(super) fn of_call(call: &str) -> impl Iterator<Item = &'static Self> {
        CLIENT_TOOLS.iter().filter(move |tool| tool.call == call)
    }

    /// Whether outputs of calls are items of this type.
    pub(super) fn is_output(kind: &str) -> bool {
        CLIENT_TOOLS.iter().any(|tool| tool.output == kind)
    }

    /// The function's arguments as the members that a call has beside its `call_id`, as JSON on one line.
    /// `None`: the arguments are none that a client could run.
    pub(super) fn members(&self, arguments: &str) -> Option<String> {
        let arguments = if arguments.trim().is_empty() { "{}" } else { arguments };
        // Outside of strings line breaks mean nothing, and inside of them there are none.
        let arguments =
            json::replace_lone_surrogates(&arguments.replace(['\n', '\r'], " ")).into_owned();
        let members = Members::parse(&arguments).ok().filter(|members| (self.fits)(members))?;
        let Self { member, beside, .. } = self;
        let value = if let Some(inner) = members.get(member).filter(|_| self.wraps()) {
            inner.get().to_owned()
        } else {
            let unsaid = self.filled.iter().filter(|(name, _)| members.get(name).is_none());
            let edits: Vec<_> = unsaid.map(|(name, json)| (*name, Some(*json))).collect();
            members.edit(&arguments, &edits)
        };
        Some(format!(r#""{member}":{value}{beside}"#))
    }

    /// The function's arguments that such a member stands for.
    pub(super) fn arguments(&self, member: &RawValue) -> Option<Box<RawValue>> {
        let arguments = if self.wraps() {
            format!(r#"{{"{}":{}}}"#, self.member, member.get())
        } else {
            member.get().to_owned()
        };
        RawValue::from_string(arguments).ok()
    }

    /// Whether arguments are an object around the member and not the member itself.
    fn wraps(&self) -> bool {
        self.member == "actions"
    }

    /// The name of the member that holds the arguments.
    pub(super) fn member(&self) -> &'static str {
        self.member
    }
}

fn is_texts(value: Option<&RawValue>) -> bool {
    value.is_some_and(|value| serde_json::from_str::<Vec<String>>(value.get()).is_ok())
}

fn is_operation(operation: &Members<'_>) -> bool {
    let text = |name| operation.get(name).and_then(json::text);
    let kind = text("type").unwrap_or_default();
    text("path").is_some()
        && match kind.as_ref() {
            "create_file" | "update_file" => text("diff").is_some(),
            kind => kind == "delete_file",
        }
}

fn is_actions(value: &RawValue) -> bool {
    let actions: Option<Vec<Members<'_>>> = serde_json::from_str(value.get()).ok();
    let typed = |action: &Members<'_>| action.get("type").and_then(json::text).is_some();
    actions.is_some_and(|actions| actions.iter().all(typed))
}
