//! Decoder: the events of a stream, or a whole response, to deltas.
//!
//! It goes by the `type` in the payload, never by the event's name, and by an item's place in the
//! output rather than by its id, which some servers change from event to event. It never takes the
//! end of the bytes for the end of the answer.

use serde_json::value::RawValue;

use super::event::{self, Event, Item, Response, filled, list};
use super::finish::REASONS;
use super::items::Items;
use crate::chat::{ApiError, Delta, End, Kind, Stop};
use crate::codec::unreadable;
use crate::dialect::Decode;
use crate::error_body;
use crate::finish;
use crate::framing::Frame;
use crate::json::{self, Members};

/// The state of one answer.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    started: bool,
    items: Items,
    /// Error of an `error` event; `response.failed` usually follows it.
    fault: Option<ApiError>,
}

impl Decode for Decoder {
    fn is_whole(&self, frame: &Frame) -> bool {
        json::text_member(&frame.data, "object").is_some_and(|object| object == "response")
    }

    fn kept(&self) -> usize {
        self.items.kept()
    }

    fn frame<'f>(&mut self, frame: &'f Frame, out: &mut Vec<Delta<'f>>) -> Option<End> {
        if frame.data.trim_ascii() == b"[DONE]" {
            // Some gateways end every dialect like this. Nothing is whole by it.
            return Some(self.finish());
        }
        let Ok(payload) = std::str::from_utf8(&frame.data) else {
            return Some(unreadable::payload(&frame.data));
        };
        match serde_json::from_str::<Event<'_>>(payload) {
            Ok(event) => self.event(payload, &event, out),
            // A kind of event newer than this code may have any shape.
            Err(_) if is_unknown(payload) => None,
            Err(_) => Some(unreadable::payload(&frame.data)),
        }
    }

    fn answer<'f>(&mut self, body: &'f Frame, out: &mut Vec<Delta<'f>>) -> End {
        if body.data.trim_ascii().is_empty() {
            return End::Truncated;
        }
        let Ok(payload) = std::str::from_utf8(&body.data) else {
            return unreadable::payload(&body.data);
        };
        let response: Response<'f> = match serde_json::from_str(payload) {
            Ok(response) => response,
            Err(error) if error.is_eof() => return End::Truncated,
            Err(_) => return unreadable::payload(&body.data),
        };
        if response.error.is_some_and(|error| !json::is_null(error)) {
            return End::Failed(error_body::in_stream(body.data.as_ref()));
        }
        if response.output.is_none() {
            let fault = "the upstream's answer is not a response: it has no `output`";
            return End::Failed(ApiError::new(Kind::Upstream, fault));
        }
        self.end(&response, false, out)
    }

    fn finish(&mut self) -> End {
        self.fault.take().map_or(End::Truncated, End::Failed)
    }
}

/// Whether a payload is an event, but of no kind that is read here.
fn is_unknown(payload: &str) -> bool {
    let kind = Members::parse(payload).ok().and_then(|members| members.get("type"));
    kind.and_then(json::text).is_some_and(|kind| kind != "error" && !kind.starts_with("response."))
}

/// Whether an event belongs to a tool or medium of the vendor's own, which the vocabulary does not cover.
/// Keep-alives do not, nor do the start and end of items and parts.
fn is_machinery(kind: &str) -> bool {
    kind.contains("_call")
        || kind.starts_with("response.mcp_")
        || kind.starts_with("response.audio")
}

