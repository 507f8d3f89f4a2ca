//! Configuration reload: puts a changed configuration in force, on SIGHUP or when one of its files has changed.
//!
//! It never stops the process or replaces a valid configuration by an invalid one, and never blocks on a file: files
//! are read on other threads.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use streamgate::app::App;
use streamgate::config::{self, Config, ConfigErrors, Sources, Watch};
use tokio::signal::unix::Signal;
use tokio::time::sleep;

use crate::CliError;

/// After this time a reload is taken to hang on a file, and restarted at the next change.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(1);

/// The source of the configuration, at the start and at each reload.
#[derive(Debug, Clone)]
pub(crate) struct ConfigSource {
    pub(crate) file: PathBuf,
    /// The address of the command line, which overrides the file's.
    pub(crate) listen: Option<SocketAddr>,
}

impl ConfigSource {
    pub(crate) fn load(&self) -> Result<Config, CliError> {
        let config = config::load(&self.file, &config::env)
            .map_err(|problems| CliError::of_file(&problems))?;
        Ok(self.addressed(config))
    }

    fn addressed(&self, mut config: Config) -> Config {
        config.server.listen = self.listen.unwrap_or(config.server.listen);
        config
    }
}

/// Reloads for as long as it is polled. `sources`: the files that the running configuration was read from.
pub(crate) async fn keep(
    app: &App,
    source: Option<ConfigSource>,
    sources: &Sources,
    hangups: &mut Signal,
) -> Infallible {
    let Some(source) = source else {
        // Nothing to reload, and the signal must not end the process.
        return std::future::pending().await;
    };
    let mut watch = Watch::default();
    watch.follow(sources);
    loop {
        changed(&mut watch, hangups).await;
        let sources = loop {
            let hanging = async {
                sleep(RELOAD_TIMEOUT).await;
                changed(&mut watch, hangups).await;
            };
            // A later version may no longer name the file that hangs.
            tokio::select! {
                sources = reload(app, &source) => break sources,
                () = hanging => {}
            }
        };
        watch.follow(&sources);
    }
}

/// Waits for a reason to reload.
async fn changed(watch: &mut Watch, hangups: &mut Signal) {
    loop {
        tokio::select! {
            _ = hangups.recv() => return,
            changed = watch.changed() => match changed {
                Ok(()) => return,
                Err(error) => tracing::warn!(%error, "cannot watch the configuration; send SIGHUP after a change"),
            },
        }
    }
}

/// Puts the current files in force, or keeps the running configuration if they are invalid. Returns the files read:
/// the next change may be one of a file that only the invalid configuration names.
async fn reload(app: &App, source: &ConfigSource) -> Sources {
    match read(app, source).await {
        None => {
            tracing::error!("the changed configuration could not be read; please report it");
            app.metrics.config_rejected();
            app.state().config.sources.clone()
        }
        Some(Ok((config, broken))) => {
            let config = source.addressed(config);
            let complete = broken.is_none();
            if let Some(problems) = broken {
                tracing::error!(%problems, "a prompt's file is invalid; its last valid version stays in force");
            }
            let running = app.state();
            let (before, now) = (&running.config.server, &config.server);
            let late = [
                ("server.listen", before.listen != now.listen),
                ("server.admin", before.admin != now.admin),
                ("telemetry", running.config.otlp != config.otlp),
                ("streams.path", running.config.archive != config.archive),
            ];
            for (setting, _) in late.iter().filter(|(_, changed)| *changed) {
                tracing::warn!(setting, "changed; it takes effect at the next start");
            }
            let sources = config.sources.clone();
            log_configuration(&config);
            app.reload(config);
            if !complete {
                app.metrics.config_rejected();
            }
            let config_digest = app.state().config.sources.digest();
            tracing::info!(config_digest, "configuration reloaded");
            sources
        }
        Some(Err(problems)) => {
            tracing::error!(%problems, "the changed configuration is invalid; the running one stays in force");
            app.metrics.config_rejected();
            problems.sources
        }
    }
}

/// Reads the file and those that it names, on a thread that may block. `None`: it panicked.
async fn read(app: &App, source: &ConfigSource) -> Option<ReadResult> {
    let (running, source) = (app.state().clone(), source.clone());
    let read = move || config::reload(&source.file, &config::env, &running.config);
    tokio::task::spawn_blocking(read).await.ok()
}

/// A configuration, with the errors of prompts that keep their last valid version; or all errors.
type ReadResult = Result<(Config, Option<ConfigErrors>), ConfigErrors>;

/// Logs the warnings, and which providers are reached through a proxy.
pub(crate) fn log_configuration(config: &Config) {
    for warning in &config.warnings {
        tracing::warn!(line = warning.line, "configuration: {}", warning.message);
    }
    for provider in config.providers.values() {
        if let Some(proxy) = &provider.egress.proxy {
            tracing::info!(provider = provider.name, %proxy, "egress proxy");
        }
    }
}
