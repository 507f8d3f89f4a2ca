//! Warnings about values that are valid each by itself and cannot work as they stand. Pure. It must never reject a
//! configuration, nor show a value that may hold a credential.

use std::time::Duration;

use url::{Host, Url};

use super::error::{ConfigError, Location};
use super::tree::{Node, Value};
use super::{Config, Pick, Provider, Stream, Target, preset};
use crate::wire::dialect::{self, CallerDialect, Endpoint, Form};

/// A smaller limit of bytes is a number whose unit was forgotten.
const MIN_LIMIT: usize = 1024;

/// The ends of host names that are not on the internet.
const PRIVATE_DOMAINS: [&str; 7] =
    ["localhost", "local", "internal", "lan", "svc", "test", "home.arpa"];

/// The warnings about a file, in the order of its lines.
pub(super) fn warnings(root: &Node, config: &Config) -> Vec<ConfigError> {
    let mut found = Warnings { root, list: Vec::new() };
    found.sizes(config);
    found.times(&config.stream);
    if config.providers.is_empty() && !found.serves_channels() {
        let message = "there are no `providers`, so that no request for a model is served; add one, such as \
                       `providers: { openai: { preset: openai, api_key: \"${OPENAI_API_KEY}\" } }`";
        found.list.push(found.at(&["providers"]).error(message));
    }
    for provider in config.providers.values() {
        found.address(provider);
        found.credential(provider);
    }
    let patterns = config.patterns.iter().map(|model| (&model.pattern, &*model.targets));
    let named = config.models.iter().map(|(name, targets)| (name, &**targets));
    for (name, targets) in named.chain(patterns) {
        found.routing(config, name, targets);
    }
    found.classes(config);
    found.list.sort_by_key(|warning| (warning.line, warning.column));
    found.list
}

struct Warnings<'n> {
    root: &'n Node,
    list: Vec<ConfigError>,
}

