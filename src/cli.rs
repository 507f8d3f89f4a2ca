//! Command line arguments: commands, options and their help texts. It must never act on them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use streamgate::config;

use crate::channel_command::{PublishArguments, SubscribeArguments};
use crate::chat_command::ChatArguments;
use crate::doctor_command::DoctorArguments;
use crate::explain_command::ExplainArguments;
use crate::help::AFTER_HELP;
use crate::import_command::ImportSource;
use crate::init_command::InitArguments;
use crate::launch_command::LaunchArguments;
use crate::load_command::LoadArguments;
use crate::usage_command::UsageArguments;

/// An LLM token-streaming gateway: one endpoint, many providers, every token once and an honest end.
///
/// Without a configuration it serves a simulated model on 127.0.0.1:8080, and a provider for each
/// well-known credential in the environment (`OPENAI_API_KEY`, `ANTHROPIC_API_KEY` and others).
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// The configuration file; `./streamgate.yaml` if there is one.
    #[arg(long, global = true, env = "STREAMGATE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Address and port of the listener for callers; overrides `server.listen`.
    #[arg(long, env = "STREAMGATE_LISTEN", value_name = "ADDRESS", value_parser = listen_address)]
    pub(crate) listen: Option<SocketAddr>,
    /// Format of the access log and of other log lines. `RUST_LOG` sets the level (default: info).
    #[arg(long, global = true, env = "STREAMGATE_LOG", default_value = "text")]
    pub(crate) log: Log,
}

/// The format of log lines.
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
    #[command(visible_aliases = ["run", "start"])]
    Serve {
        /// The configuration file, in place of `--config`.
        file: Option<PathBuf>,
        /// Address and port of the listener for callers, as before `serve`.
        #[arg(long, value_name = "ADDRESS", value_parser = listen_address)]
        listen: Option<SocketAddr>,
    },
    /// Write a configuration file: asks a few questions, or takes options.
    Init(Box<InitArguments>),
    /// Validate the configuration and exit; exit status 2 if it has errors, 0 if it has warnings only.
    Check {
        /// The configuration file, in place of `--config`.
        file: Option<PathBuf>,
        /// Then ask every provider, as `streamgate doctor` does.
        #[arg(long)]
        online: bool,
    },
    /// Ask every provider of the configuration: names, connections, credentials, models; exit status 1 if one does not work.
    Doctor(DoctorArguments),
    /// Explain which targets a request may be sent to, in which order, and why.
    Explain(ExplainArguments),
    /// Report tokens and costs from the usage ledger, also while a gateway runs.
    Usage(UsageArguments),
    /// Convert the configuration of another gateway; prints it on standard output.
    Import {
        #[command(subcommand)]
        source: ImportSource,
    },
    /// Talk with a model through a gateway.
    Chat(Box<ChatArguments>),
    /// Start a coding agent whose requests go to a gateway.
    Launch(Box<LaunchArguments>),
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
        /// Address and port of the listener.
        #[arg(long, default_value = "127.0.0.1:9200", value_parser = listen_address)]
        listen: SocketAddr,
    },
    /// Load-test a gateway in front of a simulated upstream; exit status 1 if a check fails.
    Load(Box<LoadArguments>),
    /// Check whether a running gateway is ready; exit status 1 if it is not.
    Health {
        /// Address of the health check. With `https`, certificates are not verified: use it on the same machine.
        #[arg(
            long,
            env = "STREAMGATE_HEALTH_URL",
            value_name = "URL",
            default_value = "http://127.0.0.1:8080/readyz"
        )]
        url: String,
    },
    /// Subscribe to channels of a gateway and print their events.
    Subscribe(Box<SubscribeArguments>),
    /// Publish an event to a channel of a gateway.
    Publish(Box<PublishArguments>),
    /// Create a JWT of an issuer whose `secret` is in the configuration, for development.
    Token {
        /// Subject of the token: the caller's name.
        #[arg(long, value_name = "NAME")]
        sub: String,
        /// Lifetime of the token, such as `15m` or `1h`.
        #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
        ttl: Duration,
        /// Models that the caller may use; those of the issuer by default.
        #[arg(long, value_name = "NAMES", value_delimiter = ',')]
        models: Vec<String>,
        /// The issuer, if the configuration has several with a `secret`.
        #[arg(long)]
        issuer: Option<String>,
    },
    /// Manage API keys of callers.
    Key {
        #[command(subcommand)]
        action: Key,
    },
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write man pages.
    Man {
        /// The directory that they are written into.
        #[arg(value_name = "DIRECTORY")]
        directory: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Create a key; prints it once, and the line for the configuration.
    New {
        /// The caller's name in the access log and in metrics.
        #[arg(long)]
        name: String,
    },
}

/// Reads an address of a listener.
pub(crate) fn listen_address(text: &str) -> Result<SocketAddr, &'static str> {
    let expected = "expected an address and port such as `127.0.0.1:8080`, `:8080` (all addresses) or `8080` (this machine only)";
    config::listen_address(text).ok_or(expected)
}

/// Reads a duration above zero.
pub(crate) fn duration(text: &str) -> Result<Duration, &'static str> {
    config::positive_duration(text).ok_or("expected a duration such as `90s`, `15m` or `1h`")
}
