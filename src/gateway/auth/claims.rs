//! JWT claims, read strictly: a duplicate claim, or one of the wrong type, is rejected by name. It must never guess.

use std::fmt;
use std::time::Duration;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::auth_error::AuthError;
use crate::channels::{ChannelRights, Placeholders};
use crate::config::{ChannelRightTemplates, LimitError, Limits};

/// The longest subject, in characters.
const LONGEST_SUBJECT: usize = 256;

/// 2^64 seconds: a later `exp` means that the token never expires.
const END_OF_TIME: f64 = 18_446_744_073_709_551_616.0;

/// The claims of a token. The registered ones have the types that they must have.
#[derive(Debug)]
pub(super) struct Claims(Map<String, Value>);

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Value::Object(claims) = Strict.deserialize(deserializer)? else {
            return Err(D::Error::custom("the token's claims are not a JSON object"));
        };
        let claims = Self(claims);
        claims.check().map_err(D::Error::custom)?;
        Ok(claims)
    }
}

impl Claims {
    fn check(&self) -> Result<(), String> {
        for name in ["exp", "nbf", "iat"] {
            let time = |value: &Value| {
                value.is_u64() || value.as_f64().is_some_and(|at| (0.0..END_OF_TIME).contains(&at))
            };
            if self.0.get(name).is_some_and(|value| !time(value)) {
                return Err(wrong(name, "a number of seconds since 1970"));
            }
        }
        for name in ["iss", "sub", "jti"] {
            if self.0.get(name).is_some_and(|value| !value.is_string()) {
                return Err(wrong(name, "a text"));
            }
        }
        let one_or_many = |value: &Value| {
            value.is_string()
                || value.as_array().is_some_and(|list| list.iter().all(Value::is_string))
        };
        if self.0.get("aud").is_some_and(|value| !one_or_many(value)) {
            return Err(wrong("aud", "a text or a list of texts"));
        }
        Ok(())
    }

    /// A claim by its whole name, or else by names joined by dots.
    fn find(&self, path: &str) -> Option<&Value> {
        self.0.get(path).or_else(|| {
            let mut steps = path.split('.');
            let first = self.0.get(steps.next()?)?;
            steps.try_fold(first, |value, step| value.get(step))
        })
    }

    /// A claim by its whole name.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The issuer (`iss`).
    pub(super) fn issuer(&self) -> Result<&str, AuthError> {
        let issuer = self.0.get("iss").and_then(Value::as_str);
        issuer.ok_or_else(|| refused(missing("iss")))
    }

    /// Its expiry (`exp`), in seconds since 1970.
    pub(super) fn expires(&self) -> u64 {
        let whole = |value: &Value| {
            let fraction = || Duration::try_from_secs_f64(value.as_f64()?).ok();
            value.as_u64().or_else(|| Some(fraction()?.as_secs()))
        };
        self.0.get("exp").and_then(whole).unwrap_or(u64::MAX)
    }

    /// The subject.
    pub(super) fn subject(&self, path: &str) -> Result<&str, AuthError> {
        let subject = self.find(path).ok_or_else(|| refused(missing(path)))?;
        subject
            .as_str()
            .filter(|text| is_subject(text))
            .ok_or_else(|| refused(wrong(path, "a text of at most 256 characters, all visible")))
    }

    /// The models that the caller may use, if it has the claim.
    pub(super) fn models(&self, path: &str) -> Result<Option<Vec<String>>, AuthError> {
        let Some(value) = self.find(path) else { return Ok(None) };
        let texts = match value {
            // Names with spaces between them, as in the claim `scope` of OAuth.
            Value::String(names) => Some(names.split_whitespace().map(str::to_owned).collect()),
            Value::Array(list) => {
                list.iter().map(|item| item.as_str().map(str::to_owned)).collect()
            }
            _ => None,
        };
        texts.map(Some).ok_or_else(|| refused(wrong(path, "a list of model names or patterns")))
    }

    /// The channels that the caller may subscribe and publish to: those of its claim, or else `default`.
    pub(super) fn channels(
        &self,
        path: &str,
        default: &ChannelRightTemplates,
        with: Placeholders<'_>,
    ) -> Result<ChannelRights, AuthError> {
        let wrong = |claim: &str| {
            refused(wrong(
                claim,
                "a list of names and patterns of channels, each of 1 to 512 bytes",
            ))
        };
        let Some(value) = self.find(path) else {
            return default.filled(with).map_err(|_| wrong(path));
        };
        let expected = "an object with lists `subscribe` and `publish`";
        let members = value.as_object().ok_or_else(|| refused(self::wrong(path, expected)))?;
        let mut templates = ChannelRightTemplates::default();
        for (name, value) in members {
            let list = match name.as_str() {
                "subscribe" => &mut templates.subscribe,
                "publish" => &mut templates.publish,
                _ => return Err(refused(self::wrong(path, expected))),
            };
            let texts = value.as_array().and_then(|items| {
                items.iter().map(|item| item.as_str().map(str::to_owned)).collect()
            });
            *list = texts.ok_or_else(|| wrong(&format!("{path}.{name}")))?;
        }
        templates.filled(with).map_err(|_| wrong(path))
    }

    /// Its claim of limits, in one spelling; empty without it.
    pub(super) fn said_of_limits(&self, path: &str) -> String {
        self.find(path).map_or_else(String::new, Value::to_string)
    }

    /// The caller's limits: those of its claim, and the rest of `default`.
    pub(super) fn limits(&self, path: &str, default: Limits) -> Result<Limits, AuthError> {
        let Some(value) = self.find(path) else { return Ok(default) };
        if value == "none" {
            return Ok(Limits::NONE);
        }
        let expected = "an object of limits, or \"none\"";
        let table = value.as_object().ok_or_else(|| refused(wrong(path, expected)))?;
        Limits::from_claim(table, default).map_err(|LimitError { name, expected }| {
            let claim = format!("{path}.{name}");
            refused(match expected {
                Some(expected) => wrong(&claim, &expected),
                None => {
                    format!("the token's claim {} is no limit that is known here", shown(&claim))
                }
            })
        })
    }
}

/// Whether a text may name a caller: it stands in logs and beside other names.
pub(super) fn is_subject(text: &str) -> bool {
    let length = text.chars().count();
    (1..=LONGEST_SUBJECT).contains(&length) && !text.chars().any(char::is_control)
}

/// The error of a wrong claim.
pub(super) fn refused(words: String) -> AuthError {
    AuthError::Claim(words)
}

/// The message for a claim that is missing.
pub(super) fn missing(name: &str) -> String {
    format!("the token has no claim {}, which is needed", shown(name))
}

/// The message for a claim of another type.
pub(super) fn wrong(name: &str, expected: &str) -> String {
    format!("the token's claim {} must be {expected}", shown(name))
}

fn shown(name: &str) -> String {
    let short: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
    format!("`{short}`")
}

/// Reads any value in which no object has a member twice: readers that disagree about which of two
/// counts can be played against each other.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Self)? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(Self)?;
            if object.contains_key(&name) {
                let words = format!("the token has the claim {} twice", shown(&name));
                return Err(A::Error::custom(words));
            }
            object.insert(name, value);
        }
        Ok(object.into())
    }
}
