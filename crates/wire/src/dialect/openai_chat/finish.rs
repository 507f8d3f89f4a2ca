//! `finish_reason` of chat completions: the vendor's own values and those of compatible servers. Values of
//! other APIs are in `wire::finish`.

use crate::chat::Kind;
use crate::finish::{Meaning, Row, row};

const OPENAI: &str = "OpenAI API reference, chat completions, `finish_reason`";
const VLLM: &str = "vllm/v1/engine/__init__.py, FINISH_REASON_STRINGS";
const SGLANG: &str = "SGLang, finish reasons of schedule_batch.py (FINISH_ABORT)";
const ZAI: &str = "Z.AI API reference, chat completions, `finish_reason`";
const MISTRAL: &str = "Mistral API reference, chat completions, `finish_reason`";
const DEEPSEEK: &str = "DeepSeek API reference, chat completions, `finish_reason`";
const OPENROUTER: &str = "OpenRouter documentation, errors within streams";

/// The vendor's finish reasons and their meanings.
pub(super) const REASONS: &[Row] = &[
    row("stop", Meaning::End, OPENAI),
    row("length", Meaning::Limit, OPENAI),
    row("tool_calls", Meaning::Tools, OPENAI),
    row("function_call", Meaning::Tools, OPENAI),
    row("content_filter", Meaning::Filter, OPENAI),
    row("error", Meaning::Failed(Kind::Upstream), OPENROUTER),
    row("abort", Meaning::Failed(Kind::Upstream), SGLANG),
    row("repetition", Meaning::Limit, VLLM),
    row("sensitive", Meaning::Filter, ZAI),
    row("network_error", Meaning::Failed(Kind::Upstream), ZAI),
    row("model_context_window_exceeded", Meaning::Context, ZAI),
    row("model_length", Meaning::Context, MISTRAL),
    row("insufficient_system_resource", Meaning::Failed(Kind::Overloaded), DEEPSEEK),
];