impl Warnings<'_> {
    /// The node at a path of keys.
    fn node(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self.root, |node, name| match &node.value {
            Value::Table(entries) => {
                entries.iter().find(|(key, _)| key.text == *name).map(|(_, node)| node)
            }
            _ => None,
        })
    }

    /// The location of the last key of a path that is there.
    fn at(&self, path: &[&str]) -> Location {
        let lengths = (1..=path.len()).rev();
        let mut nodes = lengths.filter_map(|length| self.node(path.get(..length)?));
        nodes.next().map_or(Location::FILE, |node| node.at)
    }

    fn has(&self, path: &[&str]) -> bool {
        self.node(path).is_some()
    }

    fn warn(&mut self, path: &[&str], message: String) {
        let warning = self.at(path).error(message);
        self.list.push(warning);
    }

    /// Whether it is of use without a provider.
    fn serves_channels(&self) -> bool {
        ["channels", "durable", "redis"].iter().any(|name| self.has(&[name]))
    }

    fn sizes(&mut self, config: &Config) {
        for (section, key, bytes) in [
            ("server", "body_limit", config.server.body_limit),
            ("stream", "max_event", config.stream.max_event),
            ("stream", "max_answer", config.stream.max_answer),
        ] {
            if bytes < MIN_LIMIT && self.has(&[section, key]) {
                let message = format!(
                    "`{key}` is {bytes} bytes, which hardly anything fits into; give a unit: `{bytes}MiB`"
                );
                self.warn(&[section, key], message);
            }
        }
    }

    /// Timeouts of which one makes another useless. Of the defaults, none does.
    fn times(&mut self, stream: &Stream) {
        let Stream { heartbeat, stall, first_token, connect, unstreamed, total, .. } = *stream;
        let pairs = [
            (
                ("stall", stall),
                ("heartbeat", heartbeat),
                "a silent stream ends before a heartbeat is due",
            ),
            (
                ("first_token", first_token),
                ("connect", connect),
                "an attempt ends before its connection may have failed",
            ),
            (
                ("unstreamed", unstreamed),
                ("first_token", first_token),
                "a whole answer has less time than the first token of a stream",
            ),
            (
                ("total", total.unwrap_or(Duration::MAX)),
                ("first_token", first_token),
                "an answer ends before its first token may have come",
            ),
        ];
        for ((low, lower), (high, higher), meaning) in pairs {
            let mut stated = [high, low].into_iter().filter(|key| self.has(&["stream", key]));
            if let Some(key) = stated.next().filter(|_| lower < higher) {
                let message = format!(
                    "`{low}` ({}) is below `{high}` ({}): {meaning}; raise `{low}` or lower `{high}`",
                    shown(lower),
                    shown(higher)
                );
                self.warn(&["stream", key], message);
            }
        }
    }

    /// Classes of callers that no queue has.
    fn classes(&mut self, config: &Config) {
        let queues = || config.model_routing.values().filter_map(|routing| routing.queue.as_ref());
        let known = |name: &str| queues().any(|queue| queue.class_named(name).is_some());
        let keys = config.auth.keys.iter().filter_map(|key| key.class.as_deref());
        let issuers = config.auth.issuers.iter().filter_map(|issuer| issuer.class.as_deref());
        let anonymous = config.auth.anonymous.iter().filter_map(|it| it.class.as_deref());
        let lists = [
            ("keys", keys.collect()),
            ("jwt", issuers.collect()),
            ("anonymous", anonymous.collect()),
        ];
        for (list, classes) in lists {
            let classes: Vec<&str> = classes;
            if let Some(name) = classes.into_iter().find(|name| !known(name)) {
                let message = format!(
                    "`class` is `{name}`, which no model's `queue` has; name it in `classes` of a queue, or leave it out"
                );
                self.warn(&["auth", list], message);
            }
        }
    }

    /// A policy that has nothing to choose from, or not what it decides by, and attempts that end before their deadline.
    fn routing(&mut self, config: &Config, name: &str, targets: &[Target]) {
        let pick = config.model_routing.get(name).map_or(Pick::Order, |routing| routing.pick);
        let mut pairs = targets.windows(2);
        let alone = !pairs.any(|pair| matches!(pair, [a, b] if a.tier == b.tier));
        if pick != Pick::Order && alone && !targets.is_empty() {
            let message = "`pick` has no choice, since each tier has one target; leave it out, or give several targets the same `tier`";
            self.warn(&["models", name, "pick"], message.to_owned());
        }
        let unpriced = targets.iter().filter(|target| target.price.is_none());
        let mut unpriced: Vec<&str> = unpriced.map(|target| &**target.name()).collect();
        unpriced.dedup();
        if pick == Pick::Cheapest && !unpriced.is_empty() {
            let message = format!(
                "`cheapest` knows no price of {}, which gets requests only when no other target can serve; give it a `price`",
                unpriced.join(", ")
            );
            self.warn(&["models", name, "pick"], message);
        }
        let hedged = config.model_routing.get(name).is_some_and(|routing| routing.hedge.is_some());
        let mut hosts = targets.iter().map(|target| target.provider.base_url.authority());
        let first = hosts.next();
        if hedged && hosts.all(|host| Some(host) == first) {
            let message = "`hedge` does nothing, since all targets are at one host; add a target at another one, or leave it out";
            self.warn(&["models", name, "hedge"], message.to_owned());
        }
        let deadline = config.stream.first_token;
        let queue = config.model_routing.get(name).and_then(|routing| routing.queue.as_ref());
        if let Some(queue) = queue.filter(|queue| queue.wait >= deadline) {
            let message = format!(
                "`wait` ({}) leaves no time for an attempt, since `stream.first_token` ({}) bounds both together; lower it, or raise that",
                shown(queue.wait),
                shown(deadline)
            );
            self.warn(&["models", name, "queue", "wait"], message);
        }
        let late = targets.iter().find(|target| target.first_token > Some(deadline));
        if let Some(late) = late {
            let message = format!(
                "`first_token` of {} ({}) is above `stream.first_token` ({}), which bounds all attempts together; lower it, or raise that",
                late.name(),
                shown(late.first_token.unwrap_or_default()),
                shown(deadline)
            );
            self.warn(&["models", name, "targets"], message);
        }
    }

    /// A base URL to which the paths of requests do not fit.
    fn address(&mut self, provider: &Provider) {
        let key = ["providers", provider.name.as_str(), "base_url"];
        if !self.has(&key) {
            return;
        }
        if let Some(end) = repeated(provider) {
            self.warn(
                &key,
                format!(
                    "`base_url` ends in `{end}`, which requests add by themselves; leave it out"
                ),
            );
        } else if let Some(version) = missing(provider) {
            let message = format!(
                "`base_url` has no path, and upstreams of this dialect expect requests below `{version}` as a rule; \
                 add it, unless this one does not"
            );
            self.warn(&key, message);
        }
    }

    fn credential(&mut self, provider: &Provider) {
        let Provider { name, api_key, aws, headers, query, base_url, .. } = provider;
        let name = name.as_str();
        let preset = ["providers", name, "preset"];
        let variable = match self.node(&preset).map(|node| &node.value) {
            Some(Value::Text(name)) => preset::key_variable(name),
            _ => None,
        };
        let own = self.has(&["providers", name, "base_url"]);
        let none = api_key.is_none() && aws.is_none() && headers.is_empty() && query.is_empty();
        if let Some(variable) = variable.filter(|_| none && !own) {
            let message = format!(
                "`{name}` has no credential, and this vendor answers nobody without; add `api_key: \"${{{variable}}}\"`"
            );
            self.warn(&preset, message);
        }
        if api_key.is_some() && base_url.scheme() == "http" && is_public(base_url) {
            let message = format!(
                "the `api_key` of `{name}` is sent over plain HTTP to another network; expected `https://`"
            );
            self.warn(&["providers", name, "base_url"], message);
        }
    }
}

