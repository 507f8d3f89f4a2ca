//! Prompt files: the `prompts` section, and one file for each version of a prompt. Errors of a file have its name and
//! line, and do not affect the others. Nothing in these files may be expanded: a `${...}` is plain text.

use std::path::Path;
use std::sync::Arc;

use super::error::{ConfigError, Location};
use super::field::{Field, Format, Notation, Section};
use super::reader::{Reader, Table, shown};
use super::tree::{self, Node, Value};
use super::units::{BOOLEAN, NAME, POSITIVE, TEXT, is_name};
use crate::prompts::{
    MAX_VALUE, Prompt, Prompts, Scalar, Template, TemplateError, Variable, Version,
};
use crate::wire::chat::{Parameters, Role};

const ROLES: [(&str, Role); 3] =
    [("system", Role::System), ("user", Role::User), ("assistant", Role::Assistant)];

/// The most messages of a prompt.
const MAX_MESSAGES: usize = 64;

const DIR: Field<String> = TEXT
    .key("dir", "The directory of the prompts' files, relative to this file.")
    .required()
    .example("prompts");

pub(super) const PROMPTS: Section = Section::table(
    "prompts",
    "Prompts: templates of messages that requests may name (docs/prompts.md).",
    &[DIR.key],
);

const ID: Field<String> =
    NAME.key("id", "Id by which requests name the prompt.").otherwise("that of the file's name");
const VERSION: Field<String> = NAME
    .key("version", "Version of the prompt; the newest is the default of requests.")
    .otherwise("that of the file's name, else `1`");
const DESCRIPTION: Field<String> =
    TEXT.key("description", "Description for people, shown in lists.").otherwise("none");
const MODEL: Field<String> = TEXT
    .key("model", "Model for requests that name none: a name under `models`, or `provider/model`.")
    .otherwise("none");

const TEMPERATURE: Field<f64> = Format::new(
    "number from 0 to 2",
    "a number from 0 to 2",
    Notation::Number { min: 0.0, max: 2.0 },
    |text| number(text, 0.0, 2.0),
)
.key("temperature", "Sampling temperature.");
const TOP_P: Field<f64> = Format::new(
    "number from 0 to 1",
    "a number from 0 to 1",
    Notation::Number { min: 0.0, max: 1.0 },
    |text| number(text, 0.0, 1.0),
)
.key("top_p", "Nucleus sampling: the share of probability that is sampled from.");
const TOP_K: Field<u64> = POSITIVE.key("top_k", "Number of tokens that are sampled from.");
const MAX_TOKENS: Field<u64> = POSITIVE.key("max_tokens", "The most tokens of output.");
const STOP: Field<String> =
    TEXT.one_or_list("stop", "Texts that end the output.").example("[\"END\"]");
const PENALTY: Format<f64> = Format::new(
    "number from -2 to 2",
    "a number from -2 to 2",
    Notation::Number { min: -2.0, max: 2.0 },
    |text| number(text, -2.0, 2.0),
);
const PRESENCE_PENALTY: Field<f64> =
    PENALTY.key("presence_penalty", "Penalty for tokens that have occurred.");
const FREQUENCY_PENALTY: Field<f64> =
    PENALTY.key("frequency_penalty", "Penalty for tokens by how often they have occurred.");
const SEED: Field<i64> =
    Format::new("whole number", "a whole number", Notation::Name("[+-]?[0-9]+"), |text| {
        text.parse().ok()
    })
    .key("seed", "Seed of the sampling.");
const PARAMETERS: Section = Section::table(
    "parameters",
    "Parameters for requests that do not set them.",
    &[
        TEMPERATURE.key,
        TOP_P.key,
        TOP_K.key,
        MAX_TOKENS.key,
        STOP.key,
        PRESENCE_PENALTY.key,
        FREQUENCY_PENALTY.key,
        SEED.key,
    ],
);

