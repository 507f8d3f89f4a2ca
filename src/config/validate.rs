//! From the tree to a [`Config`]: one line for each field. A field that is wrong is reported and
//! takes its default, so that everything else is still looked at.

use std::net::SocketAddr;
use std::time::Duration;

use http::HeaderValue;
use ipnet::IpNet;
use url::Url;

use super::auth::{self, KnownModels};
use super::egress::General;
use super::error::Location;
use super::prompts;
use super::provider;
use super::raw::{Reader, Table};
use super::tree::{Node, Value};
use super::{Config, Server, Sources, Stream, model, telemetry, tls, units};

const DURATION: &str = "a duration such as `500ms`, `15s`, `2m` or `1h`";
const POSITIVE: &str = "a duration above zero such as `500ms`, `15s`, `2m` or `1h`";
const POSITIVE_OR_NONE: &str = "a duration above zero such as `15s`, `2m` or `1h`, or `none`";
const SIZE: &str = "a size above zero such as `32MiB`, `64KB` or plain bytes";

/// Reads the whole file.
pub(super) fn config(reader: &mut Reader<'_>, root: &Node) -> Config {
    let known =
        ["server", "auth", "limits", "providers", "models", "stream", "prompts", "telemetry"];
    let empty = Node { at: root.at, value: Value::Table(Vec::new()) };
    let root = if matches!(root.value, Value::Null) { &empty } else { root };
    // Nothing more can be said of a file that is no table.
    let Some(table) = reader.table("the file", root, &known) else {
        return Config::default();
    };
    let (egress, wrong) = General::read(reader.source.env);
    for message in wrong {
        reader.report(Location::FILE, message);
    }
    let providers = provider::providers(reader, &table, &egress);
    let mut models = model::models(reader, &table, &providers);
    let is_model = |name: &str| {
        let direct = name.split_once('/').filter(|(_, model)| !model.is_empty());
        models.has(name) || direct.is_some_and(|(head, _)| providers.contains_key(head))
    };
    let prompts = prompts::prompts(reader, &table, &is_model);
    let auth =
        auth::auth(reader, &table, &KnownModels { models: &models.targets, providers: &providers });
    let model_limits = std::mem::take(&mut models.limits);
    let (models, patterns) = models.into_parts();
    Config {
        server: server(reader, &table),
        auth,
        models,
        patterns,
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
        "memory",
        "header_timeout",
        "idle_timeout",
        "shutdown_delay",
        "drain",
        "admin",
        "admin_networks",
        "public_metrics",
        "cors",
        "tls",
        "trusted_proxies",
    ];
    let table = reader.section(root, "server", &known);
    let default = Server::default();
    let address = ("an address and port such as `127.0.0.1:8080`", |text: &str| text.parse().ok());
    let positive = (POSITIVE, units::positive_duration);
    let listen = reader.field(&table, "listen", address).unwrap_or(default.listen);
    let admin_networks = networks(reader, &table, "admin_networks");
    Server {
        listen,
        admin: admin(reader, &table, listen, !admin_networks.is_empty()),
        admin_networks,
        public_metrics: reader.field(
            &table,
            "public_metrics",
            ("`true` or `false`", units::boolean),
        ),
        shutdown_delay: reader
            .field(&table, "shutdown_delay", (DURATION, units::duration))
            .unwrap_or(default.shutdown_delay),
        body_limit: reader
            .field(&table, "body_limit", (SIZE, units::size))
            .unwrap_or(default.body_limit),
        memory: reader
            .field(&table, "memory", ("a size such as `512MiB` or `2GiB`, 64 MiB at least", memory))
            .unwrap_or(default.memory),
        header_timeout: reader
            .field(&table, "header_timeout", positive)
            .unwrap_or(default.header_timeout),
        idle_timeout: reader
            .field(&table, "idle_timeout", positive)
            .unwrap_or(default.idle_timeout),
        drain: reader.field(&table, "drain", (DURATION, units::duration)).unwrap_or(default.drain),
        cors_origins: origins(reader, &table),
        tls: tls::tls(reader, &table),
        trusted_proxies: networks(reader, &table, "trusted_proxies"),
    }
}

/// The operators' address. `bounded`: the configuration says who may connect.
fn admin(
    reader: &mut Reader<'_>,
    server: &Table<'_>,
    listen: SocketAddr,
    bounded: bool,
) -> Option<SocketAddr> {
    let address = ("an address and port such as `127.0.0.1:9090`", |text: &str| text.parse().ok());
    let admin: SocketAddr = reader.field(server, "admin", address)?;
    let at = server.get("admin").map_or(server.at, |node| node.at);
    if admin.port() == listen.port() && admin.port() != 0 {
        reader.report(
            at,
            format!("`admin` has the port of `listen`, {}; expected another port", listen.port()),
        );
    }
    if !admin.ip().is_loopback() && !bounded {
        let message = "`admin` asks for no credential and can be reached from other machines; name those \
                       that may connect in `admin_networks`, or listen on 127.0.0.1";
        reader.warn(at, message);
    }
    Some(admin)
}

/// Less would refuse what a single request needs.
fn memory(text: &str) -> Option<usize> {
    units::size(text).filter(|size| *size >= 64 << 20)
}

fn networks(reader: &mut Reader<'_>, server: &Table<'_>, key: &str) -> Vec<IpNet> {
    let items = reader.list(server, key).unwrap_or_default();
    let network = (units::NETWORK, units::network);
    let read = |item| reader.parsed(key, item, network);
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
        "max_answer",
    ];
    let table = reader.section(root, "stream", &known);
    let default = Stream::default();
    let mut size = |key: &str| reader.field(&table, key, (SIZE, units::size));
    let max_event = size("max_event").unwrap_or(default.max_event);
    let max_answer = size("max_answer").unwrap_or(max_event);
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
        max_event,
        max_answer,
    }
}