/// The end of a base URL's path that is the beginning of the paths of requests, or the path of an endpoint.
fn repeated(provider: &Provider) -> Option<String> {
    let base = provider.base_url.path();
    let target =
        dialect::Target { model: "m", stream: true, form: Form::Chat, quirks: &provider.quirks };
    let path = provider.dialect.path(&target);
    let path = path.split_once('?').map_or(path.as_str(), |(path, _)| path);
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]).skip(1);
    let own = ends.filter_map(|end| path.get(..end)).map(str::to_owned);
    let endpoints = dialect::caller_dialects().flat_map(CallerDialect::endpoints);
    let known = endpoints.map(Endpoint::prefix).filter_map(unversioned).map(str::to_owned);
    own.chain(known).filter(|end| base.ends_with(end.as_str())).max_by_key(String::len)
}

/// A path without its first segment and the slash at its end: `/chat/completions`.
fn unversioned(path: &str) -> Option<&str> {
    let tail = path.match_indices('/').nth(1).map(|(at, _)| path.split_at(at).1)?;
    Some(tail.trim_end_matches('/')).filter(|tail| !tail.is_empty())
}

/// The path of the vendor's own address, where a base URL has none. Presets show that some upstreams have none.
fn missing(provider: &Provider) -> Option<String> {
    let vendor = Url::parse(provider.dialect.default_base_url()).ok()?;
    let host = |url: &Url| (url.host_str().map(str::to_owned), url.port_or_known_default());
    let same = |url: &Url| url.path() == "/" && host(url) == host(&provider.base_url);
    let known = preset::addresses().filter_map(|it| Url::parse(it).ok()).any(|url| same(&url));
    let bare = provider.base_url.path() == "/" && vendor.path() != "/";
    (bare && !known && provider.quirks.hosting.is_none()).then(|| vendor.path().to_owned())
}

/// Whether an address is on the internet, as far as its spelling shows.
fn is_public(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let private = |domain: &&str| {
                name == *domain || name.strip_suffix(*domain).is_some_and(|it| it.ends_with('.'))
            };
            name.contains('.') && !PRIVATE_DOMAINS.iter().any(private)
        }
        Some(Host::Ipv4(address)) => {
            !(address.is_loopback() || address.is_private() || address.is_link_local())
        }
        Some(Host::Ipv6(address)) => {
            !(address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local())
        }
        None => false,
    }
}

fn shown(duration: Duration) -> String {
    match duration.as_millis() {
        ms if ms.is_multiple_of(1000) => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}
