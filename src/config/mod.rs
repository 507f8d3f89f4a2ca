//! Configuration: YAML files and the environment to validated values.
//!
//! No other module reads the environment or these files. It must never start anything.

mod affinity;
mod auth;
mod aws;
mod builtin;
mod channel_rights;
mod channels;
mod check;
mod client_tls;
mod compression;
mod condition;
mod continuation;
mod credential;
mod durable;
mod egress;
mod error;
mod excerpt;
mod expand;
mod fallback;
mod field;
mod health;
mod hedge;
mod identity;
mod json_schema;
mod jwt;
mod key;
mod known_models;
mod limits;
mod memory;
mod mirror;
mod model;
mod model_target;
mod notifier;
mod origins;
mod pattern;
mod preset;
mod price;
mod prompts;
mod provider;
mod provider_key;
mod queue;
mod reader;
mod redis;
mod reference;
mod retry;
mod root;
mod routing;
pub mod secret;
mod server;
mod settings;
mod slow;
mod sources;
mod store;
mod stream;
mod streams;

mod telemetry;
#[cfg(test)]
mod tests;
mod tls;
mod tree;
mod units;
mod warnings;
mod watch;
mod watch_points;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use url::Url;

use crate::prompts::Prompts;
use crate::wire::continuation::Method;
use crate::wire::dialect::{Dialect, Quirks};
use error::Location;
use expand::Source;
use reader::Reader;
use secret::Secret;

pub use affinity::{Affinity, SessionSource};
pub use auth::{Anonymous, Auth, FailedAttempts, Key};
pub use aws::Aws;
pub use builtin::without_file;
pub use channel_rights::ChannelRightTemplates;
pub use channels::{ChannelSettings, Channels};
pub use check::Check;
pub use client_tls::ClientTls;
pub use compression::{StreamEncoding, StreamEncodings};
pub use condition::{Condition, RequestFacts};
pub use continuation::{Continue, Mark};
pub use credential::CredentialSource;
pub use egress::{Egress, EgressProxy, General as GeneralEgress};
pub use error::{ConfigError, ConfigErrors};
pub use excerpt::with_excerpts;
pub use fallback::Fallback;
pub use health::Health;
pub use hedge::{Hedge, HedgeAfter};
pub use identity::{CredentialDigest, Identity};
pub use json_schema::{json_schema, prompt_json_schema};
pub use jwt::{ClaimNames, Issuer, IssuerKeys, key_serves};
pub use key::{digest, key_line, new_key};
pub use limits::{LimitError, Limits};
pub use mirror::Mirror;
pub use model::is_model;
pub use model_target::Target;
pub use origins::Origins;
pub use pattern::matches as matches_pattern;
pub use preset::{is_preset, key_variable};
pub use queue::{Queue, QueueClass};
pub use redis::{Redis, RedisUrl};
pub use reference::reference;
pub use retry::Retry;
pub use routing::{ModelRouting, Pick};
pub use slow::{Slow, SlowAction};
pub use sources::Sources;
pub use store::Ledger;
pub use streams::{Archive, ModelStream, OnDisconnect, Streams};

pub use telemetry::Otlp;
pub use tls::Tls;
pub use units::{hex, listen_address, positive_duration};
pub use watch::Watch;

/// The most bytes of a configuration file.
const MAX_FILE: u64 = 1 << 20;

/// Reads an environment variable. Other functions take one like this as an argument, so that tests need not change the
/// environment.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Reads and validates a configuration file, or returns all errors of it.
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, ConfigErrors> {
    let (config, errors) = attempt(path, env);
    if errors.list.is_empty() { Ok(config) } else { Err(errors) }
}

/// Loads a configuration while another is running. A prompt file with errors is returned as they are, and its prompt is
/// kept from the running configuration; any other error rejects the whole configuration.
pub fn reload(
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    running: &Config,
) -> Result<(Config, Option<ConfigErrors>), ConfigErrors> {
    let (mut config, errors) = attempt(path, env);
    if errors.list.iter().any(|error| error.file.is_none()) {
        return Err(errors);
    }
    for file in errors.list.iter().filter_map(|error| error.file.as_deref()) {
        config.prompts.keep(&running.prompts, file);
    }
    Ok((config, Some(errors).filter(|errors| !errors.list.is_empty())))
}

