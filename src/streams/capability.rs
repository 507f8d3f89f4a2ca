//! Capabilities: signed, expiring, revocable rights of others to one stream. A capability must never be accepted for
//! another stream, or with more rights or time than it was signed for.

use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The rights of a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// To read.
    Read,
    /// To read, and to cancel.
    Cancel,
}

impl Rights {
    /// Reads `read` or `read,cancel`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "read" => Some(Self::Read),
            "read,cancel" => Some(Self::Cancel),
            _ => None,
        }
    }

    fn letter(self) -> &'static str {
        match self {
            Self::Read => "r",
            Self::Cancel => "c",
        }
    }
}

/// The content of a capability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// The id of the share, by which it is revoked.
    pub share: String,
    /// Its rights.
    pub rights: Rights,
    /// The time at which it ends, in Unix seconds.
    pub expires: u64,
}

/// The key that signs capabilities.
pub struct Signer {
    key: ArcSwap<[u8; 32]>,
}

impl Default for Signer {
    /// A key of its own: capabilities end with the process, as the streams in its memory do.
    fn default() -> Self {
        Self::new(rand::random())
    }
}

impl Signer {
    /// Signs with another key from now on, which other nodes have too.
    pub fn set_key(&self, key: [u8; 32]) {
        self.key.store(Arc::new(key));
    }

    /// A signer with a key.
    pub fn new(key: [u8; 32]) -> Self {
        Self { key: ArcSwap::from_pointee(key) }
    }

    /// Signs a capability for a stream: `share.rights.expires.signature`.
    pub fn sign(&self, stream: &str, capability: &Capability) -> String {
        let Capability { share, rights, expires } = capability;
        let claims = format!("{share}.{}.{expires}", rights.letter());
        let signature = self.mac(stream, &claims).finalize().into_bytes();
        format!("{claims}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// Reads a capability for a stream; `None`: it is not signed for it, or its time is over. Takes the same time for
    /// every wrong signature.
    pub fn verify(&self, stream: &str, token: &str, now: u64) -> Option<Capability> {
        let (claims, signature) = token.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        self.mac(stream, claims).verify_slice(&signature).ok()?;
        let mut parts = claims.split('.');
        let (share, rights, expires) = (parts.next()?, parts.next()?, parts.next()?);
        let rights =
            [Rights::Read, Rights::Cancel].into_iter().find(|one| one.letter() == rights)?;
        let expires = expires.parse().ok().filter(|expires| now < *expires)?;
        Some(Capability { share: share.to_owned(), rights, expires })
    }

    #[expect(clippy::expect_used, reason = "HMAC accepts keys of every length")]
    fn mac(&self, stream: &str, claims: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&**self.key.load()).expect("a key");
        // Ids have no dots, so that the parts cannot be shifted.
        mac.update(stream.as_bytes());
        mac.update(b".");
        mac.update(claims.as_bytes());
        mac
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn capability(rights: Rights) -> Capability {
        Capability { share: "abc".to_owned(), rights, expires: 100 }
    }

    #[test]
    fn a_capability_holds_for_its_stream_and_its_time() {
        let signer = Signer::default();
        for rights in [Rights::Read, Rights::Cancel] {
            let token = signer.sign("stream", &capability(rights));
            assert_eq!(signer.verify("stream", &token, 99), Some(capability(rights)));
            assert_eq!(signer.verify("stream", &token, 100), None);
            assert_eq!(signer.verify("strea", &token, 99), None);
            assert_eq!(Signer::default().verify("stream", &token, 99), None);
        }
    }

    #[test]
    fn a_stretched_capability_is_rejected() {
        let signer = Signer::default();
        let token = signer.sign("stream", &capability(Rights::Read));
        for (from, to) in [(".r.", ".c."), (".100.", ".900."), ("abc.", "abd.")] {
            assert_ne!(token.replacen(from, to, 1), token);
            assert_eq!(signer.verify("stream", &token.replacen(from, to, 1), 1), None, "{to}");
        }
        for (cut, _) in token.char_indices() {
            let (begun, _) = token.split_at(cut);
            assert_eq!(signer.verify("stream", begun, 1), None, "{cut}");
        }
    }

    proptest! {
        #[test]
        fn no_other_text_is_accepted(text in ".{0,80}") {
            prop_assert_eq!(Signer::default().verify("stream", &text, 0), None);
        }
    }
}
