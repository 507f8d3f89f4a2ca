//! Requests in the neutral vocabulary: turns, tools and parameters.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::HostedTool;
use super::tool_form::ToolForms;

/// A chat request of any dialect.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The turns in order. System and developer instructions are messages of [`Role::System`].
    pub messages: Vec<Message>,
    /// Functions that the model may call.
    pub tools: Vec<Tool>,
    /// Original forms of tools that are not functions of the same name in the caller's dialect.
    pub tool_forms: ToolForms,
    /// Tools that the vendor runs itself.
    pub hosted: Vec<HostedTool>,
    /// Constraint on the use of the tools. `None` leaves the choice to the upstream's default.
    pub tool_choice: Option<ToolChoice>,
    /// Whether several tools may be called in one turn.
    pub parallel_tool_calls: Option<bool>,
    /// The most output tokens.
    pub max_tokens: Option<u64>,
    /// Strings that end the output.
    pub stop: Vec<String>,
    /// Sampling temperature, in the range of the caller's dialect.
    pub temperature: Option<f64>,
    /// Nucleus sampling mass.
    pub top_p: Option<f64>,
    /// Restricts sampling to the k most likely tokens.
    pub top_k: Option<u64>,
    /// Penalty for tokens already present, -2 to 2.
    pub presence_penalty: Option<f64>,
    /// Penalty by frequency, -2 to 2.
    pub frequency_penalty: Option<f64>,
    /// Seed for best-effort reproducibility.
    pub seed: Option<i64>,
    /// Number of alternative answers.
    pub n: Option<u64>,
    /// JSON object of biases by token id, as the caller wrote it.
    pub logit_bias: Option<Box<RawValue>>,
    /// Whether log probabilities are wanted.
    pub logprobs: bool,
    /// Number of alternatives per token with `logprobs`.
    pub top_logprobs: Option<u64>,
    /// Structured output.
    pub format: Option<Format>,
    /// Reasoning effort or budget.
    pub reasoning: Option<Reasoning>,
    /// An opaque end-user identifier.
    pub user: Option<String>,
    /// Key of the prompt cache that requests share.
    pub cache_key: Option<String>,
    /// The caller's vendor caches prompts automatically, so that its callers set no [`Part::Cache`].
    pub caches_itself: bool,
    /// Hints that no other dialect has, by the caller's field names.
    pub untranslatable: Vec<&'static str>,
}

impl Request {
    /// Whether the last turn of the model calls tools without the preceding reasoning that this vendor signed
    /// or sealed.
    pub fn lacks_reasoning(&self, vendor: Scheme) -> bool {
        let last = self.messages.iter().rfind(|message| message.role == Role::Assistant);
        let parts = last.map(|message| message.parts.as_slice()).unwrap_or_default();
        let called = parts.iter().any(|part| matches!(part, Part::ToolCall { .. }));
        let reasoned = parts.iter().any(|part| match part {
            Part::Reasoning { signature: Some(signature), .. } => signature.scheme == vendor,
            Part::RedactedReasoning { scheme, .. } => *scheme == vendor,
            _ => false,
        });
        called && !reasoned
    }

    /// Whether the model must call a tool.
    pub fn forces_a_call(&self) -> bool {
        let forced = matches!(self.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_)));
        forced && !self.tools.is_empty() || self.hosted.iter().any(|tool| tool.forced)
    }

    /// Whether the request has tools of any kind.
    pub fn has_tools(&self) -> bool {
        !self.tools.is_empty() || !self.hosted.is_empty()
    }
}

/// Author of a [`Message`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Instructions from the operator of the conversation.
    System,
    /// The human user, and tool results.
    User,
    /// The model.
    Assistant,
}

/// One turn.
#[derive(Debug, Clone)]
pub struct Message {
    /// Place in the caller's own request, for error messages.
    pub at: String,
    /// Author of the turn.
    pub role: Role,
    /// Content, in order.
    pub parts: Vec<Part>,
}

/// A piece of a turn.
#[derive(Debug, Clone)]
pub enum Part {
    /// Plain text.
    Text(String),
    /// An image.
    Image(Image),
    /// A document or a recording, by its media type.
    Document(Document),
    /// A medium that only the caller's vendor can read: a file in its storage, or an address that only it
    /// fetches. Never written for an upstream.
    Unreadable {
        /// Kind of the medium.
        medium: Medium,
        /// Place in the caller's own request, for error messages.
        at: String,
    },
    /// A summary that replaces everything before it. `None` if only the caller's vendor can read it. Never
    /// written for an upstream.
    Summary(Option<String>),
    /// A refusal of the model.
    Refusal(String),
    /// Reasoning of the model, with the signature that its vendor requires on replay.
    Reasoning {
        /// The visible text; empty when the vendor hides it.
        text: String,
        /// The vendor's signature over it.
        signature: Option<Signature>,
    },
    /// Reasoning that only its vendor can read.
    RedactedReasoning {
        /// The opaque data.
        data: String,
        /// The vendor that issued it.
        scheme: Scheme,
    },
    /// A tool call of the model.
    ToolCall {
        /// The call's id, as the caller knows it.
        id: String,
        /// The tool's name.
        name: String,
        /// A JSON object, as it was written; key order and number text are kept.
        arguments: Box<RawValue>,
    },
    /// Result of a tool. Only in turns of [`Role::User`].
    ToolResult {
        /// Id of the call that it belongs to.
        id: String,
        /// Text and images.
        parts: Vec<Self>,
        /// The tool failed.
        is_error: bool,
    },
    /// Cache mark: the prompt up to the preceding part is worth caching.
    Cache(CacheMark),
}

