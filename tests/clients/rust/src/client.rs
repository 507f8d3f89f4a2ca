//! Clients: the gateway's address, each of genai's adapters, and answers collected from streams.
//! It must never repair what the client yields: a case judges what is here.

use futures::StreamExt;
use genai::adapter::AdapterKind;
use genai::chat::{
    ChatMessage, ChatOptions, ChatRequest, ChatStream, ChatStreamEvent, MessageContent,
    ReasoningEffort, StopReason, Tool, ToolCall, Usage,
};
use genai::resolver::{AuthData, Endpoint};
use genai::{Client, ModelIden, ModelSpec, ServiceTarget};
use serde_json::{Value, json};

use crate::CaseError;

/// Where things run, and the upstreams that there are.
pub struct Place {
    pub gateway: String,
    pub sim: String,
    pub key: String,
    /// The provider of each upstream, as the gateway names it.
    pub upstreams: Vec<String>,
}

impl Place {
    pub fn from_environment() -> Result<Self, Box<dyn std::error::Error>> {
        let variable = |name: &str| std::env::var(name).map_err(|_| format!("{name} is not set"));
        let listed: Value = serde_json::from_str(include_str!("../../upstreams.json"))?;
        let named =
            listed.as_array().into_iter().flatten().filter_map(|one| one["dialect"].as_str());
        Ok(Self {
            gateway: variable("GATEWAY")?,
            sim: variable("SIM")?,
            key: variable("KEY")?,
            upstreams: named.map(|dialect| format!("sim-{dialect}")).collect(),
        })
    }

    /// Counts of the simulated upstream.
    pub async fn stats(&self) -> Result<(u64, u64), CaseError> {
        let stats: Value = reqwest::get(format!("{}/_sim/stats", self.sim)).await?.json().await?;
        let count = |name: &str| stats[name].as_u64().unwrap_or_default();
        Ok((count("cancelled_streams"), count("open_streams")))
    }
}

/// One of genai's adapters, and how it is pointed at a gateway.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Adapter {
    OpenAi,
    OpenAiResponses,
    Anthropic,
    Gemini,
    Ollama,
}

impl Adapter {
    pub const ALL: [Self; 5] =
        [Self::OpenAi, Self::OpenAiResponses, Self::Anthropic, Self::Gemini, Self::Ollama];

    fn kind(self) -> AdapterKind {
        match self {
            Self::OpenAi => AdapterKind::OpenAI,
            Self::OpenAiResponses => AdapterKind::OpenAIResp,
            Self::Anthropic => AdapterKind::Anthropic,
            Self::Gemini => AdapterKind::Gemini,
            Self::Ollama => AdapterKind::Ollama,
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::OpenAi | Self::OpenAiResponses | Self::Anthropic => "/v1/",
            Self::Gemini => "/v1beta/",
            Self::Ollama => "/",
        }
    }

    fn model(self, place: &Place, model: &str, key: &str) -> ModelSpec {
        ModelSpec::Target(ServiceTarget {
            endpoint: Endpoint::from_owned(format!("{}{}", place.gateway, self.path())),
            auth: AuthData::from_single(key),
            model: ModelIden::new(self.kind(), model),
        })
    }

    /// Everything captured.
    fn options() -> ChatOptions {
        ChatOptions::default()
            .with_capture_usage(true)
            .with_capture_content(true)
            .with_capture_reasoning_content(true)
            .with_capture_tool_calls(true)
            .with_max_tokens(2048)
    }
}

/// The form in which an answer is requested.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Way {
    Streamed,
    Whole,
}

impl Way {
    pub const ALL: [Self; 2] = [Self::Streamed, Self::Whole];
}

/// A collected answer.
#[derive(Debug)]
pub struct Answer {
    pub text: String,
    pub reasoning: String,
    pub calls: Vec<ToolCall>,
    pub stop: Option<StopReason>,
    pub usage: Usage,
    /// State to send back in the next turn.
    pub content: MessageContent,
}

/// One question for one adapter.
pub struct Ask<'a> {
    pub place: &'a Place,
    pub adapter: Adapter,
    pub way: Way,
    pub model: String,
    pub key: String,
    pub request: ChatRequest,
    pub options: ChatOptions,
}