const VARIABLE_DESCRIPTION: Field<String> =
    TEXT.key("description", "Description for people, shown in lists.").otherwise("none");
/// Unlike other texts it may be empty, and is read by [`default`].
const DEFAULT: Field<String> =
    Format::new("text, number, `true` or `false`", "a text", Notation::Empty, |text| {
        Some(text.to_owned())
    })
    .key("default", "Value for requests that give none.")
    .otherwise("requests must give the variable");
const REQUIRED: Field<bool> = BOOLEAN
    .key(
        "required",
        "Whether requests must give the variable; it follows from `default` and may be left out.",
    )
    .otherwise("`true` without a `default`");
const VARIABLES: Section = Section::map(
    "variables",
    "Variables by name: letters, digits and `_`. A name without a value is a required variable.",
    &[VARIABLE_DESCRIPTION.key, DEFAULT.key, REQUIRED.key],
    "[A-Za-z_][A-Za-z0-9_]{0,63}",
)
.or_null();

const ROLE: Field<Role> = Format::choice(
    || ROLES.iter().map(|(name, _)| *name).collect(),
    |text| ROLES.iter().find(|(name, _)| *name == text).map(|(_, role)| *role),
)
.key("role", "Role of the message.")
.required();
const CONTENT: Field<String> = TEXT
    .key("content", "Template of the message in Jinja syntax (docs/prompts.md, Templates).")
    .required()
    .example("{{ text }}");
const MESSAGES: Section = Section::list(
    "messages",
    "Messages before those of the request, from 1 to 64.",
    &[ROLE.key, CONTENT.key],
)
.required();

/// The description of a prompt file.
pub(super) const PROMPT: Section = Section::table(
    "the file",
    "One version of a prompt for each file, `ID.yaml` or `ID@VERSION.yaml`, in the directory `prompts.dir` (docs/prompts.md). \
     Nothing is expanded in it: `${NAME}` is plain text.",
    &[ID.key, VERSION.key, DESCRIPTION.key, MODEL.key, PARAMETERS.key, VARIABLES.key, MESSAGES.key],
);

