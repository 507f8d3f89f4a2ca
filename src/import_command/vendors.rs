//! Vendors by the prefixes that LiteLLM puts before a model's name, with the variables that it reads their keys from
//! (<https://docs.litellm.ai/docs/providers>). It must never name a vendor that we cannot reach.

/// A vendor's upstream on our side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upstream {
    /// A preset of ours.
    Preset(&'static str),
    /// An address that speaks `OpenAI`'s chat completions; empty: the deployment must name it.
    Compatible(&'static str),
    /// Azure: the address has the resource, and perhaps the deployment.
    Azure,
    /// Amazon Bedrock: a region, and AWS credentials.
    Bedrock,
    /// Vertex AI: a project, a location, and an access token.
    Vertex,
}

/// A vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Vendor {
    /// The prefix before a model's name, without its `/`.
    pub(super) prefix: &'static str,
    /// Our name for a provider of it.
    pub(super) name: &'static str,
    /// Its upstream.
    pub(super) upstream: Upstream,
    /// The variable that LiteLLM reads its key from; empty: it needs none.
    pub(super) variable: &'static str,
}

const fn preset(prefix: &'static str, preset: &'static str, variable: &'static str) -> Vendor {
    Vendor { prefix, name: preset, upstream: Upstream::Preset(preset), variable }
}

const fn compatible(prefix: &'static str, address: &'static str, variable: &'static str) -> Vendor {
    Vendor { prefix, name: prefix, upstream: Upstream::Compatible(address), variable }
}

const fn platform(prefix: &'static str, name: &'static str, upstream: Upstream) -> Vendor {
    Vendor { prefix, name, upstream, variable: "" }
}

const VENDORS: [Vendor; 40] = [
    preset("openai", "openai", "OPENAI_API_KEY"),
    preset("anthropic", "anthropic", "ANTHROPIC_API_KEY"),
    preset("gemini", "gemini", "GEMINI_API_KEY"),
    preset("cohere", "cohere", "COHERE_API_KEY"),
    preset("cohere_chat", "cohere", "COHERE_API_KEY"),
    preset("ollama", "ollama", ""),
    preset("ollama_chat", "ollama", ""),
    preset("mistral", "mistral", "MISTRAL_API_KEY"),
    preset("groq", "groq", "GROQ_API_KEY"),
    preset("deepseek", "deepseek", "DEEPSEEK_API_KEY"),
    preset("xai", "xai", "XAI_API_KEY"),
    preset("cerebras", "cerebras", "CEREBRAS_API_KEY"),
    preset("fireworks_ai", "fireworks", "FIREWORKS_AI_API_KEY"),
    preset("together_ai", "together", "TOGETHERAI_API_KEY"),
    preset("openrouter", "openrouter", "OPENROUTER_API_KEY"),
    preset("perplexity", "perplexity", "PERPLEXITYAI_API_KEY"),
    preset("huggingface", "huggingface", "HF_TOKEN"),
    preset("vercel_ai_gateway", "vercel", "VERCEL_AI_GATEWAY_API_KEY"),
    preset("hosted_vllm", "vllm", ""),
    preset("vllm", "vllm", ""),
    preset("lm_studio", "lm-studio", ""),
    preset("llamafile", "llama.cpp", ""),
    compatible("deepinfra", "https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY"),
    compatible("nvidia_nim", "https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY"),
    compatible("moonshot", "https://api.moonshot.ai/v1", "MOONSHOT_API_KEY"),
    compatible(
        "dashscope",
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        "DASHSCOPE_API_KEY",
    ),
    compatible("sambanova", "https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY"),
    compatible("nebius", "https://api.studio.nebius.ai/v1", "NEBIUS_API_KEY"),
    compatible("hyperbolic", "https://api.hyperbolic.xyz/v1", "HYPERBOLIC_API_KEY"),
    compatible("novita", "https://api.novita.ai/v3/openai", "NOVITA_API_KEY"),
    compatible("litellm_proxy", "", "LITELLM_PROXY_API_KEY"),
    compatible("custom_openai", "", ""),
    compatible("openai_like", "", ""),
    compatible("xinference", "", ""),
    compatible("azure_ai", "", "AZURE_AI_API_KEY"),
    platform("azure", "azure", Upstream::Azure),
    platform("azure_text", "azure", Upstream::Azure),
    platform("bedrock", "bedrock", Upstream::Bedrock),
    platform("vertex_ai", "vertex", Upstream::Vertex),
    platform("vertex_ai_beta", "vertex", Upstream::Vertex),
];

/// Beginnings of names that LiteLLM knows without a prefix, and the prefix that they stand for.
const KNOWN_NAMES: [(&str, &str); 13] = [
    ("gpt-", "openai"),
    ("chatgpt-", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("text-embedding-", "openai"),
    ("codex-", "openai"),
    ("claude-", "anthropic"),
    ("gemini-", "vertex_ai"),
    ("command-", "cohere"),
    ("embed-", "cohere"),
    ("mistral-", "mistral"),
    ("deepseek-", "deepseek"),
];

/// The vendor of a prefix.
pub(super) fn by_prefix(prefix: &str) -> Option<Vendor> {
    VENDORS.into_iter().find(|vendor| vendor.prefix == prefix)
}

/// The vendor of a model's name, and the name without its prefix.
pub(super) fn of_model(model: &str) -> Option<(Vendor, &str)> {
    if let Some((prefix, rest)) = model.split_once('/')
        && let Some(vendor) = by_prefix(prefix)
    {
        return Some((vendor, rest));
    }
    let (_, prefix) = KNOWN_NAMES.into_iter().find(|(known, _)| model.starts_with(known))?;
    Some((by_prefix(prefix)?, model))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_and_known_names() {
        let of = |model| of_model(model).map(|(vendor, model)| (vendor.name, model));
        assert_eq!(of("groq/llama-3.3"), Some(("groq", "llama-3.3")));
        assert_eq!(of("openai/facebook/opt"), Some(("openai", "facebook/opt")));
        assert_eq!(of("claude-3-opus"), Some(("anthropic", "claude-3-opus")));
        assert_eq!(of("replicate/a/b"), None);
        assert!(KNOWN_NAMES.iter().all(|(_, prefix)| by_prefix(prefix).is_some()));
    }
}
