//! Lines: the start and the end of every object of a stream, in either form.

use bytes::{BufMut, Bytes, BytesMut};

use crate::chat::{Stop, Usage};
use crate::dialect::{Form, ResponseContext};
use crate::json::{quoted, write_str};
use crate::reset::rfc3339;

/// The start of a line, before its content.
pub(super) fn head(call: &ResponseContext) -> String {
    head_at(call, &quoted(&rfc3339(call.created.saturating_mul(1000))))
}

/// The same with the JSON of another time.
pub(super) fn head_at(call: &ResponseContext, created: &str) -> String {
    format!(r#"{{"model":{},"created_at":{created},"#, quoted(&call.model))
}

/// The content of a line.
#[derive(Debug, Default)]
pub(super) struct Said<'a> {
    pub(super) text: &'a str,
    pub(super) thinking: &'a str,
    /// Elements of `tool_calls`.
    pub(super) calls: &'a [u8],
    /// Elements of `logprobs`.
    pub(super) logprobs: &'a str,
}

/// Appends the content as members of a line: within `message`, or at the top level in a form without it.
pub(super) fn put(form: Form, said: &Said<'_>, out: &mut BytesMut) {
    let bare = form == Form::Generate;
    let begin: &[u8] =
        if bare { br#""response":"# } else { br#""message":{"role":"assistant","content":"# };
    out.put_slice(begin);
    write_str(said.text, out);
    if !said.thinking.is_empty() {
        out.put_slice(br#","thinking":"#);
        write_str(said.thinking, out);
    }
    if !said.calls.is_empty() {
        out.put_slice(br#","tool_calls":["#);
        out.put_slice(said.calls);
        out.put_u8(b']');
    }
    if !bare {
        out.put_u8(b'}');
    }
    if !said.logprobs.is_empty() {
        out.put_slice(br#","logprobs":["#);
        out.put_slice(said.logprobs.replace(['\n', '\r'], " ").as_bytes());
        out.put_u8(b']');
    }
}

/// The members that end an answer. Clients require the counts and the durations: a count that the upstream
/// has not sent is 0, and so are durations, which only the model's own server can measure.
pub(super) fn put_end(reason: &str, usage: &Usage, out: &mut BytesMut) {
    let (input, output) = (usage.input.unwrap_or_default(), usage.output.unwrap_or_default());
    let end = format!(
        r#","done":true,"done_reason":"{reason}","total_duration":0,"load_duration":0,"prompt_eval_count":{input},"prompt_eval_duration":0,"eval_count":{output},"eval_duration":0}}"#
    );
    out.put_slice(end.as_bytes());
}

/// The `done_reason` of a stop. The vendor has none for a filter at work;
/// clients take any, and an answer that a filter cut must not look like one that was done.
pub(super) fn reason(stop: &Stop, refused: bool) -> &'static str {
    match stop {
        Stop::MaxTokens | Stop::ContextFull => "length",
        Stop::Refusal(None) if refused => "stop",
        Stop::Refusal(_) | Stop::ContentFilter => "content_filter",
        Stop::End | Stop::Sequence(_) | Stop::ToolUse | Stop::Pause => "stop",
        // An answer that ended so is reported as an error; see `wire::finish`.
        Stop::Failed(_) | Stop::Other(_) => "error",
    }
}

/// A line without content.
pub(super) fn silent(call: &ResponseContext) -> Bytes {
    let mut out = BytesMut::from(head(call).as_bytes());
    put(call.form, &Said::default(), &mut out);
    out.put_slice(b",\"done\":false}\n");
    out.freeze()
}
