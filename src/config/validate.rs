//! From the tree to a [`Config`]: one line for each field. A field that is wrong is reported and
//! takes its default, so that everything else is still looked at.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use http::HeaderValue;
use ipnet::IpNet;
use url::Url;

use super::auth::{self, Permitted};
use super::egress::General;
use super::limits::{Limits, limits};
use super::problem::At;
use super::prompts;
use super::provider::{self, Providers};
use super::raw::{Reader, Table, one_of, shown};
use super::tree::{Node, Value};
use super::{Config, Server, Sources, Stream, Target, settings, telemetry, tls, units};

const DURATION: &str = "a duration such as `500ms`, `15s`, `2m` or `1h`";
const POSITIVE: &str = "a duration above zero such as `500ms`, `15s`, `2m` or `1h`";
const POSITIVE_OR_NONE: &str = "a duration above zero such as `15s`, `2m` or `1h`, or `none`";
const SIZE: &str = "a size above zero such as `32MiB`, `64KB` or plain bytes";

/// Reads the whole file.
pub(super) fn config(reader: &mut Reader<'_>, root: &Node) -> Config {
    let known =
        ["server", "auth", "limits", "providers", "models", "stream", "prompts", "telemetry"];
    let empty = Node { at: root.at, value: Value::Table(Vec::new()) };
    let root = if matches!(root.value, Value::Nothing) { &empty } else { root };
    // Nothing more can be said of a file that is no table.
    let Some(table) = reader.table("the file", root, &known) else {
        return Config::default();
    };
    let (egress, wrong) = General::read(reader.source.env);
    for message in wrong {
        reader.report(At::FILE, message);
    }
    let providers = provider::providers(reader, &table, &egress);
    let (models, model_limits) = models(reader, &table, &providers);
    let is_model = |name: &str| {
        let direct = name.split_once('/').filter(|(_, model)| !model.is_empty());
        models.contains_key(name) || direct.is_some_and(|(head, _)| providers.contains_key(head))
    };
    let prompts = prompts::prompts(reader, &table, &is_model);
    let auth = auth::auth(reader, &table, &Permitted { models: &models, providers: &providers });
    Config {
        server: server(reader, &table),
        auth,
        models: models.into_iter().map(|(name, targets)| (name.to_owned(), targets)).collect(),
        model_limits,
        providers: providers
            .into_iter()
            .filter_map(|(name, provider)| Some((name.to_owned(), provider?)))
            .collect(),
        stream: stream(reader, &table),
        prompts,
        sources: Sources::default(),
        otlp: telemetry::otlp(reader, &table),
        egress,
        warnings: reader.warnings(),
    }
}

fn server(reader: &mut Reader<'_>, root: &Table<'_>) -> Server {
    let known = [
        "listen",
        "body_limit",
        "header_timeout",
        "idle_timeout",
        "drain",
        "cors",
        "tls",
        "trusted_proxies",
    ];
    let table = reader.section(root, "server", &known);
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
        idle_timeout: reader
            .field(&table, "idle_timeout", positive)
            .unwrap_or(default.idle_timeout),
        drain: reader.field(&table, "drain", (DURATION, units::duration)).unwrap_or(default.drain),
        cors_origins: origins(reader, &table),
        tls: tls::tls(reader, &table),
        trusted_proxies: proxies(reader, &table),
    }
}

fn proxies(reader: &mut Reader<'_>, server: &Table<'_>) -> Vec<IpNet> {
    let items = reader.list(server, "trusted_proxies").unwrap_or_default();
    let expected = "an address or a network such as `10.0.0.0/8`";
    let network =
        |text: &str| text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok();
    let read = |item| reader.parsed("trusted_proxies", item, (expected, network));
    items.iter().filter_map(read).collect()
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
        "connection_age",
        "first_token",
        "unstreamed",
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
    let first_token = positive("first_token", default.first_token);
    let stall = positive("stall", default.stall);
    Stream {
        heartbeat: positive("heartbeat", default.heartbeat),
        connect: positive("connect", default.connect),
        first_token,
        // Unless said, as long as a stream may take for its first output and one pause.
        unstreamed: positive("unstreamed", first_token + stall),
        stall,
        write_stall: positive("write_stall", default.write_stall),
        commit_after: reader
            .field(&table, "commit_after", (DURATION, units::duration))
            .unwrap_or(default.commit_after),
        connection_age: reader
            .field(
                &table,
                "connection_age",
                (POSITIVE_OR_NONE, units::or_none(units::positive_duration)),
            )
            .unwrap_or(default.connection_age),
        total: reader
            .field(&table, "total", (POSITIVE_OR_NONE, units::or_none(units::positive_duration)))
            .unwrap_or(default.total),
        max_event: reader
            .field(&table, "max_event", (SIZE, units::size))
            .unwrap_or(default.max_event),
    }
}

/// Models by name, and the limits of those that have any. A model whose targets are wrong is there
/// all the same, so that who refers to it is not told that it does not exist.
fn models<'n>(
    reader: &mut Reader<'_>,
    root: &Table<'n>,
    providers: &Providers<'_>,
) -> (BTreeMap<&'n str, Vec<Target>>, BTreeMap<String, Limits>) {
    let (mut models, mut limited) = (BTreeMap::new(), BTreeMap::new());
    for (name, node) in reader.entries(root, "models") {
        if !is_model(&name.text) {
            reader.report(name.at, "a model's name is not usable; expected visible characters");
        }
        let targets = reader.table(&name.text, node, &["targets", "limits"]).map(|table| {
            if table.get("limits").is_some() {
                limited.insert(name.text.clone(), limits(reader, &table, Limits::NONE));
            }
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
    (models, limited)
}

fn target(reader: &mut Reader<'_>, node: &Node, providers: &Providers<'_>) -> Option<Target> {
    let known = [&["provider", "model", "context"][..], &settings::OF_TARGET].concat();
    let table = reader.table("targets", node, &known)?;
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
    let context = reader.field(&table, "context", ("a number of tokens above zero", units::count));
    let provider = provider??;
    let quirks = settings::of_target(reader, &table, &provider.quirks);
    Some(Target { provider, model: model?, context, quirks })
}

/// Whether a name may be a model's: 1 to 256 visible ASCII characters, no segment `..`. Model names
/// appear in URLs, response headers, records and spans.
pub fn is_model(name: &str) -> bool {
    (1..=256).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic())
        && name.split('/').all(|segment| segment != "..")
}
