//! The command line: arguments, telemetry, serving and draining. The only place that exits.

mod cli;
mod health;
mod load_command;
mod reload;
mod serve;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use cli::{Arguments, Command, Key};
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
        Command::Check => check(arguments.config.as_deref()),
        Command::Schema { prompt, markdown } => {
            print_description(prompt, markdown);
            Ok(())
        }
        Command::Sim { listen } => serve::simulate(listen, arguments.log),
        Command::Load(arguments) => load_command::load(*arguments),
        Command::Health { url } => serve::runtime().and_then(|it| it.block_on(health::ask(&url))),
        Command::Token { sub, ttl, models, issuer } => {
            let wish = Wish { subject: &sub, lifetime: ttl, models: &models };
            token(arguments.config.as_deref(), issuer.as_deref(), &wish)
        }
        Command::Key { action: Key::New { name } } => new_key(&name),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            print_line(&mut std::io::stderr(), &failure.message);
            ExitCode::from(failure.code)
        }
    }
}

/// Why the program ends early: what it says on standard error, and its exit status.
pub(crate) struct CliError {
    message: String,
    code: u8,
}

impl CliError {
    /// Something did not work.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1 }
    }

    /// The configuration is wrong.
    pub(crate) fn configuration(problems: &(impl ToString + ?Sized)) -> Self {
        Self { message: problems.to_string(), code: 2 }
    }
}

/// Prints a line. A reader who is gone is no reason to fail.
pub(crate) fn print_line(to: &mut impl Write, line: &str) {
    let _gone = writeln!(to, "{line}");
}

/// The configuration that a command cannot do without.
fn load<'f>(file: Option<&'f Path>, what_for: &str) -> Result<(&'f Path, Config), CliError> {
    let file = file.ok_or_else(|| {
        CliError::configuration(&format!(
            "no configuration {what_for}; name one with --config FILE or STREAMGATE_CONFIG"
        ))
    })?;
    let config =
        config::load(file, &config::env).map_err(|problems| CliError::configuration(&problems))?;
    Ok((file, config))
}

fn check(file: Option<&Path>) -> Result<(), CliError> {
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
    Ok(())
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

/// The token goes to standard output, alone, so that a shell can take it from there.
fn token(file: Option<&Path>, issuer: Option<&str>, wish: &Wish<'_>) -> Result<(), CliError> {
    let (_, config) = load(file, "with an issuer")?;
    let token = mint(&config.auth.issuers, issuer, wish, unix_seconds())
        .map_err(|wrong| CliError::configuration(&wrong))?;
    print_line(&mut std::io::stdout(), &token);
    Ok(())
}

/// The key goes to standard output once; only its digest is kept, by whoever pastes the line.
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
