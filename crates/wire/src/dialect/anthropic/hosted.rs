//! The vendor's models on other platforms: the same events, and requests that differ in a few members.
//!
//! The model is named in the path there, and the version of this protocol in the body. Nothing else of
//! a request is touched.

use crate::body::syntax;
use crate::chat::ApiError;
use crate::dialect::{Form, Hosting, Target, must_be_segment, segment};
use crate::json::{self, Members, is_unsaid, quoted};

/// The version of this protocol that callers send in a header unless they need a later one.
const USUAL_VERSION: &str = "2023-06-01";

/// The path below the base URL, which on Vertex ends with `publishers/anthropic`.
pub(super) fn path(hosting: Hosting, target: &Target<'_>) -> String {
    let model = segment(target.model);
    match (hosting, target.stream) {
        (Hosting::Bedrock, true) => format!("/model/{model}/invoke-with-response-stream"),
        (Hosting::Bedrock, false) => format!("/model/{model}/invoke"),
        (Hosting::Vertex, _) if target.form == Form::CountTokens => {
            "/models/count-tokens:rawPredict".to_owned()
        }
        (Hosting::Vertex, true) => format!("/models/{model}:streamRawPredict"),
        (Hosting::Vertex, false) => format!("/models/{model}:rawPredict"),
    }
}

/// Edits single members of a body. `header` returns the caller's headers by name.
pub(super) fn edit(
    hosting: Hosting,
    body: &str,
    target: &Target<'_>,
    header: &dyn Fn(&str) -> Option<String>,
) -> Result<String, ApiError> {
    must_be_segment(target.model)?;
    let counts = target.form == Form::CountTokens;
    if counts && hosting == Hosting::Bedrock {
        let message = "this model's provider does not count tokens; name a model of another one";
        return Err(ApiError::field("model", message));
    }
    let wrong = |error: serde_json::Error| syntax(&error);
    let members = Members::parse(body).map_err(wrong)?;
    let own = match hosting {
        Hosting::Bedrock => "bedrock-2023-05-31",
        Hosting::Vertex => "vertex-2023-10-16",
    };
    let later = header("anthropic-version").filter(|version| version != USUAL_VERSION);
    let version = quoted(later.as_deref().unwrap_or(own));
    let model = quoted(target.model);
    let stream = if target.stream { "true" } else { "false" };
    let header_betas = header("anthropic-beta").unwrap_or_default();
    let betas = betas(&header_betas, target.quirks.settings.betas.as_deref());
    let mut edits = Vec::new();
    if is_unsaid(&members, "anthropic_version") {
        edits.push(("anthropic_version", Some(version.as_str())));
    }
    match hosting {
        Hosting::Bedrock => {
            edits.extend([("model", None), ("stream", None)]);
            if betas != "[]" && is_unsaid(&members, "anthropic_beta") {
                edits.push(("anthropic_beta", Some(betas.as_str())));
            }
        }
        // It reads the header, and counts for a model that the body names.
        Hosting::Vertex if counts => edits.push(("model", Some(model.as_str()))),
        Hosting::Vertex => {
            edits.push(("model", None));
            if target.stream || !is_unsaid(&members, "stream") {
                edits.push(("stream", Some(stream)));
            }
        }
    }
    json::edit(body, &edits).map_err(wrong)
}

/// Those of `a, b` that the platform takes, as a list.
fn betas(header: &str, taken: Option<&[String]>) -> String {
    let taken = |name: &&str| taken.is_none_or(|taken| taken.iter().any(|known| known == name));
    let names = header.split(',').map(str::trim).filter(|name| !name.is_empty()).filter(taken);
    format!("[{}]", names.map(quoted).collect::<Vec<_>>().join(","))
}
