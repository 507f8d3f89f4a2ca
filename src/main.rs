//! The command line: arguments, telemetry, serving and draining. The only place that exits.

mod channel_command;
mod chat_command;
mod cli;
mod completions_command;
mod doctor_command;
mod gateway_client;
mod health;
mod import_command;
mod init_command;
mod launch_command;
mod load_command;
mod reload;
mod serve;
mod yaml_text;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use cli::{Arguments, Command, Key};
use doctor_command::DoctorArguments;
use streamgate::config::{self, Config};
use streamgate::gateway::auth::mint::{Wish, mint};
use streamgate::gateway::clock::unix_seconds;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => {
            serve::serve(arguments.config.as_deref(), arguments.listen, arguments.log)
        }
        Command::Check { online } => check(arguments.config.as_deref(), online),
        Command::Init(wanted) => init_command::init(*wanted),
        Command::Doctor(wanted) => doctor_command::doctor(&wanted, arguments.config.as_deref()),
        Command::Import { source } => import_command::import(&source),
        Command::Chat(wanted) => {
            serve::runtime().and_then(|it| it.block_on(chat_command::chat(*wanted)))
        }
        Command::Launch(wanted) => {
            let file = arguments.config.as_deref();
            serve::runtime().and_then(|it| it.block_on(launch_command::launch(*wanted, file)))
        }
        Command::Schema { prompt, markdown } => {
            print_description(prompt, markdown);
            Ok(())
        }
        Command::Sim { listen } => serve::simulate(listen, arguments.log),
        Command::Load(arguments) => load_command::load(*arguments),
        Command::Health { url } => serve::runtime().and_then(|it| it.block_on(health::ask(&url))),
        Command::Subscribe(arguments) => {
            serve::runtime().and_then(|it| it.block_on(channel_command::subscribe(*arguments)))
        }
        Command::Publish(arguments) => {
            serve::runtime().and_then(|it| it.block_on(channel_command::publish(*arguments)))
        }
        Command::Token { sub, ttl, models, issuer } => {
            let wish = Wish { subject: &sub, lifetime: ttl, models: &models };
            token(arguments.config.as_deref(), issuer.as_deref(), &wish)
        }
        Command::Key { action: Key::New { name } } => new_key(&name),
        Command::Completions { shell } => {
            completions_command::completions(shell);
            Ok(())
        }
        Command::Man { directory } => completions_command::man(&directory),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            print_line(&mut std::io::stderr(), &failure.message);
            ExitCode::from(failure.code)
        }
    }
}

/// An error that ends the program: its message on standard error, and its exit status.
pub(crate) struct CliError {
    message: String,
    code: u8,
}

impl CliError {
    /// A runtime error: exit status 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1 }
    }

    /// An error of the configuration or the arguments: exit status 2.
    pub(crate) fn configuration(errors: &(impl ToString + ?Sized)) -> Self {
        Self { message: errors.to_string(), code: 2 }
    }
}

/// Prints a line. A closed pipe is not an error.
pub(crate) fn print_line(to: &mut impl Write, line: &str) {
    let _closed = writeln!(to, "{line}");
}

/// Loads the configuration of a command that needs one. `purpose` completes "no configuration ...".
fn load<'f>(file: Option<&'f Path>, purpose: &str) -> Result<(&'f Path, Config), CliError> {
    let file = file.ok_or_else(|| {
        CliError::configuration(&format!(
            "no configuration {purpose}; name one with --config FILE or STREAMGATE_CONFIG"
        ))
    })?;
    let config =
        config::load(file, &config::env).map_err(|errors| CliError::configuration(&errors))?;
    Ok((file, config))
}

fn check(file: Option<&Path>, online: bool) -> Result<(), CliError> {
    let (file, config) = load(file, "to check")?;
    for config::ConfigError { line, column, message, .. } in &config.warnings {
        let warning = format!("{}:{line}:{column}: warning: {message}", file.display());
        print_line(&mut std::io::stderr(), &warning);
    }
    let found = format!(
        "{}: ok ({} providers, {} models, {} keys, {} token issuers, {} prompts)",
        file.display(),
        config.providers.len(),
        config.models.len(),
        config.auth.keys.len(),
        config.auth.issuers.len(),
        config.prompts.count()
    );
    print_line(&mut std::io::stdout(), &found);
    if online { doctor_command::examine(&config, &DoctorArguments::default()) } else { Ok(()) }
}

/// Prints the description of the configuration's keys.
fn print_description(prompt: bool, markdown: bool) {
    let text = match (prompt, markdown) {
        (_, true) => config::reference(),
        (true, false) => format!("{:#}", config::prompt_json_schema()),
        (false, false) => format!("{:#}", config::json_schema()),
    };
    print_line(&mut std::io::stdout(), text.trim_end());
}

/// Prints a token, and nothing else on standard output.
fn token(file: Option<&Path>, issuer: Option<&str>, wish: &Wish<'_>) -> Result<(), CliError> {
    let (_, config) = load(file, "with an issuer")?;
    let token = mint(&config.auth.issuers, issuer, wish, unix_seconds())
        .map_err(|error| CliError::configuration(&error))?;
    print_line(&mut std::io::stdout(), &token);
    Ok(())
}

/// Prints a new key, which is never stored, and the line with its digest.
fn new_key(name: &str) -> Result<(), CliError> {
    if name.is_empty() || name.chars().any(|c| !(c.is_ascii_alphanumeric() || "-_.".contains(c))) {
        return Err(CliError::configuration(&"--name must be letters, digits, `-`, `_` and `.`"));
    }
    let key = config::new_key();
    let line = config::key_line(name, &config::digest(&key));
    let out = &mut std::io::stdout();
    print_line(
        out,
        &format!(
            "key, shown only once:\n  {key}\n\nunder `auth: keys:` in the configuration:\n  {line}"
        ),
    );
    Ok(())
}
