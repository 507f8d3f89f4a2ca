//! Context overflow: how vendors report a prompt that does not fit, and the sentences by which clients
//! recognise it. A count is never guessed.

use std::borrow::Cow;

/// Token counts of a prompt that does not fit, if known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tokens of the prompt, or of the prompt and the requested output.
    pub tokens: Option<u64>,
    /// Tokens of the requested output, if `tokens` covers the prompt alone.
    pub output: Option<u64>,
    /// The most tokens that the model accepts.
    pub maximum: Option<u64>,
}

/// A vendor's sentence, and its documentation or where it was seen. The parts between bars must appear in this
/// order in a message, in any case. Any text may stand at a bar, and none beside a number.
type Row = (&'static str, &'static str);

/// Sentences of vendors. The first match counts. Those with counts precede those without.
const SENTENCES: &[Row] = &[
    (ESTIMATED, "this gateway"),
    (EXACT, "this gateway"),
    (
        "prompt is too long: {tokens} tokens > {maximum} maximum",
        "Anthropic's API errors; Claude Code 2.1 matches it",
    ),
    ("exceed context limit: {tokens} + {output} > {maximum}", "Anthropic's API"),
    ("prompt is too long: {tokens}, model maximum context length: {maximum}", "Fireworks"),
    ("maximum context length is {maximum} tokens|requested about {tokens} tokens", "OpenRouter"),
    (
        "is too large: {output}|maximum context length is {maximum} tokens|request has {tokens} input tokens",
        "vLLM, of `max_tokens`",
    ),
    (
        "maximum context length is {maximum} tokens|requested {output} output tokens and your prompt contains at least {tokens} input tokens",
        "vLLM",
    ),
    (
        "maximum context length is {maximum} tokens|your prompt contains at least {tokens} input tokens",
        "vLLM",
    ),
    (
        "maximum context length is {maximum} tokens|requested {tokens} tokens",
        "OpenAI, DeepSeek, vLLM",
    ),
    ("maximum context length is {maximum} tokens|resulted in {tokens} tokens", "OpenAI"),
    ("maximum context length is {maximum} tokens|request has {tokens} input tokens", "vLLM"),
    ("prompt (length {tokens}) is longer than the maximum model length of {maximum}", "vLLM"),
    ("input token count is {tokens} but model only supports up to {maximum}", "Vertex AI"),
    ("the first {tokens} tokens|context length of only {maximum} tokens", "LM Studio"),
    ("must have less than {maximum} tokens. given: {tokens}", "text-generation-inference"),
    ("input length {tokens} exceeds the maximum length {maximum}", "Volcengine"),
    ("context length exceeded: {tokens} > {maximum}", "proxies"),
    ("configured limit of {maximum} tokens|resulted in {tokens} tokens", "OpenAI"),
    ("current length is {tokens} while limit is {maximum}", "Cerebras"),
    (
        "passed {tokens} input tokens and requested {output} output tokens|context length is only {maximum} tokens",
        "vLLM",
    ),
    ("passed {tokens} input tokens|context length is only {maximum} tokens", "vLLM"),
    ("maximum context length of {maximum} tokens|requested a total of {tokens} tokens", "SGLang"),
    ("input length ({tokens}) exceeds model's maximum context length ({maximum})", "SGLang"),
    (
        "input ({tokens} tokens) is longer than the model's context length ({maximum} tokens)",
        "SGLang, Together",
    ),
    (
        "input length {tokens} exceeds the maximum allowed input length of {maximum} tokens",
        "SGLang",
    ),
    (
        "input token count ({tokens}) exceeds the maximum number of tokens allowed ({maximum})",
        "Gemini API",
    ),
    ("maximum prompt length is {maximum}|request contains {tokens} tokens", "xAI"),
    (
        "request ({tokens} tokens) exceeds the available context size ({maximum} tokens)",
        "llama.cpp, server-context.cpp",
    ),
    (
        "prompt contains {tokens} tokens|too large for model with {maximum} maximum context length",
        "Mistral",
    ),
    ("prompt token count of {tokens} exceeds the limit of {maximum}", "GitHub Copilot"),
    ("model token limit: {maximum} (requested: {tokens})", "Moonshot"),
    ("cannot exceed {maximum} - received {tokens}", "Cohere"),
    (
        "must be <= {maximum}. given: {tokens} `inputs` tokens and {output} `max_new_tokens`",
        "text-generation-inference",
    ),
    ("must be <= {maximum}. given: {tokens} `inputs` tokens", "text-generation-inference"),
    ("maximum context length is {maximum}", "OpenAI and compatible"),
    ("maximum number of tokens allowed {maximum}", "Gemini API"),
    ("maximum number of tokens allowed ({maximum})", "Gemini API"),
    ("prompt is too long", "Anthropic"),
    ("exceed context limit", "Anthropic, of a prompt and `max_tokens`"),
    ("exceeds the context window", "OpenAI, Responses"),
    ("maximum context length", "OpenAI and compatible"),
    ("context window exceeds limit", "MiniMax"),
    ("maximum number of tokens allowed", "Gemini API"),
    ("exceeds the maximum number of tokens", "Gemini API"),
    ("input tokens exceeded", "Bedrock"),
    ("input is too long for requested model", "Bedrock"),
    ("exceeds the available context size", "llama.cpp"),
    ("greater than the context length", "LM Studio"),
    ("reduce the length of the messages", "Groq, Cerebras"),
    ("too large for model with", "Mistral"),
    ("exceeded model token limit", "Moonshot"),
    ("prompt too long; exceeded", "Ollama"),
    ("input length exceeds the context length", "Ollama"),
    ("too many tokens: total number of tokens in the prompt cannot exceed", "Cohere"),
    ("too many tokens: size limit exceeded", "Cohere"),
    ("range of input length should be", "DashScope"),
    ("prompt exceeds max length", "Z.AI"),
];

