//! Launch command (`streamgate launch`): starts a coding agent whose requests go to a gateway. It must never write an
//! agent's own files, nor pass a key as an argument, which other users of the machine can read.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use streamgate::config::{self, IssuerKeys};
use streamgate::gateway::auth::mint::{Wish, mint};
use streamgate::gateway::clock::unix_seconds;
use tokio::time::timeout;

use crate::gateway_client::Server;
use crate::{CliError, print_line};

/// The name of the provider in the agents' own settings.
const PROVIDER: &str = "streamgate";
/// The variable from which agents read the key.
const KEY: &str = "STREAMGATE_KEY";

/// Gemini CLI's way to authenticate with a key.
const GEMINI_AUTH: &str = "gemini-api-key";

/// The time for a look at the gateway.
const PATIENCE: Duration = Duration::from_secs(3);

/// The lifetime of a token: a day's work.
const LIFETIME: Duration = Duration::from_hours(12);

const AFTER_HELP: &str = "\
Examples:
  streamgate launch claude                        Claude Code, with the names of its own models
  streamgate launch codex --model fast -- exec 'fix the tests'
  eval \"$(streamgate launch aider --model fast --print)\"; aider

With --config, and an issuer with a `secret` under `auth.jwt`, the agent gets a token that expires (--ttl). Otherwise it gets
the key of --key or STREAMGATE_KEY. What each agent needs of the configuration: docs/agents/.";

/// The options of `streamgate launch`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct LaunchArguments {
    /// The agent.
    agent: Agent,
    /// Arguments for the agent, after `--`.
    #[arg(last = true, value_name = "ARGS")]
    arguments: Vec<OsString>,
    #[command(flatten)]
    server: Server,
    /// The model; by default the agent's own choice, or the gateway's first one for opencode and aider.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Print `export` lines for a shell instead of starting the agent.
    #[arg(long)]
    print: bool,
    /// Lifetime of the token [default: 12h, or less if the issuer allows less].
    #[arg(long, value_name = "DURATION", value_parser = crate::cli::duration)]
    ttl: Option<Duration>,
    /// Subject of the token: the caller's name.
    #[arg(long, value_name = "NAME", default_value = "launch")]
    sub: String,
    /// The issuer, if the configuration has several with a `secret`.
    #[arg(long)]
    issuer: Option<String>,
}

/// The agents that can be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Agent {
    /// Claude Code.
    Claude,
    /// Codex CLI.
    Codex,
    /// Gemini CLI.
    Gemini,
    /// opencode.
    Opencode,
    /// aider.
    Aider,
}

impl Agent {
    /// The program, and its own page on installing it.
    fn program(self) -> (&'static str, &'static str) {
        match self {
            Self::Claude => ("claude", "https://code.claude.com/docs"),
            Self::Codex => ("codex", "https://developers.openai.com/codex/cli"),
            Self::Gemini => ("gemini", "https://geminicli.com/docs"),
            Self::Opencode => ("opencode", "https://opencode.ai/docs"),
            Self::Aider => ("aider", "https://aider.chat/docs/install.html"),
        }
    }

    /// Whether it has no names of models of its own.
    fn needs_model(self) -> bool {
        matches!(self, Self::Opencode | Self::Aider)
    }
}

