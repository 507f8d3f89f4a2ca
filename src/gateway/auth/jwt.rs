//! JWT verification: a token to an [`Identity`]. The token's header selects among the algorithms and keys that the
//! configuration has for its issuer; it must never add an algorithm, a key or an address.

use std::collections::HashMap;
use std::sync::Arc;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};

use super::auth_error::AuthError;
use super::claims::{Claims, missing};
use super::jwks::KeySet;
use super::mercure_claims;
use crate::channels::{ChannelRights, Placeholders};
use crate::config::{self, IssuerKeys, Limits};

/// The longest token.
pub(super) const MAX_TOKEN: usize = 8 * 1024;

/// The caller that a token names.
#[derive(Debug)]
pub(super) struct Identity {
    /// The name in records: the issuer and the subject, so that it is unique.
    pub(super) name: Arc<str>,
    /// The name of the caller's limiter.
    pub(super) limiter: String,
    /// The models that it may use.
    pub(super) models: Arc<[String]>,
    /// Its limits.
    pub(super) limits: Limits,
    /// The class of its requests in the queues of models.
    pub(super) class: Option<Arc<str>>,
    /// Channels that it may subscribe and publish to.
    pub(super) channels: Arc<ChannelRights>,
    /// The last second at which its token is good, since 1970.
    pub(super) until: u64,
}

/// An issuer of tokens, with its keys.
#[derive(Debug)]
pub(super) struct Issuer {
    setting: config::Issuer,
    /// The claims of the Mercure protocol grant channels.
    mercure: bool,
    keys: Keys,
}

#[derive(Debug)]
enum Keys {
    Known(DecodingKey),
    Fetched(Arc<KeySet>),
}

/// Issuers by `iss`.
pub(super) type Issuers = HashMap<String, Arc<Issuer>>;

impl Issuer {
    /// An issuer with its keys: the set it had in `before`, if that is the same.
    pub(super) fn new(setting: &config::Issuer, mercure: bool, before: Option<&Issuers>) -> Self {
        let keys = match &setting.keys {
            IssuerKeys::Public(key) => Keys::Known(key.clone()),
            IssuerKeys::Shared(secret) => {
                Keys::Known(DecodingKey::from_secret(secret.expose().as_bytes()))
            }
            IssuerKeys::Fetched(url) => {
                let before = before.and_then(|issuers| issuers.get(&setting.name)?.key_set());
                let same = before.filter(|set| set.is(&setting.name, url)).map(Arc::clone);
                Keys::Fetched(same.unwrap_or_else(|| Arc::new(KeySet::new(&setting.name, url))))
            }
        };
        Self { setting: setting.clone(), mercure, keys }
    }

    /// The key set that is fetched, if the issuer has one.
    pub(super) fn key_set(&self) -> Option<&Arc<KeySet>> {
        match &self.keys {
            Keys::Known(_) => None,
            Keys::Fetched(set) => Some(set),
        }
    }

    /// Changes whenever its keys may have.
    pub(super) fn generation(&self) -> u64 {
        self.key_set().map_or(0, |set| set.generation())
    }

    /// The keys that may have signed a token.
    async fn keys(&self, header: &Header) -> Result<Vec<DecodingKey>, AuthError> {
        match &self.keys {
            Keys::Known(key) => Ok(vec![key.clone()]),
            Keys::Fetched(set) => set.keys(header.kid.as_deref(), header.alg).await,
        }
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = self.setting.leeway.as_secs();
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.setting.name]);
        validation.set_audience(&self.setting.audience);
        // Without this the library lets tokens pass that name no audience or issuer at all.
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation
    }

    fn identity(&self, claims: &Claims, until: u64) -> Result<Identity, AuthError> {
        let names = &self.setting.claims;
        let subject = claims.subject(&names.subject)?;
        let models = claims.models(&names.models)?;
        let limits = claims.limits(&names.limits, self.setting.limits)?;
        let (issuer, said) = (&self.setting.name, claims.said_of_limits(&names.limits));
        let name = format!("{issuer}#{subject}");
        let with = Placeholders { name: &name, sub: subject };
        let mut channels = claims.channels(&names.channels, &self.setting.channels, with)?;
        if self.mercure {
            mercure_claims::add(claims, &mut channels)?;
        }
        Ok(Identity {
            name: name.into(),
            // No key's name has a control character. The token's claim of limits is part of it, so
            // that two tokens which differ in that do not change each other's limits to and fro.
            // The configuration's limits are not: a change there grants no new burst.
            limiter: format!("{issuer}\0{subject}\0{said}"),
            models: models.unwrap_or_else(|| self.setting.models.clone()).into(),
            limits,
            class: self.setting.class.as_deref().map(Arc::from),
            channels: Arc::new(channels),
            until,
        })
    }
}

