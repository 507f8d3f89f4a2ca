//! The whole file: the YAML tree to a [`Config`]. A wrong value is reported and takes its default, so that the
//! rest is still read. It must never stop at the first error.

use super::egress::General;
use super::error::Location;
use super::field::Section;
use super::health::{self, Health};
use super::known_models::KnownModels;
use super::reader::Reader;
use super::tree::{Node, Value};
use super::{
    Config, Sources, auth, channels, durable, limits, model, prompts, provider, redis, server,
    store, stream, streams, telemetry, warnings,
};

/// The description of the whole configuration.
pub(super) const ROOT: Section = Section::table(
    "the file",
    "The file that `--config` or `STREAMGATE_CONFIG` names.",
    &[
        server::SERVER.key,
        auth::AUTH.key,
        limits::LIMITS.key,
        provider::PROVIDERS.key,
        model::MODELS.key,
        health::HEALTH.key,
        stream::STREAM.key,
        streams::STREAMS_SECTION.key,
        channels::CHANNELS.key,
        durable::DURABLE.key,
        redis::REDIS.key,
        store::STORE.key,
        store::LEDGER.key,
        prompts::PROMPTS.key,
        telemetry::TELEMETRY.key,
    ],
);

/// Reads the whole file.
pub(super) fn config(reader: &mut Reader<'_>, root: &Node) -> Config {
    let empty = Node { at: root.at, value: Value::Table(Vec::new()) };
    let root = if matches!(root.value, Value::Null) { &empty } else { root };
    // Nothing else can be checked in a file that is no table.
    let Some(table) = reader.table(ROOT.name, root, &ROOT) else {
        return Config::default();
    };
    let (egress, wrong) = General::read(reader.source.env);
    for message in wrong {
        reader.report(Location::FILE, message);
    }
    let health = health::health(reader, &table, Health::default());
    let providers = provider::providers(reader, &table, &egress, health);
    let mut models = model::models(reader, &table, &providers);
    let is_model = |name: &str| {
        let direct = name.split_once('/').filter(|(_, model)| !model.is_empty());
        models.has(name) || direct.is_some_and(|(head, _)| providers.contains_key(head))
    };
    let prompts = prompts::prompts(reader, &table, &is_model);
    let known = KnownModels { models: &models.targets, providers: &providers };
    let auth = auth::auth(reader, &table, &known);
    let model_limits = std::mem::take(&mut models.limits);
    let model_streams = std::mem::take(&mut models.streams);
    let model_routing = std::mem::take(&mut models.routing);
    let fallbacks = std::mem::take(&mut models.fallbacks);
    let mirrors = std::mem::take(&mut models.mirrors);
    let on_break = std::mem::take(&mut models.on_break);
    let (models, patterns) = models.into_parts();
    let (streams, archive) = streams::streams(reader, &table);
    let mut config = Config {
        server: server::server(reader, &table),
        auth,
        models,
        patterns,
        model_limits,
        model_streams,
        model_routing,
        fallbacks,
        mirrors,
        on_break,
        providers: providers
            .into_iter()
            .filter_map(|(name, provider)| Some((name.to_owned(), provider?)))
            .collect(),
        stream: stream::stream(reader, &table),
        streams,
        archive,
        channels: channels::channels(reader, &table),
        durable: durable::durable(reader, &table),
        redis: redis::redis(reader, &table),
        ledger: store::ledger(reader, &table),
        prompts,
        sources: Sources::default(),
        otlp: telemetry::otlp(reader, &table),
        egress,
        warnings: reader.warnings(),
    };
    let more = warnings::warnings(root, &config);
    config.warnings.extend(more);
    config
}
