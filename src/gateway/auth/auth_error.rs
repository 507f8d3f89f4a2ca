//! Authentication errors: one table from a reason to its message, metric label and status. A message must never
//! reveal which credential would have been accepted.

use std::borrow::Cow;
use std::time::Duration;

use http::HeaderValue;

use crate::error::{Error, Side};
use crate::wire::chat::{ApiError, Kind, TOKEN_EXPIRED};

/// The reason why a credential was rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AuthError {
    /// The request has no credential.
    Missing,
    /// It has one in a place that is not read: a header of this name, or a query parameter.
    Misplaced(&'static str),
    /// The authorization header has another scheme, or nothing behind it.
    Scheme,
    /// Not a key of the configuration.
    UnknownKey,
    /// The same, and it begins as the keys of this provider do.
    ProviderKey(&'static str),
    /// A token, but no issuer is configured.
    NoIssuers,
    /// Longer than any token that we would verify.
    TooLong,
    /// Not a signed token, or one with unknown critical extensions.
    Malformed,
    /// Its issuer is not configured.
    UnknownIssuer,
    /// Signed in a way that its issuer does not use.
    Algorithm,
    /// The issuer has no such key.
    UnknownKeyId,
    /// The issuer has several keys and the token names none.
    NoKeyId,
    /// The signature does not match.
    Signature,
    /// It has expired.
    Expired,
    /// Not valid yet.
    Early,
    /// Valid for longer than its issuer may promise.
    Lifetime,
    /// For another audience.
    Audience,
    /// A claim is invalid; the message names it.
    Claim(String),
    /// The issuer's keys cannot be fetched. Not the caller's fault.
    Unavailable,
}

impl AuthError {
    /// The label for metrics.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Missing | Self::Misplaced(_) | Self::Scheme => "missing",
            Self::UnknownKey | Self::ProviderKey(_) => "unknown_key",
            Self::NoIssuers | Self::UnknownIssuer => "unknown_issuer",
            Self::TooLong | Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::UnknownKeyId | Self::NoKeyId => "unknown_key_id",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::Early => "not_yet_valid",
            Self::Lifetime => "lifetime",
            Self::Audience => "audience",
            Self::Claim(_) => "claim",
            Self::Unavailable => "keys_unavailable",
        }
    }

    /// Whether it may be part of a brute-force attempt.
    pub(super) fn is_attempt(&self) -> bool {
        !matches!(self, Self::Missing | Self::Misplaced(_) | Self::Scheme | Self::Unavailable)
    }

    fn message(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Missing => "no key given; send `authorization: Bearer KEY` or `x-api-key: KEY`",
            Self::Scheme => "the authorization header must be `Bearer KEY`",
            // It begins as OpenAI's message does, by which LiteLLM distinguishes it from a bad request.
            Self::UnknownKey => {
                "Incorrect API key provided; check that it is a Streamgate key, complete and current"
            }
            Self::ProviderKey(provider) => {
                return Cow::Owned(format!(
                    "Incorrect API key provided; it looks like a key of {provider}, and callers of this gateway send a \
                     key of the gateway's own"
                ));
            }
            Self::Misplaced(place) => {
                return Cow::Owned(format!(
                    "no key given: {place} is not read; send `authorization: Bearer KEY` or `x-api-key: KEY`"
                ));
            }
            Self::NoIssuers => "this gateway does not accept JWTs; send a key instead",
            Self::TooLong => "the token is too long; a JWT of at most 8 KiB is accepted",
            Self::Malformed => {
                "the token is not a signed JWT that can be read here; send it whole, as it was issued"
            }
            Self::UnknownIssuer => {
                "the token's issuer (`iss`) is not accepted here; get a token from one that is"
            }
            Self::Algorithm => {
                "the token is not signed with an algorithm that its issuer uses here (`alg`)"
            }
            Self::NoKeyId => {
                "the token does not say which of its issuer's keys it is signed with (`kid`)"
            }
            // The same message, so that key ids cannot be enumerated.
            Self::UnknownKeyId | Self::Signature => {
                "the token's signature does not match a key of its issuer; get a new token"
            }
            Self::Expired => "the token has expired (`exp`); get a new one",
            Self::Early => "the token is not valid yet (`nbf`); check the clocks",
            Self::Lifetime => {
                "the token is valid for longer than is accepted (`exp`); get one with a shorter life"
            }
            Self::Audience => "the token is not meant for this gateway (`aud`)",
            Self::Claim(words) => return Cow::Owned(words.clone()),
            Self::Unavailable => {
                "the keys of the token's issuer cannot be fetched at the moment; try again"
            }
        })
    }

    /// The error for the caller.
    pub(super) fn error(&self) -> Error {
        let message = self.message().into_owned();
        let code = match self {
            Self::Unavailable => return Error::unavailable(&message).retry_after(RETRY_KEYS_AFTER),
            // Nothing was given that could be invalid (RFC 6750, section 3.1).
            Self::Missing | Self::Misplaced(_) | Self::Scheme => None,
            // For programs that get a new token by themselves.
            Self::Expired => Some(TOKEN_EXPIRED),
            _ => Some("invalid_api_key"),
        };
        let code = code.map(str::to_owned);
        Error::caller(ApiError { kind: Kind::Authentication, message, code, param: None })
    }
}

