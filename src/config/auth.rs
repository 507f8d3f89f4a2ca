//! Who may call: the `auth` section. Credentials are kept as digests and never shown.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use ipnet::{IpNet, Ipv4Net};

use super::jwt::{self, Issuer};
use super::limits::{Limits, limits};
use super::provider::Providers;
use super::raw::{Reader, Table, one_of};
use super::tree::{Node, Value};
use super::{Target, pattern, units};

const SHA256: &str = "64 hexadecimal digits (`streamgate key new --name NAME` prints them)";
const NAME: &str = "a name of at most 64 characters, all visible";
const COUNT: &str = "a whole number above zero";
const COUNT_OR_NONE: &str = "a whole number above zero, or `none`";

/// A caller's key.
#[derive(Debug, Clone)]
pub struct Key {
    /// The caller's name in records and metrics.
    pub name: String,
    /// SHA-256 of the key.
    pub digest: [u8; 32],
    /// Models that it may use: exact names, or patterns with `*`.
    pub models: Vec<String>,
    /// Its limits, defaults filled in.
    pub limits: Limits,
}

/// How many wrong credentials may come from one address before it has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedAttempts {
    /// At once.
    pub burst: NonZeroU32,
    /// Refilled continuously. `None`: no limit.
    pub per_minute: Option<NonZeroU32>,
}

/// Callers without a credential.
#[derive(Debug, Clone)]
pub struct Anonymous {
    /// Models that they may use: exact names, or patterns with `*`.
    pub models: Vec<String>,
    /// Their limits, of all of them together.
    pub limits: Limits,
    /// The addresses that they may call from.
    pub from: Vec<IpNet>,
}

impl Anonymous {
    /// Their name in records and metrics.
    pub const NAME: &'static str = "anonymous";
}

/// The whole section.
#[derive(Debug, Clone, Default)]
pub struct Auth {
    /// Callers with a key.
    pub keys: Vec<Key>,
    /// Callers without a credential, if they may call.
    pub anonymous: Option<Anonymous>,
    /// Those who vouch for callers with a token.
    pub issuers: Vec<Issuer>,
    /// What wrong credentials may cost us.
    pub failed_attempts: FailedAttempts,
}

/// What there is to permit.
pub(super) struct KnownModels<'a> {
    /// The configured models.
    pub(super) models: &'a BTreeMap<&'a str, Vec<Target>>,
    /// The configured providers.
    pub(super) providers: &'a Providers<'a>,
}

/// Reads the section; what a key or an issuer leaves out of its limits is that of `limits`.
pub(super) fn auth(reader: &mut Reader<'_>, root: &Table<'_>, known: &KnownModels<'_>) -> Auth {
    let default = limits(reader, root, Limits::default());
    let auth = reader.section(root, "auth", &["keys", "jwt", "anonymous", "failed_attempts"]);
    let none = |key: &str| match auth.get(key).map(|node| &node.value) {
        None => true,
        Some(Value::List(items)) => items.is_empty(),
        Some(_) => false,
    };
    if none("keys") && none("jwt") && auth.get("anonymous").is_none() {
        let at = auth.get("keys").map_or(auth.at, |node| node.at);
        reader.report(
            at,
            "`auth.keys` has no key and `auth.jwt` no issuer, so that nobody could call; expected at least one \
             (`streamgate key new --name NAME` makes a key and prints its line)",
        );
    }
    let listed = reader.list(&auth, "keys").unwrap_or_default();
    let anonymous = anonymous(reader, &auth, known, default);
    let keys = keys(reader, listed, known, default);
    if let Some(node) = auth.get("anonymous")
        && keys.iter().any(|key| key.name == Anonymous::NAME)
    {
        let message =
            "a key is named `anonymous`, as callers without one are; expected another name for it";
        reader.report(node.at, message);
    }
    Auth {
        keys,
        anonymous,
        issuers: jwt::issuers(reader, &auth, known, default),
        failed_attempts: failed_attempts(reader, &auth),
    }
}

