//! Identities of credentials and of models behind them: state that outlives a reload is found by them. They are
//! computed from secrets, and must never be shown or stored; what other nodes may see is the [`CredentialDigest`].

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use sha2::{Digest as _, Sha256};

use super::Provider;
use super::secret::Secret;

/// Separates digests of credentials from all other hashes of the same keys. A change of what is hashed needs another one.
const DOMAIN: &[u8] = b"streamgate credential 1";

/// The identity of an address with its credential, or of a model there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Identity(u64);

/// The SHA-256 of an address with its credential. It is the same on all nodes with the same provider, and another one after
/// a change of its key.
pub type CredentialDigest = [u8; 32];

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
        self.credential_digest().hash(&mut hash);
        self.account = Identity(hash.finish());
        self
    }

    /// The digest of its address and credential.
    pub fn credential_digest(&self) -> CredentialDigest {
        let mut hash = Sha256::new();
        // With its length, no part can be taken for another one.
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        [DOMAIN, self.name.as_bytes(), self.base_url.as_str().as_bytes()]
            .into_iter()
            .for_each(&mut add);
        let aws = self.aws.iter().flat_map(|aws| {
            [Some(&aws.access_key_id), Some(&aws.secret_access_key), aws.session_token.as_ref()]
        });
        for secret in std::iter::once(self.api_key.as_ref()).chain(aws) {
            add(secret.map_or(&[], |secret| Secret::expose(secret).as_bytes()));
        }
        add(&(self.headers.len() as u64).to_le_bytes());
        for (name, value) in &self.headers {
            add(name.as_str().as_bytes());
            add(value.as_bytes());
        }
        for (name, value) in &self.query {
            add(name.as_bytes());
            add(value.as_bytes());
        }
        hash.finalize().into()
    }

    /// The identity of its host.
    pub fn host(&self) -> Identity {
        let mut hash = DefaultHasher::new();
        (&self.name, self.base_url.scheme(), self.base_url.authority()).hash(&mut hash);
        Identity(hash.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{hex, without_file};

    /// The digest is the same in every process and on every platform: nodes find each other's hints by it.
    #[test]
    fn digests_of_credentials_are_stable_and_each_has_its_own() {
        let config = without_file(&|_| None, ([127, 0, 0, 1], 9).into(), "key");
        let base = (*config.providers["sim"]).clone();
        let keyed = |key: &str| Provider { api_key: Some(Secret::new(key)), ..base.clone() };
        let header = |name: &'static str, value: &'static str| {
            let name = http::HeaderName::from_static(name);
            Provider {
                headers: vec![(name, http::HeaderValue::from_static(value))],
                ..base.clone()
            }
        };
        let query = vec![("a".to_owned(), "b".to_owned())];
        let all = [
            base.clone(),
            keyed("a"),
            keyed("b"),
            Provider { name: "other".to_owned(), ..keyed("a") },
            Provider { base_url: url::Url::parse("http://h/").unwrap(), ..keyed("a") },
            header("a", "b"),
            header("ab", ""),
            Provider { query, ..base.clone() },
        ];
        let digests: Vec<_> = all.iter().map(Provider::credential_digest).collect();
        for (place, digest) in digests.iter().enumerate() {
            assert!(!digests[..place].contains(digest), "{place}");
        }
        let accounts: Vec<_> = all.iter().map(|one| one.clone().identified().account).collect();
        for (place, account) in accounts.iter().enumerate() {
            assert!(!accounts[..place].contains(account), "{place}");
        }
        let known = Provider { base_url: url::Url::parse("https://h/v1").unwrap(), ..keyed("a") };
        // Each part with its length as eight bytes: domain, name, address, key, the number of headers.
        let pinned = "3ae1579ac29e87bf35d9e1ff2a447e4939a89f20401dc97f61fbc01aa712d267";
        assert_eq!(hex(&known.credential_digest()), pinned);
    }
}
