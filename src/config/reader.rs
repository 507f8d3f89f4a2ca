//! Reader: described keys off the YAML tree, with all errors collected instead of the first one returned.
//!
//! A message must never show an expanded value, nor a literal one that may be a credential.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::error::{ConfigError, Location};
use super::expand::Source;
use super::field::{Field, Format, Key, Section};
use super::sources::Sources;
use super::tree::{Name, Node, Value};
use super::units::NONE;

/// The longest text that a message repeats, in characters.
const MAX_SHOWN: usize = 32;

/// The most names that a message lists.
const MAX_LISTED: usize = 20;

/// The most bytes of a file of certificates.
const MAX_PEM: u64 = 4 << 20;

/// Sections of LiteLLM's configuration, which people try here.
const LITELLM: [&str; 4] =
    ["model_list", "litellm_settings", "router_settings", "general_settings"];

/// A table whose keys are described. Keys without a value count as left out.
pub(super) struct Table<'n> {
    pub(super) at: Location,
    keys: &'static [Key],
    entries: Vec<(&'n str, &'n Node)>,
}

impl<'n> Table<'n> {
    /// The value of a key.
    pub(super) fn get(&self, key: &Key) -> Option<&'n Node> {
        debug_assert!(
            self.keys.iter().any(|described| described.name == key.name),
            "`{}` is read and not described",
            key.name
        );
        self.entries.iter().find(|(name, _)| *name == key.name).map(|(_, node)| *node)
    }

    /// Whether a key has a value.
    pub(super) fn has(&self, key: &Key) -> bool {
        self.get(key).is_some()
    }

    /// The location of a key's value; without one, that of the table.
    pub(super) fn location(&self, key: &Key) -> Location {
        self.get(key).map_or(self.at, |node| node.at)
    }

    /// The same table with the entries of `defaults` for keys that are left out.
    pub(super) fn with_defaults<'d>(&self, defaults: &'d [(String, Node)]) -> Table<'d>
    where
        'n: 'd,
    {
        let given = |name: &str| self.entries.iter().any(|(known, _)| *known == name);
        let left_out = defaults.iter().filter(|(name, _)| !given(name));
        let defaults = left_out.map(|(name, node)| (name.as_str(), node));
        let entries = self.entries.iter().copied().chain(defaults).collect();
        Table { at: self.at, keys: self.keys, entries }
    }
}

/// The errors so far, and where values come from.
pub(super) struct Reader<'a> {
    pub(super) source: Source<'a>,
    errors: Vec<ConfigError>,
    warnings: Vec<ConfigError>,
}

impl<'a> Reader<'a> {
    /// Continues a list of errors.
    pub(super) fn new(source: Source<'a>, errors: Vec<ConfigError>) -> Self {
        Self { source, errors, warnings: Vec::new() }
    }

    /// Reads a file in which nothing is expanded, and continues a list of errors.
    pub(super) fn literal(errors: Vec<ConfigError>) -> Self {
        let dir = Path::new("");
        let source = Source { env: &|_| None, dir, literal: true, sources: Sources::default() };
        Self { source, errors, warnings: Vec::new() }
    }

    /// Adds the errors of another file.
    pub(super) fn add(&mut self, file: &Path, errors: Vec<ConfigError>) {
        let file = Some(file.to_owned());
        self.errors
            .extend(errors.into_iter().map(|error| ConfigError { file: file.clone(), ..error }));
    }

    /// Whether there is an error so far.
    pub(super) fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    /// All errors, in the order of the file, and the files that were read.
    pub(super) fn finish(mut self) -> (Vec<ConfigError>, Sources) {
        self.errors.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        (self.errors, self.source.sources)
    }

    /// The warnings so far.
    pub(super) fn warnings(&mut self) -> Vec<ConfigError> {
        std::mem::take(&mut self.warnings)
    }

