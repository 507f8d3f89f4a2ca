//! The shapes of `chat.completion.chunk` and `chat.completion`, as far as anyone here reads them.
//!
//! Everything borrows the frame. Values stay raw until they are needed and are read leniently then:
//! a shape must never be the reason why a stream dies of a field that is not used.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::chat::Usage;
use crate::json::{self, Members};

type Raw<'a> = Option<&'a RawValue>;

/// One payload of a stream, or a whole answer.
#[derive(Deserialize)]
pub(super) struct Chunk<'a> {
    #[serde(borrow)]
    pub(super) id: Raw<'a>,
    #[serde(borrow)]
    pub(super) model: Raw<'a>,
    #[serde(borrow)]
    pub(super) object: Raw<'a>,
    #[serde(borrow)]
    pub(super) choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow)]
    pub(super) usage: Raw<'a>,
    #[serde(borrow)]
    pub(super) error: Raw<'a>,
    #[serde(borrow)]
    pub(super) x_groq: Raw<'a>,
    /// Perplexity, xAI.
    #[serde(borrow)]
    pub(super) citations: Raw<'a>,
    /// Perplexity.
    #[serde(borrow)]
    pub(super) search_results: Raw<'a>,
    /// Z.AI.
    #[serde(borrow)]
    pub(super) web_search: Raw<'a>,
}

/// One alternative in it.
#[derive(Deserialize)]
pub(super) struct Choice<'a> {
    #[serde(borrow)]
    pub(super) index: Raw<'a>,
    #[serde(borrow)]
    pub(super) delta: Option<Body<'a>>,
    /// Of whole answers. Perplexity repeats the text so far in it, next to `delta`.
    #[serde(borrow)]
    pub(super) message: Raw<'a>,
    #[serde(borrow)]
    pub(super) finish_reason: Raw<'a>,
    /// vLLM: the stop string that was met, or the id of a stop token.
    #[serde(borrow)]
    pub(super) stop_reason: Raw<'a>,
    #[serde(borrow)]
    pub(super) logprobs: Raw<'a>,
}

/// A `delta` or a `message`.
#[derive(Deserialize)]
pub(super) struct Body<'a> {
    #[serde(borrow)]
    pub(super) content: Raw<'a>,
    #[serde(borrow)]
    pub(super) refusal: Raw<'a>,
    #[serde(borrow)]
    pub(super) reasoning_content: Raw<'a>,
    #[serde(borrow)]
    pub(super) reasoning: Raw<'a>,
    #[serde(borrow)]
    pub(super) reasoning_details: Raw<'a>,
    #[serde(borrow)]
    pub(super) tool_calls: Option<Vec<ToolPart<'a>>>,
    #[serde(borrow)]
    pub(super) function_call: Option<Function<'a>>,
    #[serde(borrow)]
    pub(super) annotations: Raw<'a>,
}

/// A fragment of a tool call.
#[derive(Deserialize)]
pub(super) struct ToolPart<'a> {
    #[serde(borrow)]
    pub(super) index: Raw<'a>,
    #[serde(borrow)]
    pub(super) id: Raw<'a>,
    #[serde(borrow)]
    pub(super) function: Option<Function<'a>>,
    /// Google: the signature of the thoughts before the call.
    #[serde(borrow)]
    pub(super) extra_content: Raw<'a>,
}

/// Google's signature in its extension of a call.
pub(super) fn thought_signature(extra: &RawValue) -> Option<String> {
    let inner = |members: &Members<'_>, name: &str| Some(members.get(name)?.get().to_owned());
    let google = inner(&Members::parse(extra.get()).ok()?, "google")?;
    let members = Members::parse(&google).ok()?;
    let value = json::text(members.get("thought_signature")?)?.into_owned();
    (!value.is_empty()).then_some(value)
}

/// The name of the called function, and its arguments.
#[derive(Deserialize)]
pub(super) struct Function<'a> {
    #[serde(borrow)]
    pub(super) name: Raw<'a>,
    #[serde(borrow)]
    pub(super) arguments: Raw<'a>,
}

/// An element of `content` where that is an array (Mistral).
#[derive(Deserialize)]
pub(super) struct ContentPart<'a> {
    #[serde(borrow)]
    pub(super) text: Raw<'a>,
    #[serde(borrow)]
    pub(super) thinking: Raw<'a>,
}

