//! A refusal by the dialect of an upstream, told in the words of the caller's: which field it is about,
//! by the name and at the place that the caller knows, and between which two languages.
//!
//! It never says more of a request than names.

use super::chat::{Fault, Request};
use super::dialect::{CallerDialect, Dialect};

/// Names the pair, and the field as the caller has it. `request`: what was read of the caller's, if
/// the refusal is about that; what is wrong in the caller's own text is named there already.
pub fn told(
    fault: Fault,
    request: Option<&Request>,
    (caller, upstream): (&dyn CallerDialect, &dyn Dialect),
) -> Fault {
    let own = request.and_then(|request| name(fault.param.as_deref()?, request, caller));
    let mut message = fault.message;
    if let (Some(param), Some(own)) = (&fault.param, &own) {
        message = message.replace(&format!("`{param}`"), &format!("`{own}`"));
    }
    let message = format!("{message} (translating {} to {})", caller.name(), upstream.name());
    Fault { message, param: own.or(fault.param), ..fault }
}

/// The caller's own name for a field of a request.
fn name(param: &str, request: &Request, caller: &dyn CallerDialect) -> Option<String> {
    let Some(turn) = param.strip_prefix("messages[") else {
        return caller.own_name(param).map(str::to_owned);
    };
    let (number, _) = turn.split_once(']')?;
    let turn = request.messages.get(number.parse::<usize>().ok()?)?;
    Some(turn.at.clone()).filter(|at| !at.is_empty())
}
