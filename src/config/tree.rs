//! YAML text to a tree whose every node knows its place. Knows nothing of what the keys mean.
//!
//! Built from parser events and not from a ready-made document type, because those drop duplicate
//! keys and copy aliased nodes. Aliases are refused, so that no file grows when it is read, and
//! nesting is bounded, so that no file exhausts the stack.

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, StrInput};

use super::error::{ConfigError, Location};

/// The configuration itself needs 6.
const MAX_DEPTH: usize = 16;

/// A value and where it starts.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: Location,
    pub(super) value: Value,
}

/// What a node holds.
#[derive(Debug)]
pub(super) enum Value {
    /// `null`, `~` or nothing at all.
    Null,
    /// Any other scalar. Numbers and booleans are texts too: the field decides what it reads.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the file's order, duplicates included.
    Table(Vec<(Name, Node)>),
    /// Something whose error has been reported already.
    Broken,
}

/// A key of a mapping.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) at: Location,
    pub(super) text: String,
}

/// Reads a file's text. A syntax error is the only error of its file; what can be read around is
/// added to `errors`.
pub(super) fn parse(text: &str, errors: &mut Vec<ConfigError>) -> Result<Node, ConfigError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder { text, parser: Parser::new_from_str(text), errors };
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

fn syntax(error: &ScanError, text: &str) -> ConfigError {
    let at = place(error.marker());
    // The mistake that people make most: a brace means something to YAML inside braces.
    let expansion = text.lines().nth(at.line - 1).is_some_and(|line| line.contains("${"));
    let expected = if expansion { "quotes around `${...}`" } else { "a valid document" };
    at.error(format!("not YAML: {}; expected {expected}", error.info()))
}

struct Builder<'i, 'p> {
    text: &'i str,
    parser: Parser<'i, StrInput<'i>>,
    errors: &'p mut Vec<ConfigError>,
}

impl<'i> Builder<'i, '_> {
    fn next(&mut self) -> Result<(Event<'i>, Location), ConfigError> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, place(&span.start))),
            Some(Err(error)) => Err(syntax(&error, self.text)),
            None => Ok((Event::StreamEnd, Location::FILE)),
        }
    }

    /// Reads the node that `event` starts, up to its end.
    fn node(&mut self, event: Event<'i>, at: Location, depth: usize) -> Result<Node, ConfigError> {
        if depth > MAX_DEPTH {
            return Err(at.error(format!("nested too deeply; expected at most {MAX_DEPTH} levels")));
        }
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