/// An element of `reasoning_details`.
#[derive(Deserialize)]
pub(super) struct Detail<'a> {
    #[serde(borrow)]
    pub(super) format: Raw<'a>,
    #[serde(borrow)]
    pub(super) text: Raw<'a>,
    #[serde(borrow)]
    pub(super) summary: Raw<'a>,
    #[serde(borrow)]
    pub(super) signature: Raw<'a>,
    #[serde(borrow)]
    pub(super) data: Raw<'a>,
}

/// An element of `annotations`.
#[derive(Deserialize)]
pub(super) struct Annotation {
    pub(super) url_citation: Option<UrlCitation>,
}

/// A web source.
#[derive(Deserialize)]
pub(super) struct UrlCitation {
    pub(super) url: Option<String>,
    pub(super) title: Option<String>,
    pub(super) content: Option<String>,
    pub(super) start_index: Option<u64>,
    pub(super) end_index: Option<u64>,
}

/// `logprobs` of a choice.
#[derive(Deserialize)]
pub(super) struct Logprobs<'a> {
    #[serde(borrow)]
    pub(super) content: Raw<'a>,
}

/// Groq's envelope for its extensions.
#[derive(Deserialize)]
pub(super) struct Groq<'a> {
    #[serde(borrow)]
    pub(super) usage: Raw<'a>,
}

#[derive(Deserialize)]
struct UsageBody<'a> {
    #[serde(borrow)]
    prompt_tokens: Raw<'a>,
    #[serde(borrow)]
    completion_tokens: Raw<'a>,
    #[serde(borrow)]
    total_tokens: Raw<'a>,
    #[serde(borrow)]
    prompt_tokens_details: Raw<'a>,
    #[serde(borrow)]
    completion_tokens_details: Raw<'a>,
    /// `DeepSeek`.
    #[serde(borrow)]
    prompt_cache_hit_tokens: Raw<'a>,
    /// Together.
    #[serde(borrow)]
    cached_tokens: Raw<'a>,
}

#[derive(Deserialize, Default)]
struct PromptDetails<'a> {
    #[serde(borrow)]
    cached_tokens: Raw<'a>,
    #[serde(borrow)]
    cache_write_tokens: Raw<'a>,
}

#[derive(Deserialize, Default)]
struct CompletionDetails<'a> {
    #[serde(borrow)]
    reasoning_tokens: Raw<'a>,
}

/// A count, which some servers write as a fraction.
fn count(raw: Raw<'_>) -> Option<u64> {
    let text = raw?.get();
    text.parse().ok().or_else(|| format!("{:.0}", text.parse::<f64>().ok()?).parse().ok())
}

/// Reads details of usage. Details that cannot be read do not invalidate the other counts.
fn details<'a, T: Deserialize<'a> + Default>(raw: Raw<'a>) -> T {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
}

/// Reads `usage` into canonical terms. `None`: nothing in it that we count.
pub(super) fn usage(raw: &RawValue) -> Option<Usage> {
    let body: UsageBody<'_> = serde_json::from_str(raw.get()).ok()?;
    let prompt: PromptDetails<'_> = details(body.prompt_tokens_details);
    let completion: CompletionDetails<'_> = details(body.completion_tokens_details);
    let (input, output) = (count(body.prompt_tokens), count(body.completion_tokens));
    let reasoning = count(completion.reasoning_tokens);
    let usage = Usage {
        input,
        cache_read: count(prompt.cached_tokens)
            .or_else(|| count(body.prompt_cache_hit_tokens))
            .or_else(|| count(body.cached_tokens)),
        cache_write: count(prompt.cache_write_tokens),
        output: match (input, output, reasoning, count(body.total_tokens)) {
            // xAI counts reasoning apart from the completion, which only the total betrays.
            (Some(input), Some(output), Some(thought), Some(total))
                if thought > 0
                    && input.checked_add(output).and_then(|sum| sum.checked_add(thought))
                        == Some(total) =>
            {
                output.checked_add(thought)
            }
            _ => output,
        },
        reasoning,
    };
    (usage != Usage::default()).then_some(usage)
}