/// The suffix that [`with_counts`] adds, with counts of an upstream.
const EXACT: &str = "({tokens} tokens do not fit a context of {maximum})";
/// The same with the gateway's estimate of the prompt.
const ESTIMATED: &str =
    "(by the gateway's estimate {tokens} tokens, which do not fit a context of {maximum})";

/// A vendor's own sentences for an overflow, which its clients act on.
#[derive(Debug)]
pub struct Words {
    /// Substrings, in lower case, of a message that already has the vendor's own wording.
    pub marks: &'static [&'static str],
    /// The sentence with both counts. `{excess}` is their difference.
    pub counted: &'static str,
    /// The sentence for a prompt that fits alone but not with the requested `{output}`, if the vendor has one.
    pub summed: Option<&'static str>,
    /// The sentence without counts.
    pub uncounted: &'static str,
}

impl Words {
    /// Returns an overflow message in the vendor's own wording: the sentence, followed by the upstream's
    /// message.
    pub fn of<'m>(&self, message: &'m str) -> Cow<'m, str> {
        let lower = message.to_ascii_lowercase();
        if self.marks.iter().any(|mark| lower.contains(mark)) {
            return Cow::Borrowed(message);
        }
        let sentence = match counts(message) {
            // A prompt that fits alone may be too long with the requested output.
            Some(Counts { tokens: Some(tokens), maximum: Some(maximum), .. })
                if tokens > maximum =>
            {
                filled(self.counted, tokens, maximum)
            }
            Some(Counts { tokens: Some(tokens), output: Some(output), maximum: Some(maximum) })
                if tokens.saturating_add(output) > maximum && self.summed.is_some() =>
            {
                let summed = filled(self.summed.unwrap_or_default(), tokens, maximum);
                summed.replace("{output}", &output.to_string())
            }
            _ => self.uncounted.to_owned(),
        };
        Cow::Owned(format!("{sentence} ({message})"))
    }
}

/// OpenAI's sentences, for both of its APIs. Clients check the code; some search for `maximum context length is
/// \d+ tokens` or `exceeds the context window` (Cline, opencode, pi).
pub const OPENAI: Words = Words {
    marks: &["maximum context length is", "exceeds the context window"],
    counted: "This model's maximum context length is {maximum} tokens. However, your messages resulted in {tokens} tokens.",
    summed: None,
    uncounted: "Your input exceeds the context window of this model.",
};

/// Whether a message reports that a prompt does not fit. Only for messages whose status blames the request,
/// since rate limit errors use similar words.
pub fn is_overflow(message: &str) -> bool {
    counts(message).is_some()
}

/// The counts in a message. `None` if it is not about an overflow.
pub fn counts(message: &str) -> Option<Counts> {
    let message = message.to_ascii_lowercase();
    SENTENCES.iter().find_map(|(sentence, _)| found(sentence, &message))
}

/// Appends both counts to a message, where the upstream's own `tokens` is known.
pub fn with_counts(message: &str, tokens: u64, maximum: u64) -> String {
    format!("{message} {}", filled(EXACT, tokens, maximum))
}

/// Appends the gateway's count and the `context` of its target to a message, where the upstream reports none.
/// The message is unchanged if these counts do not explain the error.
pub fn with_estimate(message: String, tokens: u64, context: Option<u64>) -> String {
    let said = counts(&message).unwrap_or_default();
    match (said.tokens, said.maximum.or(context)) {
        (None, Some(maximum)) if tokens > maximum => {
            format!("{message} {}", filled(ESTIMATED, tokens, maximum))
        }
        _ => message,
    }
}

