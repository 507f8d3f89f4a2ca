//! Init command (`streamgate init`): writes a first configuration, after a few questions or by options. It must never
//! write a key of a caller or a provider, nor overwrite a file unless that is forced.

mod choices;
mod file;
mod questions;

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use streamgate::config::{self, ConfigErrors};

use crate::{CliError, new_file, print_line};
use choices::{CHOICES, Choice};
use file::Plan;
use questions::Questions;

/// The provider of a file without any: the simulated upstream.
const SIMULATED: &str = "sim";

const AFTER_HELP: &str = "\
Examples:
  streamgate init                                   asks on a terminal
  streamgate init --provider openai,groq --yes      takes defaults for the rest
  streamgate init --provider ollama --model fast=ollama/qwen3 --listen 0.0.0.0:8080 --output /etc/streamgate.yaml

Without --provider, providers whose keys are in the environment are taken. The caller's key is printed once and not stored.";

/// The options of `streamgate init`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct InitArguments {
    /// Providers, separated by commas: openai, anthropic, gemini, groq, ollama and so on.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    provider: Vec<String>,
    /// Names for models, such as `fast=groq/llama-3.3-70b-versatile`; may be repeated.
    #[arg(long, value_name = "NAME=PROVIDER/MODEL")]
    model: Vec<String>,
    /// Address and port of the listener for callers.
    #[arg(long, value_name = "ADDRESS", value_parser = crate::cli::listen_address)]
    listen: Option<SocketAddr>,
    /// Address and port of the operators' listener, for metrics.
    #[arg(long, value_name = "ADDRESS", value_parser = crate::cli::listen_address)]
    admin: Option<SocketAddr>,
    /// The caller's name for its key.
    #[arg(long, value_name = "NAME", default_value = "default")]
    key_name: String,
    /// Origins of pages that may call, such as `https://chat.example.com`, separated by commas.
    #[arg(long, value_name = "ORIGINS", value_delimiter = ',')]
    origin: Vec<String>,
    /// Look for Ollama, LM Studio, vLLM, SGLang and llama.cpp on this machine's loopback address.
    #[arg(long)]
    detect: bool,
    /// Ask nothing.
    #[arg(long, short)]
    yes: bool,
    /// Replace a file that exists.
    #[arg(long)]
    force: bool,
    /// The file; `-` is standard output.
    #[arg(long, short, value_name = "FILE", default_value = "streamgate.yaml")]
    output: PathBuf,
    /// The file, in place of `--output`.
    #[arg(value_name = "FILE", conflicts_with = "output")]
    file: Option<PathBuf>,
}

/// Writes the file, and prints the caller's key.
pub(crate) fn init(arguments: InitArguments) -> Result<(), CliError> {
    let InitArguments { output, file, force, yes, .. } = &arguments;
    let (output, force, yes) = (file.as_ref().unwrap_or(output).clone(), *force, *yes);
    let to_stdout = output == Path::new("-");
    if !to_stdout {
        new_file::may_write(&output, force)?;
    }
    let mut plan = plan(arguments)?;
    if !yes && std::io::stdin().is_terminal() {
        Questions::new(std::io::stdin().lock(), std::io::stderr()).complete(&mut plan)?;
    }
    check_models(&plan)?;
    let key = config::new_key();
    let text = file::text(&plan, &output, &key);
    if to_stdout {
        print_line(&mut std::io::stdout(), text.trim_end());
        print_line(&mut std::io::stderr(), &key_message(&plan, &key));
        return Ok(());
    }
    write(&plan, &output, &text)?;
    print_line(&mut std::io::stdout(), &next_steps(&plan, &output, &key));
    Ok(())
}

/// The answers that the options and the environment give.
fn plan(arguments: InitArguments) -> Result<Plan, CliError> {
    let mut providers = Vec::new();
    for name in &arguments.provider {
        let choice = choices::named(name).map_err(|error| CliError::configuration(&error))?;
        providers.push(choice);
    }
    let listen = arguments.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080)));
    if providers.is_empty() {
        providers.extend(CHOICES.iter().filter(|choice| choice.is_in_environment()));
    }
    if arguments.detect {
        let found = choices::detect(listen);
        let names: Vec<&str> = found.iter().map(|choice| choice.name).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        print_line(&mut std::io::stderr(), &format!("model servers on this machine: {names}"));
        for choice in found {
            if !providers.iter().any(|known: &&Choice| known.name == choice.name) {
                providers.push(choice);
            }
        }
    }
    let models = arguments.model.iter().map(|text| file::model(text));
    let models =
        models.collect::<Result<_, _>>().map_err(|error| CliError::configuration(&error))?;
    Ok(Plan {
        providers,
        models,
        listen,
        admin: arguments.admin,
        key_name: arguments.key_name,
        origins: arguments.origin,
        detected: arguments.detect,
    })
}

/// Writes a file as a whole, and only one that can be loaded. Variables that are not set yet count as set.
fn write(plan: &Plan, output: &Path, text: &str) -> Result<(), CliError> {
    let set = |name: &str| {
        let later = plan.providers.iter().any(|choice| choice.variable() == Some(name));
        config::env(name).or_else(|| later.then(|| "unset".to_owned()))
    };
    new_file::write(output, text, |new| match config::load(new, &set) {
        Ok(_) => Ok(()),
        Err(errors) => {
            let errors = ConfigErrors { path: output.to_owned(), ..errors };
            Err(CliError::configuration(&format!(
                "nothing is written, because the configuration would not be valid:\n{errors}"
            )))
        }
    })
}

/// Rejects a model of a provider that was not chosen.
fn check_models(plan: &Plan) -> Result<(), CliError> {
    let mut chosen: Vec<&str> = plan.providers.iter().map(|choice| choice.name).collect();
    if chosen.is_empty() {
        chosen.push(SIMULATED);
    }
    let wrong = plan.models.iter().find(|(_, (provider, _))| !chosen.contains(&provider.as_str()));
    let Some((name, (provider, model))) = wrong else { return Ok(()) };
    let remedy = match choices::named(provider) {
        Ok(_) => format!("add --provider {provider}"),
        Err(error) => error,
    };
    Err(CliError::configuration(&format!(
        "--model {name}={provider}/{model} names a provider that is not chosen (chosen: {}); {remedy}",
        chosen.join(", ")
    )))
}

fn key_message(plan: &Plan, key: &str) -> String {
    format!("key of the caller {}, shown only once:\n  export STREAMGATE_KEY={key}", plan.key_name)
}

/// The commands that follow.
fn next_steps(plan: &Plan, output: &Path, key: &str) -> String {
    let file = output.display();
    let mut text = format!("wrote {file}\n\n{}\n\nnext:\n", key_message(plan, key));
    for choice in &plan.providers {
        if let Some(variable) = choice.variable().filter(|_| !choice.is_in_environment()) {
            text = format!("{text}  export {variable}=...\n");
        }
    }
    if plan.providers.is_empty() {
        text.push_str("  streamgate sim &\n");
    }
    let model = match plan.models.first() {
        Some((name, _)) => format!(" {name}"),
        None if plan.providers.is_empty() => " sim".to_owned(),
        None => String::new(),
    };
    format!(
        "{text}  streamgate check --online --config {file}\n  streamgate --config {file}\n  \
         streamgate chat --url http://{}{model}",
        plan.callers_address()
    )
}
