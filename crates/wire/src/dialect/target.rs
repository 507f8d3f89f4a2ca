//! The upstream side of a request: the model, the form, and the deviations of its provider.
//!
//! Data: nothing here is read outside the dialects but by name.

use super::Form;
use crate::adapt::settings::Settings;

/// Where a request goes.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The model's name at the upstream.
    pub model: &'a str,
    /// Whether the upstream request is for a stream.
    pub stream: bool,
    /// Form of the upstream request: the caller's form if both sides use this dialect, else this dialect's
    /// own form of the same operation.
    pub form: Form,
    /// The provider's deviations.
    pub quirks: &'a Quirks,
}

/// A provider's deviations from its dialect: data, read only in that dialect's file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Quirks {
    /// The provider accepts a request for usage in the stream (`stream_options`). Some reject the field and
    /// always send usage.
    pub stream_options: bool,
    /// The limit on output is called `max_tokens`, not `max_completion_tokens`.
    pub legacy_max_tokens: bool,
    /// The provider takes no other name, as configured by the operator: a caller's own field is renamed as
    /// well.
    pub only_legacy_max_tokens: bool,
    /// It takes ids of tool calls of so many letters and digits only; others are replaced in
    /// translation.
    pub call_id_length: Option<usize>,
    /// The field of assistant messages in which earlier reasoning text must be given back; `None`:
    /// it is left out.
    pub reasoning_field: Option<String>,
    /// Its address is the vendor's own.
    pub vendor: bool,
    /// Its address is that of Vertex AI.
    pub vertex: bool,
    /// Platform that hosts the models of this dialect's vendor; `None`: the vendor's own.
    pub hosting: Option<Hosting>,
    /// The operator's settings for requests to this provider.
    pub settings: Settings,
}

/// A platform that hosts a vendor's models with its own addresses and credentials, and a little of its
/// own in requests, but with the vendor's own events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hosting {
    /// Amazon Bedrock (`InvokeModel`).
    Bedrock,
    /// Google Vertex AI (`rawPredict`).
    Vertex,
}

impl Hosting {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Bedrock, Self::Vertex];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bedrock => "bedrock",
            Self::Vertex => "vertex",
        }
    }
}

impl Default for Quirks {
    fn default() -> Self {
        Self {
            stream_options: true,
            legacy_max_tokens: false,
            only_legacy_max_tokens: false,
            call_id_length: None,
            reasoning_field: None,
            vendor: false,
            vertex: false,
            hosting: None,
            settings: Settings::default(),
        }
    }
}