fn filled(sentence: &str, tokens: u64, maximum: u64) -> String {
    sentence
        .replace("{tokens}", &tokens.to_string())
        .replace("{maximum}", &maximum.to_string())
        .replace("{excess}", &tokens.saturating_sub(maximum).to_string())
}

/// Searches for a sentence in a message.
fn found(sentence: &str, message: &str) -> Option<Counts> {
    let mut counts = Counts::default();
    let mut rest = message;
    for part in sentence.split('|') {
        rest = part_found(part, rest, &mut counts)?;
    }
    Some(counts)
}

/// Searches for a contiguous part of a sentence, and returns the remainder of the message after it.
fn part_found<'m>(part: &str, message: &'m str, counts: &mut Counts) -> Option<&'m str> {
    let (start, _) = part.split_once('{').unwrap_or((part, ""));
    let places = message.match_indices(start).map(|(at, _)| at);
    places.filter_map(|at| message.get(at..)).find_map(|candidate| {
        let mut found = *counts;
        let mut rest = candidate;
        for words in part.split_inclusive('}') {
            let (words, count) = words.split_once('{').unwrap_or((words, ""));
            rest = rest.strip_prefix(words)?;
            if count.is_empty() {
                continue;
            }
            let (number, after) = number(rest)?;
            rest = after;
            match count {
                "tokens}" => found.tokens = Some(number),
                "output}" => found.output = Some(number),
                _ => found.maximum = Some(number),
            }
        }
        *counts = found;
        Some(rest)
    })
}

