//! Text of an imported configuration, with the notes as comments. It must never contain a caller's key.

use std::fmt::Write;

use streamgate::config;

use super::Note;
use super::deployment::Fields;
use super::litellm::{Imported, Model, Target};
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
         # {}\nauth:\n  keys:\n    {}",
        match imported.new_key {
            Some(_) => "A new key, as its digest: there was no master key to read.",
            None => "LiteLLM's master key, as its digest.",
        },
        config::key_line("master", &imported.digest)
    )?;
    for (section, fields) in [("stream", &imported.stream), ("health", &imported.health)] {
        if !fields.is_empty() {
            writeln!(out, "\n{section}:")?;
        }
        for (key, value) in fields {
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
    let balanced = imported.models.iter().any(Model::is_balanced);
    if !imported.models.is_empty() {
        let comment = if balanced { BALANCED } else { ORDERED };
        writeln!(out, "\n{comment}\nmodels:")?;
    }
    imported.models.iter().try_for_each(|model| write_model(model, imported.pick, out))
}

/// Comments on the models: that each target is a tier of its own, or not.
const ORDERED: &str =
    "# Targets are tried in order, until the first token; those that keep failing come last.";
const BALANCED: &str = "# Targets of one tier share the requests by `pick`; the next tier serves when none of them can. Without a `pick`, targets\n\
                        # are tried in order.";

fn write_model(model: &Model, pick: &str, out: &mut String) -> std::fmt::Result {
    writeln!(out, "  {}:", scalar(&model.name))?;
    let balanced = model.is_balanced();
    if balanced {
        writeln!(out, "    pick: {pick}")?;
    }
    writeln!(out, "    targets:")?;
    for target in &model.targets {
        let Target { provider, model, place, fields } = target;
        write!(out, "      - {{ provider: {}, model: {}", scalar(provider), scalar(model))?;
        if balanced && pick == "weighted" && place.weight != 1 {
            write!(out, ", weight: {}", place.weight)?;
        }
        if balanced && place.tier > 1 {
            write!(out, ", tier: {}", place.tier)?;
        }
        for (key, value) in fields {
            write!(out, ", {key}: {value}")?;
        }
        writeln!(out, " }}")?;
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
