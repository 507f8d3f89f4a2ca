//! Errors as this dialect tells them: a message and a status. It must never tell more than a
//! [`Fault`] holds.

use crate::chat::{Fault, Kind};
use crate::error_body;
use crate::json::quoted;
use crate::overflow::Words;

/// The status of an error.
pub(super) fn status(kind: Kind) -> u16 {
    match kind {
        Kind::Invalid | Kind::Context | Kind::ContentPolicy => 400,
        Kind::Authentication => 401,
        Kind::Billing => 402,
        Kind::Permission => 403,
        Kind::NotFound | Kind::Path => 404,
        Kind::Method => 405,
        Kind::Upgrade => 426,
        Kind::TooSlow => 408,
        Kind::TooLarge => 413,
        Kind::MediaType => 415,
        Kind::RateLimited => 429,
        Kind::Internal => 500,
        Kind::Upstream | Kind::BadGateway => 502,
        Kind::Overloaded => 503,
        Kind::Timeout => 504,
    }
}

/// Clients match `prompt too long; exceeded (max )?context length` (opencode, pi).
const OVERFLOW: Words = Words {
    marks: &["prompt too long; exceeded"],
    counted: "prompt too long; exceeded max context length by {excess} tokens",
    summed: None,
    uncounted: "prompt too long; exceeded max context length",
};

/// The JSON of an error, for bodies and for lines. There is no place for the field that it is about,
/// so that leads the message.
pub(super) fn body(fault: &Fault) -> String {
    let message = quoted(&error_body::message(fault, &OVERFLOW));
    format!(r#"{{"error":{message}}}"#)
}