/// Reads the prompts of the `prompts` section. `is_model`: whether there is such a model.
pub(super) fn prompts(
    reader: &mut Reader<'_>,
    root: &Table<'_>,
    is_model: &dyn Fn(&str) -> bool,
) -> Prompts {
    let mut prompts = Prompts::default();
    let table = reader.section(root, &PROMPTS);
    if root.get(&PROMPTS).is_some_and(|node| matches!(node.value, Value::Table(_))) {
        reader.require(&table, &DIR, "the directory of the prompts' files");
    }
    let Some(name) = reader.field(&table, &DIR) else {
        return prompts;
    };
    let directory = reader.source.dir.join(&name);
    let files = match reader.source.sources.list(&directory) {
        Ok(files) => files,
        Err(error) => {
            let (name, error) = (shown(&name), error.kind());
            let message = format!("`dir` names {name} ({error}); expected a readable directory");
            reader.report(table.location(&DIR), message);
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
    let table = reader.table(PROMPT.name, root, &PROMPT)?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let (stem, numbered) = stem.split_once('@').unwrap_or((&stem, "1"));
    let named = |text: &str| is_name(text).then(|| text.to_owned());
    let id = reader.field(&table, &ID).or_else(|| named(stem));
    let version = reader.field(&table, &VERSION).or_else(|| named(numbered));
    if id.is_none() || version.is_none() {
        reader.report(
            Location::FILE,
            format!(
                "the file's name cannot name a prompt; expected `ID.yaml` or `ID@VERSION.yaml`, each \
                 of {}, or the fields `id` and `version`",
                NAME.scalar.expected()
            ),
        );
    }
    let expected = "a name under `models`, or `provider/model`";
    let known = |name: &str| is_model(name).then(|| name.to_owned());
    let model = table.get(&MODEL);
    let mut prompt = Prompt {
        id: id.unwrap_or_default(),
        version: Version::new(version.unwrap_or_default()),
        description: reader.field(&table, &DESCRIPTION),
        model: model.and_then(|node| reader.parsed(MODEL.name, node, (expected, known))),
        parameters: parameters(reader, &table),
        variables: variables(reader, &table),
        messages: Vec::new(),
        file: path.to_owned(),
    };
    let sources = contents(reader, &table);
    let judge = Judge(text);
    for (role, node) in &sources {
        let template = judge.template(reader, node, &prompt.variables);
        prompt.messages.extend(role.zip(template));
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

fn number(text: &str, from: f64, to: f64) -> Option<f64> {
    text.parse().ok().filter(|number| (from..=to).contains(number))
}

fn parameters(reader: &mut Reader<'_>, prompt: &Table<'_>) -> Parameters {
    let table = reader.section(prompt, &PARAMETERS);
    let stop = match table.get(&STOP) {
        Some(node) if matches!(node.value, Value::Text(_)) => std::slice::from_ref(node),
        _ => reader.list(&table, &STOP).unwrap_or_default(),
    };
    Parameters {
        temperature: reader.field(&table, &TEMPERATURE),
        top_p: reader.field(&table, &TOP_P),
        top_k: reader.field(&table, &TOP_K),
        max_tokens: reader.field(&table, &MAX_TOKENS),
        stop: stop.iter().filter_map(|node| reader.text(STOP.name, node)).collect(),
        presence_penalty: reader.field(&table, &PRESENCE_PENALTY),
        frequency_penalty: reader.field(&table, &FREQUENCY_PENALTY),
        seed: reader.field(&table, &SEED),
    }
}

fn variables(reader: &mut Reader<'_>, prompt: &Table<'_>) -> Vec<Variable> {
    let mut variables = Vec::new();
    for (key, node) in reader.entries(prompt, &VARIABLES) {
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
        let Some(table) = reader.table(&name, node, &VARIABLES) else { continue };
        let default = default(reader, &table);
        let required = reader.field(&table, &REQUIRED);
        if required.is_some_and(|required| required == default.is_some()) {
            reader.report(
                node.at,
                format!("{} must be either required or have a default", shown(&name)),
            );
        }
        let description = reader.field(&table, &VARIABLE_DESCRIPTION);
        variables.push(Variable { name, description, default });
    }
    variables
}

fn default(reader: &mut Reader<'_>, variable: &Table<'_>) -> Option<Scalar> {
    match &variable.get(&DEFAULT)?.value {
        // It may be empty, which other texts may not.
        Value::Text(text) if text.len() <= MAX_VALUE => Some(Scalar::from_text(text)),
        _ => reader.field(variable, &DEFAULT).map(Scalar::Text),
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

/// Reads the messages, without their templates. A role that is wrong is `None`, and reported.
fn contents<'n>(reader: &mut Reader<'_>, prompt: &Table<'n>) -> Vec<(Option<Role>, &'n Node)> {
    let items = reader.list(prompt, &MESSAGES);
    let count = items.map_or(0, <[Node]>::len);
    if !prompt.has(&MESSAGES) || items.is_some() && !(1..=MAX_MESSAGES).contains(&count) {
        let at = prompt.location(&MESSAGES);
        let message = format!("`messages` has {count} messages; expected 1 to {MAX_MESSAGES}");
        reader.report(at, message);
    }
    let mut contents = Vec::new();
    for node in items.unwrap_or_default() {
        let Some(table) = reader.table(MESSAGES.name, node, &MESSAGES) else { continue };
        reader.require(&table, &ROLE, &ROLE.format.scalar.expected());
        reader.require(&table, &CONTENT, "the message's template");
        let role = reader.field(&table, &ROLE);
        contents.extend(table.get(&CONTENT).map(|node| (role, node)));
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
        let source = reader.text(CONTENT.name, node)?;
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
