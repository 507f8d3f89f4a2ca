//! The `auth` section: API keys, anonymous callers, and the limit of failed authentication attempts. Credentials are
//! kept as digests; no message, log line or `Debug` may show one.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use ipnet::{IpNet, Ipv4Net};

use super::channel_rights::{CHANNEL_RIGHTS, ChannelRightTemplates, channel_rights};
use super::field::{Field, Format, Notation, Section};
use super::jwt::{self, ISSUERS, Issuer};
use super::known_models::{ALLOWED_MODELS, KnownModels};
use super::limits::{LIMITS, Limits, limits};
use super::queue::CLASS;
use super::reader::{Reader, Table};
use super::tree::{Node, Value};
use super::units::{COUNT, COUNT_OR_NONE, NETWORK, SHA256};

const NAME: Field<String> = Format::new(
    "text of at most 64 visible characters",
    "a name of at most 64 characters, all visible",
    Notation::Text,
    |text| {
        let fits = text.chars().count() <= 64 && !text.chars().any(char::is_control);
        fits.then(|| text.to_owned())
    },
)
.key("name", "The caller's name in the access log and in metrics.")
.required();
const DIGEST: Field<[u8; 32]> = SHA256
    .key("sha256", "SHA-256 of the key; `streamgate key new --name NAME` prints both.")
    .required();
const KEYS: Section = Section::list(
    "keys",
    "API keys of callers. The keys themselves are never stored.",
    &[NAME.key, DIGEST.key, ALLOWED_MODELS.key, LIMITS.key, CLASS.key, CHANNEL_RIGHTS.key],
);

const FROM: Field<IpNet> = NETWORK
    .list("from", "Addresses and networks from which these callers may call.")
    .otherwise("loopback: `[127.0.0.0/8, \"::1\"]`");
const ANONYMOUS: Section = Section::table(
    "anonymous",
    "Callers without a credential. All of them together are one caller, called `anonymous`.",
    &[ALLOWED_MODELS.key, LIMITS.key, CLASS.key, CHANNEL_RIGHTS.key, FROM.key],
)
.otherwise("every caller needs a credential");

const ATTEMPT_BURST: Field<NonZeroU32> =
    COUNT.key("burst", "Attempts that may come at once.").default("20");
const ATTEMPTS_PER_MINUTE: Field<Option<NonZeroU32>> =
    COUNT_OR_NONE.key("per_minute", "Attempts per minute, refilled continuously.").default("20");
const FAILED_ATTEMPTS: Section = Section::table(
    "failed_attempts",
    "Rate limit of requests with a wrong credential, per client address (IPv6: per /64).",
    &[ATTEMPT_BURST.key, ATTEMPTS_PER_MINUTE.key],
);

pub(super) const AUTH: Section = Section::table(
    "auth",
    "Authentication of callers (docs/authentication.md): at least one of `keys`, `jwt` and `anonymous`.",
    &[KEYS.key, ISSUERS.key, ANONYMOUS.key, FAILED_ATTEMPTS.key],
)
.required();

/// An API key.
#[derive(Debug, Clone)]
pub struct Key {
    /// The caller's name in the access log and in metrics.
    pub name: String,
    /// SHA-256 of the key.
    pub digest: [u8; 32],
    /// Models that it may use: exact names, or patterns with `*`.
    pub models: Vec<String>,
    /// Its limits, defaults filled in.
    pub limits: Limits,
    /// The class of its requests in the queues of models.
    pub class: Option<String>,
    /// Channels that it may subscribe and publish to.
    pub channels: ChannelRightTemplates,
}

/// The rate limit of failed authentication attempts from one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedAttempts {
    /// Attempts that may come at once.
    pub burst: NonZeroU32,
    /// Attempts per minute, refilled continuously. `None`: no limit.
    pub per_minute: Option<NonZeroU32>,
}

impl Default for FailedAttempts {
    fn default() -> Self {
        Self {
            burst: ATTEMPT_BURST.default_value(),
            per_minute: ATTEMPTS_PER_MINUTE.default_value(),
        }
    }
}

/// Callers without a credential.
#[derive(Debug, Clone)]
pub struct Anonymous {
    /// Models that they may use: exact names, or patterns with `*`.
    pub models: Vec<String>,
    /// Their limits, of all of them together.
    pub limits: Limits,
    /// The class of their requests in the queues of models.
    pub class: Option<String>,
    /// Channels that they may subscribe and publish to.
    pub channels: ChannelRightTemplates,
    /// The addresses that they may call from.
    pub from: Vec<IpNet>,
}