/// The readable part of a configuration, and all errors of it.
fn attempt(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> (Config, ConfigErrors) {
    let mut sources = Sources::default();
    let mut errors = Vec::new();
    let read = read(path, &mut sources);
    let parsed = read.and_then(|text| tree::parse(&text, &mut errors)).and_then(reader::own);
    let (config, list, sources) = match parsed {
        Ok(root) => {
            let dir = path.parent().unwrap_or_else(|| Path::new(""));
            let mut reader = Reader::new(Source { env, dir, literal: false, sources }, errors);
            let config = root::config(&mut reader, &root);
            let (list, sources) = reader.finish();
            (config, list, sources)
        }
        Err(error) => (Config::default(), vec![error], sources),
    };
    let config = Config { sources: sources.clone(), ..config };
    (config, ConfigErrors { path: path.to_owned(), list, sources })
}

fn read(path: &Path, sources: &mut Sources) -> Result<String, ConfigError> {
    let bytes = sources.read(path, MAX_FILE).map_err(|error| {
        Location::FILE.error(match error.kind() {
            ErrorKind::NotFound => "there is no such file".to_owned(),
            ErrorKind::IsADirectory => "is a directory; expected a text file".to_owned(),
            _ => format!("cannot be read ({error}); expected a text file"),
        })
    })?;
    let bytes = bytes.ok_or_else(|| Location::FILE.error("too large; expected at most 1 MiB"))?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
        let line = valid.filter(|byte| **byte == b'\n').count() + 1;
        Location { line, column: 1 }.error("this line is not UTF-8; expected a text file in UTF-8")
    })
}

/// A whole, valid configuration.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The listeners.
    pub server: Server,
    /// Authentication of callers.
    pub auth: Auth,
    /// Upstream accounts by name.
    pub providers: BTreeMap<String, Arc<Provider>>,
    /// Model names that callers use, and the ordered targets behind them.
    pub models: BTreeMap<String, Arc<[Target]>>,
    /// Patterns of model names, the most exact first, for names that are neither under `models` nor a provider's.
    pub patterns: Vec<ModelPattern>,
    /// The limits of those models and patterns that have any, for all callers together.
    pub model_limits: BTreeMap<String, Limits>,
    /// Durable streams of those models and patterns that set anything.
    pub model_streams: BTreeMap<String, ModelStream>,
    /// The choice among the targets of those models and patterns that set anything.
    pub model_routing: BTreeMap<String, ModelRouting>,
    /// Fallbacks after errors that callers cause, of those models and patterns that have any.
    pub fallbacks: BTreeMap<String, Arc<Fallback>>,
    /// The mirrored requests of models that have some, by name or pattern.
    pub mirrors: BTreeMap<String, Arc<Mirror>>,
    /// The policies of models whose answers are continued when they break off, by name or pattern.
    pub on_break: BTreeMap<String, Arc<Continue>>,
    /// Heartbeats, timeouts and size limits of answers.
    pub stream: Stream,
    /// Durable streams.
    pub streams: Streams,
    /// The archive on disk, if there is to be one.
    pub archive: Option<Archive>,
    /// Channels: limits, and the history of each.
    pub channels: Channels,
    /// The Durable Streams protocol.
    pub durable: Durable,
    /// The server that several nodes share, if there are several.
    pub redis: Option<Redis>,
    /// The usage ledger, if there is to be one.
    pub ledger: Option<Ledger>,
    /// Prompts that requests may name.
    pub prompts: Prompts,
    /// The files that it was read from.
    pub sources: Sources,
    /// Warnings: the file is valid, but probably not as meant.
    pub warnings: Vec<ConfigError>,
    /// Export of traces, if a collector is configured.
    pub otlp: Option<Otlp>,
    /// Egress to addresses that are not a provider's: issuers' key sets, the collector of traces.
    pub egress: GeneralEgress,
}

/// The listeners, their timeouts, and the bounds of a request.
#[derive(Debug, Clone)]
pub struct Server {
    /// Address of the listener for callers.
    pub listen: SocketAddr,
    /// The most bytes of a request body.
    pub body_limit: usize,
    /// The bytes of memory that request bodies and buffered answers may use (`memory`).
    pub memory: usize,
    /// Timeout for a TLS handshake, a request's head from its first byte, and each pause within its body.
    pub header_timeout: Duration,
    /// Keep-alive timeout of a connection without a request.
    pub idle_timeout: Duration,
    /// Time after a shutdown signal in which the listener stays open and `/readyz` returns 503.
    pub shutdown_delay: Duration,
    /// Time that streams get to end after that.
    pub drain: Duration,
    /// Address of the operators' listener: metrics and health.
    pub admin: Option<SocketAddr>,
    /// Networks that may connect to it besides loopback; empty: any.
    pub admin_networks: Vec<IpNet>,
    /// Whether the callers' listener serves `/metrics`. `None`: only to direct connections from loopback, and only without
    /// an [`admin`](Self::admin) address.
    pub public_metrics: Option<bool>,
    /// Whether the callers' listener serves the console.
    pub console: bool,
    /// Allowed origins (CORS).
    pub cors_origins: Origins,
    /// TLS towards callers; without it, plain HTTP.
    pub tls: Option<Tls>,
    /// Proxies whose `x-forwarded-for` is trusted.
    pub trusted_proxies: Vec<IpNet>,
}

