//! Log lines about ejected targets. They must never have an upstream's message or a credential.

use std::time::Duration;

use super::Plan;
use crate::config::Target;
use crate::error::{self, Blame, Error};

/// One log line for an ejection, however many requests meet it. A failure that only the operator can fix is
/// an error and names the place.
pub(super) fn report(
    plan: &Plan,
    target: &Target,
    error: &Error,
    (failures, pause): (u64, Duration),
) {
    let kind = error::code(error.fault().kind);
    let (provider, model) = (target.provider.name.as_str(), &*plan.label);
    let credential = &target.provider.credential;
    let status = error.upstream_reply().map(|reply| reply.status);
    let again_after_s = pause.as_secs();
    match (error.blame(), kind) {
        (Blame::Credential, _) => tracing::error!(
            provider, %credential, kind, status, failures, again_after_s,
            "provider `{provider}` rejects the gateway's credential; renew {credential}"
        ),
        (Blame::Account, _) => tracing::error!(
            provider, %credential, kind, status, failures, again_after_s,
            "the account at provider `{provider}` cannot pay or has used up its quota; it is that of {credential}"
        ),
        (Blame::Configuration, "not_found") => tracing::error!(
            provider, target = %target, model, kind, status, failures, again_after_s,
            "target {target} of model `{model}` does not exist at the provider"
        ),
        (Blame::Configuration, "permission") => tracing::error!(
            provider, target = %target, model, %credential, kind, status, failures, again_after_s,
            "provider `{provider}` denies access to target {target} of model `{model}`; check the rights of {credential}"
        ),
        (Blame::Configuration, _) => tracing::error!(
            provider, target = %target, model, kind, status, failures, again_after_s,
            "provider `{provider}` does not serve the API that it is configured with; check its base_url and dialect"
        ),
        _ => tracing::warn!(
            provider, target = %target, model, kind, status, failures, again_after_s,
            "target {target} is failing; requests prefer others until it answers again"
        ),
    }
}