/// Parses a number at the start of a text: `128000`, `128,000`.
fn number(text: &str) -> Option<(u64, &str)> {
    let is_part = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b',' | b'_');
    let length = text.bytes().take_while(is_part).count();
    let (number, _) = text.split_at_checked(length)?;
    // A trailing comma belongs to the sentence.
    let (number, rest) = text.split_at_checked(number.trim_end_matches([',', '_']).len())?;
    let digits: String = number.chars().filter(char::is_ascii_digit).collect();
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANTHROPIC: Words = Words {
        marks: &[" tokens > "],
        counted: "prompt is too long: {tokens} tokens > {maximum} maximum",
        summed: Some(
            "input length and `max_tokens` exceed context limit: {tokens} + {output} > {maximum}",
        ),
        uncounted: "prompt is too long",
    };

    /// A prompt that fits is not reported as too long if the upstream names the output that does not fit.
    #[test]
    fn a_prompt_that_does_not_fit_with_its_output_is_reported_as_that() {
        for (message, tokens, output, maximum) in [
            (
                "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4000 `inputs` tokens and 200 `max_new_tokens`",
                4000,
                200,
                4096,
            ),
            (
                "'max_tokens' or 'max_completion_tokens' is too large: 1000. This model's maximum context length is 4096 tokens and your request has 3500 input tokens (1000 > 4096 - 3500).",
                3500,
                1000,
                4096,
            ),
            (
                "This model's maximum context length is 8192 tokens. However, you requested 1000 output tokens and your prompt contains at least 7500 input tokens, for a total of at least 8500 tokens.",
                7500,
                1000,
                8192,
            ),
            (
                "You passed 4000 input tokens and requested 200 output tokens. However, the model's context length is only 4096 tokens",
                4000,
                200,
                4096,
            ),
        ] {
            let expected =
                Counts { tokens: Some(tokens), output: Some(output), maximum: Some(maximum) };
            assert_eq!(counts(message), Some(expected), "{message}");
            let sentence = format!(
                "input length and `max_tokens` exceed context limit: {tokens} + {output} > {maximum} ({message})"
            );
            assert_eq!(ANTHROPIC.of(message), sentence);
        }
        // If the prompt does not fit alone, the prompt is at fault.
        let message = "must be <= 4096. Given: 5000 `inputs` tokens and 200 `max_new_tokens`";
        assert!(
            ANTHROPIC.of(message).starts_with("prompt is too long: 5000 tokens > 4096 maximum")
        );
    }

    /// Sentences, and the counts in them.
    const SENTENCES: &[(&str, u64, u64)] = &[
        (
            "This model's maximum context length is 8192 tokens. However, you requested 1000 output tokens and your prompt contains at least 7500 input tokens, for a total of at least 8500 tokens.",
            7500,
            8192,
        ),
        (
            "The decoder prompt (length 9000) is longer than the maximum model length of 8192.",
            9000,
            8192,
        ),
        (
            "The input token count is 1200000 but model only supports up to 1048576",
            1_200_000,
            1_048_576,
        ),
        (
            "Trying to keep the first 9000 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens",
            9000,
            4096,
        ),
        (
            "Input validation error: `inputs` must have less than 4095 tokens. Given: 5000",
            5000,
            4095,
        ),
        ("Input length 140000 exceeds the maximum length 131072", 140_000, 131_072),
        (
            "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 tokens.",
            300_000,
            272_000,
        ),
        ("The prompt is too long: 140000, model maximum context length: 131071", 140_000, 131_071),
        ("prompt is too long: 213462 tokens > 200000 maximum", 213_462, 200_000),
        (
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens. Please reduce the length of the messages.",
            130_000,
            128_000,
        ),
        (
            "This model's maximum context length is 8192 tokens. However, you requested 10346 tokens (9346 in the messages, 1000 in the completion).",
            10_346,
            8192,
        ),
        (
            "This endpoint's maximum context length is 163840 tokens. However, you requested about 172900 tokens (4429 of text input).",
            172_900,
            163_840,
        ),
        (
            "This model's maximum context length is 32,768 tokens. However, your request has 40,000 input tokens.",
            40_000,
            32_768,
        ),
        (
            "You passed 5000 input tokens and requested 1 output tokens. However, the model's context length is only 4096 tokens",
            5000,
            4096,
        ),
        (
            "Requested token count exceeds the model's maximum context length of 131072 tokens. You requested a total of 140000 tokens",
            140_000,
            131_072,
        ),
        (
            "Input length (265330) exceeds model's maximum context length (262144).",
            265_330,
            262_144,
        ),
        (
            "The input (516368 tokens) is longer than the model's context length (262144 tokens).",
            516_368,
            262_144,
        ),
        (
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
            1_200_000,
            1_048_576,
        ),
        (
            "This model's maximum prompt length is 131072 but the request contains 140000 tokens.",
            140_000,
            131_072,
        ),
        (
            "request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it",
            9000,
            8192,
        ),
        (
            "Prompt contains 65673 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
            65_673,
            32_768,
        ),
        ("prompt token count of 240000 exceeds the limit of 200000", 240_000, 200_000),
        ("Your request exceeded model token limit: 131072 (requested: 200000)", 200_000, 131_072),
        (
            "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 4292. Try a shorter prompt",
            4292,
            4081,
        ),
    ];

    #[test]
    fn counts_of_every_vendor() {
        for (message, tokens, maximum) in SENTENCES.iter().copied() {
            let both = Counts { tokens: Some(tokens), maximum: Some(maximum), output: None };
            let told = counts(message).map(|counts| Counts { output: None, ..counts });
            assert_eq!(told, Some(both), "{message}");
            let own = ANTHROPIC.of(message);
            let start = format!("prompt is too long: {tokens} tokens > {maximum} maximum");
            assert_eq!(own.starts_with(&start), tokens > maximum, "{own}");
            let fits = own.starts_with("input length and `max_tokens` exceed context limit");
            assert_eq!(own.starts_with("prompt is too long"), !fits, "{own}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_made_up() {
        for (message, maximum) in [
            ("Input is too long for requested model.", None),
            ("This model's maximum context length is 9 tokens", Some(9)),
            ("prompt too long; exceeded max context length by 512 tokens", None),
            ("Your input exceeds the context window of this model.", None),
            ("maximum context length is 99999999999999999999999 tokens", None),
        ] {
            let said = counts(message);
            assert_eq!(said, Some(Counts { maximum, ..Counts::default() }), "{message}");
            let own = ANTHROPIC.of(message);
            assert_eq!(own, format!("prompt is too long ({message})"));
        }
        for message in ["", "boom", "max_tokens: 4096 > 2048", "rate limit: 5000 tokens per minute"]
        {
            assert_eq!(counts(message), None, "{message}");
        }
    }

    #[test]
    fn the_estimate_stands_in_where_it_explains_the_error() {
        let bare = || "Input is too long for requested model".to_owned();
        let said = with_estimate(bare(), 300, Some(200));
        let both = Counts { tokens: Some(300), maximum: Some(200), output: None };
        assert_eq!(counts(&said), Some(both), "{said}");
        assert!(said.contains("by the gateway's estimate"));
        assert_eq!(
            ANTHROPIC.of(&said),
            format!("prompt is too long: 300 tokens > 200 maximum ({said})")
        );
        assert_eq!(with_estimate(bare(), 100, Some(200)), bare());
        assert_eq!(with_estimate(bare(), 100, None), bare());
        let known = "prompt is too long: 2 tokens > 1 maximum".to_owned();
        assert_eq!(with_estimate(known.clone(), 300, Some(200)), known);
        assert_eq!(
            counts(&with_counts("no", 3, 2)),
            Some(Counts { tokens: Some(3), maximum: Some(2), output: None })
        );
    }
}