/// From this machine, unless said otherwise: a caller without a credential may spend the providers' money.
fn anonymous(
    reader: &mut Reader<'_>,
    auth: &Table<'_>,
    known: &KnownModels<'_>,
    default: Limits,
) -> Option<Anonymous> {
    let node = auth.get("anonymous")?;
    let table = reader.table("anonymous", node, &["models", "limits", "from"])?;
    let from = match reader.list(&table, "from") {
        None => vec![
            IpNet::from(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
            IpNet::from(IpAddr::from(Ipv6Addr::LOCALHOST)),
        ],
        Some(items) => {
            let network = (units::NETWORK, units::network);
            let from: Vec<_> =
                items.iter().filter_map(|item| reader.parsed("from", item, network)).collect();
            if items.is_empty() {
                reader.report(node.at, "`from` is empty; expected addresses or networks");
            }
            if let Some(all) = from.iter().position(|network| network.prefix_len() == 0) {
                let at = items.get(all).map_or(node.at, |item| item.at);
                reader.warn(at, "everybody who reaches this address may call without a key");
            }
            from
        }
    };
    Some(Anonymous {
        models: known.models(reader, &table),
        limits: limits(reader, &table, default),
        from,
    })
}

fn failed_attempts(reader: &mut Reader<'_>, auth: &Table<'_>) -> FailedAttempts {
    let table = reader.section(auth, "failed_attempts", &["burst", "per_minute"]);
    let default = FailedAttempts::default();
    let count = |text: &str| text.parse::<NonZeroU32>().ok();
    FailedAttempts {
        burst: reader.field(&table, "burst", (COUNT, count)).unwrap_or(default.burst),
        per_minute: reader
            .field(&table, "per_minute", (COUNT_OR_NONE, units::or_none(count)))
            .unwrap_or(default.per_minute),
    }
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
        let fields = ["name", "sha256", "models", "limits"];
        let Some(table) = reader.table("keys", node, &fields) else {
            continue;
        };
        reader.require(&table, "name", "a name for records and metrics");
        reader.require(&table, "sha256", SHA256);
        let name = reader.field(&table, "name", (NAME, name));
        let digest = table
            .get("sha256")
            .and_then(|node| reader.hidden("sha256", node, (SHA256, units::sha256)));
        reject_duplicate(reader, &table, ("name", name.clone()), "key", &mut names);
        reject_duplicate(reader, &table, ("sha256", digest), "key", &mut digests);
        let models = known.models(reader, &table);
        let limits = limits(reader, &table, default);
        if let (Some(name), Some(digest)) = (name, digest) {
            keys.push(Key { name, digest, models, limits });
        }
    }
    keys
}

fn name(text: &str) -> Option<String> {
    let fits = text.chars().count() <= 64 && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

/// Reports a value that an earlier key or issuer (`whose`) has too.
pub(super) fn reject_duplicate<T: Ord>(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    (field, value): (&str, Option<T>),
    whose: &str,
    seen: &mut BTreeMap<T, usize>,
) {
    let (Some(value), Some(node)) = (value, table.get(field)) else {
        return;
    };
    if let Some(line) = seen.get(&value) {
        reader.report(
            node.at,
            format!("`{field}` is that of the {whose} on line {line} too; expected another"),
        );
        return;
    }
    seen.insert(value, node.at.line);
}

impl KnownModels<'_> {
    /// The models that a key may use, or the callers of an issuer.
    pub(super) fn models(&self, reader: &mut Reader<'_>, holder: &Table<'_>) -> Vec<String> {
        let Some(items) = reader.list(holder, "models") else {
            return vec!["*".to_owned()];
        };
        if items.is_empty() {
            let at = holder.get("models").map_or(holder.at, |node| node.at);
            reader.report(at, "`models` is empty; expected names or patterns such as `*`");
        }
        let mut expected = one_of(self.models.keys().copied());
        expected.push_str(", `provider/model`, or a pattern with `*`");
        if self.models.is_empty() {
            "`provider/model` or a pattern with `*` (there is no name under `models`)"
                .clone_into(&mut expected);
        }
        let known = |name: &str| {
            let head = name.split_once('/').map(|(head, _)| head);
            let direct = head.is_some_and(|head| self.providers.contains_key(head));
            let known = direct || name.contains('*') || self.models.contains_key(name);
            known.then(|| name.to_owned())
        };
        let mut models = Vec::with_capacity(items.len());
        for item in items {
            let Some(model) = reader.parsed("models", item, (expected.as_str(), known)) else {
                continue;
            };
            if !self.may_match(&model) {
                let message =
                    "this pattern matches no model, no pattern under `models` and no provider";
                reader.warn(item.at, message);
            }
            models.push(model);
        }
        models
    }

    /// Whether there may be a name that a permission is for.
    fn may_match(&self, permission: &str) -> bool {
        let mut models = self.models.keys();
        models.any(|model| pattern::overlap(permission, model))
            || self.providers.keys().any(|name| pattern::overlap(permission, &format!("{name}/*")))
    }
}