/// An upstream account.
#[derive(Clone)]
pub struct Provider {
    /// Its name under `providers`.
    pub name: String,
    /// The dialect of its API.
    pub dialect: &'static dyn Dialect,
    /// Without a trailing slash, save that an empty path is written `/`.
    pub base_url: Url,
    /// The credential, if it needs one.
    pub api_key: Option<Secret>,
    /// The location of its credential in the configuration.
    pub credential: CredentialSource,
    /// The header that carries the credential, where it is not the dialect's own
    /// (`api-key` for Azure): name, and what precedes the credential (`"Bearer "` or nothing).
    pub auth_header: Option<(HeaderName, String)>,
    /// Credentials for signed requests, in the place of `api_key`.
    pub aws: Option<Aws>,
    /// Headers that every request to it carries.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Query parameters that every request to it carries.
    pub query: Vec<(String, String)>,
    /// Its deviations from the dialect.
    pub quirks: Arc<Quirks>,
    /// Its proxy and TLS.
    pub egress: Egress,
    /// Whether its models are fetched, for lists of models.
    pub list_models: bool,
    /// The ways in which its models continue a text, by patterns of their names.
    pub continuation: Vec<(String, Method)>,
    /// Its name in the price catalog.
    pub price_catalog: Option<String>,
    /// The thresholds and times of circuit breakers.
    pub health: Health,
    /// The checks of its ejected targets, if there are to be any.
    pub check: Option<Check>,
    /// The name of its key, if it has several.
    pub key: Option<Arc<str>>,
    /// The share of the requests that its key gets among the provider's keys.
    pub weight: NonZeroU32,
    /// The most answers that its key has in progress at once.
    pub max_streams: Option<usize>,
    /// The same provider with each of its other keys.
    pub others: Vec<Arc<Self>>,
    /// The identity of its address and credential.
    pub account: Identity,
}

impl Provider {
    /// The provider with each of its keys.
    pub fn keyed(self: &Arc<Self>) -> impl Iterator<Item = &Arc<Self>> {
        std::iter::once(self).chain(&self.others)
    }
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Headers and query parameters may hold credentials.
        f.debug_struct("Provider")
            .field("name", &self.name)
            .field("dialect", &self.dialect.name())
            .field("base_url", &self.base_url.as_str())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Models whose names match a pattern.
#[derive(Debug, Clone)]
pub struct ModelPattern {
    /// Each `*` stands for any run of characters.
    pub pattern: String,
    /// Its targets; a `*` in a target's model stands for the requested name.
    pub targets: Vec<Target>,
}

/// Heartbeats, timeouts and size limits of answers.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    /// Silence towards the caller after which a heartbeat is sent.
    pub heartbeat: Duration,
    /// Time that the response head waits for the first output.
    pub commit_after: Duration,
    /// Timeout for connecting to an upstream, through its proxy if it has one.
    pub connect: Duration,
    /// Time for which an upstream connection takes new requests. `None`: as long as it lasts.
    pub connection_age: Option<Duration>,
    /// Timeout from the request to the first output, over all attempts.
    pub first_token: Duration,
    /// Timeout from the request to the whole answer, where it is neither streamed nor translated.
    pub unstreamed: Duration,
    /// Timeout between two outputs of an upstream.
    pub stall: Duration,
    /// Timeout for the whole answer.
    pub total: Option<Duration>,
    /// Time for which a caller may leave sent bytes unread.
    pub write_stall: Duration,
    /// The most bytes of one upstream event.
    pub max_event: usize,
    /// The most bytes that are buffered of one answer.
    pub max_answer: usize,
}

/// Bounds and times of the Durable Streams protocol.
#[derive(Debug, Clone, Copy)]
pub struct Durable {
    /// Whether it is served.
    pub enabled: bool,
    /// The bytes that all streams may take together.
    pub memory: usize,
    /// The bytes that one stream may take.
    pub stream_size: usize,
    /// The streams that one caller may have at once.
    pub streams: usize,
    /// The live reads that one caller may have open at once.
    pub live_reads: usize,
    /// Time without reads and appends after which a stream without an expiry of its own is deleted.
    pub ttl: Option<Duration>,
    /// Time for which a long poll waits for an append.
    pub long_poll: Duration,
    /// Time after which an event stream is closed.
    pub connection_age: Duration,
}
