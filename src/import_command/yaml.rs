//! YAML of other programs: anchors, aliases and merge keys included, without types. The nodes are bounded, so that aliases
//! cannot multiply them. It must never interpret a value.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, StrInput};

/// The most nodes, those of aliases included.
const MAX_NODES: usize = 200_000;
/// The deepest nesting.
const MAX_DEPTH: usize = 32;

/// A value, and the line on which it begins.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

/// The value of a node.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Text(String),
    List(Vec<Node>),
    /// In the order of the file; of duplicates the last counts.
    Table(Vec<(String, Node)>),
}

impl Node {
    /// The value of a key; one without a value counts as left out.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let found = self.entries().iter().rev().find(|(name, _)| name == key);
        found.map(|(_, node)| node).filter(|node| !matches!(node.value, Value::Null))
    }

    /// The text of a key.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_text()
    }

    /// The node as a text, if it is one.
    pub(super) fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The entries of a table; of anything else, none.
    pub(super) fn entries(&self) -> &[(String, Self)] {
        match &self.value {
            Value::Table(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; of anything else, none.
    pub(super) fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    fn count(&self) -> usize {
        let inner: usize = match &self.value {
            Value::Null | Value::Text(_) => 0,
            Value::List(items) => items.iter().map(Self::count).sum(),
            Value::Table(entries) => entries.iter().map(|(_, node)| node.count()).sum(),
        };
        inner + 1
    }
}

/// Parses the first document. The error begins with the line and column.
pub(super) fn parse(text: &str) -> Result<Node, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let parser = Parser::new_from_str(text);
    let mut builder = Builder { parser, anchors: BTreeMap::new(), nodes: 0 };
    loop {
        match builder.next()? {
            (Event::StreamEnd, line) => return Ok(Node { line, value: Value::Null }),
            (Event::DocumentStart(_), _) => {
                let (event, line) = builder.next()?;
                return builder.node(event, line, 0);
            }
            _ => {}
        }
    }
}

struct Builder<'i> {
    parser: Parser<'i, StrInput<'i>>,
    /// The nodes that aliases may name, by the parser's number.
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
}

impl<'i> Builder<'i> {
    fn next(&mut self) -> Result<(Event<'i>, usize), String> {
        let line = |marker: &Marker| marker.line().max(1);
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, line(&span.start))),
            Some(Err(error)) => {
                let at = error.marker();
                Err(format!("{}:{}: not YAML: {}", line(at), at.col() + 1, error.info()))
            }
            None => Ok((Event::StreamEnd, 1)),
        }
    }

    fn grow(&mut self, line: usize, nodes: usize) -> Result<(), String> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(format!("{line}:1: the file has more than {MAX_NODES} values"));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'i>, line: usize, depth: usize) -> Result<Node, String> {
        if depth > MAX_DEPTH {
            return Err(format!(
                "{line}:1: nested too deeply; expected at most {MAX_DEPTH} levels"
            ));
        }
        self.grow(line, 1)?;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => (scalar(&text, style), anchor),
            Event::SequenceStart(anchor, _) => (self.list(depth)?, anchor),
            Event::MappingStart(anchor, _) => (self.table(depth)?, anchor),
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let node = node.ok_or_else(|| format!("{line}:1: an alias names no anchor"))?;
                self.grow(line, node.count())?;
                return Ok(Node { line, ..node });
            }
            _ => (Value::Null, 0),
        };
        let node = Node { line, value };
        if anchor > 0 {
            self.grow(line, node.count())?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Value, String> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd | Event::StreamEnd, _) => return Ok(Value::List(items)),
                (event, line) => items.push(self.node(event, line, depth + 1)?),
            }
        }
    }

    fn table(&mut self, depth: usize) -> Result<Value, String> {
        let mut entries = Vec::new();
        let mut merged = Vec::new();
        loop {
            let (event, line) = self.next()?;
            if matches!(event, Event::MappingEnd | Event::StreamEnd) {
                // The last of duplicates counts: the keys that the table states itself.
                merged.append(&mut entries);
                return Ok(Value::Table(merged));
            }
            let key = self.node(event, line, depth + 1)?;
            let (event, line) = self.next()?;
            let node = self.node(event, line, depth + 1)?;
            match key.as_text() {
                Some("<<") => {
                    let tables = match &node.value {
                        Value::List(items) => items.as_slice(),
                        _ => std::slice::from_ref(&node),
                    };
                    for table in tables.iter().rev() {
                        merged.extend(table.entries().iter().cloned());
                    }
                }
                Some(name) => entries.push((name.to_owned(), node)),
                None => return Err(format!("{line}:1: a key is not a plain name")),
            }
        }
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" if style == ScalarStyle::Plain => Value::Null,
        text => Value::Text(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_and_merge_keys() {
        let root =
            parse("a: &x { k: 1, l: 2 }\nb: { <<: *x, l: 3 }\nc: *x\n").map_err(|e| panic!("{e}"));
        let root = root.unwrap();
        let b = root.get("b").unwrap();
        assert_eq!((b.text("k"), b.text("l")), (Some("1"), Some("3")));
        assert_eq!(root.get("c").unwrap().text("l"), Some("2"));
        assert_eq!((root.get("c").unwrap().line, root.get("d").is_none()), (3, true));
    }

    #[test]
    fn aliases_cannot_multiply_without_bound() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for at in 1..9 {
            let items = vec![format!("*a{}", at - 1); 10].join(", ");
            text = format!("{text}a{at}: &a{at} [{items}]\n");
        }
        assert!(parse(&text).unwrap_err().contains("more than"));
        assert!(parse(&"[".repeat(100)).is_err());
        assert!(parse("a: *").unwrap_err().starts_with("1:"));
    }
}
