//! The configuration: validated values, which everything else may trust.
//!
//! Only this module reads the environment and the configuration's files. It never starts anything.

mod auth;
mod aws;
mod builtin;
mod client_tls;
mod credential;
mod egress;
mod error;
mod expand;
mod field;
mod json_schema;
mod jwt;
mod key;
mod known_models;
mod limits;
mod memory;
mod model;
mod notifier;
mod pattern;
mod preset;
mod prompts;
mod provider;
mod reader;
mod reference;
mod root;
pub mod secret;
mod server;
mod settings;
mod sources;
mod stream;
mod telemetry;
#[cfg(test)]
mod tests;
mod tls;
mod tree;
mod units;
mod watch;
mod watch_points;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use url::Url;

use crate::prompts::Prompts;
use crate::wire::dialect::{Dialect, Quirks};
use error::Location;
use expand::Source;
use reader::Reader;
use secret::Secret;

pub use auth::{Anonymous, Auth, FailedAttempts, Key};
pub use aws::Aws;
pub use builtin::without_file;
pub use client_tls::ClientTls;
pub use credential::CredentialSource;
pub use egress::{Egress, EgressProxy, General as GeneralEgress};
pub use error::{ConfigError, ConfigErrors};
pub use json_schema::{json_schema, prompt_json_schema};
pub use jwt::{ClaimNames, Issuer, IssuerKeys, key_serves};
pub use key::{digest, key_line, new_key};
pub use limits::{LimitError, Limits};
pub use model::is_model;
pub use pattern::matches as matches_pattern;
pub use reference::reference;
pub use sources::Sources;
pub use telemetry::Otlp;
pub use tls::Tls;
pub use units::positive_duration;
pub use watch::Watch;

/// The most bytes of a configuration file.
const MAX_FILE: u64 = 1 << 20;

/// Reads a variable of the environment. Everything else takes a function like this one, so that
/// tests need not change the environment.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Reads and validates a configuration file, or tells everything that is wrong with it.
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, ConfigErrors> {
    let (config, errors) = attempt(path, env);
    if errors.list.is_empty() { Ok(config) } else { Err(errors) }
}

/// Loads a configuration while another is in force. A prompt whose file is wrong stays as it is
/// there, and is told beside the rest; anything else that is wrong leaves all as it is.
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