/// The environment and the arguments that point an agent to a gateway.
struct Settings {
    environment: Vec<(&'static str, String)>,
    arguments: Vec<String>,
}

/// Starts an agent, in the place of this process, or prints its environment.
pub(crate) async fn launch(
    arguments: LaunchArguments,
    file: Option<&Path>,
) -> Result<(), CliError> {
    let LaunchArguments { agent, server, model, print, .. } = &arguments;
    let key = match token(&arguments, file)? {
        Some(token) => token,
        None if server.key.is_empty() => {
            return Err(CliError::configuration(
                "no key for the agent; give a key of the gateway with --key or STREAMGATE_KEY (a start without a \
                 configuration prints one, `streamgate key new` makes one), or name a configuration with an issuer \
                 that has a `secret` (--config)",
            ));
        }
        None => server.key.clone(),
    };
    let server = Server { url: server.url.clone(), key };
    let models = match model {
        Some(model) => vec![model.clone()],
        None if agent.needs_model() => server.models(&server.client()?).await?,
        None => Vec::new(),
    };
    if models.is_empty() && agent.needs_model() {
        return Err(CliError::new(
            "the gateway lists no model for this key; name one with --model",
        ));
    }
    let settings = settings(*agent, &server, &models)?;
    if let Some(hint) = gemini_hint().filter(|_| *agent == Agent::Gemini) {
        print_line(&mut std::io::stderr(), hint);
    }
    if *print {
        if let Some(warning) = unusable(&server, model.as_deref()).await {
            print_line(&mut std::io::stderr(), &format!("warning: {warning}"));
        }
        print_settings(*agent, &settings, &arguments.arguments);
        return Ok(());
    }
    let (program, page) = agent.program();
    let mut command = Command::new(program);
    command.args(settings.arguments).args(&arguments.arguments).envs(settings.environment);
    // Returns only if the program cannot be started.
    let error = command.exec();
    let remedy = if error.kind() == std::io::ErrorKind::NotFound {
        format!("; it is not in PATH: install it ({page})")
    } else {
        String::new()
    };
    Err(CliError::new(format!("cannot start `{program}`: {error}{remedy}")))
}

/// The reason for which an agent could not use the gateway, or the model, now.
async fn unusable(server: &Server, model: Option<&str>) -> Option<String> {
    let client = server.client().ok()?;
    let models = match timeout(PATIENCE, server.models(&client)).await {
        Ok(Ok(models)) => models,
        Ok(Err(error)) => return Some(error.message),
        Err(_) => return Some(format!("{} does not respond", server.url)),
    };
    let model = model.filter(|model| !models.iter().any(|known| known == model))?;
    Some(format!("the gateway does not list the model `{model}` for this key"))
}

/// A token of an issuer of the configuration. `None`: there is no configuration, or no issuer with a secret.
fn token(arguments: &LaunchArguments, file: Option<&Path>) -> Result<Option<String>, CliError> {
    let Some(file) = file else {
        return Ok(None);
    };
    let config = config::load(file, &config::env).map_err(|errors| CliError::of_file(&errors))?;
    let issuers = &config.auth.issuers;
    let mut able = issuers.iter().filter(|it| {
        let named = arguments.issuer.as_ref().is_none_or(|name| it.name == *name);
        named && matches!(it.keys, IssuerKeys::Shared(_))
    });
    let issuer = able.next();
    if issuer.is_none() && arguments.issuer.is_none() {
        return Ok(None);
    }
    let longest = issuer.and_then(|issuer| issuer.max_lifetime).unwrap_or(LIFETIME);
    let lifetime = arguments.ttl.unwrap_or_else(|| LIFETIME.min(longest));
    let wish = Wish { subject: &arguments.sub, lifetime, models: &[] };
    mint(issuers, arguments.issuer.as_deref(), &wish, unix_seconds())
        .map(Some)
        .map_err(|error| CliError::configuration(&error))
}

fn settings(agent: Agent, server: &Server, models: &[String]) -> Result<Settings, CliError> {
    let root = server.at(&[])?.to_string().trim_end_matches('/').to_owned();
    let versioned = server.at(&["v1"])?.to_string();
    let key = server.key.clone();
    let model = models.first().cloned();
    let (environment, arguments) = match agent {
        Agent::Claude => {
            let mut environment = vec![("ANTHROPIC_BASE_URL", root), ("ANTHROPIC_AUTH_TOKEN", key)];
            for name in ["ANTHROPIC_MODEL", "ANTHROPIC_DEFAULT_HAIKU_MODEL"] {
                environment.extend(model.clone().map(|model| (name, model)));
            }
            (environment, Vec::new())
        }
        Agent::Codex => (vec![(KEY, key)], codex_arguments(&versioned, model)),
        Agent::Gemini => {
            let mut environment = vec![
                ("GOOGLE_GEMINI_BASE_URL", root),
                ("GEMINI_API_KEY", key),
                ("GEMINI_DEFAULT_AUTH_TYPE", GEMINI_AUTH.to_owned()),
            ];
            environment.extend(model.map(|model| ("GEMINI_MODEL", model)));
            (environment, Vec::new())
        }
        Agent::Opencode => {
            let content = opencode_content(&versioned, models);
            (vec![(KEY, key), ("OPENCODE_CONFIG_CONTENT", content)], Vec::new())
        }
        Agent::Aider => {
            let mut environment = vec![("OPENAI_API_BASE", versioned), ("OPENAI_API_KEY", key)];
            environment.extend(model.map(|model| ("AIDER_MODEL", format!("openai/{model}"))));
            (environment, Vec::new())
        }
    };
    Ok(Settings { environment, arguments })
}

/// Codex reads settings of a provider from its configuration only, which arguments override.
fn codex_arguments(base_url: &str, model: Option<String>) -> Vec<String> {
    // A JSON string is a TOML string, too.
    let text = |text: &str| Value::from(text).to_string();
    let mut settings = vec![format!("model_provider={}", text(PROVIDER))];
    for (name, value) in [
        ("name", "Streamgate"),
        ("base_url", base_url),
        ("env_key", KEY),
        ("wire_api", "responses"),
    ] {
        settings.push(format!("model_providers.{PROVIDER}.{name}={}", text(value)));
    }
    settings.extend(model.map(|model| format!("model={}", text(&model))));
    settings.into_iter().flat_map(|setting| ["--config".to_owned(), setting]).collect()
}

/// A hint if Gemini CLI is not set up to use its key: with another address it refuses to work without this setting, for which
/// it has no variable and no argument.
fn gemini_hint() -> Option<&'static str> {
    let set = |name: &str| config::env(name).filter(|value| !value.is_empty());
    let home = set("GEMINI_CLI_HOME").or_else(|| set("HOME"))?;
    let settings = std::fs::read_to_string(Path::new(&home).join(".gemini/settings.json"));
    let chosen = settings.is_ok_and(|settings| settings.contains(GEMINI_AUTH));
    (!chosen).then_some(
        "gemini uses the key only with this in ~/.gemini/settings.json: \
         { \"security\": { \"auth\": { \"selectedType\": \"gemini-api-key\" } } }; \
         in a terminal it asks once, and `Use Gemini API Key` sets it",
    )
}

