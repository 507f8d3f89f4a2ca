//! Replacements of upstream errors that concern the operator and not the caller: a rejected credential, an
//! account without funds, a missing model.
//!
//! They never repeat the vendor's message, which names the operator's account and reads as if the caller's own
//! key were wrong.

use super::end::{ApiError, Kind};

impl ApiError {
    /// The error that callers receive in place of this upstream error. `None` if they may see the original.
    pub fn replacement(&self) -> Option<Self> {
        let (code, message) = match self.kind {
            Kind::Authentication => (
                "upstream_credentials",
                "the provider of this model rejects the gateway's own credential; your key is fine, and only the gateway's operator can renew the provider's",
            ),
            Kind::Permission => (
                "upstream_credentials",
                "the provider of this model denies the gateway's own account access; your key is fine, and only the gateway's operator can obtain the right",
            ),
            Kind::Billing => (
                "upstream_billing",
                "the gateway's own account at the provider of this model cannot pay or has used up its quota; only the gateway's operator can settle that",
            ),
            Kind::NotFound => (
                "upstream_model_not_found",
                "the model or path that the gateway is configured with does not exist at the provider; only the gateway's operator can correct it",
            ),
            Kind::Method | Kind::MediaType => (
                "upstream_misconfigured",
                "the provider's address does not serve the API that the gateway is configured with; only the gateway's operator can correct it",
            ),
            _ => return None,
        };
        Some(Self {
            kind: Kind::BadGateway,
            message: format!("{message} ({code})"),
            code: Some(code.to_owned()),
            param: None,
        })
    }

    /// Whether the error is about the gateway's own credential or account, regardless of the request.
    pub fn is_about_credential(&self) -> bool {
        matches!(self.kind, Kind::Authentication | Kind::Permission | Kind::Billing)
    }
}