impl Anonymous {
    /// Their name in the access log and in metrics.
    pub const NAME: &'static str = "anonymous";
}

/// The whole section.
#[derive(Debug, Clone, Default)]
pub struct Auth {
    /// API keys.
    pub keys: Vec<Key>,
    /// Callers without a credential, if they may call.
    pub anonymous: Option<Anonymous>,
    /// JWT issuers.
    pub issuers: Vec<Issuer>,
    /// The rate limit of failed attempts.
    pub failed_attempts: FailedAttempts,
}

/// Reads the section; what a key or an issuer leaves out of its limits is taken from the section `limits`.
pub(super) fn auth(reader: &mut Reader<'_>, root: &Table<'_>, known: &KnownModels<'_>) -> Auth {
    let default = limits(reader, root, Limits::default());
    let auth = reader.section(root, &AUTH);
    let none = |section: &Section| match auth.get(section).map(|node| &node.value) {
        None => true,
        Some(Value::List(items)) => items.is_empty(),
        Some(_) => false,
    };
    if none(&KEYS) && none(&ISSUERS) && !auth.has(&ANONYMOUS) {
        reader.report(
            auth.location(&KEYS),
            "`auth.keys` has no key and `auth.jwt` no issuer, so that nobody could call; expected at least one \
             (`streamgate key new --name NAME` makes a key and prints its line)",
        );
    }
    let listed = reader.list(&auth, &KEYS).unwrap_or_default();
    let anonymous = anonymous(reader, &auth, known, default);
    let keys = keys(reader, listed, known, default);
    if anonymous.is_some() && keys.iter().any(|key| key.name == Anonymous::NAME) {
        let message =
            "a key is named `anonymous`, as callers without one are; expected another name for it";
        reader.report(auth.location(&ANONYMOUS), message);
    }
    let failures = reader.section(&auth, &FAILED_ATTEMPTS);
    Auth {
        keys,
        anonymous,
        issuers: jwt::issuers(reader, &auth, known, default),
        failed_attempts: FailedAttempts {
            burst: reader.value(&failures, &ATTEMPT_BURST),
            per_minute: reader.value(&failures, &ATTEMPTS_PER_MINUTE),
        },
    }
}

/// Reads `anonymous`. Its default is loopback alone: a caller without a credential spends the operator's money.
fn anonymous(
    reader: &mut Reader<'_>,
    auth: &Table<'_>,
    known: &KnownModels<'_>,
    default: Limits,
) -> Option<Anonymous> {
    let node = auth.get(&ANONYMOUS)?;
    let table = reader.table(ANONYMOUS.name, node, &ANONYMOUS)?;
    let from = match reader.values(&table, &FROM) {
        None => vec![
            IpNet::from(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
            IpNet::from(IpAddr::from(Ipv6Addr::LOCALHOST)),
        ],
        Some(from) => from,
    };
    let items = table.get(&FROM).map(|node| &node.value);
    if let Some(Value::List(items)) = items {
        if items.is_empty() {
            reader.report(node.at, "`from` is empty; expected addresses or networks");
        }
        if let Some(all) = from.iter().position(|network| network.prefix_len() == 0) {
            let at = items.get(all).map_or(node.at, |item| item.at);
            reader.warn(at, "everybody who reaches this address may call without a key");
        }
    }
    Some(Anonymous {
        models: known.allowed(reader, &table),
        limits: limits(reader, &table, default),
        class: reader.field(&table, &CLASS),
        channels: channel_rights(reader, &table),
        from,
    })
}

fn keys(
    reader: &mut Reader<'_>,
    items: &[Node],
    known: &KnownModels<'_>,
    default: Limits,
) -> Vec<Key> {
    let mut names = BTreeMap::new();
    let mut digests = BTreeMap::new();
    let mut keys = Vec::new();
    for node in items {
        let Some(table) = reader.table(KEYS.name, node, &KEYS) else {
            continue;
        };
        reader.require(&table, &NAME, "a name for the access log and metrics");
        reader.require(&table, &DIGEST, &SHA256.scalar.expected());
        let name = reader.field(&table, &NAME);
        let digest = reader.field(&table, &DIGEST);
        reader.reject_duplicate(&table, (&NAME, name.clone()), "key", &mut names);
        reader.reject_duplicate(&table, (&DIGEST, digest), "key", &mut digests);
        let models = known.allowed(reader, &table);
        let limits = limits(reader, &table, default);
        let class = reader.field(&table, &CLASS);
        let channels = channel_rights(reader, &table);
        if let (Some(name), Some(digest)) = (name, digest) {
            keys.push(Key { name, digest, models, limits, class, channels });
        }
    }
    keys
}
