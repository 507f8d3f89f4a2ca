//! The description of the keys: the pages and schemas made of it are current, each key is read, and the JSON Schema agrees
//! with the reader.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use serde_json::Value;

use super::super::field::{Absent, Arity, Item, Key};
use super::super::{ConfigError, env, json_schema, prompt_json_schema, reference};
use super::super::{prompts, root};
use super::schema::{Validator, yaml_as_json};
use super::{Dir, load_text};

pub(super) static CONFIGURATION: LazyLock<Validator> =
    LazyLock::new(|| Validator::new(json_schema()));
pub(super) static PROMPT: LazyLock<Validator> =
    LazyLock::new(|| Validator::new(prompt_json_schema()));

/// Asserts that a file which loads is valid, and that one with an unknown key or a value of the wrong type is not.
pub(super) fn assert_agrees(validator: &Validator, text: &str, errors: &[&ConfigError]) {
    let Some(file) = yaml_as_json(text) else {
        assert!(!errors.is_empty(), "it loads, and is not YAML: {text}");
        return;
    };
    let valid = validator.check(&file);
    if errors.is_empty() {
        assert_eq!(valid, Ok(()), "it loads:\n{text}");
    }
    let about_keys = errors.iter().find(|error| is_about_keys(&error.message));
    assert!(about_keys.is_none() || valid.is_err(), "valid, but {about_keys:?}:\n{text}");
}

/// Whether an error is one that a schema must show: an unknown key, or a value of the wrong type.
fn is_about_keys(message: &str) -> bool {
    let types = ["is a single value; ", "is a list; ", "is a table; "];
    message.starts_with("unknown key ") || types.iter().any(|found| message.contains(found))
}