/// The beginnings of providers' keys, as their consoles give them out.
const PROVIDER_KEYS: [(&str, &str); 12] = [
    ("sk-ant-", "Anthropic"),
    ("sk-or-", "OpenRouter"),
    ("sk-proj-", "OpenAI"),
    ("sk-svcacct-", "OpenAI"),
    ("sk-admin-", "OpenAI"),
    ("AIza", "Google"),
    ("gsk_", "Groq"),
    ("xai-", "xAI"),
    ("hf_", "Hugging Face"),
    ("pplx-", "Perplexity"),
    ("csk-", "Cerebras"),
    ("sk-", "a provider such as OpenAI"),
];

/// The error for a key that is none of the configuration.
pub(super) fn unknown_key(credential: &str) -> AuthError {
    let known = PROVIDER_KEYS.iter().find(|(start, _)| credential.starts_with(start));
    known.map_or(AuthError::UnknownKey, |(_, provider)| AuthError::ProviderKey(provider))
}

/// The time after which an issuer's keys may be there.
const RETRY_KEYS_AFTER: Duration = Duration::from_secs(5);

/// The error that replaces the usual one when an address has failed too often.
pub(super) fn too_many(wait: Duration) -> Error {
    let fault = ApiError {
        kind: Kind::RateLimited,
        message: "too many wrong credentials came from your address; wait, then send a right one"
            .to_owned(),
        code: Some("rate_limit_exceeded".to_owned()),
        param: None,
    };
    Error::caller(fault).retry_after(wait)
}
/// The challenge to present a credential, with the error of the one that came, if any (RFC 6750, section 3).
pub fn challenge(error: &Error) -> Option<HeaderValue> {
    let fault = error.shown();
    let word = match (error.side(), fault.kind, &fault.code) {
        (Side::Caller, Kind::Authentication, None) => {
            return Some(HeaderValue::from_static("Bearer realm=\"streamgate\""));
        }
        (Side::Caller, Kind::Authentication, Some(_)) => "invalid_token",
        (Side::Caller, Kind::Permission, _) => "insufficient_scope",
        _ => return None,
    };
    // The characters that RFC 6750 permits between the quotes.
    let plain = |c: &char| (' '..='~').contains(c) && !"\"\\".contains(*c);
    let description: String = fault.message.chars().filter(plain).collect();
    let challenge = format!(
        "Bearer realm=\"streamgate\", error=\"{word}\", error_description=\"{description}\""
    );
    HeaderValue::from_str(&challenge).ok()
}
