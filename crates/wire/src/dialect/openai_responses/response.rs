//! The response object around an output: the repeated part of the request, the status and the usage. Usage
//! is never made up: a count that the upstream has not sent is null.

use bytes::{BufMut, BytesMut};
use serde_json::value::RawValue;

use super::echo::echo;
use super::error;
use super::output::Item;
use super::state::RESOLVED;
use crate::chat::{ApiError, Stop, Usage};
use crate::dialect::{Clock, ResponseContext};
use crate::json::{Members, write_str};

/// Status of a response.
#[derive(Debug, Clone, Copy)]
pub(super) enum Status<'a> {
    InProgress,
    Completed,
    /// For this reason.
    Incomplete(&'static str),
    Failed(&'a ApiError),
}

impl Status<'_> {
    /// The status that a stop results in. A refusal by a filter or the vendor, without text of the model
    /// itself, is a `content_filter`.
    pub(super) fn of(stop: Option<&Stop>, refused: bool) -> Self {
        match stop {
            Some(Stop::MaxTokens | Stop::ContextFull) => Self::Incomplete("max_output_tokens"),
            Some(Stop::ContentFilter) => Self::Incomplete("content_filter"),
            Some(Stop::Refusal(_)) if !refused => Self::Incomplete("content_filter"),
            _ => Self::Completed,
        }
    }

    /// The value of `status`.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete(_) => "incomplete",
            Self::Failed(_) => "failed",
        }
    }
}

/// Values that are the same in every response object of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) id: String,
    pub(super) model: String,
    created: u64,
    now: Clock,
    echo: String,
    /// The values of `background`, `previous_response_id` and `store`, and the member `conversation` if there is one.
    state: [String; 4],
}

impl Head {
    pub(super) fn new(call: &ResponseContext) -> Self {
        let echo = if call.echo.is_empty() { echo("{}") } else { call.echo.clone() };
        let (echo, state) = split_state(echo);
        Self {
            state,
            id: format!("resp_{}", call.id),
            model: call.model.clone(),
            created: call.created,
            now: call.now.clone(),
            echo,
        }
    }

    /// Takes over the identity of a response that has begun.
    pub(super) fn resume(&mut self, id: &str, created: u64) {
        id.clone_into(&mut self.id);
        self.created = created;
    }

    /// The response object with these items, their ids and their status.
    pub(super) fn write(
        &self,
        status: Status<'_>,
        items: &[(String, &'static str, Item)],
        usage: &Usage,
        out: &mut BytesMut,
    ) {
        out.put_slice(br#"{"id":"#);
        write_str(&self.id, out);
        out.put_slice(br#","object":"response","created_at":"#);
        out.put_slice(self.created.to_string().as_bytes());
        out.put_slice(br#","completed_at":"#);
        match status {
            Status::Completed => out.put_slice(self.now.unix().to_string().as_bytes()),
            _ => out.put_slice(b"null"),
        }
        out.put_slice(br#","status":""#);
        out.put_slice(status.word().as_bytes());
        let [background, previous, store, conversation] = &self.state;
        out.put_slice(br#"","background":"#);
        out.put_slice(background.as_bytes());
        out.put_slice(br#","error":"#);
        match status {
            Status::Failed(fault) => out.put_slice(error::of_response(fault).as_bytes()),
            _ => out.put_slice(b"null"),
        }
        out.put_slice(br#","incomplete_details":"#);
        match status {
            Status::Incomplete(reason) => {
                out.put_slice(format!(r#"{{"reason":"{reason}"}}"#).as_bytes());
            }
            _ => out.put_slice(b"null"),
        }
        out.put_slice(br#","model":"#);
        write_str(&self.model, out);
        out.put_slice(br#","previous_response_id":"#);
        out.put_slice(previous.as_bytes());
        out.put_slice(br#","store":"#);
        out.put_slice(store.as_bytes());
        out.put_slice(conversation.as_bytes());
        out.put_slice(br#","output":["#);
        for (number, (id, status, item)) in items.iter().enumerate() {
            if number > 0 {
                out.put_u8(b',');
            }
            item.write(id, status, out);
        }
        out.put_slice(br#"],"usage":"#);
        write_usage(usage, out);
        out.put_u8(b',');
        let echo = self.echo.strip_prefix('{').unwrap_or_default();
        out.put_slice(echo.as_bytes());
    }
}

/// Takes the state that a request was resolved from out of its echo.
fn split_state(echo: String) -> (String, [String; 4]) {
    let members = Members::parse(&echo).unwrap_or_default();
    let state = members.get(RESOLVED).and_then(|state| Members::parse(state.get()).ok());
    let value = |name: &str, default: &str| {
        let value = state.as_ref().and_then(|state| state.get(name));
        value.map_or(default, RawValue::get).to_owned()
    };
    let conversation = match value("conversation", "null").as_str() {
        "null" => String::new(),
        id => format!(r#","conversation":{id}"#),
    };
    let values = [
        value("background", "false"),
        value("previous_response_id", "null"),
        value("store", "false"),
        conversation,
    ];
    let rest = state.is_some().then(|| members.edit(&echo, &[(RESOLVED, None)]));
    (rest.unwrap_or(echo), values)
}

fn write_usage(usage: &Usage, out: &mut BytesMut) {
    if *usage == Usage::default() {
        return out.put_slice(b"null");
    }
    let [input, read, write, output, reasoning] =
        [usage.input, usage.cache_read, usage.cache_write, usage.output, usage.reasoning]
            .map(Option::unwrap_or_default);
    let total = input.saturating_add(output);
    let usage = format!(
        r#"{{"input_tokens":{input},"input_tokens_details":{{"cached_tokens":{read},"cache_write_tokens":{write}}},"output_tokens":{output},"output_tokens_details":{{"reasoning_tokens":{reasoning}}},"total_tokens":{total}}}"#
    );
    out.put_slice(usage.as_bytes());
}
