//! Help: the end of `--help`, and tips for options that other programs have. It must never act on an argument.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, CommandFactory, Error, FromArgMatches};

use crate::cli::Arguments;

/// The end of `--help`.
pub(crate) const AFTER_HELP: &str = "\
Examples:
  streamgate                              first run: a simulated model, a caller key and a link to try it
  OPENAI_API_KEY=... streamgate           the same, and OpenAI's models as openai/MODEL
  streamgate init                         writes a configuration after a few questions
  streamgate check streamgate.yaml        every error and warning of a configuration, with its line
  streamgate serve streamgate.yaml        serves it; without FILE, ./streamgate.yaml if there is one
  streamgate serve --listen :8080         listens on all addresses; `8080` is this machine only
  streamgate key new --name web           a key for a caller, and its line for the configuration

Environment:
  STREAMGATE_CONFIG, STREAMGATE_LISTEN, STREAMGATE_LOG
                                          as --config, --listen and --log
  STREAMGATE_KEY                          the caller key of a run without a configuration
  RUST_LOG                                level of the log: error, warn, info (default), debug
  OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY, GROQ_API_KEY, MISTRAL_API_KEY, ...
                                          without a configuration, each makes a provider (src/config/presets.yaml)
  HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY
                                          proxies to providers

Documentation: README.md and docs/README.md; `streamgate schema --markdown` is the reference of the configuration.";

/// The options of other programs for the address of the listener.
const ADDRESS_OPTIONS: [&str; 7] =
    ["--port", "-p", "--host", "--bind", "--addr", "--address", "--http-port"];

/// The commands that read no configuration.
const WITHOUT_CONFIGURATION: [&str; 12] = [
    "schema",
    "sim",
    "load",
    "health",
    "subscribe",
    "publish",
    "key",
    "init",
    "import",
    "chat",
    "completions",
    "man",
];

/// Parses the command line. Does not return if there is nothing to do but to print help or an error.
pub(crate) fn parse() -> Arguments {
    let parsed = command().try_get_matches().and_then(|it| Arguments::from_arg_matches(&it));
    parsed.unwrap_or_else(|error| with_tip(error).exit())
}

/// The command line, whose commands that read no configuration do not show options for one.
fn command() -> Command {
    let mut command = Arguments::command();
    // Only then do its commands have its global options.
    command.build();
    for name in WITHOUT_CONFIGURATION {
        if let Some(found) = command.find_subcommand_mut(name) {
            hide_configuration(found);
        }
    }
    command
}

fn hide_configuration(command: &mut Command) {
    let hide = |arg: Arg| if arg.get_id() == "config" { arg.hide(true) } else { arg };
    *command = command.clone().mut_args(hide);
    command.get_subcommands_mut().for_each(hide_configuration);
}

/// Adds the option that does the same here.
fn with_tip(mut error: Error) -> Error {
    let given = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(given)) if error.kind() == ErrorKind::UnknownArgument => given,
        _ => return error,
    };
    let name = given.split(['=', ' ']).next().unwrap_or_default();
    if ADDRESS_OPTIONS.contains(&name) {
        let tip = "the address and port are one option: `--listen 127.0.0.1:8080`, `--listen :8080` or `--listen 8080`";
        error.remove(ContextKind::SuggestedArg);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}
