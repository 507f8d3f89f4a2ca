//! The `redis` section: the server that several nodes share. No message, log line or `Debug` may show its credentials.

use std::fmt;
use std::time::Duration;

use super::field::{Field, Format, Notation, Section};
use super::reader::{Reader, Table};
use super::secret::Secret;
use super::tls::pem;
use super::tree::Value;
use super::units::{BOOLEAN, CREDENTIAL, POSITIVE_DURATION, TEXT};

const URLS: Field<RedisUrl> = Format::new(
    "`redis://host:port` or, with TLS, `rediss://host:port`",
    "an address such as `redis://127.0.0.1:6379`, or with TLS `rediss://redis.example.com:6379`; credentials \
     go to `username` and `password`",
    Notation::Pattern("rediss?://[^@]+"),
    RedisUrl::parse,
)
.one_or_list("url", "The server's address, or those of some nodes of a cluster.")
.required();
const CLUSTER: Field<bool> =
    BOOLEAN.key("cluster", "Whether the server is a Redis Cluster.").default("false");
const USERNAME: Field<String> =
    TEXT.key("username", "The user (ACL).").otherwise("the default user").example("streamgate");
const PASSWORD: Field<Secret> =
    CREDENTIAL.key("password", "The password.").otherwise("none").example("${REDIS_PASSWORD}");
const PREFIX: Field<String> = Format::new(
    "text of 1 to 64 letters, digits and `._:-`",
    "1 to 64 letters, digits and `._:-`",
    Notation::Pattern("[A-Za-z0-9._:-]{1,64}"),
    |text| is_prefix(text).then(|| text.to_owned()),
)
.key("prefix", "The prefix of all keys and channels; nodes with the same one share their streams.")
.default("streamgate:");
const CA: Field<String> = TEXT
    .key(
        "ca",
        "The certificate authority of its TLS certificate, as PEM: a path relative to this file, or the text by `${...}`.",
    )
    .otherwise("the system's authorities")
    .example("redis-ca.pem");
const LEASE: Field<Duration> = POSITIVE_DURATION
    .key(
        "lease",
        "Time after which the running streams of a node that no longer renews its lease are lost.",
    )
    .default("10s");
const TIMEOUT: Field<Duration> = POSITIVE_DURATION
    .key("timeout", "Timeout of a command; without a response, this node goes on alone.")
    .default("1s");

pub(super) const REDIS: Section = Section::table(
    "redis",
    "Redis or Valkey, by which several nodes share streams, stored responses, channels and hints of target health (docs/several-nodes.md).",
    &[
        URLS.key,
        CLUSTER.key,
        USERNAME.key,
        PASSWORD.key,
        PREFIX.key,
        CA.key,
        LEASE.key,
        TIMEOUT.key,
    ],
)
.otherwise("each node has its own");

/// The server that several nodes share.
#[derive(Clone, PartialEq, Eq)]
pub struct Redis {
    /// One or more addresses.
    pub urls: Vec<RedisUrl>,
    /// Whether it is a Redis Cluster.
    pub cluster: bool,
    /// `None`: the default user.
    pub username: Option<String>,
    /// The password, if it needs one.
    pub password: Option<Secret>,
    /// The prefix of all keys and channels.
    pub prefix: String,
    /// Its certificate authority as PEM. `None`: the system's.
    pub ca: Option<String>,
    /// The time that an owner of streams may be silent.
    pub lease: Duration,
    /// Timeout of a command.
    pub timeout: Duration,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("urls", &self.urls).finish_non_exhaustive()
    }
}

/// The address of a server, without credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// Its host name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether it is spoken to over TLS.
    pub tls: bool,
}

impl RedisUrl {
    fn parse(text: &str) -> Option<Self> {
        let (tls, rest) = match text.split_once("://")? {
            ("redis", rest) => (false, rest),
            ("rediss", rest) => (true, rest),
            _ => return None,
        };
        // As an HTTP URL, so that hosts and ports are read as everywhere else.
        let url = url::Url::parse(&format!("http://{rest}")).ok()?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if !bare || !url.username().is_empty() || url.password().is_some() {
            return None;
        }
        let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
        // The port that `http` leaves out is never meant.
        let port = if rest.trim_end_matches('/').ends_with(":80") {
            80
        } else {
            url.port().unwrap_or(6379)
        };
        Some(Self { host, port, tls })
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "rediss" } else { "redis" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

fn is_prefix(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
}

/// Reads the section. `None`: it is left out.
pub(super) fn redis(reader: &mut Reader<'_>, root: &Table<'_>) -> Option<Redis> {
    root.get(&REDIS)?;
    let table = reader.section(root, &REDIS);
    reader.require(&table, &URLS, &URLS.format.scalar.expected());
    let cluster = reader.value(&table, &CLUSTER);
    Some(Redis {
        urls: urls(reader, &table, cluster),
        cluster,
        username: reader.field(&table, &USERNAME),
        password: reader.field(&table, &PASSWORD),
        prefix: reader.value(&table, &PREFIX),
        ca: table.get(&CA).and_then(|node| pem(reader, CA.name, node)),
        lease: reader.value(&table, &LEASE),
        timeout: reader.value(&table, &TIMEOUT),
    })
}

fn urls(reader: &mut Reader<'_>, table: &Table<'_>, cluster: bool) -> Vec<RedisUrl> {
    let Some(node) = table.get(&URLS) else { return Vec::new() };
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    match items.len() {
        0 => reader.report(node.at, "`url` is empty; expected an address"),
        1 => {}
        _ if cluster => {}
        _ => {
            let several = "`url` has several addresses, which only a cluster has";
            reader.report(node.at, format!("{several}; write one, or `cluster: true`"));
        }
    }
    let read = |item| reader.scalar(URLS.name, item, &URLS.format);
    items.iter().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port_without_credentials() {
        let url = |host: &str, port, tls| Some(RedisUrl { host: host.to_owned(), port, tls });
        for (text, expected) in [
            ("redis://127.0.0.1:6379", url("127.0.0.1", 6379, false)),
            ("redis://cache.internal", url("cache.internal", 6379, false)),
            ("rediss://cache.internal/", url("cache.internal", 6379, true)),
            ("redis://[::1]:7000", url("::1", 7000, false)),
            ("redis://h:80", url("h", 80, false)),
            ("redis://user:word@h", None),
            ("redis://h/1", None),
            ("redis://h?x=1", None),
            ("redis://", None),
            ("http://h", None),
            ("h:6379", None),
            ("redis://h:99999", None),
        ] {
            assert_eq!(RedisUrl::parse(text), expected, "{text}");
        }
        assert_eq!(url("h", 1, true).unwrap().to_string(), "rediss://h:1");
    }
}
