//! Minting of JWTs for development, by an issuer whose secret is in the configuration. It must never run while serving.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value};

use super::claims::is_subject;
use crate::config::{Issuer, IssuerKeys};

/// The claims of a new token.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The subject.
    pub subject: &'a str,
    /// The time for which it is valid.
    pub lifetime: Duration,
    /// The models that it allows; those of its issuer, if it names none.
    pub models: &'a [String],
}

/// Makes a token of the issuer called `name`, or of the only one that has a secret. An error: why
/// there can be none. `now` is in seconds since 1970.
pub fn mint(
    issuers: &[Issuer],
    name: Option<&str>,
    wish: &Wish<'_>,
    now: u64,
) -> Result<String, String> {
    let (issuer, secret) = choose(issuers, name)?;
    if !is_subject(wish.subject) {
        return Err("--sub must be a text of 1 to 256 characters, all visible".to_owned());
    }
    if issuer.max_lifetime.is_some_and(|longest| wish.lifetime > longest) {
        return Err(format!(
            "--ttl is longer than the `max_lifetime` of issuer {:?}; ask for less, or raise that",
            issuer.name
        ));
    }
    let lifetime = wish.lifetime.as_secs();
    if lifetime == 0 {
        return Err("--ttl must be a second or more".to_owned());
    }
    let mut claims = Map::new();
    let mut say = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    say("iss", issuer.name.clone().into());
    say("aud", issuer.audience.clone().into());
    say("iat", now.into());
    say("exp", (now + lifetime).into());
    // By its whole name, which is looked for first, also where the name has dots.
    say(&issuer.claims.subject, wish.subject.into());
    if !wish.models.is_empty() {
        say(&issuer.claims.models, wish.models.into());
    }
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(secret))
        .map_err(|error| format!("the token could not be signed: {error}"))
}

fn choose<'a>(issuers: &'a [Issuer], name: Option<&str>) -> Result<(&'a Issuer, &'a [u8]), String> {
    let secret = |issuer: &'a Issuer| match &issuer.keys {
        IssuerKeys::Shared(secret) => Some((issuer, secret.expose().as_bytes())),
        IssuerKeys::Fetched(_) | IssuerKeys::Public(_) => None,
    };
    let able: Vec<_> = issuers.iter().filter_map(secret).collect();
    let names = || {
        able.iter().map(|(issuer, _)| format!("{:?}", issuer.name)).collect::<Vec<_>>().join(", ")
    };
    match (able.as_slice(), name) {
        ([], _) => Err("no issuer under `auth.jwt` has a `secret`, and only such tokens can be \
             made here; add one, or get a token from its issuer"
            .to_owned()),
        (_, Some(name)) => {
            able.iter().find(|(issuer, _)| issuer.name == name).copied().ok_or_else(|| {
                format!("--issuer is {name:?}; expected one that has a `secret`: {}", names())
            })
        }
        ([only], None) => Ok(*only),
        _ => Err(format!("several issuers have a `secret`; choose one with --issuer: {}", names())),
    }
}
