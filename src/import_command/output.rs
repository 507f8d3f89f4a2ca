//! Text of an imported configuration, with the notes as comments. It must never contain a caller's key.

use std::fmt::Write;

use streamgate::config;

use super::Note;
use super::deployment::Fields;
use super::litellm::{Imported, Model};
use crate::yaml_text::scalar;

/// The whole file; `name` is that of the imported one.
pub(super) fn text(imported: &Imported, name: &str) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    write_text(imported, name, &mut out).unwrap_or_default();
    out
}

fn write_text(imported: &Imported, name: &str, out: &mut String) -> std::fmt::Result {
    writeln!(out, "# Imported from {} by `streamgate import litellm`.", comment(name))?;
    if !imported.notes.is_empty() {
        writeln!(out, "#\n# Not carried over as it was (the line in that file, and the reason):")?;
    }
    for Note { line, message } in &imported.notes {
        writeln!(out, "#   {line}: {}", comment(message))?;
    }
    writeln!(
        out,
        "\nserver:\n  listen: \"127.0.0.1:8080\"     # LiteLLM's own is 0.0.0.0:4000\n\n\
         # LiteLLM's master key, as its digest.\nauth:\n  keys:\n    {}",
        config::key_line("master", &imported.digest)
    )?;
    if !imported.stream.is_empty() {
        writeln!(out, "\nstream:")?;
        for (key, value) in &imported.stream {
            writeln!(out, "  {key}: {value}")?;
        }
    }
    if !imported.providers.is_empty() {
        writeln!(out, "\nproviders:")?;
    }
    for provider in &imported.providers {
        writeln!(out, "  {}:", scalar(&provider.name))?;
        for (key, value) in &provider.fields {
            writeln!(out, "    {key}: {value}")?;
        }
    }
    if !imported.models.is_empty() {
        writeln!(out, "\n# Targets are tried in order, until the first token.\nmodels:")?;
    }
    imported.models.iter().try_for_each(|model| write_model(model, out))
}

fn write_model(model: &Model, out: &mut String) -> std::fmt::Result {
    writeln!(out, "  {}:\n    targets:", scalar(&model.name))?;
    for target in &model.targets {
        let more = inline(&target.fields);
        let more = if more.is_empty() { more } else { format!(", {more}") };
        let (provider, name) = (scalar(&target.provider), scalar(&target.model));
        writeln!(out, "      - {{ provider: {provider}, model: {name}{more} }}")?;
    }
    if !model.limits.is_empty() {
        writeln!(out, "    limits: {{ {} }}", inline(&model.limits))?;
    }
    Ok(())
}

fn inline(fields: &Fields) -> String {
    let fields: Vec<String> = fields.iter().map(|(key, value)| format!("{key}: {value}")).collect();
    fields.join(", ")
}

/// A text within a comment: on one line.
fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