/// What can be read of a configuration, and everything that is wrong with it.
fn attempt(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> (Config, ConfigErrors) {
    let mut sources = Sources::default();
    let mut errors = Vec::new();
    let read = read(path, &mut sources);
    let (config, list, sources) = match read.and_then(|text| tree::parse(&text, &mut errors)) {
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
        Location::FILE.error(format!("cannot be read ({error}); expected a text file"))
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
    /// The listening side.
    pub server: Server,
    /// Who may call.
    pub auth: Auth,
    /// Upstream accounts by name.
    pub providers: BTreeMap<String, Arc<Provider>>,
    /// Model names that callers use, and the ordered targets behind them.
    pub models: BTreeMap<String, Vec<Target>>,
    /// Patterns of model names, the most exact first; they count for names that are neither under `models` nor a
    /// provider's.
    pub patterns: Vec<ModelPattern>,
    /// The limits of those models and patterns that have any, for all callers together.
    pub model_limits: BTreeMap<String, Limits>,
    /// How streams are relayed.
    pub stream: Stream,
    /// Templates that requests may name.
    pub prompts: Prompts,
    /// What it was read from.
    pub sources: Sources,
    /// What is no mistake in the file, but will not work as it is.
    pub warnings: Vec<ConfigError>,
    /// Where traces go, if anywhere.
    pub otlp: Option<Otlp>,
    /// How what is not a provider is reached: issuers' keys, the collector of traces.
    pub egress: GeneralEgress,
}

/// The listening side.
#[derive(Debug, Clone)]
pub struct Server {
    /// Where callers connect.
    pub listen: SocketAddr,
    /// The most bytes of a request body.
    pub body_limit: usize,
    /// The bytes of memory that the process plans with; `gateway::memory` says how they are shared.
    pub memory: usize,
    /// How long a request's head, from its first byte, and each pause within its body may take.
    pub header_timeout: Duration,
    /// How long a connection may be without a request before it is closed.
    pub idle_timeout: Duration,
    /// How long the listener stays open after a shutdown signal while `/readyz` answers 503.
    pub shutdown_delay: Duration,
    /// How long streams may run on after that.
    pub drain: Duration,
    /// Where operators connect: metrics and health.
    pub admin: Option<SocketAddr>,
    /// Who may connect there; empty: everybody that reaches it.
    pub admin_networks: Vec<IpNet>,
    /// Whether `/metrics` is served where callers connect. `None`: to direct callers on loopback, as
    /// long as there is no [`admin`](Self::admin).
    pub public_metrics: Option<bool>,
    /// Origins whose pages may call (CORS); exact matches.
    pub cors_origins: Vec<HeaderValue>,
    /// How callers are spoken to; without it, in plain text.
    pub tls: Option<Tls>,
    /// Proxies whose word about where a request comes from is taken.
    pub trusted_proxies: Vec<IpNet>,
}

/// An upstream account.
#[derive(Clone)]
pub struct Provider {
    /// Its name.
    pub name: String,
    /// What it speaks.
    pub dialect: &'static dyn Dialect,
    /// Without a trailing slash, save that an empty path is written `/`.
    pub base_url: Url,
    /// The credential, if it needs one.
    pub api_key: Option<Secret>,
    /// Where its credential is configured.
    pub credential: CredentialSource,
    /// The header that carries the credential, where it is not the dialect's own
    /// (`api-key` for Azure): name, and what precedes the credential (`"Bearer "` or nothing).
    pub auth_header: Option<(HeaderName, String)>,
    /// What requests to it are signed with, where that is its credential.
    pub aws: Option<Aws>,
    /// Headers that every request to it carries.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Query parameters that every request to it carries.
    pub query: Vec<(String, String)>,
    /// Its deviations from the dialect.
    pub quirks: Arc<Quirks>,
    /// How it is reached.
    pub egress: Egress,
    /// Whether it is asked for its models, which lists then show.
    pub list_models: bool,
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

/// One attempt that may be made.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where.
    pub provider: Arc<Provider>,
    /// The model's name there.
    pub model: String,
    /// The most tokens of prompt and answer that the model takes, if the operator says.
    pub context: Option<u64>,
    /// The provider's deviations, with those of this target over them.
    pub quirks: Arc<Quirks>,
    name: Arc<str>,
}

impl Target {
    /// A model of a provider, with the provider's deviations.
    pub fn new(provider: Arc<Provider>, model: String) -> Self {
        let quirks = Arc::clone(&provider.quirks);
        let name = format!("{}/{model}", provider.name).into();
        Self { provider, model, context: None, quirks, name }
    }

    /// `provider/model`.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The same for another model of the provider.
    #[must_use]
    pub fn with_model(&self, model: String) -> Self {
        let renamed = Self::new(Arc::clone(&self.provider), model);
        Self { context: self.context, quirks: Arc::clone(&self.quirks), ..renamed }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// Models whose names match a pattern.
#[derive(Debug, Clone)]
pub struct ModelPattern {
    /// Each `*` stands for any run of characters.
    pub pattern: String,
    /// As those of a model; a `*` in a target's model stands for the name that is asked for.
    pub targets: Vec<Target>,
}

/// How streams are relayed.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    /// Silence towards the caller after which a heartbeat is written.
    pub heartbeat: Duration,
    /// How long the response head waits for the upstream's first output.
    pub commit_after: Duration,
    /// Connecting to an upstream, through its proxy if it has one.
    pub connect: Duration,
    /// For how long a connection to an upstream takes new requests. `None`: as long as it lasts.
    pub connection_age: Option<Duration>,
    /// From the request to the first model output, all attempts together.
    pub first_token: Duration,
    /// From the request to the whole answer, where neither side streams and nothing is translated:
    /// `first_token` and `stall` unless the file says.
    pub unstreamed: Duration,
    /// Between model outputs.
    pub stall: Duration,
    /// The whole answer.
    pub total: Option<Duration>,
    /// How long a caller may leave written bytes unread.
    pub write_stall: Duration,
    /// The most bytes of one upstream event.
    pub max_event: usize,
    /// The most bytes that are kept of one answer: `max_event` unless the file says.
    pub max_answer: usize,
}
