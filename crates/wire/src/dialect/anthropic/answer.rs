//! Metadata of an answer: identity, usage and why it stopped.
//!
//! Usage is never added up and a stop is never made up for an answer that did not end.

use std::fmt::Write;

use crate::chat::{Delta, Stop, Usage};
use crate::dialect::ResponseContext;
use crate::json::quoted;

/// Metadata of the answer, as received so far.
#[derive(Debug)]
pub(super) struct Answer {
    id: String,
    model: String,
    pub(super) usage: Usage,
    /// Tokens of input, where the upstream has not counted them.
    estimate: u64,
    stop: Option<Stop>,
    called_tools: bool,
    searches: u64,
    refused: bool,
}

impl Answer {
    pub(super) fn new(call: &ResponseContext) -> Self {
        Self {
            id: format!("msg_{}", call.id),
            model: call.model.clone(),
            usage: Usage::default(),
            estimate: call.input_estimate,
            stop: None,
            called_tools: false,
            searches: 0,
            refused: false,
        }
    }

    /// Updates the metadata from a delta.
    pub(super) fn note(&mut self, delta: &Delta<'_>) {
        match delta {
            Delta::Start { model, .. } if !model.is_empty() => self.model = model.to_string(),
            Delta::Usage(usage) => self.usage.replace_with(usage),
            Delta::Stop { choice: 0, reason } => self.stop = Some(reason.clone()),
            Delta::ToolStart { choice: 0, .. } => self.called_tools = true,
            Delta::Refusal { choice: 0, .. } => self.refused = true,
            Delta::Search(_) => self.searches = self.searches.saturating_add(1),
            _ => {}
        }
    }

    /// The members of the `message_start` message. Its usage holds the estimate for counts that the
    /// upstream has not sent yet.
    pub(super) fn beginning(&self) -> String {
        let usage = usage(&self.counted(), 0);
        self.members("[]", r#""stop_reason":null,"stop_sequence":null"#, &usage)
    }

    /// The members of a message, without the braces, around the given `content`.
    pub(super) fn message(&self, content: &str, stop: &str) -> String {
        self.members(content, stop, &self.usage())
    }

    fn members(&self, content: &str, stop: &str, usage: &str) -> String {
        format!(
            r#""id":{},"type":"message","role":"assistant","model":{},"content":{content},{stop},"usage":{usage}"#,
            quoted(&self.id),
            quoted(&self.model),
        )
    }

    /// The `usage` object. An upstream that counted no input leaves the estimate: clients go by the last
    /// usage when they decide to compact a conversation.
    pub(super) fn usage(&self) -> String {
        usage(&self.counted(), self.searches)
    }

    /// The upstream's usage, with the estimate as input if the upstream has not counted it.
    fn counted(&self) -> Usage {
        Usage { input: self.usage.input.or(Some(self.estimate)), ..self.usage }
    }

    /// The members that hold the stop reason of a complete answer.
    pub(super) fn stop(&self) -> String {
        let (reason, sequence, explanation) = self.stop_parts();
        let sequence = sequence.map_or_else(|| "null".to_owned(), quoted);
        let details = explanation.map_or_else(String::new, |explanation| {
            let explanation = quoted(explanation);
            format!(
                r#","stop_details":{{"type":"refusal","category":null,"explanation":{explanation}}}"#
            )
        });
        format!(r#""stop_reason":"{reason}","stop_sequence":{sequence}{details}"#)
    }

    fn stop_parts(&self) -> (&'static str, Option<&str>, Option<&str>) {
        match &self.stop {
            Some(Stop::Sequence(sequence)) => ("stop_sequence", sequence.as_deref(), None),
            Some(Stop::MaxTokens) => ("max_tokens", None, None),
            Some(Stop::ContextFull) => ("model_context_window_exceeded", None, None),
            Some(Stop::Pause) => ("pause_turn", None, None),
            Some(Stop::Refusal(explanation)) => ("refusal", None, explanation.as_deref()),
            Some(Stop::ContentFilter) => ("refusal", None, None),
            // Many servers send `stop` even when the model calls tools or declines.
            // Failed answers are reported as errors and not here; see `wire::finish`.
            None | Some(Stop::End | Stop::ToolUse | Stop::Failed(_) | Stop::Other(_)) => {
                let reason = match (self.refused, self.called_tools) {
                    (true, _) => "refusal",
                    (false, true) => "tool_use",
                    (false, false) => "end_turn",
                };
                (reason, None, None)
            }
        }
    }
}

/// The `usage` object. The client libraries require both counts, even unknown ones.
fn usage(counted: &Usage, searches: u64) -> String {
    let Usage { input, cache_read, cache_write, output, reasoning } = *counted;
    let cached = cache_read.unwrap_or(0).saturating_add(cache_write.unwrap_or(0));
    let fresh = input.unwrap_or(0).saturating_sub(cached);
    let mut out = format!(r#"{{"input_tokens":{fresh}"#);
    let parts =
        [("cache_creation_input_tokens", cache_write), ("cache_read_input_tokens", cache_read)];
    for (name, tokens) in parts {
        if let Some(tokens) = tokens {
            // Writing to a string cannot fail.
            write!(out, r#","{name}":{tokens}"#).unwrap_or_default();
        }
    }
    write!(out, r#","output_tokens":{}"#, output.unwrap_or(0)).unwrap_or_default();
    if let Some(tokens) = reasoning {
        write!(out, r#","output_tokens_details":{{"thinking_tokens":{tokens}}}"#)
            .unwrap_or_default();
    }
    if searches > 0 {
        write!(out, r#","server_tool_use":{{"web_search_requests":{searches}}}"#)
            .unwrap_or_default();
    }
    out.push('}');
    out
}