    /// A variable of the environment, unless it is empty.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.source.env)(name).filter(|value| !value.is_empty())
    }

    /// Adds an error.
    pub(super) fn report(&mut self, at: Location, message: impl Into<String>) {
        self.errors.push(at.error(message));
    }

    /// Adds a warning: the configuration can be used.
    pub(super) fn warn(&mut self, at: Location, message: impl Into<String>) {
        self.warnings.push(at.error(message));
    }

    /// The value of a step, or an error at `at`.
    pub(super) fn report_err<T>(&mut self, at: Location, step: Result<T, String>) -> Option<T> {
        step.map_err(|message| self.report(at, message)).ok()
    }

    /// The text of a file of certificates. A relative path starts where that of `${file:PATH}` does.
    pub(super) fn pem_file(&mut self, path: &str) -> Result<String, io::ErrorKind> {
        self.source.text(path, MAX_PEM)
    }

    /// A table with the keys of a section and no others; `name` is its name in messages. `None`: it is
    /// something else.
    pub(super) fn table<'n>(
        &mut self,
        name: &str,
        node: &'n Node,
        section: &Section,
    ) -> Option<Table<'n>> {
        let mut entries = Vec::new();
        for (key, node) in self.map(name, node)? {
            if !section.keys.iter().any(|described| described.name == key.text) {
                self.unknown(key, section.keys);
            } else if !matches!(node.value, Value::Null) {
                entries.push((key.text.as_str(), node));
            }
        }
        Some(Table { at: node.at, keys: section.keys, entries })
    }

    /// The table at a key; without the key, an empty one.
    pub(super) fn section<'n>(&mut self, table: &Table<'n>, section: &Section) -> Table<'n> {
        let read = table.get(section).and_then(|node| self.table(section.name, node, section));
        read.unwrap_or(Table { at: table.at, keys: section.keys, entries: Vec::new() })
    }

    /// A table whose keys are names of the operator's choice, each once. `None`: it is something else.
    pub(super) fn map<'n>(
        &mut self,
        name: &str,
        node: &'n Node,
    ) -> Option<Vec<(&'n Name, &'n Node)>> {
        let Value::Table(entries) = &node.value else {
            self.mismatch(name, node, "a table (`key: value`)");
            return None;
        };
        let mut first = BTreeMap::new();
        let mut kept = Vec::with_capacity(entries.len());
        for (key, node) in entries {
            let at = *first.entry(key.text.as_str()).or_insert(key.at);
            if at == key.at {
                kept.push((key, node));
            } else {
                let (name, line) = (shown(&key.text), at.line);
                self.report(
                    key.at,
                    format!("{name} is given again (first on line {line}); expected it once"),
                );
            }
        }
        Some(kept)
    }

    /// The named entries at a key; without the key, none.
    pub(super) fn entries<'n>(
        &mut self,
        table: &Table<'n>,
        key: &Key,
    ) -> Vec<(&'n Name, &'n Node)> {
        table.get(key).and_then(|node| self.map(key.name, node)).unwrap_or_default()
    }

    /// Reads a section that may also be the word `none`, which is as if it were left out.
    pub(super) fn table_or_none<'n>(
        &mut self,
        parent: &Table<'n>,
        section: &Section,
    ) -> Option<Table<'n>> {
        let node = parent.get(section)?;
        if matches!(node.value, Value::Text(_)) {
            self.parsed(section.name, node, ("`none`, or `{ ... }`", NONE.parse));
            return None;
        }
        self.table(section.name, node, section)
    }

    /// The items of a list. `None`: the key is left out, or its value is something else.
    pub(super) fn list<'n>(&mut self, table: &Table<'n>, key: &Key) -> Option<&'n [Node]> {
        let node = table.get(key)?;
        if let Value::List(items) = &node.value {
            return Some(items);
        }
        self.mismatch(key.name, node, "a list (`[...]`)");
        None
    }

    /// Reports a key that is left out and must not be.
    pub(super) fn require(&mut self, table: &Table<'_>, key: &Key, expected: &str) {
        if !table.has(key) {
            let name = key.name;
            self.report(table.at, format!("`{name}` is missing; expected {expected}"));
        }
    }

    /// A text, expanded and not empty. No message shows it.
    pub(super) fn text(&mut self, name: &str, node: &Node) -> Option<String> {
        let Value::Text(raw) = &node.value else {
            self.mismatch(name, node, "a text");
            return None;
        };
        match self.source.expand(raw) {
            Ok(text) if text.is_empty() => {
                self.report(node.at, format!("{} is empty; expected a text", shown(name)));
                None
            }
            Ok(text) => Some(text),
            Err(messages) => {
                for message in messages {
                    self.report(node.at, format!("{} {message}", shown(name)));
                }
                None
            }
        }
    }

    /// A scalar in a format.
    pub(super) fn scalar<T>(&mut self, name: &str, node: &Node, format: &Format<T>) -> Option<T> {
        let text = self.text(name, node)?;
        let value = (format.parse)(&text);
        if value.is_none() {
            let expected = format.scalar.expected();
            self.invalid((name, node), format.scalar.is_secret, &expected);
        }
        value
    }

    /// A scalar that `parse` reads, which knows more than the description. Messages show what the file
    /// has.
    pub(super) fn parsed<T>(
        &mut self,
        name: &str,
        node: &Node,
        (expected, parse): (&str, impl Fn(&str) -> Option<T>),
    ) -> Option<T> {
        let text = self.text(name, node)?;
        let value = parse(&text);
        if value.is_none() {
            self.invalid((name, node), false, expected);
        }
        value
    }

    /// The value of a key. `None`: it is left out, or wrong and reported.
    pub(super) fn field<T>(&mut self, table: &Table<'_>, field: &Field<T>) -> Option<T> {
        let node = table.get(field)?;
        self.scalar(field.name, node, &field.format)
    }

    /// The value of a key, or its default.
    pub(super) fn value<T>(&mut self, table: &Table<'_>, field: &Field<T>) -> T {
        self.field(table, field).unwrap_or_else(|| field.default_value())
    }

    /// The values in the list at a key. `None`: it is left out, or wrong and reported.
    pub(super) fn values<T>(&mut self, table: &Table<'_>, field: &Field<T>) -> Option<Vec<T>> {
        let items = self.list(table, field)?;
        let read = |item| self.scalar(field.name, item, &field.format);
        Some(items.iter().filter_map(read).collect())
    }

    /// Reports a value that an earlier table has as well; `owner` is what such a table describes.
    pub(super) fn reject_duplicate<T: Ord>(
        &mut self,
        table: &Table<'_>,
        (key, value): (&Key, Option<T>),
        owner: &str,
        seen: &mut BTreeMap<T, usize>,
    ) {
        let (Some(value), Some(node)) = (value, table.get(key)) else {
            return;
        };
        if let Some(line) = seen.get(&value) {
            let name = key.name;
            self.report(
                node.at,
                format!("`{name}` is that of the {owner} on line {line} already; expected another"),
            );
            return;
        }
        seen.insert(value, node.at.line);
    }

    fn invalid(&mut self, (name, node): (&str, &Node), is_secret: bool, expected: &str) {
        let name = shown(name);
        let message = match &node.value {
            Value::Text(raw) if !is_secret => {
                format!("{name} is {}; expected {expected}", shown(raw))
            }
            _ => format!("{name} is not valid; expected {expected}"),
        };
        self.report(node.at, message);
    }

    fn unknown(&mut self, key: &Name, keys: &[Key]) {
        let expected = match nearest(&key.text, keys.iter().map(|known| known.name)) {
            Some(name) => format!("`{name}`"),
            None => one_of(keys.iter().map(|known| known.name)),
        };
        self.report(key.at, format!("unknown key {}; expected {expected}", shown(&key.text)));
    }

    fn mismatch(&mut self, name: &str, node: &Node, expected: &str) {
        let found = match node.value {
            Value::Null => "empty",
            Value::Text(_) => "a single value",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
            Value::Broken => return,
        };
        self.report(node.at, format!("{} is {found}; expected {expected}", shown(name)));
    }
}

