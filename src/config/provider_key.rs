//! Several credentials of one provider: the `keys` of a provider. No message, log line or `Debug` may show one.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::credential::CredentialSource;
use super::field::{Field, Format, Notation, Section};
use super::provider::API_KEY;
use super::reader::{Reader, Table};
use super::secret::Secret;
use super::units::{CREDENTIAL, NAME, STREAMS_OR_NONE};
use super::{Provider, aws};

/// The largest weight of a key or a target.
const MAX_WEIGHT: u32 = 1000;

const KEY_NAME: Field<String> =
    NAME.key("name", "Name of the key, in records and metrics.").required();
const KEY: Field<Secret> =
    CREDENTIAL.key("api_key", "The credential.").required().example("${OPENAI_A}");
const WEIGHT: Field<NonZeroU32> = Format::new(
    "whole number from 1 to 1000",
    "a whole number from 1 to 1000",
    Notation::Integer { min: 1, max: MAX_WEIGHT as u64, text: "\\+?0*[1-9][0-9]*" },
    |text| text.parse().ok().filter(|weight: &NonZeroU32| weight.get() <= MAX_WEIGHT),
)
.key("weight", "Its share of the requests among the provider's keys.")
.default("1");
pub(super) const MAX_STREAMS: Field<Option<usize>> = STREAMS_OR_NONE
    .key("max_streams", "The most answers that a key has in progress at once, over all models.")
    .default("none");

/// The keys of a provider.
pub(super) const KEYS: Section = Section::list(
    "keys",
    "Several credentials in place of `api_key`, each with a health of its own (docs/routing.md).",
    &[KEY_NAME.key, KEY.key, WEIGHT.key, MAX_STREAMS.otherwise("that of the provider").key],
);

/// One of a provider's keys.
pub(super) struct ProviderKey {
    name: String,
    api_key: Secret,
    weight: NonZeroU32,
    max_streams: Option<usize>,
    credential: CredentialSource,
}

impl ProviderKey {
    /// The provider with this key.
    pub(super) fn of(self, provider: &Provider) -> Provider {
        Provider {
            key: Some(self.name.into()),
            api_key: Some(self.api_key),
            credential: self.credential,
            weight: self.weight,
            max_streams: self.max_streams,
            ..provider.clone()
        }
        .identified()
    }
}

/// Reads the keys of a provider, which each have at most this number of answers in progress unless they say otherwise.
/// A wrong one is reported and left out.
pub(super) fn keys(
    reader: &mut Reader<'_>,
    (provider, most): (&str, Option<usize>),
    table: &Table<'_>,
) -> Vec<ProviderKey> {
    let Some(items) = reader.list(table, &KEYS) else { return Vec::new() };
    for other in [&API_KEY.key, &aws::AWS.key] {
        if table.has(other) {
            let message =
                format!("`keys` stands beside `{}`; expected only one of them", other.name);
            reader.report(table.location(&KEYS), message);
        }
    }
    if items.is_empty() {
        let message = "`keys` is empty; expected one or more of `{ name: ..., api_key: ... }`";
        reader.report(table.location(&KEYS), message);
    }
    let (mut names, mut secrets) = (BTreeMap::new(), BTreeMap::new());
    let mut keys = Vec::new();
    for item in items {
        let Some(key) = reader.table(KEYS.name, item, &KEYS) else { continue };
        reader.require(&key, &KEY_NAME, "a name for the key");
        reader.require(&key, &KEY, "the credential");
        let name = reader.field(&key, &KEY_NAME);
        let secret = reader.field(&key, &KEY);
        let bytes = secret.as_ref().map(|secret| secret.expose().to_owned());
        reader.reject_duplicate(&key, (&KEY_NAME, name.clone()), "key", &mut names);
        reader.reject_duplicate(&key, (&KEY, bytes), "key", &mut secrets);
        let weight = reader.value(&key, &WEIGHT);
        let max_streams = reader.field(&key, &MAX_STREAMS).unwrap_or(most);
        let (Some(name), Some(api_key)) = (name, secret) else { continue };
        let credential = CredentialSource::of_key(provider, &name, key.get(&KEY));
        keys.push(ProviderKey { name, api_key, weight, max_streams, credential });
    }
    keys
}

/// A provider with its keys: the first one, which knows the others.
pub(super) fn with_keys(provider: Provider, keys: Vec<ProviderKey>) -> Provider {
    let mut keyed = keys.into_iter().map(|key| key.of(&provider));
    let Some(first) = keyed.next() else { return provider.identified() };
    let others = keyed.map(Arc::new).collect();
    Provider { others, ..first }
}
