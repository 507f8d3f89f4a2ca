//! YAML documents: text to a tree of nodes with their locations. It must never interpret a key or a value.
//!
//! It is built from parser events, because ready-made document types drop duplicate keys and copy aliased nodes. Aliases are
//! rejected, so that no file grows when it is read, and nesting is bounded, so that no file exhausts the stack.

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, StrInput};

use super::error::{ConfigError, Location};

/// The deepest nesting. The configuration itself needs 6.
const MAX_DEPTH: usize = 16;

/// A value and its location.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: Location,
    pub(super) value: Value,
}

/// The value of a node.
#[derive(Debug)]
pub(super) enum Value {
    /// `null`, `~` or nothing at all.
    Null,
    /// Any other scalar. Numbers and booleans are texts as well: the key's format reads them.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in the order of the file, with duplicates.
    Table(Vec<(Name, Node)>),
    /// A value whose error is reported already.
    Broken,
}

/// A key of a mapping.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) at: Location,
    pub(super) text: String,
}

/// Parses a file. A syntax error is returned alone; errors that do not stop the parser are added to `errors`.
pub(super) fn parse(text: &str, errors: &mut Vec<ConfigError>) -> Result<Node, ConfigError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let parser = Parser::new_from_str(text);
    let mut builder = Builder { text, parser, errors, open: Vec::new() };
    let mut root = None;
    loop {
        match builder.next()? {
            (Event::StreamEnd, _) => break,
            (Event::DocumentStart(_), at) => {
                let (event, node_at) = builder.next()?;
                if root.is_some() {
                    return Err(at.error("a second document starts; expected only one"));
                }
                root = Some(builder.node(event, node_at, 0)?);
            }
            _ => {}
        }
    }
    Ok(root.unwrap_or(Node { at: Location { line: 1, column: 1 }, value: Value::Null }))
}

fn place(marker: &Marker) -> Location {
    Location { line: marker.line().max(1), column: marker.col() + 1 }
}

/// A syntax error. `open`: the collections that it is in, the innermost last.
fn syntax(error: &ScanError, text: &str, open: &[Location]) -> ConfigError {
    let at = place(error.marker());
    let bracket = |at: &Location| {
        let line = text.lines().nth(at.line - 1)?;
        let c = line.chars().nth(at.column - 1).filter(|c| matches!(c, '{' | '['))?;
        Some((*at, c))
    };
    // Such an error is found at the end of the file, far from its cause.
    let at_end = error.marker().index() >= text.trim_end().chars().count();
    if let Some((at, c)) = open.iter().rev().find_map(bracket).filter(|_| at_end) {
        let end = if c == '{' { '}' } else { ']' };
        return at.error(format!("not YAML: this `{c}` has no end; expected `{end}`"));
    }
    // The most common mistake: within braces, YAML reads the braces of an expansion.
    let expansion = text.lines().nth(at.line - 1).is_some_and(|line| line.contains("${"));
    let expected = if expansion { "quotes around `${...}`" } else { "a valid document" };
    at.error(format!("not YAML: {}; expected {expected}", error.info()))
}

struct Builder<'i, 'p> {
    text: &'i str,
    parser: Parser<'i, StrInput<'i>>,
    errors: &'p mut Vec<ConfigError>,
    /// The beginnings of the collections that are read.
    open: Vec<Location>,
}

impl<'i> Builder<'i, '_> {
    fn next(&mut self) -> Result<(Event<'i>, Location), ConfigError> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, place(&span.start))),
            Some(Err(error)) => Err(syntax(&error, self.text, &self.open)),
            None => Ok((Event::StreamEnd, Location::FILE)),
        }
    }

    /// Reads the node that `event` starts, up to its end.
    fn node(&mut self, event: Event<'i>, at: Location, depth: usize) -> Result<Node, ConfigError> {
        if depth > MAX_DEPTH {
            return Err(at.error(format!("nested too deeply; expected at most {MAX_DEPTH} levels")));
        }
        self.open.push(at);
        let (value, tagged) = match event {
            Event::Scalar(text, style, _, tag) => (scalar(&text, style), tag.is_some()),
            Event::SequenceStart(_, tag) => (self.list(depth)?, tag.is_some()),
            Event::MappingStart(_, tag) => (self.table(depth)?, tag.is_some()),
            Event::Alias(_) => {
                self.errors
                    .push(at.error("aliases (`*`) are not supported; expected the value itself"));
                (Value::Broken, false)
            }
            _ => (Value::Null, false),
        };
        self.open.pop();
        if tagged {
            self.errors.push(at.error("tags (`!`) are not supported; expected a plain value"));
            return Ok(Node { at, value: Value::Broken });
        }
        Ok(Node { at, value })
    }

    fn list(&mut self, depth: usize) -> Result<Value, ConfigError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd | Event::StreamEnd, _) => return Ok(Value::List(items)),
                (event, at) => items.push(self.node(event, at, depth + 1)?),
            }
        }
    }

    fn table(&mut self, depth: usize) -> Result<Value, ConfigError> {
        let mut entries = Vec::new();
        loop {
            let key = match self.next()? {
                (Event::MappingEnd | Event::StreamEnd, _) => return Ok(Value::Table(entries)),
                (event, at) => self.key(event, at, depth)?,
            };
            let (event, at) = self.next()?;
            let node = self.node(event, at, depth + 1)?;
            entries.extend(key.map(|key| (key, node)));
        }
    }

    fn key(
        &mut self,
        event: Event<'i>,
        at: Location,
        depth: usize,
    ) -> Result<Option<Name>, ConfigError> {
        if let Event::Scalar(text, _, _, None) = event {
            return Ok(Some(Name { at, text: text.into_owned() }));
        }
        self.node(event, at, depth + 1)?;
        self.errors.push(at.error("a key is not a plain name; expected `name: value`"));
        Ok(None)
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" if style == ScalarStyle::Plain => Value::Null,
        text => Value::Text(text.to_owned()),
    }
}
