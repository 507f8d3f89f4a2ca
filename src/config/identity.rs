//! Identities of credentials and of models behind them: state that outlives a reload is found by them. They are
//! computed from secrets, and must never be shown or stored.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::Provider;
use super::secret::Secret;

/// The identity of an address with its credential, or of a model there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Identity(u64);

impl Identity {
    /// The identity of a model at this account.
    #[must_use]
    pub fn of_model(self, model: &str) -> Self {
        let mut hash = DefaultHasher::new();
        (self.0, model).hash(&mut hash);
        Self(hash.finish())
    }
}

impl Provider {
    /// The same with the identity of its address and credential, which must be set again after a change of either.
    pub(crate) fn identified(mut self) -> Self {
        let mut hash = DefaultHasher::new();
        let key = self.api_key.as_ref().map(Secret::expose);
        (&self.name, self.base_url.as_str(), key).hash(&mut hash);
        if let Some(aws) = &self.aws {
            let token = aws.session_token.as_ref().map(Secret::expose);
            (aws.access_key_id.expose(), aws.secret_access_key.expose(), token).hash(&mut hash);
        }
        for (name, value) in &self.headers {
            (name.as_str(), value.as_bytes()).hash(&mut hash);
        }
        self.query.hash(&mut hash);
        self.account = Identity(hash.finish());
        self
    }

    /// The identity of its host.
    pub fn host(&self) -> Identity {
        let mut hash = DefaultHasher::new();
        (&self.name, self.base_url.scheme(), self.base_url.authority()).hash(&mut hash);
        Identity(hash.finish())
    }
}