/// A file of the repository.
fn file(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[test]
fn generated_files_are_current() {
    for (name, text) in [
        ("docs/configuration.md", reference()),
        ("streamgate.schema.json", format!("{:#}\n", json_schema())),
        ("streamgate-prompt.schema.json", format!("{:#}\n", prompt_json_schema())),
    ] {
        if env("UPDATE").is_some() {
            fs::write(file(name), &text).unwrap();
        }
        let committed = fs::read_to_string(file(name)).unwrap_or_default();
        assert!(committed == text, "{name} is outdated: UPDATE=1 cargo test --lib generated_files");
    }
}

/// Every key of the description, with the keys that lead to it.
fn paths(keys: &'static [Key], above: &[Key], found: &mut Vec<Vec<Key>>) {
    for key in keys {
        let path = [above, &[*key]].concat();
        paths(key.keys(), &path, found);
        found.push(path);
    }
}

/// A file with a value at a path: the keys above it hold nothing else.
fn file_with(path: &[Key], value: &str) -> String {
    let mut text = value.to_owned();
    for (depth, key) in path.iter().enumerate().rev() {
        if depth + 1 < path.len() {
            text = match key.arity {
                Arity::One => format!("{{ {text} }}"),
                Arity::List | Arity::OneOrList => format!("[{{ {text} }}]"),
                Arity::Map { .. } | Arity::MapOrNull { .. } => format!("{{ x: {{ {text} }} }}"),
            };
        }
        text = format!("{}: {text}", key.name);
    }
    text
}

/// The errors of a configuration, or of a prompt file.
fn errors_of(text: &str, is_prompt: bool) -> Vec<ConfigError> {
    let configuration = if is_prompt {
        let dir = Dir::new();
        fs::create_dir(dir.0.join("prompts")).unwrap();
        dir.write("prompts/x.yaml", text);
        let path = dir.write("config.yaml", "prompts: { dir: prompts }\n");
        super::super::load(&path, &super::env)
    } else {
        load_text(text)
    };
    let list = configuration.err().map_or_else(Vec::new, |errors| errors.list);
    list.into_iter().filter(|error| error.file.is_some() == is_prompt).collect()
}

fn all_paths() -> Vec<(Vec<Key>, bool)> {
    let (mut configuration, mut prompt) = (Vec::new(), Vec::new());
    paths(root::ROOT.keys, &[], &mut configuration);
    paths(prompts::PROMPT.keys, &[], &mut prompt);
    let configuration = configuration.into_iter().map(|path| (path, false));
    configuration.chain(prompt.into_iter().map(|path| (path, true))).collect()
}

/// A key that nothing reads would have no wrong values.
#[test]
fn each_described_key_is_read_and_its_type_is_checked() {
    let paths = all_paths();
    assert!(paths.len() > 150, "{}", paths.len());
    for (path, is_prompt) in paths {
        let key = path.last().unwrap();
        let (wrong, found) = match (key.arity, key.item) {
            (Arity::One | Arity::OneOrList, Item::Scalar(_)) | (Arity::List, _) => {
                ("{}", "is a table; ")
            }
            _ => ("[]", "is a list; "),
        };
        let text = file_with(&path, wrong);
        let errors = errors_of(&text, is_prompt);
        let start = format!("`{}` {found}", key.name);
        // A `default` that is no text is one.
        assert!(errors.iter().any(|error| error.message.starts_with(&start)), "{text}: {errors:?}");
        let validator: &Validator = if is_prompt { &PROMPT } else { &CONFIGURATION };
        assert_agrees(validator, &text, &errors.iter().collect::<Vec<_>>());
    }
}

#[test]
fn a_key_that_is_not_described_is_rejected_in_each_table() {
    for (path, is_prompt) in
        all_paths().into_iter().filter(|(path, _)| !path.last().unwrap().keys().is_empty())
    {
        let key = path.last().unwrap();
        let inner = Key { name: "quite_unlike", ..*key };
        let text = file_with(&[path.as_slice(), &[inner]].concat(), "1");
        let errors = errors_of(&text, is_prompt);
        let unknown = "unknown key `quite_unlike`; expected one of ";
        assert!(
            errors.iter().any(|error| error.message.starts_with(unknown)),
            "{text}: {errors:?}"
        );
        let validator: &Validator = if is_prompt { &PROMPT } else { &CONFIGURATION };
        assert_agrees(validator, &text, &errors.iter().collect::<Vec<_>>());
    }
}

/// A default that the reference lists for a key can be written into the file as well.
#[test]
fn each_default_is_a_value_of_its_key() {
    let mut defaults = 0;
    for (path, is_prompt) in all_paths() {
        let key = path.last().unwrap();
        let Absent::Value(default) = key.absent else { continue };
        defaults += 1;
        let text = file_with(&path, default);
        let errors = errors_of(&text, is_prompt);
        let about_it = format!("`{}` ", key.name);
        let wrong = errors.iter().find(|error| {
            error.message.starts_with(&about_it) && !error.message.contains("is missing")
        });
        assert!(wrong.is_none(), "{text}: {wrong:?}");
    }
    assert!(defaults > 30, "{defaults}");
}

/// Every block of a page that is a configuration, with what it leaves to the rest of the file.
fn configurations(page: &str) -> Vec<String> {
    let blocks = page.split("```yaml\n").skip(1).filter_map(|block| block.split("```").next());
    let keys = root::ROOT.keys;
    blocks
        .filter(|block| {
            let mut lines = block.lines().filter(|line| line.contains(':'));
            let first = lines.find(|line| !line.starts_with([' ', '#', '-']));
            let name = first.and_then(|line| line.split(':').next());
            name.is_some_and(|name| keys.iter().any(|key| key.name == name))
        })
        .map(|block| {
            let digests = ["OTHER 64 HEX DIGITS", "THE 64 HEX DIGITS"];
            let mut text = block.to_owned();
            for (number, placeholder) in digests.iter().enumerate() {
                text = text.replace(placeholder, &format!("{number:064}"));
            }
            if !text.lines().any(|line| line.starts_with("auth:")) {
                text.push_str("\nauth: { anonymous: {} }\n");
            }
            text
        })
        .collect()
}

#[test]
fn the_configurations_of_the_documentation_are_valid() {
    let mut pages = vec![file("README.md")];
    for folder in ["docs", "docs/agents"] {
        let entries = fs::read_dir(file(folder)).unwrap().map(|entry| entry.unwrap().path());
        pages.extend(entries.filter(|path| path.extension().is_some_and(|end| end == "md")));
    }
    let mut checked = 0;
    for page in pages {
        for text in configurations(&fs::read_to_string(&page).unwrap()) {
            let file = yaml_as_json(&text).unwrap_or_else(|| panic!("{}:\n{text}", page.display()));
            assert_eq!(CONFIGURATION.check(&file), Ok(()), "{}:\n{text}", page.display());
            checked += 1;
        }
    }
    assert!(checked > 15, "{checked}");
}

#[test]
fn the_files_of_the_repository_are_valid() {
    let read = |name: &str| yaml_as_json(&fs::read_to_string(file(name)).unwrap()).unwrap();
    for name in ["streamgate.example.yaml", "deploy/streamgate.yaml"] {
        assert_eq!(CONFIGURATION.check(&read(name)), Ok(()), "{name}");
    }
    for entry in fs::read_dir(file("prompts")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "yaml") {
            let name = path.to_string_lossy();
            assert_eq!(PROMPT.check(&read(&name)), Ok(()), "{name}");
        }
    }
}

