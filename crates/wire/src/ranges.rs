//! Ranges of numbers and enum values in requests (`ranges.txt`). A value that no server of the caller's dialect
//! accepts is rejected with its name and its range.
//!
//! Values are never adapted to a target, and never repeated. A range is a row of the table, with its source;
//! this file names none.

use std::sync::LazyLock;

use super::body::refuse;
use super::chat::{ApiError, Request};
use super::embeddings::EmbedRequest;
use super::json::{Members, is_unsaid};

const TABLE: &str = include_str!("ranges.txt");

/// One row of the table.
#[derive(Debug)]
struct Row {
    /// Names separated by blanks.
    dialects: &'static str,
    field: &'static str,
    /// Names separated by blanks, the usual one first.
    members: &'static str,
    range: Range,
}

/// Accepted values of a field.
#[derive(Debug)]
enum Range {
    Numbers(Option<f64>, Option<f64>),
    /// Enum values separated by blanks.
    Words(&'static str),
}

/// A value of a request.
enum Value<'a> {
    Number(f64),
    Word(&'a str),
}

static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| TABLE.lines().filter_map(row).collect());

/// The rows by dialect, so that a request checks only its own.
static DIALECTS: LazyLock<Vec<(&str, Vec<&Row>)>> = LazyLock::new(|| {
    let mut dialects: Vec<(&str, Vec<&Row>)> = Vec::new();
    for (name, row) in ROWS.iter().flat_map(|row| row.dialects.split(' ').map(move |it| (it, row)))
    {
        match dialects.iter_mut().find(|(known, _)| *known == name) {
            Some((_, rows)) => rows.push(row),
            None => dialects.push((name, vec![row])),
        }
    }
    dialects
});

/// Parses a line of the table. `None` for comments, blank lines and malformed lines.
fn row(line: &'static str) -> Option<Row> {
    let mut cells = line.split('|').map(str::trim);
    let dialects = cells.next().filter(|cell| !cell.is_empty() && !cell.starts_with('#'))?;
    let (field, members) = (cells.next()?, cells.next().filter(|members| !members.is_empty())?);
    let range = range(cells.next()?)?;
    cells.next().filter(|source| !source.is_empty())?;
    Some(Row { dialects, field, members, range })
}

fn range(cell: &'static str) -> Option<Range> {
    let Some((least, most)) = cell.split_once("..") else {
        return Some(Range::Words(cell)).filter(|_| !cell.is_empty());
    };
    let bound = |cell: &str| if cell.is_empty() { Some(None) } else { cell.parse().ok().map(Some) };
    Some(Range::Numbers(bound(least)?, bound(most)?))
}

impl Range {
    fn holds(&self, value: &Value<'_>) -> bool {
        match (self, value) {
            (Self::Numbers(least, most), Value::Number(number)) => {
                least.is_none_or(|least| *number >= least)
                    && most.is_none_or(|most| *number <= most)
            }
            (Self::Words(words), Value::Word(word)) => words.split(' ').any(|known| known == *word),
            _ => false,
        }
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Numbers(Some(least), Some(most)) => write!(out, "from {least} to {most}"),
            Self::Numbers(Some(least), None) => write!(out, "{least} or more"),
            Self::Numbers(None, Some(most)) => write!(out, "{most} or less"),
            Self::Numbers(None, None) => out.write_str("a number"),
            Self::Words(words) => write!(out, "one of `{}`", words.replace(' ', "`, `")),
        }
    }
}

impl Row {
    /// The error for a value out of range. `body` is the request, which shows the caller's spelling of the
    /// member.
    fn refusal(&self, body: &str) -> ApiError {
        let members = Members::parse(body).unwrap_or_default();
        let mut names = self.members.split(' ');
        let root = |name: &str| name.split('.').next().map(str::to_owned).unwrap_or_default();
        let said = |name: &&str| !is_unsaid(&members, &root(name));
        let name = names.clone().find(said).or_else(|| names.next());
        refuse(name.unwrap_or(self.field), &format!("must be {}", self.range))
    }
}

