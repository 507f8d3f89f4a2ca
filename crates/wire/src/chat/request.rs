//! Requests in the neutral vocabulary: turns, tools and parameters.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::HostedTool;
use super::tool_form::ToolForms;

/// A chat request, whatever dialect it came in.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The turns in order. System and developer instructions are messages of [`Role::System`].
    pub messages: Vec<Message>,
    /// Functions that the model may call.
    pub tools: Vec<Tool>,
    /// What those of them are in the caller's dialect that are no functions of the same name there.
    pub tool_forms: ToolForms,
    /// Tools that the vendor runs itself.
    pub hosted: Vec<HostedTool>,
    /// How the model may use them; `None` leaves the choice to the upstream's default.
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
    /// Sample among the k most likely tokens.
    pub top_k: Option<u64>,
    /// Penalty for tokens already present, -2 to 2.
    pub presence_penalty: Option<f64>,
    /// Penalty by frequency, -2 to 2.
    pub frequency_penalty: Option<f64>,
    /// Seed for best-effort reproducibility.
    pub seed: Option<i64>,
    /// How many alternative answers.
    pub n: Option<u64>,
    /// Token id to bias, as the caller wrote it.
    pub logit_bias: Option<Box<RawValue>>,
    /// Whether log probabilities are wanted.
    pub logprobs: bool,
    /// How many alternatives per token with `logprobs`.
    pub top_logprobs: Option<u64>,
    /// Structured output.
    pub format: Option<Format>,
    /// Reasoning effort or budget.
    pub reasoning: Option<Reasoning>,
    /// An opaque end-user identifier.
    pub user: Option<String>,
    /// Which requests share a prompt cache.
    pub cache_key: Option<String>,
    /// The caller's vendor caches prompts by itself, so that its callers set no [`Part::Cache`].
    pub caches_itself: bool,
    /// Hints that no other dialect has, by the caller's names of their fields.
    pub untranslatable: Vec<&'static str>,
}

impl Request {
    /// Whether the last turn of the model calls tools without reasoning, signed or sealed by this
    /// vendor, that led to it.
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

    /// Whether the model has to call a tool.
    pub fn forces_a_call(&self) -> bool {
        let forced = matches!(self.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_)));
        forced && !self.tools.is_empty() || self.hosted.iter().any(|tool| tool.forced)
    }

    /// Whether there are tools of any kind.
    pub fn has_tools(&self) -> bool {
        !self.tools.is_empty() || !self.hosted.is_empty()
    }
}

/// Who speaks in a [`Message`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Instructions from the operator of the conversation.
    System,
    /// The human, and the results of tools.
    User,
    /// The model.
    Assistant,
}

/// One turn.
#[derive(Debug, Clone)]
pub struct Message {
    /// Where it stands in the caller's own request, as a refusal names it.
    pub at: String,
    /// Who speaks.
    pub role: Role,
    /// What is said, in order.
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
    /// A medium that only the caller's vendor can read: a file that it stores, or an address that only it
    /// fetches. Never written for an upstream.
    Unreadable {
        /// What it is.
        medium: Medium,
        /// Its place in the caller's own request, as a refusal names it.
        at: String,
    },
    /// A summary that stands for everything before it. `None`: only the caller's vendor can read it. Never
    /// written for an upstream.
    Summary(Option<String>),
    /// The model declined.
    Refusal(String),
    /// What the model thought, with the proof of origin that its vendor demands on replay.
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
        /// Whose it is.
        scheme: Scheme,
    },
    /// The model called a tool.
    ToolCall {
        /// The call's id, as the caller knows it.
        id: String,
        /// The tool's name.
        name: String,
        /// A JSON object, as it was written; key order and number text are kept.
        arguments: Box<RawValue>,
    },
    /// What a tool answered. Only in turns of [`Role::User`].
    ToolResult {
        /// The id of the call it answers.
        id: String,
        /// Text and images.
        parts: Vec<Self>,
        /// The tool failed.
        is_error: bool,
    },
    /// The prompt up to here is worth caching: a mark on the part before it.
    Cache(CacheMark),
}

/// How long a cached prompt is kept: `5m`, `1h`; `None`: as long as the vendor does by default.
pub type CacheMark = Option<String>;

/// An image given to the model.
#[derive(Debug, Clone)]
pub struct Image {
    /// Where the pixels are.
    pub source: Source,
    /// `auto`, `low` or `high`.
    pub detail: Option<String>,
}

/// A document given to the model.
#[derive(Debug, Clone)]
pub struct Document {
    /// Where the bytes are.
    pub source: Source,
    /// A file name or title.
    pub title: Option<String>,
}

/// Types of documents, and how the names of such files end (IANA media type registrations).
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
    /// The name of the file: its title, else `document` with the ending of its type, if that is known.
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
    /// Pages, a table or any other file.
    Document,
    /// Sound.
    Audio,
    /// Moving pictures.
    Video,
}

impl Medium {
    /// What is of this media type: `audio/wav`.
    pub fn of(media_type: &str) -> Self {
        match media_type.split('/').next().unwrap_or_default() {
            "image" => Self::Image,
            "audio" => Self::Audio,
            "video" => Self::Video,
            _ => Self::Document,
        }
    }

    /// Its name with an article, where it takes one.
    pub fn one(self) -> &'static str {
        match self {
            Self::Image => "an image",
            Self::Document => "a document",
            Self::Audio => "audio",
            Self::Video => "a video",
        }
    }

    /// Its name in the text that stands for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Document => "document",
            Self::Audio => "audio",
            Self::Video => "video",
        }
    }
}

/// Where a medium's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Fetched by the vendor.
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

/// Whose opaque reasoning state something is. State never crosses to another vendor.
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

    /// Its name in marks.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(scheme, _)| *scheme == self).map_or("", |(_, name)| name)
    }

    /// The scheme of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(scheme, _)| *scheme)
    }
}

/// A signature over a reasoning text, relayed byte for byte and never made up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The opaque value.
    pub value: String,
    /// Whose it is.
    pub scheme: Scheme,
}

/// A function that the model may call.
#[derive(Debug, Clone, Default)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// JSON Schema of its arguments, as the caller wrote it.
    pub parameters: Option<Box<RawValue>>,
    /// Whether arguments must match the schema exactly.
    pub strict: Option<bool>,
    /// The tools up to this one are worth caching.
    pub cache: Option<CacheMark>,
}

/// How the model may use tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice {
    /// Not at all.
    None,
    /// As it sees fit.
    Auto,
    /// It must call some tool.
    Required,
    /// It must call this one.
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

/// How much the model should reason.
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
    /// Whether the model is to reason: it is not switched off.
    pub fn is_wanted(&self) -> bool {
        let off = self.enabled == Some(false)
            || self.budget == Some(0)
            || self.effort.as_deref() == Some("none");
        !off && *self != Self::default()
    }
}
