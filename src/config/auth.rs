//! Who may call: the `auth` section. Credentials are kept as digests and never shown.

use std::collections::BTreeMap;

use super::limits::{Limits, limits};
use super::provider::Providers;
use super::raw::{Reader, Table, one_of};
use super::tree::Node;
use super::{Target, units};

const SHA256: &str = "64 hexadecimal digits (`streamgate key new --name NAME` prints them)";
const NAME: &str = "a name of at most 64 characters, all visible";

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

/// Reads the callers' keys; what one of them leaves out of its limits is that of `limits`.
pub(super) fn keys(
    reader: &mut Reader<'_>,
    root: &Table<'_>,
    models: &BTreeMap<&str, Vec<Target>>,
    providers: &Providers<'_>,
) -> Vec<Key> {
    let default = limits(reader, root, Limits::default());
    let auth = reader.section(root, "auth", &["keys", "jwt"]);
    reader.unsupported(&auth, "jwt");
    let items = reader.list(&auth, "keys");
    if auth.get("keys").is_none() || items.is_some_and(<[Node]>::is_empty) {
        let at = auth.get("keys").map_or(auth.at, |node| node.at);
        reader.report(
            at,
            "`auth.keys` has no key, so that nobody could call; expected at least one \
             (`streamgate key new --name NAME` makes one and prints its line)",
        );
    }
    let mut names = BTreeMap::new();
    let mut digests = BTreeMap::new();
    let mut keys = Vec::new();
    for node in items.unwrap_or_default() {
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
        once(reader, &table, ("name", name.clone()), &mut names);
        once(reader, &table, ("sha256", digest), &mut digests);
        let models = allowed(reader, &table, models, providers);
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

/// Reports a value that an earlier key has too.
fn once<T: Ord>(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    (field, value): (&str, Option<T>),
    seen: &mut BTreeMap<T, usize>,
) {
    let (Some(value), Some(node)) = (value, table.get(field)) else {
        return;
    };
    if let Some(line) = seen.get(&value) {
        reader.report(
            node.at,
            format!("`{field}` is that of the key on line {line} too; expected another"),
        );
        return;
    }
    seen.insert(value, node.at.line);
}

/// The models that a key may use.
fn allowed(
    reader: &mut Reader<'_>,
    key: &Table<'_>,
    models: &BTreeMap<&str, Vec<Target>>,
    providers: &Providers<'_>,
) -> Vec<String> {
    let Some(items) = reader.list(key, "models") else {
        return vec!["*".to_owned()];
    };
    if items.is_empty() {
        let at = key.get("models").map_or(key.at, |node| node.at);
        reader.report(at, "`models` is empty; expected names or patterns such as `*`");
    }
    let expected = match models.len() {
        0 => "`provider/model` or a pattern with `*` (there is no name under `models`)".to_owned(),
        _ => format!("{}, `provider/model`, or a pattern with `*`", one_of(models.keys().copied())),
    };
    let known = |name: &str| {
        let direct = name.split_once('/').is_some_and(|(head, _)| providers.contains_key(head));
        let known = direct || name.contains('*') || models.contains_key(name);
        known.then(|| name.to_owned())
    };
    items
        .iter()
        .filter_map(|item| reader.parsed("models", item, (expected.as_str(), known)))
        .collect()
}
