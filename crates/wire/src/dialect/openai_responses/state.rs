//! Kept state: stored responses, conversations and references to items (developers.openai.com/api/docs, Conversation
//! state). A resolved request has its earlier items in `input`, and one member that names what it was resolved from.

use bytes::BytesMut;
use memchr::memmem;
use serde_json::value::RawValue;

use super::passthrough::ENDPOINTS;
use super::response::{Head, Status};
use crate::body::refuse;
use crate::chat::{ApiError, Usage};
use crate::codec::surface::Surface;
use crate::dialect::{Endpoint, References, ResponseContext, StateApi};
use crate::json::{self, Members, quoted};

/// The member of a resolved request. Responses repeat its members, and no upstream gets it.
pub(super) const RESOLVED: &str = "streamgate.state";

/// The vendor's API of stored responses.
#[derive(Debug)]
pub(super) struct State;

/// The event types whose `response` is whole.
const TERMINALS: [&str; 3] =
    ["event: response.completed\n", "event: response.incomplete\n", "event: response.failed\n"];

impl StateApi for State {
    fn endpoint(&self) -> Endpoint {
        let [responses, ..] = ENDPOINTS;
        responses
    }

    fn conversations(&self) -> &'static str {
        "/v1/conversations"
    }

    fn references(&self, body: &str) -> Result<References, ApiError> {
        let surface = Surface::parse(body)?;
        let conversation = surface.members.get("conversation").filter(|raw| !json::is_null(raw));
        let conversation = conversation.map(conversation_id).transpose()?;
        Ok(References {
            previous: surface.member("previous_response_id", "the id of a response")?,
            conversation,
            items: referred(&surface),
            store: surface.member("store", "true or false")?.unwrap_or(true),
            background: surface.member("background", "true or false")?.unwrap_or(false),
        })
    }

    fn resolve(
        &self,
        body: &str,
        earlier: &[&str],
        item: &dyn Fn(&str) -> Option<String>,
    ) -> Result<String, ApiError> {
        let references = self.references(body)?;
        let mut surface = Surface::parse(body)?;
        if !earlier.is_empty() || !references.items.is_empty() {
            let mut items: Vec<String> = earlier.iter().map(|item| (*item).to_owned()).collect();
            for own in input(&surface) {
                let resolved = reference(&own).map(|id| item(&id).ok_or_else(|| unknown_item(&id)));
                items.push(resolved.transpose()?.unwrap_or(own));
            }
            surface.set("input", format!("[{}]", items.join(",")));
        }
        for name in ["previous_response_id", "conversation", "background"] {
            surface.remove(name);
        }
        let References { previous, conversation, store, background, .. } = references;
        let text = |id: Option<String>| id.map_or_else(|| "null".to_owned(), |id| quoted(&id));
        let conversation = conversation
            .map_or_else(|| "null".to_owned(), |id| format!(r#"{{"id":{}}}"#, quoted(&id)));
        let state = format!(
            r#"{{"previous_response_id":{},"conversation":{conversation},"store":{store},"background":{background}}}"#,
            text(previous)
        );
        surface.set(RESOLVED, state);
        Ok(surface.finish())
    }

    fn input(&self, body: &str) -> Vec<String> {
        let Ok(surface) = Surface::parse(body) else { return Vec::new() };
        input(&surface).into_iter().filter(|item| reference(item).is_none()).collect()
    }

    fn id(&self, call: &ResponseContext) -> String {
        format!("resp_{}", call.id)
    }

    fn begun(&self, call: &ResponseContext) -> String {
        let mut out = BytesMut::new();
        Head::new(call).write(Status::InProgress, &[], &Usage::default(), &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    fn response(&self, produced: &[u8]) -> Option<String> {
        let text = std::str::from_utf8(produced).ok()?;
        if text.starts_with('{') {
            return Some(text.to_owned());
        }
        let begin = TERMINALS.iter().filter_map(|terminal| text.rfind(terminal)).max()?;
        let data = text.get(begin..)?.lines().find_map(|line| line.strip_prefix("data: "))?;
        let event = Members::parse(data).ok()?;
        Some(event.get("response")?.get().to_owned())
    }

    fn output(&self, response: &str) -> Vec<(Option<String>, String)> {
        let response = Members::parse(response).unwrap_or_default();
        let Some(output) = response.get("output") else { return Vec::new() };
        let items: Vec<&RawValue> = serde_json::from_str(output.get()).unwrap_or_default();
        items.into_iter().map(|item| (id_of(item.get()), item.get().to_owned())).collect()
    }

    fn list(&self, items: &[String]) -> String {
        let id = |item: Option<&String>| {
            let id = item.and_then(|item| id_of(item));
            id.map_or_else(|| "null".to_owned(), |id| quoted(&id))
        };
        format!(
            r#"{{"object":"list","data":[{}],"first_id":{},"last_id":{},"has_more":false}}"#,
            items.join(","),
            id(items.first()),
            id(items.last())
        )
    }
}

/// The items of an input; a text is a message of the user.
fn input(surface: &Surface<'_>) -> Vec<String> {
    let Some(input) = surface.members.get("input") else { return Vec::new() };
    if let Some(text) = json::text(input) {
        let message = format!(
            r#"{{"type":"message","role":"user","content":[{{"type":"input_text","text":{}}}]}}"#,
            quoted(&text)
        );
        return vec![message];
    }
    let items: Vec<&RawValue> = serde_json::from_str(input.get()).unwrap_or_default();
    items.into_iter().map(|item| item.get().to_owned()).collect()
}

/// The ids of the items that an input refers to.
fn referred(surface: &Surface<'_>) -> Vec<String> {
    let Some(raw) = surface.members.get("input") else { return Vec::new() };
    // Most requests have none, and their input is not parsed.
    if memmem::find(raw.get().as_bytes(), b"\"id\"").is_none() {
        return Vec::new();
    }
    input(surface).iter().filter_map(|item| reference(item)).collect()
}

/// The id that an item refers to; `None`: it is an item itself. References to reasoning are hints, and stay.
fn reference(item: &str) -> Option<String> {
    let members = Members::parse(item).ok()?;
    let kind = members.get("type").and_then(json::text);
    let refers = match kind.as_deref() {
        Some(kind) => kind == "item_reference",
        None => members.get("role").is_none(),
    };
    let id = members.get("id").and_then(json::text).filter(|_| refers)?;
    (!id.starts_with("rs_")).then(|| id.into_owned())
}

fn id_of(item: &str) -> Option<String> {
    let members = Members::parse(item).ok()?;
    members.get("id").and_then(json::text).map(std::borrow::Cow::into_owned)
}

fn conversation_id(raw: &RawValue) -> Result<String, ApiError> {
    let id = json::text(raw).map(std::borrow::Cow::into_owned).or_else(|| id_of(raw.get()));
    id.ok_or_else(|| refuse("conversation", "must be the id of a conversation"))
}

fn unknown_item(id: &str) -> ApiError {
    let shown: String = id.chars().take(100).collect();
    ApiError {
        code: Some("item_not_found".to_owned()),
        ..refuse("input", &format!("refers to the item `{shown}`, which is not stored"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_and_resolved() {
        let body = r#"{"model":"m","input":[{"type":"item_reference","id":"msg_1"},{"id":"msg_2"},{"role":"user","content":"hi"},{"type":"item_reference","id":"rs_1"}],"previous_response_id":"resp_1","conversation":{"id":"conv_1"},"store":false}"#;
        let read = State.references(body).unwrap();
        assert_eq!(
            read,
            References {
                previous: Some("resp_1".to_owned()),
                conversation: Some("conv_1".to_owned()),
                items: vec!["msg_1".to_owned(), "msg_2".to_owned()],
                store: false,
                background: false,
            }
        );
        let item = |id: &str| Some(format!(r#"{{"role":"assistant","content":"{id}"}}"#));
        let resolved = State.resolve(body, &[r#"{"role":"user","content":"0"}"#], &item).unwrap();
        assert_eq!(
            resolved,
            r#"{"model":"m","input":[{"role":"user","content":"0"},{"role":"assistant","content":"msg_1"},{"role":"assistant","content":"msg_2"},{"role":"user","content":"hi"},{"type":"item_reference","id":"rs_1"}],"store":false,"streamgate.state":{"previous_response_id":"resp_1","conversation":{"id":"conv_1"},"store":false,"background":false}}"#
        );
        let error = State.resolve(body, &[], &|_| None).unwrap_err();
        assert_eq!(error.code.as_deref(), Some("item_not_found"));
        assert!(State.references(r#"{"input":"hi"}"#).unwrap().is_empty());
        for wrong in [
            r#"{"previous_response_id":1}"#,
            r#"{"conversation":1}"#,
            r#"{"store":"yes"}"#,
            r#"{"background":1}"#,
        ] {
            assert!(State.references(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_whole_response_is_found_in_a_stream_and_in_a_body() {
        let stream = b"event: response.output_text.delta\ndata: {\"delta\":\"event: response.completed\"}\n\nevent: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\",\"output\":[{\"id\":\"msg_1\"},{\"a\":1}]}}\n\n";
        let response = State.response(stream).unwrap();
        assert_eq!(response, r#"{"id":"resp_1","output":[{"id":"msg_1"},{"a":1}]}"#);
        assert_eq!(State.response(response.as_bytes()), Some(response.clone()));
        assert_eq!(State.response(b"data: [DONE]\n\n"), None);
        let output = State.output(&response);
        assert_eq!(output[0], (Some("msg_1".to_owned()), r#"{"id":"msg_1"}"#.to_owned()));
        assert_eq!(output[1], (None, r#"{"a":1}"#.to_owned()));
    }
}
