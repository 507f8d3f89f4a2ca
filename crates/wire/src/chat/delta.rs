//! Deltas: units of an answer, borrowed from the frame they were read in.

use std::borrow::Cow;

use super::{ApiError, Kind, Scheme, SearchRun};
use crate::embeddings::Vector;

/// The most tool calls of one answer. Vendors allow 128 at once. Each open call takes memory until the answer
/// ends.
pub const MAX_TOOL_CALLS: usize = 1024;

/// The most sources of one answer. Further ones are removed.
pub const MAX_CITATIONS: usize = 1024;

/// The error for an upstream that sends more than [`MAX_TOOL_CALLS`].
pub fn too_many_calls() -> ApiError {
    let message = format!("the upstream sent more than {MAX_TOOL_CALLS} tool calls in one answer");
    ApiError::new(Kind::Upstream, message)
}

/// One unit of meaning in an answer. It borrows from its frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Delta<'f> {
    /// Identity of the answer. At most once, before everything else.
    Start {
        /// The upstream's id of the answer, if any.
        id: Cow<'f, str>,
        /// The model as the upstream names it, or empty.
        model: Cow<'f, str>,
    },
    /// Answer text.
    Text {
        /// Index of the alternative answer, from 0.
        choice: u32,
        /// A fragment, never empty.
        text: Cow<'f, str>,
    },
    /// Log probabilities of the text in the same frame: JSON array elements in the form of
    /// `OpenAI` chat `logprobs.content`, without the brackets.
    Logprobs {
        /// Index of the alternative.
        choice: u32,
        /// `{"token":..},{"token":..}`.
        items: Cow<'f, str>,
    },
    /// A refusal of the model, in words.
    Refusal {
        /// Index of the alternative.
        choice: u32,
        /// A fragment.
        text: Cow<'f, str>,
    },
    /// Reasoning text.
    Reasoning {
        /// Index of the alternative.
        choice: u32,
        /// A fragment, never empty.
        text: Cow<'f, str>,
    },
    /// The signature of the reasoning that ends here.
    Signature {
        /// The opaque value.
        value: Cow<'f, str>,
        /// The vendor that issued it.
        scheme: Scheme,
    },
    /// Reasoning that only its vendor can read.
    RedactedReasoning {
        /// The opaque data.
        data: Cow<'f, str>,
        /// The vendor that issued it.
        scheme: Scheme,
    },
    /// A tool call begins.
    ToolStart {
        /// Index of the alternative.
        choice: u32,
        /// Ordinal of the call within its alternative: 0, 1, 2 ... without gaps.
        call: u32,
        /// The call's id, never empty and unique within the answer.
        id: Cow<'f, str>,
        /// The tool's name.
        name: Cow<'f, str>,
    },
    /// A fragment of a call's arguments (JSON text). Follows its `ToolStart`; fragments of several
    /// calls may interleave.
    ToolArguments {
        /// Index of the alternative.
        choice: u32,
        /// The ordinal from `ToolStart`.
        call: u32,
        /// A fragment, never empty.
        json: Cow<'f, str>,
    },
    /// A source for a stretch of the answer.
    Citation(Citation),
    /// A web search that the vendor ran for the answer. May follow the text that it is about.
    Search(SearchRun),
    /// Vendor-specific content without a neutral equivalent, such as a hosted tool at work. It is lost in
    /// translation but counts as progress.
    Opaque,
    /// The whole answer to an embeddings request, in the order of its texts. Follows [`Delta::Start`] and
    /// [`Delta::Usage`] in the same frame.
    Embeddings(Vec<Vector<'f>>),
    /// The whole answer to a request that counts a prompt's tokens.
    InputTokens(u64),
    /// Token counts so far. They are cumulative: each field replaces the earlier value.
    Usage(Usage),
    /// Reason for the end of an alternative. May repeat and may precede further deltas: the last one counts.
    Stop {
        /// Index of the alternative.
        choice: u32,
        /// The stop reason.
        reason: Stop,
    },
}

