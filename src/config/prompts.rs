//! The files of prompts: one version of a prompt each. What is wrong with one is told with its own
//! name and line, and is no error of the others. Nothing in these files is expanded: a `${...}` is
//! text like any other.

use std::path::Path;
use std::sync::Arc;

use super::error::{ConfigError, Location};
use super::provider::is_name;
use super::raw::{Reader, Table, one_of, shown};
use super::tree::{self, Node, Value};
use super::units;
use crate::prompts::{
    MAX_VALUE, Prompt, Prompts, Scalar, Template, TemplateError, Variable, Version,
};
use crate::wire::chat::{Parameters, Role};

const NAME: &str = "at most 64 letters, digits, `-`, `_` and `.`";
const ROLES: [(&str, Role); 3] =
    [("system", Role::System), ("user", Role::User), ("assistant", Role::Assistant)];

/// The most messages of a prompt.
const MAX_MESSAGES: usize = 64;

/// Reads the prompts that the `prompts` section names; `is_model` says which models there are.
pub(super) fn prompts(
    reader: &mut Reader<'_>,
    root: &Table<'_>,
    is_model: &dyn Fn(&str) -> bool,
) -> Prompts {
    let mut prompts = Prompts::default();
    let table = reader.section(root, "prompts", &["dir"]);
    let expected = "the directory of the prompts' files";
    if root.get("prompts").is_some_and(|node| matches!(node.value, Value::Table(_))) {
        reader.require(&table, "dir", expected);
    }
    let (Some(node), Some(name)) = (table.get("dir"), reader.text_of(&table, "dir")) else {
        return prompts;
    };
    let directory = reader.source.dir.join(&name);
    let files = match reader.source.sources.list(&directory) {
        Ok(files) => files,
        Err(error) => {
            let (name, error) = (shown(&name), error.kind());
            let message = format!("`dir` names {name} ({error}); expected a readable directory");
            reader.report(node.at, message);
            return prompts;
        }
    };
    for path in files {
        let mut errors = Vec::new();
        let prompt = file(reader, &path, is_model, &mut errors);
        if let (Some(prompt), true) = (prompt, errors.is_empty())
            && let Err(there) = prompts.add(Arc::new(prompt))
        {
            let other = there.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let (id, version) = (&there.id, there.version.as_str());
            errors.push(Location::FILE.error(format!(
                "prompt `{id}` has its version `{version}` in {other} already; expected another \
                 `version`"
            )));
        }
        reader.add(&path, errors);
    }
    prompts
}

/// Reads a file. Whatever is reported, the prompt is not to be used.
fn file(
    reader: &mut Reader<'_>,
    path: &Path,
    is_model: &dyn Fn(&str) -> bool,
    errors: &mut Vec<ConfigError>,
) -> Option<Prompt> {
    let read = super::read(path, &mut reader.source.sources);
    let read = read.and_then(|text| Ok((tree::parse(&text, errors)?, text)));
    let (root, text) = read.map_err(|error| errors.push(error)).ok()?;
    let mut reader = Reader::literal(std::mem::take(errors));
    let prompt = prompt(&mut reader, (path, &text), &root, is_model);
    errors.extend(reader.finish().0);
    prompt
}

