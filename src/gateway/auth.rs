//! Who calls: a credential to a [`Caller`]. Keys are only ever compared by digest.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderMap;
use subtle::ConstantTimeEq;

use super::limit::Gate;
use crate::config;
use crate::error::Error;
use crate::wire::chat::{Fault, Kind};

/// Who sends us a request.
#[derive(Debug)]
pub struct Caller {
    /// The name in records and metrics.
    pub name: String,
    /// Models that it may use: exact names, or patterns with `*`.
    pub models: Vec<String>,
    /// What it may use of us.
    pub gate: Arc<Gate>,
}

impl Caller {
    /// Whether it may use a model.
    pub fn may_use(&self, model: &str) -> bool {
        self.models.iter().any(|pattern| matches_pattern(pattern, model))
    }
}

/// Callers by the SHA-256 of their key.
pub type Callers = HashMap<[u8; 32], Arc<Caller>>;

/// Finds out who calls.
pub fn identify(callers: &Callers, headers: &HeaderMap) -> Result<Arc<Caller>, Error> {
    let key = credential(headers)?;
    if key.split('.').count() == 3 {
        return Err(refused("this gateway does not accept JWTs; send a key instead"));
    }
    let digest = config::digest(key);
    callers
        .get_key_value(&digest)
        .filter(|(known, _)| bool::from(known.ct_eq(&digest)))
        .map(|(_, caller)| Arc::clone(caller))
        .ok_or_else(|| refused("the key is not known here; check that it is a Streamgate key, complete and current"))
}

/// The credential, from wherever the vendors' SDKs put it.
fn credential(headers: &HeaderMap) -> Result<&str, Error> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if let Some(value) = text("authorization") {
        let (scheme, key) = value.split_once(' ').unwrap_or((value, ""));
        if scheme.eq_ignore_ascii_case("bearer") && !key.trim().is_empty() {
            return Ok(key.trim());
        }
        return Err(refused("the authorization header must be `Bearer KEY`"));
    }
    ["x-api-key", "api-key", "x-goog-api-key"]
        .into_iter()
        .find_map(text)
        .filter(|key| !key.is_empty())
        .ok_or_else(|| {
            refused("no key given; send `authorization: Bearer KEY` or `x-api-key: KEY`")
        })
}

fn refused(message: &str) -> Error {
    Error::caller(Fault {
        kind: Kind::Authentication,
        message: message.to_owned(),
        code: Some("invalid_api_key".to_owned()),
        param: None,
    })
}

/// Whether `name` matches a pattern in which each `*` stands for any run of characters.
fn matches_pattern(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(pieces.next().unwrap_or_default()) else {
        return false;
    };
    let Some(last) = pieces.next_back() else {
        return rest.is_empty();
    };
    for piece in pieces {
        let Some((_, tail)) = rest.split_once(piece) else {
            return false;
        };
        rest = tail;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("*", "anything", true),
            ("fast", "fast", true),
            ("fast", "faster", false),
            ("local/*", "local/n100", true),
            ("local/*", "other/n100", false),
            ("*/small", "local/small", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a*a", "a", false),
            ("", "x", false),
        ] {
            assert_eq!(matches_pattern(pattern, name), expected, "{pattern} {name}");
        }
    }
}