impl<'a> Ask<'a> {
    pub fn new(place: &'a Place, adapter: Adapter, way: Way, model: String) -> Self {
        let request = ChatRequest::new(vec![ChatMessage::user("count")]);
        let options = Adapter::options();
        Self { place, adapter, way, model, key: place.key.clone(), request, options }
    }

    pub fn thinking(mut self) -> Self {
        self.options = self.options.with_reasoning_effort(ReasoningEffort::Low);
        self
    }

    pub fn tools(mut self) -> Self {
        let schema = json!({
            "type": "object",
            "properties": { "call": { "type": "integer" }, "note": { "type": "string" } },
            "required": ["call", "note"],
            "additionalProperties": false,
        });
        let tool = |name| Tool::new(name).with_description("x").with_schema(schema.clone());
        self.request = self.request.with_tools([tool("alpha"), tool("beta")]);
        self
    }

    pub async fn answer(&self) -> Result<Answer, genai::Error> {
        match self.way {
            Way::Whole => self.whole().await,
            Way::Streamed => self.streamed(&mut String::new()).await,
        }
    }

    /// Where it goes, and how. The adapter for Ollama sends no key by itself.
    fn sent(&self) -> (ModelSpec, ChatRequest, ChatOptions) {
        let model = self.adapter.model(self.place, &self.model, &self.key);
        let mut options = self.options.clone();
        if self.adapter == Adapter::Ollama {
            let header = ("authorization".to_owned(), format!("Bearer {}", self.key));
            options = options.with_extra_headers(vec![header]);
        }
        (model, self.request.clone(), options)
    }

    async fn whole(&self) -> Result<Answer, genai::Error> {
        let (model, request, options) = self.sent();
        let got = Client::new()?.exec_chat(model, request, Some(&options)).await?;
        Ok(Answer {
            text: got.content.joined_texts().unwrap_or_default(),
            reasoning: got.reasoning_content.unwrap_or_default(),
            calls: got.content.tool_calls().into_iter().cloned().collect(),
            stop: got.stop_reason,
            usage: got.usage,
            content: got.content,
        })
    }

    pub async fn stream(&self) -> Result<ChatStream, genai::Error> {
        let (model, request, options) = self.sent();
        Ok(Client::new()?.exec_chat_stream(model, request, Some(&options)).await?.stream)
    }

    /// The stream to its end; `text` keeps what came before an error.
    pub async fn streamed(&self, text: &mut String) -> Result<Answer, genai::Error> {
        let mut stream = self.stream().await?;
        let (mut reasoning, mut end) = (String::new(), None);
        while let Some(event) = stream.next().await {
            assert!(end.is_none(), "nothing follows the end");
            match event? {
                ChatStreamEvent::Chunk(chunk) => text.push_str(&chunk.content),
                ChatStreamEvent::ReasoningChunk(chunk) => reasoning.push_str(&chunk.content),
                ChatStreamEvent::End(last) => end = Some(last),
                ChatStreamEvent::Start
                | ChatStreamEvent::ThoughtSignatureChunk(_)
                | ChatStreamEvent::ToolCallChunk(_)
                | ChatStreamEvent::Heartbeat => {}
            }
        }
        let end =
            end.ok_or_else(|| genai::Error::Internal("a stream without an end".to_owned()))?;
        let content = end.captured_content.unwrap_or_default();
        let captured = content.joined_texts().unwrap_or_default();
        assert_eq!(*text, captured, "the chunks are what was captured");
        assert_eq!(reasoning, end.captured_reasoning_content.unwrap_or_default());
        Ok(Answer {
            text: captured,
            reasoning,
            calls: content.tool_calls().into_iter().cloned().collect(),
            stop: end.captured_stop_reason,
            usage: end.captured_usage.unwrap_or_default(),
            content,
        })
    }
}

/// The simulated upstream's text: each token once, in order.
pub fn tokens(count: usize, letter: char) -> String {
    (0..count).map(|i| format!("{letter}{i} ")).collect()
}
