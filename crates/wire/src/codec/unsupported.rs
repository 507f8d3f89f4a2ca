//! Parameters that a dialect lacks and whose absence would change the answer, so that a request is rejected by
//! field. Hints, which may be left out, must not be here.

use crate::chat::{Fault, Request};

/// Rejects a request with several alternatives, or with a bias for single tokens.
pub(crate) fn reject_choices_and_bias(request: &Request) -> Result<(), Fault> {
    if request.n.is_some_and(|n| n > 1) {
        let message = "`n`: this model's provider gives one answer; send several requests instead";
        return Err(Fault::field("n", message));
    }
    if request.logit_bias.is_some() {
        let message = "`logit_bias`: this model's provider knows no such thing; leave it out or choose another model";
        return Err(Fault::field("logit_bias", message));
    }
    Ok(())
}