/// A token whose signature and claims were verified.
#[derive(Debug)]
pub(super) struct VerifiedToken {
    /// The caller that it names.
    pub(super) identity: Arc<Identity>,
    /// The issuer that signed it.
    pub(super) issuer: Arc<Issuer>,
    /// The last second at which it is good.
    pub(super) until: u64,
    /// The generation of the issuer's keys, read before they were used.
    pub(super) generation: u64,
}

impl VerifiedToken {
    /// Whether it is still good at a time, in seconds since 1970.
    pub(super) fn is_valid(&self, now: u64) -> bool {
        now <= self.until && self.generation == self.issuer.generation()
    }
}

/// Verifies a token. `now` is in seconds since 1970.
pub(super) async fn verify(
    token: &str,
    issuers: &Issuers,
    now: u64,
) -> Result<VerifiedToken, AuthError> {
    let header = jsonwebtoken::decode_header(token).map_err(|_| AuthError::Malformed)?;
    // A recipient must reject `crit` with extensions that it does not understand; none are understood here.
    if header.crit.is_some() || header.enc.is_some() || header.zip.is_some() {
        return Err(AuthError::Malformed);
    }
    let issuer = issuers.get(&issuer(token)?).ok_or(AuthError::UnknownIssuer)?;
    if !issuer.setting.algorithms.contains(&header.alg) {
        return Err(AuthError::Algorithm);
    }
    let generation = issuer.generation();
    let keys = issuer.keys(&header).await?;
    let validation = issuer.validation(header.alg);
    let mut decoded = Err(AuthError::Signature);
    for key in keys {
        let tried = jsonwebtoken::decode::<Claims>(token, &key, &validation);
        decoded = tried.map_err(|error| auth_error(error.kind()));
        if !matches!(decoded, Err(AuthError::Signature)) {
            break;
        }
    }
    let claims = decoded?.claims;
    let (expires, leeway) = (claims.expires(), validation.leeway);
    let latest = issuer.setting.max_lifetime.map(|lifetime| now + lifetime.as_secs() + leeway);
    if latest.is_some_and(|latest| expires > latest) {
        return Err(AuthError::Lifetime);
    }
    let until = expires.saturating_add(leeway);
    Ok(VerifiedToken {
        identity: Arc::new(issuer.identity(&claims, until)?),
        issuer: Arc::clone(issuer),
        until,
        generation,
    })
}

/// The issuer that an unverified token names: it selects the keys that verify it.
fn issuer(token: &str) -> Result<String, AuthError> {
    let unverified = jsonwebtoken::dangerous::insecure_decode_claims::<Claims>(token);
    unverified.map_err(|error| auth_error(error.kind()))?.issuer().map(str::to_owned)
}

fn auth_error(kind: &ErrorKind) -> AuthError {
    match kind {
        ErrorKind::InvalidSignature => AuthError::Signature,
        ErrorKind::ExpiredSignature => AuthError::Expired,
        ErrorKind::ImmatureSignature => AuthError::Early,
        ErrorKind::InvalidAudience => AuthError::Audience,
        ErrorKind::InvalidIssuer => AuthError::UnknownIssuer,
        ErrorKind::InvalidAlgorithm => AuthError::Algorithm,
        ErrorKind::MissingRequiredClaim(name) => AuthError::Claim(missing(name)),
        // The message about a claim, without the parser's position.
        ErrorKind::Json(error) if error.is_data() => {
            let words = error.to_string();
            let words = words.rsplit_once(" at line ").map_or(words.as_str(), |(words, _)| words);
            AuthError::Claim(words.to_owned())
        }
        _ => AuthError::Malformed,
    }
}
