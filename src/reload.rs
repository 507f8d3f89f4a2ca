//! Reloading: puts a changed configuration in force, at SIGHUP or when a file of it has changed.
//!
//! It never stops the process or the running configuration, and waits for no file: files are read on
//! threads of their own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use streamgate::app::App;
use streamgate::config::{self, Config, ConfigErrors, Sources, Watch};
use tokio::signal::unix::Signal;
use tokio::time::sleep;

use crate::CliError;

/// A reload that takes longer waits for a file that does not answer, and is begun anew at the next change.
const HANGING: Duration = Duration::from_secs(1);

/// Where the configuration comes from, at the start and at each reload.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) file: PathBuf,
    /// The command line's address, which the file does not override.
    pub(crate) listen: Option<SocketAddr>,
}

impl Source {
    pub(crate) fn load(&self) -> Result<Config, CliError> {
        let config = config::load(&self.file, &config::env)
            .map_err(|problems| CliError::configuration(&problems))?;
        Ok(self.addressed(config))
    }

    fn addressed(&self, mut config: Config) -> Config {
        config.server.listen = self.listen.unwrap_or(config.server.listen);
        config
    }
}

/// Reloads for as long as it is polled. `sources`: what the running configuration was read from.
pub(crate) async fn keep(
    app: &App,
    source: Option<Source>,
    sources: &Sources,
    hangups: &mut Signal,
) -> Infallible {
    let Some(source) = source else {
        // Nothing to reload; the signal ends nothing either.
        return std::future::pending().await;
    };
    let mut watch = Watch::default();
    watch.follow(sources);
    loop {
        changed(&mut watch, hangups).await;
        let sources = loop {
            let hanging = async {
                sleep(HANGING).await;
                changed(&mut watch, hangups).await;
            };
            // The file that does not answer may be named no more.
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

/// Puts the file's present state in force; a broken one keeps the running configuration. Returns
/// what was read: a file that a broken configuration names may be what has to be mended.
async fn reload(app: &App, source: &Source) -> Sources {
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
                tracing::error!(%problems, "a prompt's file is wrong; what it last held stays in force");
            }
            let running = app.state();
            let (before, now) = (&running.config.server, &config.server);
            let late = [
                ("server.listen", before.listen != now.listen),
                ("server.admin", before.admin != now.admin),
                ("telemetry", running.config.otlp != config.otlp),
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
            tracing::error!(%problems, "the changed configuration is wrong; the running one stays in force");
            app.metrics.config_rejected();
            problems.sources
        }
    }
}

/// Reads the file and what it names, on a thread that may wait for them. `None`: it panicked.
async fn read(app: &App, source: &Source) -> Option<Read> {
    let (running, source) = (app.state().clone(), source.clone());
    let read = move || config::reload(&source.file, &config::env, &running.config);
    tokio::task::spawn_blocking(read).await.ok()
}

/// A configuration, and the problems of those prompts that stay as they were; or all problems.
type Read = Result<(Config, Option<ConfigErrors>), ConfigErrors>;

/// Logs what will not work as it is, and which providers are reached through a proxy.
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
