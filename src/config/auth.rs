//! Who may call: the `auth` section. Credentials are kept as digests and never shown.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use super::jwt::{self, Issuer};
use super::limits::{Limits, limits};
use super::provider::Providers;
use super::raw::{Reader, Table, one_of};
use super::tree::{Node, Value};
use super::{Target, units};

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

/// How many wrong credentials may come from one address before it is told to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedAttempts {
    /// At once.
    pub burst: NonZeroU32,
    /// Refilled continuously. `None`: no limit.
    pub per_minute: Option<NonZeroU32>,
}

/// The whole section.
#[derive(Debug, Clone, Default)]
pub struct Auth {
    /// Callers with a key.
    pub keys: Vec<Key>,
    /// Those who vouch for callers with a token.
    pub issuers: Vec<Issuer>,
    /// What wrong credentials may cost us.
    pub failed_attempts: FailedAttempts,
}

/// What there is to permit.
pub(super) struct Permitted<'a> {
    /// The configured models.
    pub(super) models: &'a BTreeMap<&'a str, Vec<Target>>,
    /// The configured providers.
    pub(super) providers: &'a Providers<'a>,
}

/// Reads the section; what a key or an issuer leaves out of its limits is that of `limits`.
pub(super) fn auth(reader: &mut Reader<'_>, root: &Table<'_>, permitted: &Permitted<'_>) -> Auth {
    let default = limits(reader, root, Limits::default());
    let auth = reader.section(root, "auth", &["keys", "jwt", "failed_attempts"]);
    let none = |key: &str| match auth.get(key).map(|node| &node.value) {
        None => true,
        Some(Value::List(items)) => items.is_empty(),
        Some(_) => false,
    };
    if none("keys") && none("jwt") {
        let at = auth.get("keys").map_or(auth.at, |node| node.at);
        reader.report(
            at,
            "`auth.keys` has no key and `auth.jwt` no issuer, so that nobody could call; expected at least one \
             (`streamgate key new --name NAME` makes a key and prints its line)",
        );
    }
    let listed = reader.list(&auth, "keys").unwrap_or_default();
    Auth {
        keys: keys(reader, listed, permitted, default),
        issuers: jwt::issuers(reader, &auth, permitted, default),
        failed_attempts: failed_attempts(reader, &auth),
    }
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
    permitted: &Permitted<'_>,
    default: Limits,
) -> Vec<Key> {
    let mut names = BTreeMap::new();
    let mut digests = BTreeMap::new();
    let mut keys = Vec::new();
    for node in items {
        let known = ["name", "sha256", "models", "limits"];
        let Some(table) = reader.table("keys", node, &known) else {
            continue;
        };
        reader.require(&table, "name", "a name for records and metrics");
        reader.require(&table, "sha256", SHA256);
        let name = reader.field(&table, "name", (NAME, name));
        let digest = table
            .get("sha256")
            .and_then(|node| reader.hidden("sha256", node, (SHA256, units::sha256)));
        once(reader, &table, ("name", name.clone()), "key", &mut names);
        once(reader, &table, ("sha256", digest), "key", &mut digests);
        let models = permitted.models(reader, &table);
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
pub(super) fn once<T: Ord>(
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

impl Permitted<'_> {
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
        items
            .iter()
            .filter_map(|item| reader.parsed("models", item, (expected.as_str(), known)))
            .collect()
    }
}
