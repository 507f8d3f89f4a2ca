//! Operations of a model and their forms in dialects. Paths and bodies belong to the dialects and must never
//! be here.

use serde::{Deserialize, Serialize};

use crate::chat::ApiError;

/// The kind of work that a request has a model do, the same in every dialect. A dialect has one form of it,
/// several or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// The next turn of a conversation.
    Chat,
    /// The continuation of a text, as in `OpenAI`'s legacy completions.
    Completions,
    /// One vector for each text.
    Embeddings,
    /// The number of tokens in a prompt.
    CountTokens,
    /// A shorter conversation in place of a long one.
    Compact,
}

/// The form of a request and of its response: an operation, as one endpoint of a dialect offers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// A conversation in, the model's turn out. Every dialect has it; chats of other forms are translated
    /// into it.
    Chat,
    /// The same with a stream that is one JSON array.
    ChatArray,
    /// A prompt in place of a conversation, as in Ollama's `generate`.
    Generate,
    /// `OpenAI`'s legacy completions.
    Completions,
    /// Vectors for a list of texts.
    Embeddings,
    /// A vector for one text.
    Embedding,
    /// A token count.
    CountTokens,
    /// A conversation in, a shorter one out.
    Compact,
}

impl Form {
    /// The operation that it is a form of.
    pub fn operation(self) -> Operation {
        match self {
            Self::Chat | Self::ChatArray | Self::Generate => Operation::Chat,
            Self::Completions => Operation::Completions,
            Self::Embeddings | Self::Embedding => Operation::Embeddings,
            Self::CountTokens => Operation::CountTokens,
            Self::Compact => Operation::Compact,
        }
    }
}

impl Operation {
    /// Its name in spans: `gen_ai.operation.name` of OpenTelemetry's conventions where they have one.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "text_completion",
            Self::Embeddings => "embeddings",
            Self::CountTokens => "count_tokens",
            Self::Compact => "compact",
        }
    }

    /// Whether the model generates tokens.
    pub fn generates(self) -> bool {
        matches!(self, Self::Chat | Self::Completions | Self::Compact)
    }

    /// Whether the prompt is run through the model, so that limits on tokens hold for it.
    pub fn uses_tokens(self) -> bool {
        self != Self::CountTokens
    }

    /// The error for a target of another dialect that has no form of this operation.
    pub fn untranslatable(self) -> ApiError {
        let message = match self {
            Self::Embeddings => {
                "this model's provider has no embeddings in its API; name an embedding model"
                    .to_owned()
            }
            _ => format!(
                "requests for {} are passed on and never translated; name a model whose provider speaks this API",
                self.name()
            ),
        };
        ApiError::field("model", message)
    }
}
