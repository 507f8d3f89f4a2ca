//! Text of a first configuration file, with comments on what is left at its default. It must never contain a key.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use streamgate::config;

use super::choices::Choice;
use crate::yaml_text::scalar;

/// The answers that make a file.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) providers: Vec<&'static Choice>,
    /// Names for models, and their targets: `provider/model`.
    pub(super) models: Vec<(String, Target)>,
    pub(super) listen: SocketAddr,
    pub(super) admin: Option<SocketAddr>,
    pub(super) key_name: String,
    pub(super) origins: Vec<String>,
    /// Whether this machine has been searched for model servers.
    pub(super) detected: bool,
}

/// A provider's name, and a model's name there.
pub(super) type Target = (String, String);

impl Plan {
    /// The address by which callers on this machine reach the listener.
    pub(super) fn callers_address(&self) -> SocketAddr {
        let mut address = self.listen;
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        address
    }
}

/// Reads `NAME=PROVIDER/MODEL`.
pub(super) fn model(text: &str) -> Result<(String, Target), String> {
    let parts = text.split_once('=').and_then(|(name, target)| {
        let (provider, model) = target.split_once('/')?;
        let parts = [name, provider, model].map(|part| part.trim().to_owned());
        parts.iter().all(|part| !part.is_empty()).then_some(parts)
    });
    let [name, provider, model] = parts.ok_or_else(|| {
        format!(
            "`{text}` names no model; expected NAME=PROVIDER/MODEL, such as fast=openai/gpt-4o-mini"
        )
    })?;
    Ok((name, (provider, model)))
}

/// The file's text. `key` is the caller's, of which only the digest is written.
pub(super) fn text(plan: &Plan, output: &Path, key: &str) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    write_text(plan, output, key, &mut text).unwrap_or_default();
    text
}

fn write_text(plan: &Plan, output: &Path, key: &str, out: &mut String) -> std::fmt::Result {
    let file = match output.to_str() {
        Some("-") | None => "streamgate.yaml",
        Some(file) => file,
    };
    writeln!(
        out,
        "# Configuration of Streamgate. `streamgate schema --markdown` prints the reference of every key.\n\
         #\n\
         #   streamgate check --online --config {file}   reports errors, then asks the providers\n\
         #   streamgate --config {file}                  serves; a change of this file is read at once\n\
         #\n\
         # `${{NAME}}` is an environment variable, `${{file:PATH}}` the content of a file.\n\n\
         server:\n  listen: {listen}",
        listen = scalar(&plan.listen.to_string()),
    )?;
    match plan.admin {
        Some(admin) => writeln!(out, "  admin: {}", scalar(&admin.to_string()))?,
        None => writeln!(
            out,
            "  # admin: 127.0.0.1:9090         # the operators' listener: /metrics, health"
        )?,
    }
    if plan.origins.is_empty() {
        writeln!(
            out,
            "  # cors: {{ origins: [\"https://chat.example.com\"] }}   # pages that may call"
        )?;
    } else {
        let origins: Vec<String> = plan.origins.iter().map(|origin| scalar(origin)).collect();
        writeln!(out, "  cors: {{ origins: [{}] }}", origins.join(", "))?;
    }
    writeln!(out, "  # tls: {{ cert: cert.pem, key: key.pem }}              # HTTPS")?;
    writeln!(
        out,
        "\n# Callers. `streamgate key new --name NAME` makes further keys; only their digests are stored.\n\
         auth:\n  keys:\n    {}",
        config::key_line(&plan.key_name, &config::digest(key))
    )?;
    writeln!(
        out,
        "\n# Limits of every caller.\n\
         # limits:\n#   requests_per_minute: 600\n#   tokens_per_minute: none\n#   concurrent_streams: 100"
    )?;
    write_providers(plan, out)?;
    write_models(plan, out)
}

fn write_providers(plan: &Plan, out: &mut String) -> std::fmt::Result {
    writeln!(
        out,
        "\n# Upstream accounts. Callers may ask for any of their models as `provider/model`.\nproviders:"
    )?;
    for choice in &plan.providers {
        let preset = scalar(choice.name);
        match choice.variable() {
            Some(variable) => {
                writeln!(out, "  {preset}: {{ preset: {preset}, api_key: \"${{{variable}}}\" }}")?;
            }
            None => writeln!(out, "  {preset}: {{ preset: {preset} }}")?,
        }
    }
    if plan.providers.is_empty() {
        writeln!(
            out,
            "  # The simulated upstream: `streamgate sim` serves it, and it needs no key.\n  \
             sim: {{ dialect: openai-chat, base_url: \"http://127.0.0.1:9200/v1\", list_models: false }}\n  \
             # openai: {{ preset: openai, api_key: \"${{OPENAI_API_KEY}}\" }}"
        )?;
    }
    writeln!(
        out,
        "  # another: {{ dialect: openai-chat, base_url: \"https://llm.example.com/v1\", api_key: \"${{ANOTHER_API_KEY}}\" }}"
    )
}

fn write_models(plan: &Plan, out: &mut String) -> std::fmt::Result {
    writeln!(out, "\n# Names for models. Targets are tried in order, until the first token.")?;
    if plan.models.is_empty() {
        let Some(choice) = plan.providers.first() else {
            return writeln!(
                out,
                "models:\n  sim:\n    targets:\n      - {{ provider: sim, model: sim }}"
            );
        };
        return writeln!(
            out,
            "# models:\n#   fast:\n#     targets:\n#       - {{ provider: {}, model: MODEL }}",
            scalar(choice.name)
        );
    }
    writeln!(out, "models:")?;
    for (name, (provider, model)) in &plan.models {
        writeln!(
            out,
            "  {}:\n    targets:\n      - {{ provider: {}, model: {} }}",
            scalar(name),
            scalar(provider),
            scalar(model)
        )?;
    }
    Ok(())
}
