//! The command line's grammar.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use streamgate::config;

use crate::load_command::LoadArguments;

/// An LLM token-streaming gateway: one endpoint, many providers, every token once and an honest end.
///
/// Without a configuration it serves a simulated model on 127.0.0.1:8080, plus a provider for each
/// well-known key in the environment (`OPENAI_API_KEY`, `ANTHROPIC_API_KEY`).
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// The configuration file.
    #[arg(long, global = true, env = "STREAMGATE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where to listen, whatever the configuration says (its `server.listen`).
    #[arg(long, env = "STREAMGATE_LISTEN", value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// How records and log lines are written. Which are is said by `RUST_LOG` (default: info).
    #[arg(long, global = true, env = "STREAMGATE_LOG", default_value = "text")]
    pub(crate) log: Log,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Log {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve callers (the default).
    Serve,
    /// Validate the configuration without starting; exit status 2 if it is wrong.
    Check,
    /// Print a JSON Schema of the configuration file, for editors.
    Schema {
        /// Print the schema of prompt files instead.
        #[arg(long)]
        prompt: bool,
        /// Print the reference of every key in Markdown instead (docs/configuration.md).
        #[arg(long, conflicts_with = "prompt")]
        markdown: bool,
    },
    /// Serve the simulated upstream alone.
    Sim {
        /// Where to listen.
        #[arg(long, default_value = "127.0.0.1:9200")]
        listen: SocketAddr,
    },
    /// Load-test a gateway in front of a simulated upstream; exit status 1 if it fails.
    Load(Box<LoadArguments>),
    /// Ask a running gateway whether it is ready; exit status 1 if it is not.
    Health {
        /// What to ask. With `https` any certificate will do, since this is for the same machine.
        #[arg(
            long,
            env = "STREAMGATE_HEALTH_URL",
            value_name = "URL",
            default_value = "http://127.0.0.1:8080/readyz"
        )]
        url: String,
    },
    /// Make a JWT from an issuer whose secret is in the configuration, for development.
    Token {
        /// Who calls: the token's subject.
        #[arg(long, value_name = "NAME")]
        sub: String,
        /// How long it is valid, such as `15m` or `1h`.
        #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
        ttl: Duration,
        /// The models that it allows; those of its issuer unless said.
        #[arg(long, value_name = "NAMES", value_delimiter = ',')]
        models: Vec<String>,
        /// Which issuer, where the configuration has several with a secret.
        #[arg(long)]
        issuer: Option<String>,
    },
    /// Work with callers' keys.
    Key {
        #[command(subcommand)]
        action: Key,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Make a key: prints it once, and the line for the configuration.
    New {
        /// The caller's name in records and metrics.
        #[arg(long)]
        name: String,
    },
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    config::positive_duration(text).ok_or("expected a duration such as `90s`, `15m` or `1h`")
}