fn prompt(
    reader: &mut Reader<'_>,
    (path, text): (&Path, &str),
    root: &Node,
    is_model: &dyn Fn(&str) -> bool,
) -> Option<Prompt> {
    let known = ["id", "version", "description", "model", "parameters", "variables", "messages"];
    let table = reader.table("the file", root, &known)?;
    let word = (NAME, |text: &str| is_name(text).then(|| text.to_owned()));
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let (stem, numbered) = stem.split_once('@').unwrap_or((&stem, "1"));
    let named = |text: &str| is_name(text).then(|| text.to_owned());
    let id = reader.field(&table, "id", word).or_else(|| named(stem));
    let version = reader.field(&table, "version", word).or_else(|| named(numbered));
    if id.is_none() || version.is_none() {
        reader.report(
            Location::FILE,
            format!(
                "the file's name cannot name a prompt; expected `ID.yaml` or `ID@VERSION.yaml`, each \
                 of {NAME}, or the fields `id` and `version`"
            ),
        );
    }
    let expected = "a name under `models`, or `provider/model`";
    let model = ("", |name: &str| is_model(name).then(|| name.to_owned()));
    let mut prompt = Prompt {
        id: id.unwrap_or_default(),
        version: Version::new(version.unwrap_or_default()),
        description: reader.text_of(&table, "description"),
        model: reader.field(&table, "model", (expected, model.1)),
        parameters: parameters(reader, &table),
        variables: variables(reader, &table),
        messages: Vec::new(),
        file: path.to_owned(),
    };
    let sources = contents(reader, &table);
    let judge = Judge(text);
    for (role, node) in &sources {
        let template = judge.template(reader, node, &prompt.variables);
        prompt.messages.extend(template.map(|template| (*role, template)));
    }
    if prompt.messages.len() == sources.len() && !reader.has_errors() {
        for (index, error) in prompt.try_out() {
            if let Some((_, node)) = sources.get(index) {
                judge.report(reader, node, &error);
            }
        }
    }
    Some(prompt)
}

fn number(from: f64, to: f64) -> impl Fn(&str) -> Option<f64> {
    move |text| text.parse().ok().filter(|number| (from..=to).contains(number))
}

fn parameters(reader: &mut Reader<'_>, prompt: &Table<'_>) -> Parameters {
    let known = [
        "temperature",
        "top_p",
        "top_k",
        "max_tokens",
        "stop",
        "presence_penalty",
        "frequency_penalty",
        "seed",
    ];
    let table = reader.section(prompt, "parameters", &known);
    let mut decimal =
        |key, expected, from, to| reader.field(&table, key, (expected, number(from, to)));
    let temperature = decimal("temperature", "a number from 0 to 2", 0.0, 2.0);
    let top_p = decimal("top_p", "a number from 0 to 1", 0.0, 1.0);
    let presence_penalty = decimal("presence_penalty", "a number from -2 to 2", -2.0, 2.0);
    let frequency_penalty = decimal("frequency_penalty", "a number from -2 to 2", -2.0, 2.0);
    let above_zero = |text: &str| text.parse().ok().filter(|count: &u64| *count > 0);
    let whole = ("a whole number above zero", above_zero);
    let stop = match table.get("stop") {
        Some(node) if matches!(node.value, Value::Text(_)) => std::slice::from_ref(node),
        _ => reader.list(&table, "stop").unwrap_or_default(),
    };
    Parameters {
        temperature,
        top_p,
        top_k: reader.field(&table, "top_k", whole),
        max_tokens: reader.field(&table, "max_tokens", whole),
        stop: stop.iter().filter_map(|node| reader.text("stop", node)).collect(),
        presence_penalty,
        frequency_penalty,
        seed: reader.field(&table, "seed", ("a whole number", |text: &str| text.parse().ok())),
    }
}

fn variables(reader: &mut Reader<'_>, prompt: &Table<'_>) -> Vec<Variable> {
    let mut variables = Vec::new();
    for (key, node) in reader.entries(prompt, "variables") {
        let name = key.text.clone();
        if !is_variable(&name) {
            let key_shown = shown(&name);
            reader.report(
                key.at,
                format!(
                    "{key_shown} cannot name a variable; expected a letter or `_`, then letters, \
                     digits and `_`"
                ),
            );
        }
        // `name:` with nothing behind it says all there is to say of a required one.
        if matches!(node.value, Value::Null) {
            variables.push(Variable { name, description: None, default: None });
            continue;
        }
        let known = ["description", "default", "required"];
        let Some(table) = reader.table(&name, node, &known) else { continue };
        let default = default(reader, &table);
        let required = reader.field(&table, "required", ("`true` or `false`", units::boolean));
        if required.is_some_and(|required| required == default.is_some()) {
            reader.report(
                node.at,
                format!("{} must be either required or have a default", shown(&name)),
            );
        }
        let description = reader.text_of(&table, "description");
        variables.push(Variable { name, description, default });
    }
    variables
}

