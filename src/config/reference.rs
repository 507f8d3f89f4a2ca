//! Reference page of the configuration (`docs/configuration.md`) from its description. Pure: it must never read a
//! configuration.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;

use super::field::{Absent, Arity, Item, Key, Notation, Scalar};
use super::{prompts, root};

/// The page above the tables.
const INTRODUCTION: &str = "\
# Configuration reference

Every key of the configuration file and of prompt files. The page is generated from the description that the program
reads files by; `streamgate schema --markdown` prints it for the version that you run.
[`streamgate.example.yaml`](../streamgate.example.yaml) shows the keys in their place, and `streamgate check FILE`
reports every error of a file with its line.

A file is YAML: one document, without aliases and tags, of at most 1 MiB. A key without a value counts as left out. A key
that is not listed here is an error.

`${NAME}` in a value is replaced by the environment variable, `${NAME:-DEFAULT}` by `DEFAULT` where that variable is not set
or empty, `${file:PATH}` by the text of the file, whose path is relative to the configuration file. Put such values in quotes. The replacement is a value and nothing more: it is never read as YAML.

| value | notation |
|---|---|
| duration | a whole number and a unit: `500ms`, `15s`, `2m`, `1h`; at most 366 days |
| size | a whole number and a unit: `32MiB`, `64KB`, `2GiB`; without a unit, bytes |
| address and port | `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`; `:8080` is all IPv4 addresses of the machine, `8080` is `127.0.0.1:8080` |
| address or network | `192.0.2.1`, `10.0.0.0/8`, `fc00::/7` |

## Editors

`streamgate schema` prints a JSON Schema of the configuration file, and `streamgate schema --prompt` one of prompt files. Both
are in the repository: [`streamgate.schema.json`](../streamgate.schema.json), [`streamgate-prompt.schema.json`](../streamgate-prompt.schema.json).
An editor with a YAML language server completes and checks keys when the first line of a file names its schema:

```yaml
# yaml-language-server: $schema=streamgate.schema.json
```
";

/// The page in Markdown.
pub fn reference() -> String {
    let mut page = Page { text: INTRODUCTION.to_owned(), homes: BTreeMap::new() };
    for (title, section, path) in
        [("Configuration file", root::ROOT, ""), ("Prompt files", prompts::PROMPT, "prompt")]
    {
        page.find_homes(section.keys, path);
        page.line(&format!("\n## {title}\n\n{}\n", linked(section.about)));
        page.section(section.keys, path);
    }
    page.text
}

/// The page so far.
struct Page {
    text: String,
    /// The path under which a table is described, by its name and meaning: a table that occurs at several places is
    /// described at the one that is nearest to the top.
    homes: BTreeMap<(&'static str, &'static str), String>,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Finds the path of every table, level by level.
    fn find_homes(&mut self, keys: &'static [Key], path: &str) {
        let mut waiting = VecDeque::from([(keys, path.to_owned())]);
        while let Some((keys, path)) = waiting.pop_front() {
            for key in keys.iter().filter(|key| !key.keys().is_empty()) {
                let path = join(&path, key);
                let home = self.homes.entry((key.name, key.about)).or_insert_with(|| path.clone());
                if *home == path {
                    waiting.push_back((key.keys(), path));
                }
            }
        }
    }

    /// Writes the table of some keys, and a section for each table below them.
    fn section(&mut self, keys: &[Key], path: &str) {
        self.line("| key | value | default | meaning |\n|---|---|---|---|");
        for key in keys {
            let row = self.row(key);
            self.line(&row);
        }
        for key in keys.iter().filter(|key| !key.keys().is_empty()) {
            let below = join(path, key);
            if self.homes.get(&(key.name, key.about)) == Some(&below) {
                self.line(&format!("\n### `{below}`\n\n{}\n", linked(key.about)));
                self.section(key.keys(), &below);
            }
        }
    }

    fn row(&self, key: &Key) -> String {
        let default = match key.absent {
            Absent::Nothing => "",
            Absent::Required => "required",
            Absent::Value(text) => &format!("`{text}`"),
            Absent::Rule(rule) => rule,
        };
        let about = match key.item {
            // Its section has the rest.
            Item::Table(_) | Item::ScalarOrTable(..) => first_sentence(key.about),
            Item::Scalar(_) | Item::Json => key.about,
        };
        let mut meaning = linked(about);
        if let Some(example) = key.example {
            // Writing to a string cannot fail.
            write!(meaning, " Example: `{example}`.").ok();
        }
        let cells = [format!("`{}`", key.name), self.value(key), default.to_owned(), meaning];
        format!("| {} |", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
    }

    /// The description of a key's value.
    fn value(&self, key: &Key) -> String {
        let home = self.homes.get(&(key.name, key.about)).map_or("", String::as_str);
        let table = format!("[table](#{})", anchor(home));
        let item = match key.item {
            Item::Scalar(scalar) => label(&scalar),
            Item::Table(_) => table,
            Item::ScalarOrTable(scalar, _) => format!("{}, or {table}", label(&scalar)),
            Item::Json => "any value".to_owned(),
        };
        match key.arity {
            Arity::One => item,
            Arity::List => format!("list: {item}"),
            Arity::OneOrList => format!("{item}, or a list of them"),
            Arity::Map { .. } => format!("by name: {item}"),
            Arity::MapOrNull { .. } => format!("by name: {item}, or nothing"),
        }
    }
}

fn label(scalar: &Scalar) -> String {
    let label = match scalar.notation {
        Notation::Choice(words) => {
            let words: Vec<_> = words().iter().map(|word| format!("`{word}`")).collect();
            words.join(", ")
        }
        _ => scalar.label.to_owned(),
    };
    if scalar.or_none { format!("{label}, or `none`") } else { label }
}

/// The path of a table below another.
fn join(path: &str, key: &Key) -> String {
    let dot = if path.is_empty() { "" } else { "." };
    let items = match key.arity {
        Arity::One => "",
        Arity::List | Arity::OneOrList => "[]",
        Arity::Map { .. } | Arity::MapOrNull { .. } => ".NAME",
    };
    format!("{path}{dot}{}{items}", key.name)
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_'));
    kept.collect::<String>().to_lowercase()
}

fn first_sentence(text: &str) -> &str {
    text.split_inclusive(". ").next().unwrap_or(text).trim_end()
}

/// A text in which pages of the documentation are links: `(docs/PAGE.md)`, `(docs/PAGE.md, TITLE)`.
fn linked(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, (place, after))) =
        rest.split_once("(docs/").and_then(|(before, tail)| Some((before, tail.split_once(')')?)))
    {
        let (page, title) = place.split_once(", ").unwrap_or((place, ""));
        let anchor = title.to_lowercase().replace(' ', "-");
        let hash = if title.is_empty() { "" } else { "#" };
        out.push_str(before);
        // Writing to a string cannot fail.
        write!(out, "([{place}]({page}{hash}{anchor}))").ok();
        rest = after;
    }
    out.push_str(rest);
    out
}
