//! Reads fields off the tree and collects what is wrong, so that validation is a list of fields. An
//! expanded value is never shown, and a literal one only where it cannot be a credential.

use super::error::{ConfigError, Location};
use super::expand::Source;
use super::sources::Sources;
use super::tree::{Name, Node, Value};

/// A longer text than this is not repeated in a message.
const SHOWN: usize = 32;

/// How many names a message lists.
const LISTED: usize = 20;

/// The most bytes of a file of certificates.
const MAX_PEM: u64 = 4 << 20;

/// A table whose keys are known.
pub(super) struct Table<'n> {
    pub(super) at: Location,
    entries: Vec<(&'n str, &'n Node)>,
}

impl<'n> Table<'n> {
    /// A field that has a value.
    pub(super) fn get(&self, key: &str) -> Option<&'n Node> {
        self.entries.iter().find(|(name, _)| *name == key).map(|(_, node)| *node)
    }

    /// The same table, in which fields that are left out are taken from `defaults`.
    pub(super) fn with_defaults<'d>(&self, defaults: &'d [(String, Node)]) -> Table<'d>
    where
        'n: 'd,
    {
        let left_out = defaults.iter().filter(|(name, _)| self.get(name).is_none());
        let defaults = left_out.map(|(name, node)| (name.as_str(), node));
        Table { at: self.at, entries: self.entries.iter().copied().chain(defaults).collect() }
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
        let dir = std::path::Path::new("");
        let source = Source { env: &|_| None, dir, literal: true, sources: Sources::default() };
        Self { source, errors, warnings: Vec::new() }
    }

    /// Adds what is wrong with another file.
    pub(super) fn add(&mut self, file: &std::path::Path, errors: Vec<ConfigError>) {
        let file = Some(file.to_owned());
        self.errors
            .extend(errors.into_iter().map(|error| ConfigError { file: file.clone(), ..error }));
    }

    /// Whether anything is wrong so far.
    pub(super) fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    /// All errors, in the order of the file, and what was read.
    pub(super) fn finish(mut self) -> (Vec<ConfigError>, Sources) {
        self.errors.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        (self.errors, self.source.sources)
    }

    /// The warnings so far.
    pub(super) fn warnings(&mut self) -> Vec<ConfigError> {
        std::mem::take(&mut self.warnings)
    }

    /// A variable of the environment that says something.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.source.env)(name).filter(|value| !value.is_empty())
    }

    /// Adds a error.
    pub(super) fn report(&mut self, at: Location, message: impl Into<String>) {
        self.errors.push(at.error(message));
    }

    /// Adds something that does not keep the configuration from being used.
    pub(super) fn warn(&mut self, at: Location, message: impl Into<String>) {
        self.warnings.push(at.error(message));
    }

    /// The text of a file of certificates, which may be all authorities of a system. Its path starts
    /// where `${file:PATH}` starts.
    pub(super) fn pem_file(&mut self, path: &str) -> Result<String, std::io::ErrorKind> {
        self.source.text(path, MAX_PEM)
    }

    /// A table that may hold `known` keys and no others. `None`: it is something else.
    pub(super) fn table<'n>(
        &mut self,
        name: &str,
        node: &'n Node,
        known: &[&str],
    ) -> Option<Table<'n>> {
        let mut entries = Vec::new();
        for (key, node) in self.map(name, node)? {
            if known.contains(&key.text.as_str()) {
                // `key:` with nothing behind it is as good as left out.
                if !matches!(node.value, Value::Null) {
                    entries.push((key.text.as_str(), node));
                }
            } else {
                self.unknown(key, known);
            }
        }
        Some(Table { at: node.at, entries })
    }

    /// The table in a field; without the field, an empty one.
    pub(super) fn section<'n>(
        &mut self,
        table: &Table<'n>,
        key: &str,
        known: &[&str],
    ) -> Table<'n> {
        let read = table.get(key).and_then(|node| self.table(key, node, known));
        read.unwrap_or(Table { at: table.at, entries: Vec::new() })
    }

    /// A table whose keys are names of the user's choice, each once. `None`: it is something else.
    pub(super) fn map<'n>(
        &mut self,
        name: &str,
        node: &'n Node,
    ) -> Option<Vec<(&'n Name, &'n Node)>> {
        let Value::Table(entries) = &node.value else {
            self.mismatch(name, node, "a table (`key: value`)");
            return None;
        };
        let mut first = std::collections::BTreeMap::new();
        let mut kept = Vec::with_capacity(entries.len());
        for (key, node) in entries {
            let line = *first.entry(key.text.as_str()).or_insert(key.at);
            if line == key.at {
                kept.push((key, node));
            } else {
                let (key_shown, line) = (shown(&key.text), line.line);
                self.report(
                    key.at,
                    format!("{key_shown} is given again (first on line {line}); expected it once"),
                );
            }
        }
        Some(kept)
    }

    /// The named entries of a field; without the field, none.
    pub(super) fn entries<'n>(
        &mut self,
        table: &Table<'n>,
        key: &str,
    ) -> Vec<(&'n Name, &'n Node)> {
        table.get(key).and_then(|node| self.map(key, node)).unwrap_or_default()
    }

    /// The items of a list. `None`: the field is left out or something else.
    pub(super) fn list<'n>(&mut self, table: &Table<'n>, key: &str) -> Option<&'n [Node]> {
        let node = table.get(key)?;
        if let Value::List(items) = &node.value {
            return Some(items);
        }
        self.mismatch(key, node, "a list (`[...]`)");
        None
    }

    /// Whether a field that must be there is. `Broken` counts: that was reported.
    pub(super) fn require(&mut self, table: &Table<'_>, key: &str, expected: &str) {
        if table.get(key).is_none() {
            self.report(table.at, format!("`{key}` is missing; expected {expected}"));
        }
    }

    /// A text, expanded and not empty, which no message shows.
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
            Err(wrong) => {
                for message in wrong {
                    self.report(node.at, format!("{} {message}", shown(name)));
                }
                None
            }
        }
    }

    /// The text of a field, not to be shown.
    pub(super) fn text_of(&mut self, table: &Table<'_>, key: &str) -> Option<String> {
        let node = table.get(key)?;
        self.text(key, node)
    }

    /// A node read by `parse`, or a error that shows what the file says.
    pub(super) fn parsed<T>(
        &mut self,
        name: &str,
        node: &Node,
        (expected, parse): (&str, impl Fn(&str) -> Option<T>),
    ) -> Option<T> {
        let text = self.text(name, node)?;
        let value = parse(&text);
        if value.is_none() {
            let raw = if let Value::Text(raw) = &node.value { raw.as_str() } else { "" };
            let (name, raw) = (shown(name), shown(raw));
            self.report(node.at, format!("{name} is {raw}; expected {expected}"));
        }
        value
    }

    /// A field read by `parse`. `None`: it is left out, or wrong and reported.
    pub(super) fn field<T>(
        &mut self,
        table: &Table<'_>,
        key: &str,
        kind: (&str, impl Fn(&str) -> Option<T>),
    ) -> Option<T> {
        let node = table.get(key)?;
        self.parsed(key, node, kind)
    }

    /// A field read by `parse`, whose value may be a credential and is not shown.
    pub(super) fn hidden<T>(
        &mut self,
        name: &str,
        node: &Node,
        (expected, parse): (&str, impl Fn(&str) -> Option<T>),
    ) -> Option<T> {
        let text = self.text(name, node)?;
        let value = parse(&text);
        if value.is_none() {
            self.report(node.at, format!("{} is not valid; expected {expected}", shown(name)));
        }
        value
    }

    fn unknown(&mut self, key: &Name, known: &[&str]) {
        let near = known
            .iter()
            .map(|name| (strsim::osa_distance(&clip(&key.text), name), *name))
            .min()
            .filter(|(distance, name)| *distance <= (name.len() / 3).max(1));
        let expected = match near {
            Some((_, name)) => format!("`{name}`"),
            None => one_of(known.iter().copied()),
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

/// Names to choose from.
pub(super) fn one_of<'s>(names: impl ExactSizeIterator<Item = &'s str>) -> String {
    let more = names.len() > LISTED;
    let mut text = String::new();
    for name in names.take(LISTED) {
        text.push_str(if text.is_empty() { "one of " } else { ", " });
        text.push_str(&shown(name));
    }
    if more {
        text.push_str(" and more");
    }
    text
}

/// What the file says, if it is short: a long text may be a credential in the wrong place.
pub(super) fn shown(raw: &str) -> String {
    let length = raw.chars().count();
    if length <= SHOWN && !raw.chars().any(char::is_control) {
        return format!("`{raw}`");
    }
    format!("a text of {length} characters")
}

/// Enough of a key to compare it with known ones.
fn clip(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}
