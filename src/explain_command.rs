//! Explain command (`streamgate explain`): the targets that a request may be sent to, and the reasons. It must never send
//! anything.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Args;
use streamgate::config::{self, Config, RequestFacts};
use streamgate::gateway::auth::Caller;
use streamgate::gateway::limit::{TokenDemand, prompt_tokens};
use streamgate::gateway::route;
use streamgate::gateway::route_explanation::RouteExplanation;
use streamgate::wire::dialect::{CallerDialect, Envelope, Form, RequestView, caller_dialects};
use streamgate::wire::request_features::RequestFeatures;

use crate::{CliError, print_line};

/// The most bytes of a request.
const MAX_REQUEST: u64 = 32 << 20;

const AFTER_HELP: &str = "\
Examples:
  streamgate explain --model chat                             the targets of a model, in order
  streamgate explain --request request.json streamgate.yaml   and the ones that a request does not fit into
  streamgate explain --model chat --json | jq .tiers

Health, load and cooldowns are those of a running gateway: GET /status/targets on its operators' listener.";

/// The options of `streamgate explain`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ExplainArguments {
    /// The configuration file, in place of `--config`.
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The model that the caller asks for; that of the request by default.
    #[arg(long, value_name = "NAME", required_unless_present = "request")]
    model: Option<String>,
    /// A caller's request: a file with its body, or `-` for standard input.
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,
    /// The dialect of the request: openai-chat, openai-responses, anthropic and so on.
    #[arg(long, value_name = "NAME", default_value = "openai-chat")]
    dialect: String,
    /// The name of the key that the caller has: only the models that it may use.
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

/// Prints the explanation.
pub(crate) fn explain(arguments: &ExplainArguments, file: Option<&Path>) -> Result<(), CliError> {
    let config = match file {
        Some(file) => {
            config::load(file, &config::env).map_err(|errors| CliError::of_file(&errors))?
        }
        None => {
            config::without_file(&config::env, SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)), "")
        }
    };
    let wrong = |error: streamgate::error::Error| CliError::configuration(&error.shown().message);
    let Asked { model, demand, facts } = asked(arguments)?;
    let caller = caller(&config, arguments.key.as_deref())?;
    let mut plan = route::plan(&config, &caller, &model).map_err(wrong)?;
    plan.demand = demand;
    let unmet =
        facts.map(|facts| plan.leave_out_unmet(&facts, warn_of)).transpose().map_err(wrong)?;
    let small = plan.leave_out_small();
    let explanation = RouteExplanation::of(&plan, (&unmet.unwrap_or_default(), &small));
    let text = if arguments.json {
        format!("{:#}", serde_json::to_value(&explanation).unwrap_or_default())
    } else {
        explanation.to_string()
    };
    print_line(&mut std::io::stdout(), &text);
    Ok(())
}

/// A request, as far as routing depends on it.
struct Asked {
    model: String,
    demand: TokenDemand,
    /// Unknown without a request.
    facts: Option<RequestFacts>,
}

fn asked(arguments: &ExplainArguments) -> Result<Asked, CliError> {
    let Some(file) = &arguments.request else {
        let model = arguments.model.clone().unwrap_or_default();
        return Ok(Asked { model, demand: TokenDemand::default(), facts: None });
    };
    let body = read(file)?;
    let named = caller_dialects().find(|dialect| dialect.name() == arguments.dialect);
    let dialect = named.ok_or_else(|| {
        let names: Vec<&str> = caller_dialects().map(CallerDialect::name).collect();
        let expected = names.join(", ");
        CliError::configuration(&format!(
            "--dialect is {}; expected one of {expected}",
            arguments.dialect
        ))
    })?;
    let envelope = envelope(dialect, &body, arguments.model.as_deref())
        .map_err(|message| CliError::configuration(&format!("{}: {message}", file.display())))?;
    let Envelope { model, max_output, choices, stream, .. } = envelope;
    let model = arguments.model.clone().unwrap_or(model);
    let input = prompt_tokens(&body);
    let facts = RequestFacts {
        caller: arguments.key.as_deref().unwrap_or("operator").into(),
        model: model.clone(),
        dialect: dialect.name(),
        stream,
        features: RequestFeatures::of(&body),
        input_tokens: input,
        max_output,
    };
    let demand = TokenDemand { input, max_output, choices };
    Ok(Asked { model, demand, facts: Some(facts) })
}

/// Reads the envelope of a request for a chat.
fn envelope(
    dialect: &dyn CallerDialect,
    body: &str,
    model: Option<&str>,
) -> Result<Envelope, String> {
    let endpoint = dialect.endpoints().iter().find(|endpoint| endpoint.form == Form::Chat);
    let endpoint = endpoint.ok_or_else(|| format!("{} has no chats", dialect.name()))?;
    let path = match (endpoint.is_open(), model) {
        (false, _) => endpoint.path.to_owned(),
        (true, Some(model)) => format!("{}{model}:generateContent", endpoint.prefix()),
        (true, None) => return Err("the model is in the path; name it with --model".to_owned()),
    };
    let view = RequestView { form: Form::Chat, path: &path, query: "", body };
    dialect.envelope(&view).map_err(|error| error.message)
}

fn read(file: &Path) -> Result<String, CliError> {
    let failed = |error: std::io::Error| {
        CliError::configuration(&format!("{} cannot be read: {error}", file.display()))
    };
    if file == Path::new("-") {
        return std::io::read_to_string(std::io::stdin()).map_err(failed);
    }
    if std::fs::metadata(file).map_err(failed)?.len() > MAX_REQUEST {
        return Err(CliError::configuration(&format!("{} is larger than 32 MiB", file.display())));
    }
    std::fs::read_to_string(file).map_err(failed)
}

/// A caller with a key of the configuration, or one that may use every model.
fn caller(config: &Config, key: Option<&str>) -> Result<Caller, CliError> {
    let Some(name) = key else { return Ok(Caller::operator(&["*".to_owned()])) };
    let found = config.auth.keys.iter().find(|key| key.name == name);
    let found = found.ok_or_else(|| {
        let names: Vec<&str> = config.auth.keys.iter().map(|key| key.name.as_str()).collect();
        CliError::configuration(&format!("--key is {name}; expected one of {}", names.join(", ")))
    })?;
    Ok(Caller::operator(&found.models))
}

fn warn_of(target: &config::Target, error: &str) {
    let line = format!("warning: the condition of {target} cannot be evaluated: {error}");
    print_line(&mut std::io::stderr(), &line);
}