fn default(reader: &mut Reader<'_>, variable: &Table<'_>) -> Option<Scalar> {
    match &variable.get("default")?.value {
        // It may be empty, which other texts may not.
        Value::Text(text) if text.len() <= MAX_VALUE => Some(Scalar::from_text(text)),
        _ => reader.text_of(variable, "default").map(Scalar::Text),
    }
}

fn is_variable(name: &str) -> bool {
    const RESERVED: [&str; 12] =
        ["true", "false", "none", "and", "or", "not", "in", "is", "if", "else", "loop", "range"];
    !name.starts_with(|first: char| first.is_ascii_digit())
        && (1..=64).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !RESERVED.contains(&name.to_ascii_lowercase().as_str())
}

/// The messages, templates not yet looked at.
fn contents<'n>(reader: &mut Reader<'_>, prompt: &Table<'n>) -> Vec<(Role, &'n Node)> {
    let items = reader.list(prompt, "messages");
    let count = items.map_or(0, <[Node]>::len);
    if prompt.get("messages").is_none() || items.is_some() && !(1..=MAX_MESSAGES).contains(&count) {
        let at = prompt.get("messages").map_or(prompt.at, |node| node.at);
        let message = format!("`messages` has {count} messages; expected 1 to {MAX_MESSAGES}");
        reader.report(at, message);
    }
    let roles = one_of(ROLES.iter().map(|(name, _)| *name));
    let role = |text: &str| ROLES.iter().find(|(name, _)| *name == text).map(|(_, role)| *role);
    let mut contents = Vec::new();
    for node in items.unwrap_or_default() {
        let Some(table) = reader.table("messages", node, &["role", "content"]) else { continue };
        reader.require(&table, "role", &roles);
        reader.require(&table, "content", "the message's template");
        let role = reader.field(&table, "role", (roles.as_str(), role));
        contents.extend(role.zip(table.get("content")));
    }
    contents
}

/// Judges templates, and finds their lines in the file, whose text it holds.
struct Judge<'a>(&'a str);

impl Judge<'_> {
    fn template(
        &self,
        reader: &mut Reader<'_>,
        node: &Node,
        variables: &[Variable],
    ) -> Option<Template> {
        let source = reader.text("content", node)?;
        let template =
            Template::new(&source).map_err(|error| self.report(reader, node, &error)).ok()?;
        let used = template.variables();
        let known = |name: &str| variables.iter().any(|variable| variable.name == name);
        for name in used.iter().filter(|name| !known(name)) {
            let line = source.lines().position(|line| names(line, name));
            let at = self.place(node, &source, line.map(|index| index + 1));
            let name = shown(name);
            let message =
                format!("the template uses {name}; expected it to be among the `variables`");
            reader.report(at, message);
        }
        Some(template)
    }

    fn report(&self, reader: &mut Reader<'_>, node: &Node, error: &TemplateError) {
        let Value::Text(source) = &node.value else { return };
        let at = self.place(node, source, error.line);
        let detail = error.detail.as_ref().map_or_else(String::new, |more| format!(" ({more})"));
        reader.report(at, format!("the template is wrong: {}{detail}", error.kind));
    }

    /// Where a template's line is in the file. A text in quotes or folded has lines of its own:
    /// then it is where the text begins.
    fn place(&self, node: &Node, source: &str, line: Option<usize>) -> Location {
        let wanted = line.and_then(|line| source.lines().nth(line.checked_sub(1)?));
        let Some((wanted, line)) = wanted.zip(line) else { return node.at };
        // The text begins on the line of its node, or on the next.
        let first = node.at.line.saturating_sub(1) + line - 1;
        let lines = self.0.lines().enumerate().skip(first).take(2);
        let mut same = lines.filter(|(_, found)| found.trim() == wanted.trim());
        same.next().map_or(node.at, |(index, found)| Location {
            line: index + 1,
            column: found.len() - found.trim_start().len() + 1,
        })
    }
}

/// Whether a word stands in a line.
fn names(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
}
