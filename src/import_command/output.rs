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
        key_line(imported)
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
    let choice = (imported.pick, imported.retries);
    imported.models.iter().try_for_each(|model| write_model(model, choice, out))
}

/// The caller's key, which may ask for the models of the file, as there, and not for others of the same providers.
fn key_line(imported: &Imported) -> String {
    let line = config::key_line("master", &imported.digest);
    match (&imported.permitted, line.strip_suffix(" }")) {
        (Some(names), Some(open)) => {
            let names: Vec<String> = names.iter().map(|name| scalar(name)).collect();
            format!("{open}, models: [{}] }}", names.join(", "))
        }
        _ => line,
    }
}

/// Comments on the models: that each target is a tier of its own, or not.
const ORDERED: &str =
    "# Targets are tried in order, until the first token; those that keep failing come last.";
const BALANCED: &str = "# Targets of one tier share the requests by `pick`; the next tier serves when none of them can. Without a `pick`, targets\n\
                        # are tried in order.";

fn write_model(
    model: &Model,
    (pick, retries): (&str, Option<u32>),
    out: &mut String,
) -> std::fmt::Result {
    writeln!(out, "  {}:", scalar(&model.name))?;
    let balanced = model.is_balanced();
    if balanced {
        writeln!(out, "    pick: {pick}")?;
    }
    writeln!(out, "    targets:")?;
    for target in &model.targets {
        let place = target.place;
        write!(out, "      - {{ {}", fields(target))?;
        if balanced && pick == "weighted" && place.weight != 1 {
            write!(out, ", weight: {}", place.weight)?;
        }
        if balanced && place.tier > 1 {
            write!(out, ", tier: {}", place.tier)?;
        }
        writeln!(out, " }}")?;
    }
    if let Some(retries) = retries {
        writeln!(out, "    retry: {{ same_target: {retries} }}")?;
    }
    if model.fallback.iter().any(|targets| !targets.is_empty()) {
        writeln!(out, "    fallback:")?;
    }
    for (key, targets) in ["context", "content_policy"].into_iter().zip(&model.fallback) {
        if !targets.is_empty() {
            writeln!(out, "      {key}:")?;
        }
        for target in targets {
            writeln!(out, "        - {{ {} }}", fields(target))?;
        }
    }
    if !model.limits.is_empty() {
        writeln!(out, "    limits: {{ {} }}", inline(&model.limits))?;
    }
    Ok(())
}

/// The fields of a target, but for its place.
fn fields(target: &Target) -> String {
    let Target { provider, model, fields, .. } = target;
    let mut text = format!("provider: {}, model: {}", scalar(provider), scalar(model));
    for (key, value) in fields {
        text.extend([", ", key, ": ", value]);
    }
    text
}

fn inline(fields: &Fields) -> String {
    let fields: Vec<String> = fields.iter().map(|(key, value)| format!("{key}: {value}")).collect();
    fields.join(", ")
}

/// A text within a comment: on one line.
fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