/// The example, with the keys in its comments.
fn uncommented(example: &str) -> String {
    let is_key = |text: &str| {
        let text = text.trim_start().trim_start_matches("- ");
        let name = text.split(':').next().unwrap_or_default();
        let rest = text.strip_prefix(name).unwrap_or_default();
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit())
            && (rest == ":" || rest.starts_with(": "))
    };
    let line = |line: &str| match line.split_once("# ") {
        Some((before, text)) if before.trim().is_empty() && is_key(text) => {
            format!("{before}{text}\n")
        }
        _ => format!("{line}\n"),
    };
    example.lines().map(line).collect()
}

/// The keys of `with` that are described, each with whether it shows its default where `without` has no such key.
fn shown_keys(
    (keys, path): (&'static [Key], &str),
    (with, without): (&Value, &Value),
    found: &mut Vec<(String, bool)>,
) {
    for key in keys {
        let Some(value) = with.get(key.name) else { continue };
        let path = format!("{path}.{}", key.name);
        let before = &without[key.name];
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let is_default =
            !matches!(key.absent, Absent::Value(default) if before.is_null() && default != shown);
        found.push((path.clone(), is_default));
        let below =
            |value, before, found: &mut _| shown_keys((key.keys(), &path), (value, before), found);
        match (key.arity, value) {
            (Arity::List, Value::Array(items)) => {
                let each = items.iter().enumerate();
                each.for_each(|(index, item)| below(item, &before[index], found));
            }
            (Arity::Map { .. } | Arity::MapOrNull { .. }, Value::Object(members)) => {
                members.iter().for_each(|(name, item)| below(item, &before[name], found));
            }
            _ => below(value, before, found),
        }
    }
}

#[test]
fn the_example_has_every_key_and_its_comments_show_defaults() {
    let example = include_str!("../../../streamgate.example.yaml");
    let text = uncommented(example);
    let (with, without) = (yaml_as_json(&text).unwrap(), yaml_as_json(example).unwrap());
    assert_eq!(CONFIGURATION.check(&with), Ok(()), "{text}");
    let errors = errors_of(&text, false);
    // Files and variables that are not there.
    let expected = [" names the file ", " names the environment variable ", "`dir` names "];
    let wrong =
        errors.iter().find(|error| !expected.iter().any(|words| error.message.contains(words)));
    assert!(wrong.is_none(), "{wrong:?}");
    let mut found = Vec::new();
    shown_keys((root::ROOT.keys, ""), (&with, &without), &mut found);
    // The limits at the top show them all, as does `health`, and as `targets` does for fallbacks and mirrors; those of single
    // callers, models and providers have no defaults of their own. Patterns of
    // channels are examples of what differs from the defaults.
    let is_repeated = |path: &str| {
        path.contains(".limits.") && !path.starts_with(".limits.")
            || path.starts_with(".channels.patterns.")
            || path.starts_with(".providers.health.")
            || path.starts_with(".models.mirror.to.")
            || path.starts_with(".models.fallback.context.")
            || path.starts_with(".models.fallback.content_policy.")
    };
    let other = found.iter().find(|(path, is_default)| !is_default && !is_repeated(path));
    assert!(other.is_none(), "it is commented out, and not its default: {other:?}");
    let mut described = Vec::new();
    paths(root::ROOT.keys, &[], &mut described);
    for path in described {
        let names: Vec<_> = path.iter().map(|key| key.name).collect();
        let path = format!(".{}", names.join("."));
        assert!(
            is_repeated(&path) || found.iter().any(|(shown, _)| *shown == path),
            "{path} is not shown"
        );
    }
}
