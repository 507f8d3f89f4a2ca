//! The command line: arguments, telemetry, serving and draining. The only place that exits.

mod channel_command;
mod chat_command;
mod cli;
mod completions_command;
mod doctor_command;
mod explain_command;
mod gateway_client;
mod health;
mod help;
mod import_command;
mod init_command;
mod launch_command;
mod load_command;
mod new_file;
mod port_holder;
mod reload;
mod serve;
mod usage_command;
mod yaml_text;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cli::{Arguments, Command, Key};
use doctor_command::DoctorArguments;
use streamgate::config::{self, Config, ConfigError, ConfigErrors};
use streamgate::gateway::auth::mint::{Wish, mint};
use streamgate::gateway::clock::unix_seconds;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let Arguments { command, config, listen: address, log } = help::parse();
    let outcome = match command.unwrap_or(Command::Serve { file: None, listen: None }) {
        Command::Serve { file, listen } => {
            serve::serve(config_file(file.or(config)), listen.or(address), log)
        }
        Command::Check { file, online } => check(config_file(file.or(config)).as_deref(), online),
        Command::Init(wanted) => init_command::init(*wanted),
        Command::Doctor(wanted) => {
            let file = config_file(wanted.file.clone().or(config));
            doctor_command::doctor(&wanted, file.as_deref())
        }
        Command::Explain(wanted) => {
            let file = config_file(wanted.file.clone().or(config));
            explain_command::explain(&wanted, file.as_deref())
        }
        Command::Usage(wanted) => usage_command::usage(&wanted, config_file(config).as_deref()),
        Command::Import { source } => import_command::import(&source),
        Command::Chat(wanted) => {
            serve::runtime().and_then(|it| it.block_on(chat_command::chat(*wanted)))
        }
        Command::Launch(wanted) => {
            let file = config_file(config);
            let launching = launch_command::launch(*wanted, file.as_deref());
            serve::runtime().and_then(|it| it.block_on(launching))
        }
        Command::Schema { prompt, markdown } => {
            print_description(prompt, markdown);
            Ok(())
        }
        Command::Sim { listen } => serve::simulate(listen, log),
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
            token(config_file(config).as_deref(), issuer.as_deref(), &wish)
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

    /// Errors of the configuration file.
    pub(crate) fn of_file(errors: &ConfigErrors) -> Self {
        Self::configuration(&shown(errors))
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

/// The configuration file's name in the working directory.
const CONFIG_FILE: &str = "streamgate.yaml";

/// The configuration file: the one that is named, or else the one in the working directory.
fn config_file(named: Option<PathBuf>) -> Option<PathBuf> {
    named.or_else(|| Some(PathBuf::from(CONFIG_FILE)).filter(|file| file.exists()))
}

/// Loads the configuration of a command that needs one. `purpose` completes "no configuration ...".
fn load<'f>(file: Option<&'f Path>, purpose: &str) -> Result<(&'f Path, Config), CliError> {
    let file = file.ok_or_else(|| {
        CliError::configuration(&format!(
            "no configuration {purpose}: there is no ./{CONFIG_FILE}; name a file with --config FILE or STREAMGATE_CONFIG"
        ))
    })?;
    let config = config::load(file, &config::env).map_err(|errors| CliError::of_file(&errors))?;
    Ok((file, config))
}

/// Errors of a file; at a terminal with the lines that they are about.
fn shown(errors: &ConfigErrors) -> String {
    if std::io::stderr().is_terminal() { config::with_excerpts(errors) } else { errors.to_string() }
}

fn check(file: Option<&Path>, online: bool) -> Result<(), CliError> {
    let (file, config) = load(file, "to check")?;
    let warnings = config
        .warnings
        .iter()
        .cloned()
        .map(|warning| ConfigError { message: format!("warning: {}", warning.message), ..warning });
    let warnings = ConfigErrors {
        path: file.to_owned(),
        list: warnings.collect(),
        sources: config.sources.clone(),
    };
    if !warnings.list.is_empty() {
        print_line(&mut std::io::stderr(), &shown(&warnings));
    }
    let found = [
        (config.providers.len(), "provider"),
        (config.models.len(), "model"),
        (config.auth.keys.len(), "key"),
        (config.auth.issuers.len(), "token issuer"),
        (config.prompts.count(), "prompt"),
        (config.warnings.len(), "warning"),
    ];
    let found = found.map(|(number, noun)| counted(number, noun)).join(", ");
    print_line(&mut std::io::stdout(), &format!("{}: ok ({found})", file.display()));
    if online { doctor_command::examine(&config, &DoctorArguments::default()) } else { Ok(()) }
}

/// A number of things: `1 key`, `2 keys`.
fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
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
