//! Errors by an upstream's dialect, in the caller's terms: the field at fault, by the name and at the place
//! that the caller knows.
//!
//! Of a request, only names are repeated.

use super::chat::{ApiError, Part, Request};
use super::dialect::CallerDialect;

/// Replaces the field by the caller's own name for it, in the message too. `request` is the parsed request of
/// the caller.
pub fn told(fault: ApiError, request: &Request, caller: &dyn CallerDialect) -> ApiError {
    let own = fault.param.as_deref().and_then(|param| name(param, request, caller));
    let mut message = fault.message;
    if let (Some(param), Some(own)) = (&fault.param, &own) {
        message = message.replace(&format!("`{param}`"), &format!("`{own}`"));
    }
    ApiError { message, param: own.or(fault.param), ..fault }.named()
}

/// The caller's own name for a field of a request.
fn name(param: &str, request: &Request, caller: &dyn CallerDialect) -> Option<String> {
    let mut parts = request.messages.iter().flat_map(|turn| &turn.parts);
    if parts.any(|part| matches!(part, Part::Unreadable { at, .. } if at == param)) {
        // The place is already the caller's own.
        return None;
    }
    let Some(turn) = param.strip_prefix("messages[") else {
        return caller.own_name(param).map(str::to_owned);
    };
    let (number, _) = turn.split_once(']')?;
    let turn = request.messages.get(number.parse::<usize>().ok()?)?;
    Some(turn.at.clone()).filter(|at| !at.is_empty())
}