impl Decoder {
    fn event<'f>(
        &mut self,
        payload: &str,
        event: &Event<'f>,
        out: &mut Vec<Delta<'f>>,
    ) -> Option<End> {
        let Some(kind) = event.kind.and_then(json::text) else {
            let told = event.error.is_some_and(|error| !json::is_null(error));
            return told.then(|| End::Failed(error_body::in_stream(payload.as_bytes())));
        };
        let items = &mut self.items;
        match kind.as_ref() {
            "response.output_text.delta" => items.text(event, event.delta, true, out),
            "response.output_text.done" => items.text(event, event.text, false, out),
            "response.reasoning_summary_text.delta" => {
                items.reasoning(event, (event.summary_index, false), true, out);
            }
            "response.reasoning_summary_text.done" => {
                items.reasoning(event, (event.summary_index, false), false, out);
            }
            "response.reasoning_text.delta" => {
                items.reasoning(event, (event.content_index, true), true, out);
            }
            "response.reasoning_text.done" => {
                items.reasoning(event, (event.content_index, true), false, out);
            }
            "response.function_call_arguments.delta" => {
                items.arguments(event, event.delta, true, out);
            }
            "response.custom_tool_call_input.delta" => items.input(event, event.delta, true, out),
            "response.function_call_arguments.done" => {
                items.arguments(event, event.arguments, false, out);
            }
            "response.custom_tool_call_input.done" => items.input(event, event.input, false, out),
            "response.refusal.delta" => items.refusal(event, event.delta, true, out),
            "response.refusal.done" => items.refusal(event, event.refusal, false, out),
            "response.output_text.annotation.added" => items.annotation(event, out),
            "response.output_item.added" => items.added(event, out),
            "response.output_item.done" => items.done(event, out),
            "response.created" | "response.in_progress" | "response.queued" => {
                if let Some(response) = read(event.response) {
                    self.start(&response, out);
                }
            }
            "response.completed"
            | "response.incomplete"
            | "response.failed"
            | "response.cancelled" => {
                return Some(self.terminal(&kind, event.response, out));
            }
            "error" => self.fault = Some(error_body::in_stream(payload.as_bytes())),
            kind if is_machinery(kind) => out.push(Delta::Opaque),
            _ => {}
        }
        None
    }

    fn start<'f>(&mut self, response: &Response<'f>, out: &mut Vec<Delta<'f>>) {
        if !std::mem::replace(&mut self.started, true) {
            let id = response.id.and_then(json::text).unwrap_or_default();
            let model = response.model.and_then(json::text).unwrap_or_default();
            out.push(Delta::Start { id, model });
        }
    }

    fn terminal<'f>(
        &mut self,
        kind: &str,
        raw: Option<&'f RawValue>,
        out: &mut Vec<Delta<'f>>,
    ) -> End {
        let response = read(raw);
        let failed = matches!(kind, "response.failed" | "response.cancelled");
        if failed {
            if let Some(usage) =
                response.as_ref().and_then(|response| response.usage).and_then(event::usage)
            {
                out.push(Delta::Usage(usage));
            }
            let error = response.and_then(|response| response.error).filter(|e| !json::is_null(e));
            return End::Failed(self.fault.take().unwrap_or_else(|| match (error, raw) {
                (Some(_), Some(raw)) => error_body::in_stream(raw.get().as_bytes()),
                _ => ApiError::new(
                    Kind::Upstream,
                    "the upstream ended the response as failed without saying why",
                ),
            }));
        }
        let cut = kind == "response.incomplete";
        if let Some(response) = response {
            return self.end(&response, cut, out);
        }
        self.items.close_all(out);
        let reason = if cut { Stop::MaxTokens } else { self.items.stop() };
        out.push(Delta::Stop { choice: 0, reason });
        End::Complete
    }

    /// A response that has ended well, in a terminal event or as a whole answer. Its output is read
    /// only if no event announced items: some servers leave it empty, others send nothing else.
    fn end<'f>(&mut self, response: &Response<'f>, cut: bool, out: &mut Vec<Delta<'f>>) -> End {
        self.start(response, out);
        self.items.close_all(out);
        if !self.items.any() {
            for item in list::<Item<'f>>(response.output) {
                self.items.whole(&item, out);
            }
        }
        if let Some(usage) = response.usage.and_then(event::usage) {
            out.push(Delta::Usage(usage));
        }
        let status = filled(response.status).unwrap_or_default();
        if status == "failed" || status == "cancelled" {
            let message = format!("the upstream ended the response as {status}");
            return End::Failed(ApiError::new(Kind::Upstream, message));
        }
        let details = response.incomplete_details.and_then(|raw| Members::parse(raw.get()).ok());
        let why = details.and_then(|details| details.get("reason").and_then(json::text));
        let said = why.and_then(|why| finish::stop(REASONS, &why));
        let reason = match said {
            Some(stop) => stop,
            None if cut || status == "incomplete" => Stop::MaxTokens,
            None => self.items.stop(),
        };
        out.push(Delta::Stop { choice: 0, reason });
        End::Complete
    }
}

fn read(raw: Option<&RawValue>) -> Option<Response<'_>> {
    serde_json::from_str(raw?.get()).ok()
}
