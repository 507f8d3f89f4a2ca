//! A rendered prompt, which is put before a request of any dialect.

use super::Role;

/// Additions of a rendered prompt to a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rendered {
    /// The model, for a request without one.
    pub model: Option<String>,
    /// Parameters, for a request that does not set them.
    pub parameters: Parameters,
    /// Texts that precede the request's own messages. None is empty.
    pub messages: Vec<(Role, String)>,
}

/// Parameters that most dialects support. A dialect omits those that it has no field for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parameters {
    /// Sampling temperature, 0 to 2.
    pub temperature: Option<f64>,
    /// Nucleus sampling mass, 0 to 1.
    pub top_p: Option<f64>,
    /// Restricts sampling to the k most likely tokens.
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
