//! Error bodies: a message and a status. They must never hold more than a
//! [`ApiError`] holds.

use crate::chat::ApiError;
use crate::error_body;
use crate::json::quoted;
use crate::overflow::Words;

/// Clients match `prompt too long; exceeded (max )?context length` (opencode, pi).
const OVERFLOW: Words = Words {
    marks: &["prompt too long; exceeded"],
    counted: "prompt too long; exceeded max context length by {excess} tokens",
    summed: None,
    uncounted: "prompt too long; exceeded max context length",
};

/// The JSON of an error, for bodies and for lines. There is no place for the field that it is about,
/// so that leads the message.
pub(super) fn body(fault: &ApiError) -> String {
    let message = quoted(&error_body::message(fault, &OVERFLOW));
    format!(r#"{{"error":{message}}}"#)
}
