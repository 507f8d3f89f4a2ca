//! Built-in configuration, without a file: the simulated upstream, and a provider for each preset whose credential the
//! environment has. It must never listen on other addresses than loopback.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use url::Url;

use super::egress::General;
use super::error::Location;
use super::expand::Source;
use super::provider::{self, plain};
use super::reader::Reader;
use super::root::ROOT;
use super::{
    Auth, ChannelRightTemplates, Channels, Config, CredentialSource, Durable, Health, Key, Limits,
    Origins, Provider, Server, Sources, Stream, Streams, Target, digest, preset, tree,
};
use crate::prompts::Prompts;
use crate::wire::dialect::DIALECTS;

/// The configuration without a file. `sim_addr` is where the simulated upstream listens; `key` is the
/// one caller's key, called `default`.
pub fn without_file(
    env: &dyn Fn(&str) -> Option<String>,
    sim_addr: SocketAddr,
    key: &str,
) -> Config {
    let (egress, wrong) = General::read(env);
    // The simulated upstream has every vendor's paths, below the same base path as the vendor.
    let simulated = DIALECTS.iter().enumerate().filter_map(|(at, dialect)| {
        let vendor = Url::parse(dialect.default_base_url()).ok()?;
        let name = if at == 0 { "sim".to_owned() } else { format!("sim-{}", dialect.name()) };
        let path = vendor.path().trim_end_matches('/');
        let provider =
            plain(&name, *dialect, &format!("http://{sim_addr}{path}"), (None, &egress))?;
        // Its models are programs, and each of its names would show the same one.
        Some(Provider { list_models: false, ..provider })
    });
    let (found, broken) = from_environment(env, &egress);
    let providers: BTreeMap<String, Arc<Provider>> = simulated
        .chain(found)
        .map(|provider| (provider.name.clone(), Arc::new(provider)))
        .collect();
    let sim = providers.get("sim").map(Arc::clone);
    let targets = sim.map(|provider| vec![Target::new(provider, "sim".to_owned())]);
    let only = Key {
        name: "default".to_owned(),
        digest: digest(key),
        models: vec!["*".to_owned()],
        class: None,
        limits: Limits::default(),
        channels: ChannelRightTemplates {
            subscribe: vec!["*".to_owned()],
            publish: vec!["*".to_owned()],
        },
    };
    Config {
        server: Server { cors_origins: Origins::loopback(), ..Server::default() },
        auth: Auth { keys: vec![only], ..Auth::default() },
        providers,
        model_limits: BTreeMap::new(),
        model_streams: BTreeMap::new(),
        model_routing: BTreeMap::new(),
        fallbacks: BTreeMap::new(),
        mirrors: BTreeMap::new(),
        on_break: BTreeMap::new(),
        patterns: Vec::new(),
        models: targets.map(|targets| ("sim".to_owned(), targets.into())).into_iter().collect(),
        stream: Stream::default(),
        streams: Streams::default(),
        archive: None,
        channels: Channels::default(),
        durable: Durable::default(),
        redis: None,
        ledger: None,
        prompts: Prompts::default(),
        sources: Sources::default(),
        warnings: wrong.into_iter().chain(broken).map(|it| Location::FILE.error(it)).collect(),
        otlp: None,
        egress,
    }
}

/// The providers of presets whose variables the environment has, and messages about those that cannot be used.
fn from_environment(
    env: &dyn Fn(&str) -> Option<String>,
    egress: &General,
) -> (Vec<Provider>, Vec<String>) {
    let env = |name: &str| env(name).map(|value| value.trim().to_owned());
    let is_set = |name: &str| env(name).is_some_and(|value| !value.is_empty());
    let (mut found, mut broken) = (Vec::new(), Vec::new());
    for (preset, variables) in preset::in_environment(&is_set) {
        let keys = variables.iter().map(|(key, variable)| format!(", {key}: \"${{{variable}}}\""));
        let text = format!(
            "providers: {{ {preset}: {{ preset: {preset}{} }} }}",
            keys.collect::<String>()
        );
        let names: Vec<_> = variables.iter().map(|(_, variable)| format!("`{variable}`")).collect();
        match provider_of(&text, &env, egress) {
            Ok(provider) => {
                let credential =
                    CredentialSource::variable(variables.first().map_or("", |it| it.1));
                found.push(Provider { credential, ..provider });
            }
            Err(error) => broken.push(format!(
                "the environment has {}, of which no provider `{preset}` can be made: {error}; correct it, or unset it",
                names.join(" and ")
            )),
        }
    }
    (found, broken)
}

/// The one provider of a configuration.
fn provider_of(
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    egress: &General,
) -> Result<Provider, String> {
    let root = tree::parse(text, &mut Vec::new()).map_err(|error| error.message)?;
    let source = Source { env, dir: Path::new(""), literal: false, sources: Sources::default() };
    let mut reader = Reader::new(source, Vec::new());
    let table = reader.table(ROOT.name, &root, &ROOT);
    let read =
        table.map(|table| provider::providers(&mut reader, &table, egress, Health::default()));
    let provider = read.unwrap_or_default().into_values().flatten().next();
    match (provider, reader.finish().0.into_iter().next()) {
        (Some(provider), None) => Ok(Provider::clone(&provider)),
        (_, error) => Err(error.map_or_else(String::new, |error| error.message)),
    }
}
