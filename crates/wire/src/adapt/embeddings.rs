//! Adaptation of an embeddings request to its upstream, by the table of rules.
//!
//! As for a chat request, hints that the upstream has no field for are removed and reported. A request is never
//! split.

use super::rules::Rules;
use super::{Dropped, Written, override_members};
use crate::body::refuse;
use crate::chat::ApiError;
use crate::dialect::{Dialect, Target};
use crate::embeddings::{EmbedRequest, InputType, Truncate};

/// Adapts a request to its target and writes it. With `strict`, a hint that would be removed is rejected
/// instead.
pub fn write_embeddings(
    mut request: EmbedRequest,
    dialect: &dyn Dialect,
    target: &Target<'_>,
    strict: bool,
) -> Result<Written, ApiError> {
    let settings = &target.quirks.settings;
    let rules = Rules::of(dialect.name(), target.quirks.hosting, target.model);
    let (texts, most) = (request.inputs.len(), rules.embed_most);
    if texts > most {
        let what = format!(
            "holds {texts} texts, and this model's provider takes at most {most} in one request; send several requests"
        );
        return Err(refuse("input", &what));
    }
    let lacks = |word: &str| rules.embed_lacks.split(' ').any(|lacked| lacked == word);
    let mut dropped = Dropped::default();
    if lacks("input_type") && request.input_type.take().is_some()
        || lacks("similarity")
            && request.input_type.take_if(|kind| *kind == InputType::Similarity).is_some()
    {
        dropped.note("input_type");
    }
    // Without this field, the upstream rejects a text that is too long.
    if lacks("truncate") && request.truncate.take().is_some_and(|how| how != Truncate::None)
        || lacks("truncate_start")
            && request.truncate.take_if(|how| *how == Truncate::Start).is_some()
    {
        dropped.note("truncate");
    }
    if lacks("title") && request.title.take().is_some() {
        dropped.note("title");
    }
    if lacks("user") && request.user.take().is_some() {
        dropped.note("user");
    }
    let dropped = dropped.checked(strict || settings.strict)?;
    let body = dialect.encode_embeddings(&request, target)?;
    let body = override_members(body, settings, &[])?;
    Ok(Written { body, dropped, inputs: Some(texts), ..Written::default() })
}