/// Rejects a request with a value out of range.
pub fn check(request: &Request, dialect: &str, body: &str) -> Result<(), ApiError> {
    check_each(dialect, body, |field| match field {
        "max_tokens" => request.max_tokens.map(count),
        "temperature" => request.temperature.map(Value::Number),
        "top_p" => request.top_p.map(Value::Number),
        "presence_penalty" => request.presence_penalty.map(Value::Number),
        "frequency_penalty" => request.frequency_penalty.map(Value::Number),
        "n" => request.n.map(count),
        "effort" => request.reasoning.as_ref()?.effort.as_deref().map(Value::Word),
        _ => None,
    })
}

/// The same for an embeddings request.
pub fn check_embeddings(request: &EmbedRequest, dialect: &str, body: &str) -> Result<(), ApiError> {
    check_each(dialect, body, |field| match field {
        "dimensions" => request.dimensions.map(count),
        _ => None,
    })
}

fn check_each<'a>(
    dialect: &str,
    body: &str,
    value: impl Fn(&str) -> Option<Value<'a>>,
) -> Result<(), ApiError> {
    let outside = |row: &&&Row| value(row.field).is_some_and(|value| !row.range.holds(&value));
    let rows = DIALECTS.iter().find(|(name, _)| *name == dialect).map(|(_, rows)| rows);
    let wrong = rows.into_iter().flatten().find(outside);
    wrong.map_or(Ok(()), |row| Err(row.refusal(body)))
}

#[expect(clippy::cast_precision_loss, reason = "compared with small bounds only")]
fn count<'a>(count: u64) -> Value<'a> {
    Value::Number(count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Reasoning;
    use crate::dialect::caller_dialects;

    #[test]
    fn every_row_is_a_range_of_a_field_of_a_dialect_with_a_source() {
        let said = |line: &&str| !line.is_empty() && !line.starts_with('#');
        for line in TABLE.lines().filter(said) {
            let row = row(line).unwrap_or_else(|| panic!("{line}"));
            assert!(!matches!(row.range, Range::Numbers(None, None)), "{line}");
            for name in row.dialects.split(' ') {
                assert!(caller_dialects().any(|dialect| dialect.name() == name), "{line}");
                let is_of = |other: &Row| other.dialects.split(' ').any(|other| other == name);
                let same = |other: &&Row| other.field == row.field && is_of(other);
                assert_eq!(ROWS.iter().filter(same).count(), 1, "{line}");
            }
        }
        assert_eq!(ROWS.len(), TABLE.lines().filter(said).count());
    }

    #[test]
    fn a_number_outside_its_range_is_refused_by_the_name_that_the_caller_uses() {
        let zero = Request { max_tokens: Some(0), ..Request::default() };
        for (dialect, body, told) in [
            ("openai-chat", r#"{"max_tokens":0}"#, "`max_tokens` must be 1 or more"),
            (
                "openai-chat",
                r#"{"max_completion_tokens":0,"max_tokens":null}"#,
                "`max_completion_tokens` must be 1 or more",
            ),
            ("openai-responses", "{}", "`max_output_tokens` must be 1 or more"),
        ] {
            assert_eq!(check(&zero, dialect, body).unwrap_err().message, told);
        }
        // Anthropic fills the prompt cache without output for this value, and Ollama sets no limit.
        for dialect in ["anthropic", "ollama"] {
            assert_eq!(check(&zero, dialect, "{}"), Ok(()));
        }
        let hot = |temperature| Request { temperature: Some(temperature), ..Request::default() };
        for temperature in [-0.1, 2.1] {
            let fault = check(&hot(temperature), "gemini", "{}").unwrap_err();
            assert_eq!(fault.message, "`generationConfig.temperature` must be from 0 to 2");
            assert_eq!(check(&hot(temperature), "ollama", "{}"), Ok(()));
        }
        for temperature in [0.0, 2.0] {
            assert_eq!(check(&hot(temperature), "anthropic", "{}"), Ok(()));
        }
        let body = r#"{"reasoning":{"effort":"huge"}}"#;
        let reasoning = |effort: &str| {
            let reasoning = Reasoning { effort: Some(effort.to_owned()), ..Reasoning::default() };
            Request { reasoning: Some(reasoning), ..Request::default() }
        };
        let fault = check(&reasoning("huge"), "openai-chat", body).unwrap_err();
        assert!(fault.message.starts_with("`reasoning.effort` must be one of `none`, `minimal`, "));
        assert_eq!(check(&reasoning("xhigh"), "openai-chat", body), Ok(()));
    }
}
