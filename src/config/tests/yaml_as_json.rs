//! YAML as editors read it: events of the parser to JSON, by the core schema of YAML 1.2. It must share nothing with the
//! reader but the parser.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

/// More than any file here has.
const MAX_DEPTH: usize = 50;

/// The first document of a file. `None`: it is not YAML, is nested too deeply, or has aliases or tags.
pub(super) fn yaml_as_json(text: &str) -> Option<Value> {
    let mut parser = Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    let mut events = std::iter::from_fn(|| parser.next_event()).map(|event| Some(event.ok()?.0));
    loop {
        match events.next()?? {
            Event::DocumentStart(_) => {
                let event = events.next()??;
                return node(event, &mut events, 0);
            }
            Event::StreamEnd => return Some(Value::Null),
            _ => {}
        }
    }
}

fn node<'i>(
    event: Event<'i>,
    events: &mut impl Iterator<Item = Option<Event<'i>>>,
    depth: usize,
) -> Option<Value> {
    if depth > MAX_DEPTH {
        return None;
    }
    match event {
        Event::Scalar(text, ScalarStyle::Plain, _, None) => Some(plain(&text)),
        Event::Scalar(text, _, _, None) => Some(text.as_ref().into()),
        Event::SequenceStart(_, None) => {
            let mut items = Vec::new();
            loop {
                match events.next()?? {
                    Event::SequenceEnd => return Some(items.into()),
                    event => items.push(node(event, events, depth + 1)?),
                }
            }
        }
        Event::MappingStart(_, None) => {
            let mut members = Map::new();
            loop {
                let name = match events.next()?? {
                    Event::MappingEnd => return Some(members.into()),
                    Event::Scalar(name, _, _, None) => name.into_owned(),
                    _ => return None,
                };
                let event = events.next()??;
                members.insert(name, node(event, events, depth + 1)?);
            }
        }
        _ => None,
    }
}

/// A scalar without quotes.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return true.into(),
        "false" | "False" | "FALSE" => return false.into(),
        _ => {}
    }
    let number = text.strip_prefix('+').unwrap_or(text);
    let digits = number.strip_prefix('-').unwrap_or(number);
    let numeric = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
    let whole = || number.parse::<i64>().map(Value::from).ok();
    let unsigned = || number.parse::<u64>().map(Value::from).ok();
    let decimal = || number.parse::<f64>().map(Value::from).ok();
    let read = || whole().or_else(unsigned).or_else(decimal);
    numeric.then(read).flatten().unwrap_or_else(|| text.into())
}