/// Lifetime of a cached prompt: `5m`, `1h`. `None` uses the vendor's default.
pub type CacheMark = Option<String>;

/// An image given to the model.
#[derive(Debug, Clone)]
pub struct Image {
    /// Location of the image data.
    pub source: Source,
    /// `auto`, `low` or `high`.
    pub detail: Option<String>,
}

/// A document given to the model.
#[derive(Debug, Clone)]
pub struct Document {
    /// Location of the document's bytes.
    pub source: Source,
    /// A file name or title.
    pub title: Option<String>,
}

/// Document types and their file extensions (IANA media type registrations).
const EXTENSIONS: [(&str, &str); 9] = [
    ("application/pdf", "pdf"),
    ("application/msword", "doc"),
    ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "docx"),
    ("application/vnd.ms-powerpoint", "ppt"),
    ("application/vnd.openxmlformats-officedocument.presentationml.presentation", "pptx"),
    ("application/vnd.ms-excel", "xls"),
    ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx"),
    ("application/vnd.oasis.opendocument.text", "odt"),
    ("application/rtf", "rtf"),
];

impl Document {
    /// File name: its title, else `document` with the extension of its type, if known.
    pub fn file_name(&self) -> Cow<'_, str> {
        if let Some(title) = self.title.as_deref().filter(|title| !title.is_empty()) {
            return Cow::Borrowed(title);
        }
        let Source::Base64 { media_type, .. } = &self.source else {
            return Cow::Borrowed("document");
        };
        match EXTENSIONS.iter().find(|(kind, _)| kind == media_type) {
            Some((_, ending)) => Cow::Owned(format!("document.{ending}")),
            None => Cow::Borrowed("document"),
        }
    }
}

/// A kind of content besides text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// A picture.
    Image,
    /// A paginated document, a table or any other file.
    Document,
    /// Audio.
    Audio,
    /// Video.
    Video,
}

impl Medium {
    /// The medium of a media type such as `audio/wav`.
    pub fn of(media_type: &str) -> Self {
        match media_type.split('/').next().unwrap_or_default() {
            "image" => Self::Image,
            "audio" => Self::Audio,
            "video" => Self::Video,
            _ => Self::Document,
        }
    }

    /// The name with an article, where it takes one.
    pub fn one(self) -> &'static str {
        match self {
            Self::Image => "an image",
            Self::Document => "a document",
            Self::Audio => "audio",
            Self::Video => "a video",
        }
    }

    /// The name in the text that replaces the medium.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Document => "document",
            Self::Audio => "audio",
            Self::Video => "video",
        }
    }
}

/// Location of a medium's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// An address that the vendor fetches.
    Url(String),
    /// Inline.
    Base64 {
        /// For example `image/png`.
        media_type: String,
        /// Standard base64.
        data: String,
    },
    /// Inline plain text.
    Text(String),
}

/// Vendor whose opaque reasoning state a value holds. State is never sent to another vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Anthropic's `signature` and `redacted_thinking`.
    Anthropic,
    /// OpenAI's `encrypted_content`.
    OpenAi,
    /// Gemini's `thoughtSignature`.
    Gemini,
    /// xAI's `encrypted_content`.
    XAi,
}

impl Scheme {
    const NAMES: [(Self, &'static str); 4] = [
        (Self::Anthropic, "anthropic"),
        (Self::OpenAi, "openai"),
        (Self::Gemini, "gemini"),
        (Self::XAi, "xai"),
    ];

    /// The name in seals.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(scheme, _)| *scheme == self).map_or("", |(_, name)| name)
    }

    /// The scheme with this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(scheme, _)| *scheme)
    }
}

/// A signature over a reasoning text, forwarded byte for byte and never invented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The opaque value.
    pub value: String,
    /// The vendor that issued it.
    pub scheme: Scheme,
}

/// A function that the model may call.
#[derive(Debug, Clone, Default)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// Purpose of the function, for the model.
    pub description: Option<String>,
    /// JSON Schema of its arguments, as the caller wrote it.
    pub parameters: Option<Box<RawValue>>,
    /// Whether arguments must match the schema exactly.
    pub strict: Option<bool>,
    /// Cache mark: the tools up to this one are worth caching.
    pub cache: Option<CacheMark>,
}

/// Constraint on the model's use of tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice {
    /// No tool calls.
    None,
    /// The model decides.
    Auto,
    /// At least one call of any tool.
    Required,
    /// A call of the tool with this name.
    Named(String),
}

/// Structured output.
#[derive(Debug, Clone)]
pub enum Format {
    /// Any JSON object.
    Json,
    /// JSON that matches a schema.
    Schema {
        /// A name for it.
        name: Option<String>,
        /// The JSON Schema as the caller wrote it.
        schema: Box<RawValue>,
        /// Whether it is enforced.
        strict: Option<bool>,
    },
}

/// Amount of reasoning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reasoning {
    /// `Some(false)` switches it off.
    pub enabled: Option<bool>,
    /// `none`, `minimal`, `low`, `medium`, `high`, `xhigh`, `max`.
    pub effort: Option<String>,
    /// A budget in tokens.
    pub budget: Option<u64>,
}

impl Reasoning {
    /// Whether reasoning is not switched off.
    pub fn is_wanted(&self) -> bool {
        let off = self.enabled == Some(false)
            || self.budget == Some(0)
            || self.effort.as_deref() == Some("none");
        !off && *self != Self::default()
    }
}