impl Delta<'_> {
    /// Returns the delta without borrowing, so that it can outlive its frame.
    #[must_use]
    pub fn into_owned(self) -> Delta<'static> {
        fn own(text: Cow<'_, str>) -> Cow<'static, str> {
            Cow::Owned(text.into_owned())
        }
        match self {
            Self::Start { id, model } => Delta::Start { id: own(id), model: own(model) },
            Self::Text { choice, text } => Delta::Text { choice, text: own(text) },
            Self::Logprobs { choice, items } => Delta::Logprobs { choice, items: own(items) },
            Self::Refusal { choice, text } => Delta::Refusal { choice, text: own(text) },
            Self::Reasoning { choice, text } => Delta::Reasoning { choice, text: own(text) },
            Self::Signature { value, scheme } => Delta::Signature { value: own(value), scheme },
            Self::RedactedReasoning { data, scheme } => {
                Delta::RedactedReasoning { data: own(data), scheme }
            }
            Self::ToolStart { choice, call, id, name } => {
                Delta::ToolStart { choice, call, id: own(id), name: own(name) }
            }
            Self::ToolArguments { choice, call, json } => {
                Delta::ToolArguments { choice, call, json: own(json) }
            }
            Self::Citation(citation) => Delta::Citation(citation),
            Self::Search(run) => Delta::Search(run),
            Self::Opaque => Delta::Opaque,
            Self::Embeddings(vectors) => {
                Delta::Embeddings(vectors.into_iter().map(Vector::into_owned).collect())
            }
            Self::InputTokens(count) => Delta::InputTokens(count),
            Self::Usage(usage) => Delta::Usage(usage),
            Self::Stop { choice, reason } => Delta::Stop { choice, reason },
        }
    }

    /// The alternative that the delta belongs to, if any. Deltas without an index belong to the first one.
    pub fn choice(&self) -> Option<u32> {
        match self {
            Self::Text { choice, .. }
            | Self::Logprobs { choice, .. }
            | Self::Refusal { choice, .. }
            | Self::Reasoning { choice, .. }
            | Self::ToolStart { choice, .. }
            | Self::ToolArguments { choice, .. }
            | Self::Stop { choice, .. } => Some(*choice),
            Self::Signature { .. }
            | Self::RedactedReasoning { .. }
            | Self::Citation(_)
            | Self::Search(_) => Some(0),
            Self::Start { .. }
            | Self::Opaque
            | Self::Embeddings(_)
            | Self::InputTokens(_)
            | Self::Usage(_) => None,
        }
    }

    /// Whether this is model output, as opposed to framing and metadata. The `first_token` and `stall`
    /// deadlines wait for output, and no retry is possible after output was forwarded.
    pub fn is_output(&self) -> bool {
        !self.output().is_empty()
            || matches!(
                self,
                Self::RedactedReasoning { .. }
                    | Self::Signature { .. }
                    | Self::Search(_)
                    | Self::Opaque
            )
    }

    /// Approximate size in bytes of the stored content.
    pub fn size(&self) -> usize {
        let of = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        match self {
            Self::Text { text, .. } | Self::Refusal { text, .. } | Self::Reasoning { text, .. } => {
                text.len()
            }
            Self::Logprobs { items, .. } => items.len(),
            Self::Signature { value: data, .. } | Self::RedactedReasoning { data, .. } => {
                data.len()
            }
            Self::ToolStart { id, name, .. } => id.len() + name.len(),
            Self::ToolArguments { json, .. } => json.len(),
            Self::Citation(source) => [&source.id, &source.url, &source.title, &source.cited_text]
                .into_iter()
                .map(of)
                .sum(),
            Self::Search(run) => {
                let queries = run.queries.iter().map(String::len).sum::<usize>();
                run.results.iter().fold(queries, |sum, it| sum + it.url.len() + it.title.len())
            }
            Self::Start { .. }
            | Self::Opaque
            | Self::Embeddings(_)
            | Self::InputTokens(_)
            | Self::Usage(_)
            | Self::Stop { .. } => 0,
        }
    }

    /// The generated text of the delta.
    pub fn output(&self) -> &str {
        match self {
            Self::Text { text, .. } | Self::Refusal { text, .. } | Self::Reasoning { text, .. } => {
                text
            }
            Self::ToolStart { name, .. } => name,
            Self::ToolArguments { json, .. } => json,
            _ => "",
        }
    }
}

