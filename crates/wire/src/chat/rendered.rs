//! A prompt that was filled in, to be put before a request in whatever dialect it came.

use super::Role;

/// What a filled-in prompt adds to a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rendered {
    /// The model, for a request that names none.
    pub model: Option<String>,
    /// Parameters, for a request that does not say them.
    pub parameters: Parameters,
    /// Texts that precede the request's own, none of them empty.
    pub messages: Vec<(Role, String)>,
}

/// Parameters that most dialects can say. A dialect leaves out what it has no word for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parameters {
    /// Sampling temperature, 0 to 2.
    pub temperature: Option<f64>,
    /// Nucleus sampling mass, 0 to 1.
    pub top_p: Option<f64>,
    /// Sample among the k most likely tokens.
    pub top_k: Option<u64>,
    /// The most output tokens.
    pub max_tokens: Option<u64>,
    /// Strings that end the output.
    pub stop: Vec<String>,
    /// Penalty for tokens already present, -2 to 2.
    pub presence_penalty: Option<f64>,
    /// Penalty by frequency, -2 to 2.
    pub frequency_penalty: Option<f64>,
    /// Seed for best-effort reproducibility.
    pub seed: Option<i64>,
}
