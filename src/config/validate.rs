//! From the tree to a [`Config`]: one line for each field. A field that is wrong is reported and
//! takes its default, so that everything else is still looked at.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use http::HeaderValue;
use url::Url;

use super::provider::{self, Providers};
use super::raw::{Reader, Table, one_of, shown};
use super::tree::{Node, Value};
use super::{Config, Key, Limits, Server, Stream, Target, units};

const DURATION: &str = "a duration such as `500ms`, `15s`, `2m` or `1h`";
const POSITIVE: &str = "a duration above zero such as `500ms`, `15s`, `2m` or `1h`";
const POSITIVE_OR_NONE: &str = "a duration above zero such as `15s`, `2m` or `1h`, or `none`";
const SIZE: &str = "a size above zero such as `32MiB`, `64KB` or plain bytes";
const SHA256: &str = "64 hexadecimal digits (`streamgate key new --name NAME` prints them)";
const NAME: &str = "a name of at most 64 characters, all visible";
const COUNT: &str = "a whole number above zero, or `none`";

/// Reads the whole file.
pub(super) fn config(reader: &mut Reader<'_>, root: &Node) -> Config {
    let known = ["server", "auth", "limits", "providers", "models", "stream", "prompts"];
    let empty = Node { at: root.at, value: Value::Table(Vec::new()) };
    let root = if matches!(root.value, Value::Nothing) { &empty } else { root };
    // Nothing more can be said of a file that is no table.
    let Some(table) = reader.table("the file", root, &known) else {
        return Config::default();
    };
    reader.unsupported(&table, "prompts");
    let providers = provider::providers(reader, &table);
    let models = models(reader, &table, &providers);
    Config {
        server: server(reader, &table),
        keys: keys(reader, &table, &models, &providers),
        models: models.into_iter().map(|(name, targets)| (name.to_owned(), targets)).collect(),
        providers: providers
            .into_iter()
            .filter_map(|(name, provider)| Some((name.to_owned(), provider?)))
            .collect(),
        stream: stream(reader, &table),
    }
}

fn server(reader: &mut Reader<'_>, root: &Table<'_>) -> Server {
    let known = ["listen", "body_limit", "header_timeout", "drain", "cors", "tls"];
    let table = reader.section(root, "server", &known);
    reader.unsupported(&table, "tls");
    let default = Server::default();
    let address = ("an address and port such as `127.0.0.1:8080`", |text: &str| text.parse().ok());
    let positive = (POSITIVE, units::positive_duration);
    Server {
        listen: reader.field(&table, "listen", address).unwrap_or(default.listen),
        body_limit: reader
            .field(&table, "body_limit", (SIZE, units::size))
            .unwrap_or(default.body_limit),
        header_timeout: reader
            .field(&table, "header_timeout", positive)
            .unwrap_or(default.header_timeout),
        drain: reader.field(&table, "drain", (DURATION, units::duration)).unwrap_or(default.drain),
        cors_origins: origins(reader, &table),
    }
}

fn origins(reader: &mut Reader<'_>, server: &Table<'_>) -> Vec<HeaderValue> {
    let cors = reader.section(server, "cors", &["origins"]);
    let items = reader.list(&cors, "origins").unwrap_or_default();
    let expected = "an origin such as `https://chat.example.com`, without a path";
    items.iter().filter_map(|item| reader.parsed("origins", item, (expected, origin))).collect()
}

/// An origin exactly as browsers send it, because it is compared exactly.
fn origin(text: &str) -> Option<HeaderValue> {
    let origin = Url::parse(text).ok()?.origin();
    (origin.is_tuple() && origin.ascii_serialization() == text).then_some(())?;
    HeaderValue::from_str(text).ok()
}