/// Rejects the configuration of another gateway, of which each line would be an error.
pub(super) fn own(root: Node) -> Result<Node, ConfigError> {
    if matches!(root.value, Value::Null) {
        let message = "the file is empty; `streamgate init --force FILE` writes a first one";
        return Err(root.at.error(message));
    }
    let Value::Table(entries) = &root.value else { return Ok(root) };
    match entries.iter().find(|(key, _)| LITELLM.contains(&key.text.as_str())) {
        Some((key, _)) => Err(key.at.error(format!(
            "unknown key {}; this is a configuration of LiteLLM: `streamgate import litellm FILE` converts it",
            shown(&key.text)
        ))),
        None => Ok(root),
    }
}

/// The name that a misspelt one may mean.
pub(super) fn nearest<'s>(text: &str, names: impl Iterator<Item = &'s str>) -> Option<&'s str> {
    let text = clip(text);
    let near = names.map(|name| (strsim::osa_distance(&text, name), name)).min();
    near.filter(|(distance, name)| *distance <= (name.len() / 3).max(1)).map(|(_, name)| name)
}

/// Names to choose from.
pub(super) fn one_of<'s>(names: impl ExactSizeIterator<Item = &'s str>) -> String {
    let more = names.len() > MAX_LISTED;
    let mut text = String::new();
    for name in names.take(MAX_LISTED) {
        text.push_str(if text.is_empty() { "one of " } else { ", " });
        text.push_str(&shown(name));
    }
    if more {
        text.push_str(" and more");
    }
    text
}

/// A value as the file has it, if it is short: a long text may be a credential in the wrong place.
pub(super) fn shown(raw: &str) -> String {
    let length = raw.chars().count();
    if length <= MAX_SHOWN && !raw.chars().any(char::is_control) {
        return format!("`{raw}`");
    }
    format!("a text of {length} characters")
}

/// Enough of a key to compare it with known ones.
fn clip(text: &str) -> String {
    text.chars().take(MAX_SHOWN).collect()
}
