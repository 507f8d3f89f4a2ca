//! Built-in configuration, without a file: the simulated upstream, and a provider for each well-known credential in the
//! environment. It must never listen on other addresses than loopback.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use url::Url;

use super::egress::General;
use super::error::Location;
use super::provider::plain;
use super::units::secret;
use super::{
    Auth, ChannelRightTemplates, Channels, Config, CredentialSource, Durable, Key, Limits,
    Provider, Server, Sources, Stream, Streams, Target, digest,
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
    let well_known = DIALECTS.iter().filter_map(|dialect| {
        let (name, variable) = dialect.well_known()?;
        let value = env(variable)?;
        let api_key = secret(value.trim()).filter(|secret| !secret.expose().is_empty())?;
        let provider = plain(name, *dialect, dialect.default_base_url(), (Some(api_key), &egress))?;
        Some(Provider { credential: CredentialSource::variable(variable), ..provider })
    });
    let providers: BTreeMap<String, Arc<Provider>> = simulated
        .chain(well_known)
        .map(|provider| (provider.name.clone(), Arc::new(provider)))
        .collect();
    let sim = providers.get("sim").map(Arc::clone);
    let targets = sim.map(|provider| vec![Target::new(provider, "sim".to_owned())]);
    let only = Key {
        name: "default".to_owned(),
        digest: digest(key),
        models: vec!["*".to_owned()],
        limits: Limits::default(),
        channels: ChannelRightTemplates {
            subscribe: vec!["*".to_owned()],
            publish: vec!["*".to_owned()],
        },
    };
    Config {
        server: Server::default(),
        auth: Auth { keys: vec![only], ..Auth::default() },
        providers,
        model_limits: BTreeMap::new(),
        model_streams: BTreeMap::new(),
        model_routing: BTreeMap::new(),
        patterns: Vec::new(),
        models: targets.map(|targets| ("sim".to_owned(), targets)).into_iter().collect(),
        stream: Stream::default(),
        streams: Streams::default(),
        archive: None,
        channels: Channels::default(),
        durable: Durable::default(),
        redis: None,
        prompts: Prompts::default(),
        sources: Sources::default(),
        warnings: wrong.into_iter().map(|message| Location::FILE.error(message)).collect(),
        otlp: None,
        egress,
    }
}
