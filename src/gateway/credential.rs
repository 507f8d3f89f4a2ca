//! Credentials of providers, as the header that carries them. They must never be shown.

use http::{HeaderName, HeaderValue};

use crate::config::Provider;
use crate::error::Error;

/// The header that carries a provider's credential, if it has one.
pub(super) fn credential(provider: &Provider) -> Result<Option<(HeaderName, HeaderValue)>, Error> {
    let Some(key) = &provider.api_key else {
        return Ok(None);
    };
    let (name, prefix) = provider.auth_header.as_ref().map_or_else(
        || {
            let (name, prefix) = provider.dialect.credential();
            (HeaderName::from_static(name), prefix)
        },
        |(name, prefix)| (name.clone(), prefix.as_str()),
    );
    let mut value = HeaderValue::from_str(&format!("{prefix}{}", key.expose()))
        .map_err(|_| Error::internal("a provider's api_key holds characters that no header may"))?;
    value.set_sensitive(true);
    Ok(Some((name, value)))
}