fn stream(reader: &mut Reader<'_>, root: &Table<'_>) -> Stream {
    let known = [
        "heartbeat",
        "commit_after",
        "connect",
        "first_token",
        "stall",
        "total",
        "write_stall",
        "max_event",
    ];
    let table = reader.section(root, "stream", &known);
    let default = Stream::default();
    let mut positive = |key: &str, default: Duration| {
        reader.field(&table, key, (POSITIVE, units::positive_duration)).unwrap_or(default)
    };
    Stream {
        heartbeat: positive("heartbeat", default.heartbeat),
        connect: positive("connect", default.connect),
        first_token: positive("first_token", default.first_token),
        stall: positive("stall", default.stall),
        write_stall: positive("write_stall", default.write_stall),
        commit_after: reader
            .field(&table, "commit_after", (DURATION, units::duration))
            .unwrap_or(default.commit_after),
        total: reader
            .field(&table, "total", (POSITIVE_OR_NONE, units::or_none(units::positive_duration)))
            .unwrap_or(default.total),
        max_event: reader
            .field(&table, "max_event", (SIZE, units::size))
            .unwrap_or(default.max_event),
    }
}

/// Limits, with what is left out taken from `default`, field by field.
fn limits(reader: &mut Reader<'_>, parent: &Table<'_>, default: Limits) -> Limits {
    let known = ["requests_per_minute", "burst", "concurrent_streams", "tokens_per_minute"];
    let table = reader.section(parent, "limits", &known);
    reader.unsupported(&table, "tokens_per_minute");
    let number = (COUNT, units::or_none(|text| text.parse::<NonZeroU32>().ok()));
    let streams = (COUNT, units::or_none(|text| text.parse().ok().filter(|count| *count > 0)));
    Limits {
        requests_per_minute: reader
            .field(&table, "requests_per_minute", (COUNT, &number.1))
            .unwrap_or(default.requests_per_minute),
        burst: reader.field(&table, "burst", number).unwrap_or(default.burst),
        concurrent_streams: reader
            .field(&table, "concurrent_streams", streams)
            .unwrap_or(default.concurrent_streams),
    }
}

/// Models by name. A model whose targets are wrong is there all the same, so that who refers to it
/// is not told that it does not exist.
fn models<'n>(
    reader: &mut Reader<'_>,
    root: &Table<'n>,
    providers: &Providers<'_>,
) -> BTreeMap<&'n str, Vec<Target>> {
    let mut models = BTreeMap::new();
    for (name, node) in reader.entries(root, "models") {
        if !is_model(&name.text) {
            reader.report(name.at, "a model's name is not usable; expected visible characters");
        }
        let targets = reader.table(&name.text, node, &["targets"]).map(|table| {
            let items = reader.list(&table, "targets");
            if table.get("targets").is_none() || items.is_some_and(<[Node]>::is_empty) {
                let name = shown(&name.text);
                reader.report(
                    node.at,
                    format!(
                        "model {name} has no targets; expected `targets: [...]` with one or more"
                    ),
                );
            }
            let items = items.unwrap_or_default().iter();
            items.filter_map(|item| target(reader, item, providers)).collect()
        });
        models.insert(name.text.as_str(), targets.unwrap_or_default());
    }
    models
}

fn target(reader: &mut Reader<'_>, node: &Node, providers: &Providers<'_>) -> Option<Target> {
    let table = reader.table("targets", node, &["provider", "model"])?;
    reader.require(&table, "provider", "a name under `providers`");
    reader.require(&table, "model", "the model's name at the provider");
    let expected = match providers.len() {
        0 => "a name under `providers`, where there is none".to_owned(),
        _ => one_of(providers.keys().copied()),
    };
    let provider = reader.field(
        &table,
        "provider",
        (expected.as_str(), |name: &str| providers.get(name).cloned()),
    );
    let visible = ("visible characters", |name: &str| is_model(name).then(|| name.to_owned()));
    let model = reader.field(&table, "model", visible);
    Some(Target { provider: provider??, model: model? })
}

/// Model names appear in URLs and response headers.
fn is_model(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic())
}

fn keys(
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
