//! Members that streams and whole answers share: reasons, reasoning details, annotations and usage.
//!
//! Usage is never made up beyond the members that clients require.

use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};

use super::call_form::CallForm;
use crate::chat::{Citation, Scheme, Stop, Usage};
use crate::citations::AnswerText;
use crate::json;

/// The `finish_reason` of a stop. A refusal by a filter or the vendor, without text of the model itself, is
/// a `content_filter`.
/// `called`: the form of the first call.
pub(super) fn finish_reason(stop: &Stop, called: Option<CallForm>, refused: bool) -> &'static str {
    match stop {
        Stop::ToolUse | Stop::End if called == Some(CallForm::Legacy) => "function_call",
        Stop::ToolUse => "tool_calls",
        Stop::End if called.is_some() => "tool_calls",
        Stop::End | Stop::Sequence(_) | Stop::Pause => "stop",
        // An answer that ended so is reported as an error; see `wire::finish`.
        Stop::Failed(_) | Stop::Other(_) => "error",
        Stop::MaxTokens | Stop::ContextFull => "length",
        Stop::Refusal(None) if refused => "stop",
        Stop::Refusal(_) | Stop::ContentFilter => "content_filter",
    }
}

/// A number in decimal.
pub(super) fn number(number: impl std::fmt::Display, out: &mut BytesMut) {
    // Writing to memory cannot fail.
    write!(out, "{number}").unwrap_or_default();
}

/// `"member":"text"`.
pub(super) fn string_member(member: &[u8], text: &str, out: &mut BytesMut) {
    out.put_u8(b'"');
    out.put_slice(member);
    out.put_slice(b"\":");
    json::write_str(text, out);
}

pub(super) fn format_of(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Anthropic => "anthropic-claude-v1",
        Scheme::OpenAi => "openai-responses-v1",
        Scheme::Gemini => "google-gemini-v1",
        Scheme::XAi => "xai-responses-v1",
    }
}

/// An entry of `reasoning_details` for reasoning with its signature.
pub(super) fn signed(text: &str, (value, scheme): (&str, Scheme), index: u32, out: &mut BytesMut) {
    out.put_slice(br#"{"type":"reasoning.text","#);
    string_member(b"text", text, out);
    out.put_u8(b',');
    string_member(b"signature", value, out);
    format_and_index(scheme, index, out);
}

/// An entry of `reasoning_details` for reasoning that only its vendor can read.
pub(super) fn sealed(data: &str, scheme: Scheme, index: u32, out: &mut BytesMut) {
    out.put_slice(br#"{"type":"reasoning.encrypted","#);
    string_member(b"data", data, out);
    format_and_index(scheme, index, out);
}

fn format_and_index(scheme: Scheme, index: u32, out: &mut BytesMut) {
    out.put_u8(b',');
    string_member(b"format", format_of(scheme), out);
    out.put_slice(br#","index":"#);
    number(index, out);
    out.put_u8(b'}');
}

/// The entries of `annotations`. The vendor has sources with addresses only and requires places, so sources
/// without an address are left out, and those without a place span the answer.
pub(super) fn annotations(sources: &[Citation], said: &AnswerText) -> BytesMut {
    let mut out = BytesMut::new();
    for source in sources {
        let Some(url) = source.address() else { continue };
        if !out.is_empty() {
            out.put_u8(b',');
        }
        out.put_slice(br#"{"type":"url_citation","url_citation":{"#);
        string_member(b"url", url, &mut out);
        out.put_u8(b',');
        string_member(b"title", source.name(), &mut out);
        if let Some(words) = &source.cited_text {
            out.put_u8(b',');
            string_member(b"content", words, &mut out);
        }
        let (start, end) = said.span(source);
        number(format_args!(r#","start_index":{start},"end_index":{end}}}}}"#), &mut out);
    }
    out
}

/// `usage`. A count that the upstream has not sent is 0, because clients require the members.
pub(super) fn usage(usage: &Usage, out: &mut BytesMut) {
    let input = usage.input.unwrap_or_default();
    let output = usage.output.unwrap_or_default();
    let total = input.saturating_add(output);
    number(
        format_args!(
            r#"{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{total}"#
        ),
        out,
    );
    if usage.cache_read.is_some() || usage.cache_write.is_some() {
        let read = usage.cache_read.unwrap_or_default();
        number(format_args!(r#","prompt_tokens_details":{{"cached_tokens":{read}"#), out);
        if let Some(write) = usage.cache_write {
            number(format_args!(r#","cache_write_tokens":{write}"#), out);
        }
        out.put_u8(b'}');
    }
    if let Some(reasoning) = usage.reasoning {
        number(
            format_args!(r#","completion_tokens_details":{{"reasoning_tokens":{reasoning}}}"#),
            out,
        );
    }
    out.put_u8(b'}');
}
