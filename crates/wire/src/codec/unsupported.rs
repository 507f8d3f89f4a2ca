//! Parameters that a dialect lacks and whose absence would change the answer. Requests with them are rejected
//! by field. Hints, which may be removed, do not belong here.

use crate::chat::{ApiError, Request};

/// Rejects a request with several alternatives or with a token bias.
pub(crate) fn reject_choices_and_bias(request: &Request) -> Result<(), ApiError> {
    if request.n.is_some_and(|n| n > 1) {
        let message = "`n`: this model's provider gives one answer; send several requests instead";
        return Err(ApiError::field("n", message));
    }
    if request.logit_bias.is_some() {
        let message = "`logit_bias`: this model's provider knows no such thing; leave it out or choose another model";
        return Err(ApiError::field("logit_bias", message));
    }
    Ok(())
}
