//! The `server` section: the listeners, their timeouts, and the bounds of a request. It must never open a socket.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::field::{Field, Format, Notation, Section};
use super::origins::{AllowedOrigin, Origins};
use super::reader::{Reader, Table};
use super::units::{ADDRESS, BOOLEAN, DURATION, NETWORK, POSITIVE_DURATION, SIZE, size};
use super::{Server, memory, tls};

const LISTEN: Field<SocketAddr> = ADDRESS
    .key("listen", "Address and port of the listener for callers.")
    .default("127.0.0.1:8080");
const BODY_LIMIT: Field<usize> =
    SIZE.key("body_limit", "The largest request body, after decompression.").default("32MiB");
const MEMORY: Field<usize> = Format::new(
    "size of at least 64 MiB",
    "a size such as `512MiB` or `2GiB`, 64 MiB at least",
    SIZE.scalar.notation,
    // Less would reject what a single request needs.
    |text| size(text).filter(|size| *size >= 64 << 20),
)
.key(
    "memory",
    "Memory that request bodies and buffered answers may use together (docs/operations.md, Memory).",
)
.otherwise("three quarters of the container's limit, or half of the machine's memory")
.example("2GiB");
const HEADER_TIMEOUT: Field<Duration> = POSITIVE_DURATION
    .key(
        "header_timeout",
        "Timeout for a TLS handshake, for the head of a request from its first byte, and for each pause within its body.",
    )
    .default("10s");
/// Longer than the idle timeouts of common load balancers (nginx, ALB: 60 s): the side that closes first
/// must be the one that sends the requests.
const IDLE_TIMEOUT: Field<Duration> = POSITIVE_DURATION
    .key(
        "idle_timeout",
        "Keep-alive timeout of a connection without a request; set it above the load balancer's own.",
    )
    .default("75s");
/// Long enough for a probe to see 503, and short enough at a terminal.
const SHUTDOWN_DELAY: Field<Duration> = DURATION
    .key(
        "shutdown_delay",
        "Time after a shutdown signal in which new connections are still served and `/readyz` returns 503.",
    )
    .default("1s");
const DRAIN: Field<Duration> = DURATION
    .key("drain", "Time that streams get to end after the shutdown delay, before they are cut.")
    .default("30s");
const ADMIN: Field<SocketAddr> = Format::new(
    ADDRESS.scalar.label,
    "an address and port such as `127.0.0.1:9090`, or `9090` (this machine only)",
    ADDRESS.scalar.notation,
    ADDRESS.parse,
)
.key(
    "admin",
    "Address and port of the operators' listener, which serves `/metrics`, `/healthz` and `/readyz`.",
)
    .otherwise("no operators' listener")
    .example("127.0.0.1:9090");
const ADMIN_NETWORKS: Field<IpNet> = NETWORK
    .list(
        "admin_networks",
        "Addresses and networks, besides loopback, that may connect to `admin`.",
    )
    .otherwise("everybody who can reach it")
    .example("[10.0.0.0/8]");
const PUBLIC_METRICS: Field<bool> = BOOLEAN
    .key("public_metrics", "Whether the callers' listener serves `/metrics`.")
    .otherwise("only without `admin`, and only to direct connections from loopback");
const ORIGINS: Field<AllowedOrigin> = Format::new(
    "origin",
    "an origin such as `https://chat.example.com` or `http://localhost:*`, without a path",
    Notation::Pattern("[a-z][a-z0-9+.-]*://[^/\\s]+"),
    AllowedOrigin::read,
)
.list(
    "origins",
    "Origins whose pages may call from a browser, compared exactly; `:*` at the end is any port.",
)
.otherwise("none")
.example("[\"https://chat.example.com\"]");
const CORS: Section =
    Section::table("cors", "Cross-origin requests of browsers (CORS).", &[ORIGINS.key]);
const CONSOLE: Field<bool> = BOOLEAN
    .key("console", "Whether the callers' listener serves the console, a page for browsers at `/`.")
    .default("true");
const TRUSTED_PROXIES: Field<IpNet> = NETWORK
    .list("trusted_proxies", "Proxies whose `x-forwarded-for` is trusted.")
    .otherwise("none")
    .example("[10.0.0.0/8]");

pub(super) const SERVER: Section = Section::table(
    "server",
    "The listeners, their timeouts, and the bounds of a request.",
    &[
        LISTEN.key,
        BODY_LIMIT.key,
        MEMORY.key,
        HEADER_TIMEOUT.key,
        IDLE_TIMEOUT.key,
        SHUTDOWN_DELAY.key,
        DRAIN.key,
        ADMIN.key,
        ADMIN_NETWORKS.key,
        PUBLIC_METRICS.key,
        CONSOLE.key,
        CORS.key,
        tls::TLS.key,
        TRUSTED_PROXIES.key,
    ],
);

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: LISTEN.default_value(),
            body_limit: BODY_LIMIT.default_value(),
            memory: memory::default(),
            header_timeout: HEADER_TIMEOUT.default_value(),
            idle_timeout: IDLE_TIMEOUT.default_value(),
            shutdown_delay: SHUTDOWN_DELAY.default_value(),
            drain: DRAIN.default_value(),
            admin: None,
            admin_networks: Vec::new(),
            public_metrics: None,
            console: CONSOLE.default_value(),
            cors_origins: Origins::default(),
            tls: None,
            trusted_proxies: Vec::new(),
        }
    }
}

/// Reads the section.
pub(super) fn server(reader: &mut Reader<'_>, root: &Table<'_>) -> Server {
    let table = reader.section(root, &SERVER);
    let listen = reader.value(&table, &LISTEN);
    let admin_networks = reader.values(&table, &ADMIN_NETWORKS).unwrap_or_default();
    let cors = reader.section(&table, &CORS);
    Server {
        listen,
        body_limit: reader.value(&table, &BODY_LIMIT),
        memory: reader.field(&table, &MEMORY).unwrap_or_else(memory::default),
        header_timeout: reader.value(&table, &HEADER_TIMEOUT),
        idle_timeout: reader.value(&table, &IDLE_TIMEOUT),
        shutdown_delay: reader.value(&table, &SHUTDOWN_DELAY),
        drain: reader.value(&table, &DRAIN),
        admin: admin(reader, &table, listen, !admin_networks.is_empty()),
        admin_networks,
        public_metrics: reader.field(&table, &PUBLIC_METRICS),
        console: reader.value(&table, &CONSOLE),
        cors_origins: Origins::new(reader.values(&cors, &ORIGINS).unwrap_or_default()),
        tls: tls::tls(reader, &table),
        trusted_proxies: reader.values(&table, &TRUSTED_PROXIES).unwrap_or_default(),
    }
}

/// The operators' address. `restricted`: the configuration lists the networks that may connect.
fn admin(
    reader: &mut Reader<'_>,
    server: &Table<'_>,
    listen: SocketAddr,
    restricted: bool,
) -> Option<SocketAddr> {
    let admin = reader.field(server, &ADMIN)?;
    let at = server.location(&ADMIN);
    if admin.port() == listen.port() && admin.port() != 0 {
        reader.report(
            at,
            format!("`admin` has the port of `listen`, {}; expected another port", listen.port()),
        );
    }
    if !admin.ip().is_loopback() && !restricted {
        let message = "`admin` asks for no credential and can be reached from other machines; name those \
                       that may connect in `admin_networks`, or listen on 127.0.0.1";
        reader.warn(at, message);
    }
    Some(admin)
}
