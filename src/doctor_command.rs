//! Doctor command (`streamgate doctor`, `streamgate check --online`): asks every provider of a configuration, and reports
//! findings with their remedies. It must never print a credential.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use streamgate::config::secret::Secret;
use streamgate::config::{self, Config, Provider};
use streamgate::gateway::provider_check::{Finding, ProviderCheck, State};

use crate::serve::runtime;
use crate::{CliError, print_line};

/// Providers that are asked at once.
const AT_ONCE: usize = 8;
/// The timeout of a request.
const TIMEOUT: Duration = Duration::from_secs(20);

const AFTER_HELP: &str = "\
Examples:
  streamgate doctor streamgate.yaml              names, connections, TLS, clocks, credentials, models
  streamgate doctor --provider openai --complete   and a few tokens from each configured model
  streamgate doctor                              without a configuration: the providers whose keys are in the environment

Exit status 1 if something does not work, 2 if the configuration is wrong.";

/// The options of `streamgate doctor`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct DoctorArguments {
    /// The configuration file, in place of `--config`.
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Only these providers, separated by commas.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    provider: Vec<String>,
    /// Ask each configured model for a few tokens. This costs money.
    #[arg(long)]
    complete: bool,
    /// Timeout of each request [default: 20s].
    #[arg(long, value_name = "DURATION", value_parser = crate::cli::duration)]
    timeout: Option<Duration>,
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
}

/// Examines the providers of a file, or those whose keys are in the environment.
pub(crate) fn doctor(arguments: &DoctorArguments, file: Option<&Path>) -> Result<(), CliError> {
    let config = match file {
        Some(file) => load(file, &arguments.provider)?,
        None => environment()?,
    };
    examine(&config, arguments)
}

/// The value of a variable that is not set, in a configuration of which other providers are examined.
const UNSET: &str = "streamgate-unset";

/// Reads a file. Of variables that are not set, those that the wanted providers do not use are no matter.
fn load(file: &Path, wanted: &[String]) -> Result<Config, CliError> {
    let errors = match config::load(file, &config::env) {
        Ok(config) => return Ok(config),
        Err(errors) => CliError::of_file(&errors),
    };
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let named = |name: &str| text.contains(&format!("${{{name}}}"));
    let lenient = |name: &str| config::env(name).or_else(|| named(name).then(|| UNSET.to_owned()));
    let lenient = config::load(file, &lenient).ok().filter(|_| !wanted.is_empty());
    let whole = lenient.filter(|config| {
        let mut wanted = wanted.iter().filter_map(|name| config.providers.get(name));
        !wanted.any(|provider| provider.keyed().any(|keyed| uses_unset(keyed)))
    });
    whole.ok_or(errors)
}

fn uses_unset(provider: &Provider) -> bool {
    let key = provider.api_key.as_ref().map_or("", |key| key.expose());
    let aws = provider.aws.iter().flat_map(|aws| {
        let token = aws.session_token.as_ref();
        [&aws.access_key_id, &aws.secret_access_key].into_iter().chain(token)
    });
    let aws = aws.map(Secret::expose);
    let headers = provider.headers.iter().filter_map(|(_, value)| value.to_str().ok());
    let query = provider.query.iter().map(|(_, value)| value.as_str());
    let own = [key, provider.base_url.as_str()];
    let mut texts = headers.chain(query).chain(aws).chain(own);
    texts.any(|text| text.contains(UNSET))
}

/// The configuration without a file, without the simulated upstream.
fn environment() -> Result<Config, CliError> {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut config = config::without_file(&config::env, nowhere, "");
    config.providers.retain(|_, provider| provider.base_url.port() != Some(0));
    config.models = BTreeMap::new();
    if config.providers.is_empty() {
        return Err(CliError::configuration(
            "no configuration, and no provider's key in the environment; name a file with --config FILE or \
             STREAMGATE_CONFIG, or write one with `streamgate init`",
        ));
    }
    Ok(config)
}

/// Examines the providers of a configuration.
pub(crate) fn examine(config: &Config, arguments: &DoctorArguments) -> Result<(), CliError> {
    let wanted = |name: &str| {
        arguments.provider.is_empty() || arguments.provider.iter().any(|known| known == name)
    };
    if let Some(unknown) =
        arguments.provider.iter().find(|name| !config.providers.contains_key(*name))
    {
        let names: Vec<&str> = config.providers.keys().map(String::as_str).collect();
        return Err(CliError::configuration(&format!(
            "--provider is {unknown}; expected names of the configuration: {}",
            names.join(", ")
        )));
    }
    let chosen: Vec<&Arc<Provider>> =
        config.providers.values().filter(|provider| wanted(&provider.name)).collect();
    if chosen.is_empty() {
        return Err(CliError::new("the configuration has no providers; add one under `providers`"));
    }
    let mut broken = 0;
    let mut reports = Vec::new();
    runtime()?.block_on(async {
        let checks = chosen.iter().map(|provider| check(config, provider, arguments));
        let mut checks = stream::iter(checks).buffered(AT_ONCE);
        while let Some((provider, findings)) = checks.next().await {
            broken += findings.iter().filter(|finding| finding.state == State::Broken).count();
            if arguments.json {
                reports.push(report(provider, &findings));
            } else {
                print_findings(provider, &findings);
            }
        }
    });
    if arguments.json {
        let all = json!({ "ok": broken == 0, "providers": reports });
        print_line(&mut std::io::stdout(), &format!("{all:#}"));
    }
    match broken {
        0 => Ok(()),
        1 => Err(CliError::new("1 finding has to be mended")),
        many => Err(CliError::new(format!("{many} findings have to be mended"))),
    }
}

async fn check<'c>(
    config: &'c Config,
    provider: &'c Arc<Provider>,
    arguments: &DoctorArguments,
) -> (&'c Provider, Vec<Finding>) {
    let named = config.models.iter().map(|(name, targets)| (name, &**targets));
    let patterns = config.patterns.iter().map(|model| (&model.pattern, &*model.targets));
    let targets = named.chain(patterns).flat_map(|(name, targets)| {
        let own = targets.iter().filter(|target| target.provider.name == provider.name);
        own.map(move |target| (name.as_str(), target))
    });
    let check = ProviderCheck {
        provider,
        targets: targets.collect(),
        complete: arguments.complete,
        terms: config.stream,
        timeout: arguments.timeout.unwrap_or(TIMEOUT),
    };
    // Boxed: its future is large.
    (provider, Box::pin(check.run()).await)
}

fn print_findings(provider: &Provider, findings: &[Finding]) {
    let out = &mut std::io::stdout();
    let host = provider.base_url.host_str().unwrap_or_default();
    print_line(out, &format!("{} ({}, {host})", provider.name, provider.dialect.name()));
    for Finding { step, state, message } in findings {
        print_line(out, &format!("  {:7}  {:10}  {message}", state.name(), step.name()));
    }
}

fn report(provider: &Provider, findings: &[Finding]) -> Value {
    let findings: Vec<Value> = findings
        .iter()
        .map(|Finding { step, state, message }| {
            json!({ "check": step.name(), "state": state.name(), "message": message })
        })
        .collect();
    json!({
        "name": provider.name,
        "dialect": provider.dialect.name(),
        "host": provider.base_url.host_str(),
        "findings": findings,
    })
}