/// A source for a stretch of the answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Citation {
    /// Kind of the source.
    pub origin: Origin,
    /// The vendor's own id of it.
    pub id: Option<String>,
    /// Its address.
    pub url: Option<String>,
    /// Its title.
    pub title: Option<String>,
    /// The quoted text.
    pub cited_text: Option<String>,
    /// First character of the supported stretch of the answer.
    pub start: Option<u64>,
    /// One past the last character.
    pub end: Option<u64>,
    /// The number that marks the source in the text, as in `[1]`, if its place is not known otherwise.
    pub mark: Option<u32>,
}

impl Citation {
    /// The address, which most dialects require for a source.
    pub fn address(&self) -> Option<&str> {
        self.url.as_deref().filter(|url| !url.is_empty())
    }

    /// Display name: its title, else its address or its id.
    pub fn name(&self) -> &str {
        let names = [&self.title, &self.url, &self.id];
        names.into_iter().flatten().find(|name| !name.is_empty()).map_or("", String::as_str)
    }
}

/// Kind of the source of a citation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Something on the web.
    #[default]
    Web,
    /// A document or file that the caller or its vendor holds.
    Document,
    /// The result of a tool call.
    Tool,
}

/// Why an answer stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The model finished.
    End,
    /// It wrote one of the caller's stop strings, which the upstream may name.
    Sequence(Option<String>),
    /// It reached the limit on output tokens.
    MaxTokens,
    /// It filled the context window.
    ContextFull,
    /// It calls tools.
    ToolUse,
    /// The model declined, perhaps with an explanation.
    Refusal(Option<String>),
    /// A filter removed the rest.
    ContentFilter,
    /// The turn is paused and may be continued.
    Pause,
    /// The upstream aborted the answer, with a finish reason that is in a table.
    Failed(ApiError),
    /// An unknown finish reason, in the vendor's own spelling. Never a normal end.
    Other(String),
}

/// Token counts in terms that fit all vendors: input includes cached tokens. `None` if not reported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// All input, cached parts included.
    pub input: Option<u64>,
    /// Input read from a cache; part of `input`.
    pub cache_read: Option<u64>,
    /// Input written to a cache; part of `input`.
    pub cache_write: Option<u64>,
    /// All output, reasoning included.
    pub output: Option<u64>,
    /// Reasoning; part of `output`.
    pub reasoning: Option<u64>,
}

impl Usage {
    /// Returns only the counts up to `most`. If a total is removed, so are its parts.
    #[must_use]
    pub fn within(&self, most: u64) -> Self {
        let believed = |count: Option<u64>| count.is_none_or(|count| count <= most);
        let (input, output) = (believed(self.input), believed(self.output));
        Self {
            input: self.input.filter(|_| input),
            cache_read: self.cache_read.filter(|count| input && *count <= most),
            cache_write: self.cache_write.filter(|count| input && *count <= most),
            output: self.output.filter(|_| output),
            reasoning: self.reasoning.filter(|count| output && *count <= most),
        }
    }

    /// Replaces every field that `later` sets. A part never exceeds its total: some upstreams count reasoning
    /// with another tokenizer, or cached input over several requests.
    pub fn replace_with(&mut self, later: &Self) {
        self.input = later.input.or(self.input);
        self.cache_read = later.cache_read.or(self.cache_read);
        self.cache_write = later.cache_write.or(self.cache_write);
        self.output = later.output.or(self.output);
        self.reasoning = later.reasoning.or(self.reasoning);
        let at_most = |part: Option<u64>, whole: Option<u64>| match (part, whole) {
            (Some(part), Some(whole)) => Some(part.min(whole)),
            (part, _) => part,
        };
        self.cache_read = at_most(self.cache_read, self.input);
        let unread = self.input.map(|input| input.saturating_sub(self.cache_read.unwrap_or(0)));
        self.cache_write = at_most(self.cache_write, unread);
        self.reasoning = at_most(self.reasoning, self.output);
    }
}
