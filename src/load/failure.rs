//! Stream failures by kind, with one example of each. Examples come from a server that may be
//! hostile: they must never hold control characters, and are short.

use std::fmt;

/// The most characters of an example.
const MAX_DETAIL: usize = 240;

/// Kinds of stream failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// No connection.
    Connect,
    /// A status other than 200.
    Status(u16),
    /// An error event inside the answer.
    InBand,
    /// The bytes ended or broke before the terminal event, without an error event.
    Truncated,
    /// A token arrived after a later one.
    OutOfOrder,
    /// A token is missing, although the response ended as complete.
    Lost,
    /// A token arrived twice.
    Duplicated,
    /// Nothing arrived for `--timeout`, or the response took too long in all.
    Stalled,
    /// Not what the protocol allows: HTML, broken JSON, an unknown token, bytes after the end.
    Junk,
    /// The upstream failed, and the answer ended as if it were complete.
    FalseCompletion,
}

impl Kind {
    /// Whether the tokens themselves are wrong, which no threshold on errors excuses.
    pub fn is_corruption(self) -> bool {
        matches!(self, Self::OutOfOrder | Self::Lost | Self::Duplicated | Self::FalseCompletion)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Connect => "connect",
            Self::Status(status) => return write!(to, "http_{status}"),
            Self::InBand => "in_band_error",
            Self::Truncated => "truncated",
            Self::OutOfOrder => "out_of_order",
            Self::Lost => "lost",
            Self::Duplicated => "duplicated",
            Self::Stalled => "stalled",
            Self::Junk => "junk",
            Self::FalseCompletion => "false_completion",
        })
    }
}

/// A failure and its detail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError {
    /// The kind.
    pub kind: Kind,
    /// The observation, as one short line.
    pub detail: String,
}

impl LoadError {
    /// A failure. `detail` may be text of the server.
    pub fn new(kind: Kind, detail: impl AsRef<str>) -> Self {
        Self { kind, detail: one_line(detail.as_ref()) }
    }
}

/// Text of the other side as one short, printable line.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if !word.is_empty() {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(word);
        }
    }
    match line.char_indices().nth(MAX_DETAIL) {
        Some((end, _)) => line.get(..end).unwrap_or_default().to_owned() + "...",
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_short_printable_lines() {
        assert_eq!(one_line("a\x1b[31mb\r\n  c\0"), "a [31mb c");
        assert_eq!(one_line(&"é".repeat(500)), "é".repeat(MAX_DETAIL) + "...");
    }
}