/// The settings of opencode, which it merges with those of its files.
fn opencode_content(base_url: &str, models: &[String]) -> String {
    let listed: Map<String, Value> =
        models.iter().map(|model| (model.clone(), json!({ "name": model }))).collect();
    let chosen = models.first().map(|model| format!("{PROVIDER}/{model}"));
    json!({
        "model": chosen,
        "small_model": chosen,
        "provider": { PROVIDER: {
            "npm": "@ai-sdk/openai-compatible",
            "name": "Streamgate",
            "options": { "baseURL": base_url, "apiKey": format!("{{env:{KEY}}}") },
            "models": listed,
        } },
    })
    .to_string()
}

/// Prints `export` lines, and the command if it needs arguments.
fn print_settings(agent: Agent, settings: &Settings, more: &[OsString]) {
    let out = &mut std::io::stdout();
    for (name, value) in &settings.environment {
        print_line(out, &format!("export {name}={}", quoted(value)));
    }
    let more: Vec<_> = more.iter().map(|argument| argument.to_string_lossy()).collect();
    let arguments = settings.arguments.iter().map(String::as_str);
    let words: Vec<String> = arguments.chain(more.iter().map(|word| &**word)).map(quoted).collect();
    if !words.is_empty() {
        print_line(out, &format!("# {} {}", agent.program().0, words.join(" ")));
    }
}

/// A word for a POSIX shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("http://127.0.0.1:8080/v1"), "http://127.0.0.1:8080/v1");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("$(id)'"), r"'$(id)'\'''");
        assert_eq!(quoted(""), "''");
    }
}
