//! YAML text to a tree whose every node knows its place. Knows nothing of what the keys mean.
//!
//! Built from parser events and not from a ready-made document type, because those drop duplicate
//! keys and copy aliased nodes. Aliases are refused, so that no file grows when it is read, and
//! nesting is bounded, so that no file exhausts the stack.

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, StrInput};

use super::problem::{At, Problem};

/// The configuration itself needs 6.
const MAX_DEPTH: usize = 16;

/// A value and where it starts.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: At,
    pub(super) value: Value,
}

/// What a node holds.
#[derive(Debug)]
pub(super) enum Value {
    /// `null`, `~` or nothing at all.
    Nothing,
    /// Any other scalar. Numbers and booleans are texts too: the field decides what it reads.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the file's order, duplicates included.
    Table(Vec<(Name, Node)>),
    /// Something whose problem has been reported already.
    Broken,
}

/// A key of a mapping.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) at: At,
    pub(super) text: String,
}

/// Reads a file's text. A syntax error is the only problem of its file; what can be read around is
/// added to `problems`.
pub(super) fn parse(text: &str, problems: &mut Vec<Problem>) -> Result<Node, Problem> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder { text, parser: Parser::new_from_str(text), problems };
    let mut root = None;
    loop {
        match builder.next()? {
            (Event::StreamEnd, _) => break,
            (Event::DocumentStart(_), at) => {
                let (event, node_at) = builder.next()?;
                if root.is_some() {
                    return Err(at.problem("a second document starts; expected only one"));
                }
                root = Some(builder.node(event, node_at, 0)?);
            }
            _ => {}
        }
    }
    Ok(root.unwrap_or(Node { at: At { line: 1, column: 1 }, value: Value::Nothing }))
}

fn place(marker: &Marker) -> At {
    At { line: marker.line().max(1), column: marker.col() + 1 }
}

fn syntax(error: &ScanError, text: &str) -> Problem {
    let at = place(error.marker());
    // The mistake that people make most: a brace means something to YAML inside braces.
    let expansion = text.lines().nth(at.line - 1).is_some_and(|line| line.contains("${"));
    let expected = if expansion { "quotes around `${...}`" } else { "a valid document" };
    at.problem(format!("not YAML: {}; expected {expected}", error.info()))
}

struct Builder<'i, 'p> {
    text: &'i str,
    parser: Parser<'i, StrInput<'i>>,
    problems: &'p mut Vec<Problem>,
}

impl<'i> Builder<'i, '_> {
    fn next(&mut self) -> Result<(Event<'i>, At), Problem> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, place(&span.start))),
            Some(Err(error)) => Err(syntax(&error, self.text)),
            None => Ok((Event::StreamEnd, At::FILE)),
        }
    }

    /// Reads the node that `event` starts, up to its end.
    fn node(&mut self, event: Event<'i>, at: At, depth: usize) -> Result<Node, Problem> {
        if depth > MAX_DEPTH {
            return Err(
                at.problem(format!("nested too deeply; expected at most {MAX_DEPTH} levels"))
            );
        }
        let (value, tagged) = match event {
            Event::Scalar(text, style, _, tag) => (scalar(&text, style), tag.is_some()),
            Event::SequenceStart(_, tag) => (self.list(depth)?, tag.is_some()),
            Event::MappingStart(_, tag) => (self.table(depth)?, tag.is_some()),
            Event::Alias(_) => {
                self.problems
                    .push(at.problem("aliases (`*`) are not supported; expected the value itself"));
                (Value::Broken, false)
            }
            _ => (Value::Nothing, false),
        };
        if tagged {
            self.problems.push(at.problem("tags (`!`) are not supported; expected a plain value"));
            return Ok(Node { at, value: Value::Broken });
        }
        Ok(Node { at, value })
    }

    fn list(&mut self, depth: usize) -> Result<Value, Problem> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd | Event::StreamEnd, _) => return Ok(Value::List(items)),
                (event, at) => items.push(self.node(event, at, depth + 1)?),
            }
        }
    }

    fn table(&mut self, depth: usize) -> Result<Value, Problem> {
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

    fn key(&mut self, event: Event<'i>, at: At, depth: usize) -> Result<Option<Name>, Problem> {
        if let Event::Scalar(text, _, _, None) = event {
            return Ok(Some(Name { at, text: text.into_owned() }));
        }
        self.node(event, at, depth + 1)?;
        self.problems.push(at.problem("a key is not a plain name; expected `name: value`"));
        Ok(None)
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" if style == ScalarStyle::Plain => Value::Nothing,
        text => Value::Text(text.to_owned()),
    }
}
