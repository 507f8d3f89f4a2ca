//! Fragments of text in the events of formats of no vendor's, and their joining: for a viewer that is far behind,
//! adjacent fragments become one event. What a client puts together must stay the same, byte for byte.

use bytes::{BufMut, BytesMut};
use memchr::memmem;

use super::Format;

/// The kinds of events in the format `events` that are fragments, with the end of what is before their text.
const KINDS: [(&[u8], &[u8]); 3] = [
    (b"event: text\ndata: {\"text\":\"", b""),
    (b"event: reasoning\ndata: {\"text\":\"", b""),
    (b"event: tool_arguments\ndata: {\"index\":", b"\"arguments\":\""),
];

/// An event that is a fragment of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment<'e> {
    /// The lines before its text. Fragments with the same head can be joined.
    head: &'e [u8],
    /// Its text, as it is written: JSON without the quotes, or lines of data.
    text: &'e [u8],
    /// The rest of its lines.
    tail: &'e [u8],
}

impl<'e> Fragment<'e> {
    /// Reads an event of a format, without its id and its blank line; `None`: it is no fragment, or its format is a
    /// vendor's, whose clients may count events.
    pub fn of(format: Format, event: &'e [u8]) -> Option<Self> {
        match format {
            Format::Text => Self::cut(event, b"data: ", b"", b"\n"),
            Format::Events => {
                KINDS.iter().find_map(|(begin, end)| Self::cut(event, begin, end, b"\"}\n"))
            }
            Format::Native | Format::Dialect(_) | Format::Ui | Format::Snapshot => None,
        }
    }

    fn cut(event: &'e [u8], begin: &[u8], end: &[u8], tail: &[u8]) -> Option<Self> {
        let rest = event.strip_prefix(begin)?;
        let head = begin.len() + memmem::find(rest, end)? + end.len();
        let (head, rest) = event.split_at_checked(head)?;
        let text = rest.strip_suffix(tail)?;
        let (text, tail) = rest.split_at_checked(text.len())?;
        Some(Self { head, text, tail })
    }

    /// Whether a client puts the texts of both together.
    pub fn is_continued_by(&self, next: &Self) -> bool {
        self.head == next.head
    }

    /// Writes the beginning of an event that has its text.
    pub fn begin(&self, out: &mut BytesMut) {
        out.put_slice(self.head);
        out.put_slice(self.text);
    }

    /// Continues that event with its text.
    pub fn proceed(&self, out: &mut BytesMut) {
        out.put_slice(self.text);
    }

    /// Ends that event, save for its id and its blank line.
    pub fn end(&self, out: &mut BytesMut) {
        out.put_slice(self.tail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Delta;
    use crate::dialect::{DIALECTS, Form};
    use crate::framing::Frame;

    /// The events of deltas, without blank lines.
    fn events(format: Format, deltas: &[Delta<'_>]) -> Vec<String> {
        let context = super::super::tests::context(Form::Chat);
        let mut encoder = format.encoder(DIALECTS[0], &context).unwrap();
        let mut out = BytesMut::new();
        for delta in deltas {
            encoder.frame(&Frame::default(), std::slice::from_ref(delta), &mut out);
        }
        let out = String::from_utf8(out.to_vec()).unwrap();
        out.split_terminator("\n\n").map(|event| format!("{event}\n")).collect()
    }

    fn joined(format: Format, events: &[String]) -> Option<String> {
        let parts: Option<Vec<_>> =
            events.iter().map(|event| Fragment::of(format, event.as_bytes())).collect();
        let parts = parts?;
        let mut out = BytesMut::new();
        parts[0].begin(&mut out);
        for (part, next) in parts.iter().zip(&parts[1..]) {
            if !part.is_continued_by(next) {
                return None;
            }
            next.proceed(&mut out);
        }
        parts.last()?.end(&mut out);
        Some(String::from_utf8(out.to_vec()).unwrap())
    }

    const TEXTS: [&str; 7] = [
        "one ",
        "\"two\"} {\"text\":\"\n\n",
        "\n",
        "\\",
        "\u{1F600}\u{7f}\u{1}",
        " ",
        "data: x\r\n",
    ];

    #[test]
    fn joined_fragments_equal_the_event_of_the_whole_text() {
        let whole = TEXTS.concat();
        for make in [
            |text| Delta::Text { choice: 0, text },
            |text| Delta::Reasoning { choice: 0, text },
            |json| Delta::ToolArguments { choice: 0, call: 12, json },
        ] {
            for format in [Format::Events, Format::Text] {
                let pieces: Vec<_> = TEXTS.iter().map(|text| make((*text).into())).collect();
                let pieces = events(format, &pieces);
                let [one] = &events(format, &[make(whole.as_str().into())])[..] else { continue };
                assert_eq!(joined(format, &pieces).as_ref(), Some(one), "{pieces:?}");
                assert_eq!(joined(format, &pieces[..1]).as_ref(), pieces.first());
            }
        }
    }

    #[test]
    fn other_events_are_not_joined() {
        let text = |text: &'static str| Delta::Text { choice: 0, text: text.into() };
        let reasoning = Delta::Reasoning { choice: 0, text: "b".into() };
        let arguments =
            |call| Delta::ToolArguments { choice: 0, call, json: "\"arguments\":\"".into() };
        let start =
            Delta::ToolStart { choice: 0, call: 0, id: "\"text\":\"".into(), name: "f".into() };
        for (deltas, format) in [
            ([text("a"), reasoning], Format::Events),
            ([arguments(1), arguments(11)], Format::Events),
            ([text("a"), start], Format::Events),
            ([text("a"), text("b")], Format::Ui),
        ] {
            assert_eq!(joined(format, &events(format, &deltas)), None, "{deltas:?}");
        }
        assert_eq!(Fragment::of(Format::Text, b"event: end\ndata: complete\n"), None);
        assert_eq!(Fragment::of(Format::Events, b"event: text\ndata: {\"text\":\""), None);
    }
}
