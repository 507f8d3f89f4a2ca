//! Event streams of the Durable Streams protocol: `data` events with what was appended, each followed by a `control`
//! event with the place that it leads to. Content must never become a field or an event of its own.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::content_type::Mode;
use super::read;
use super::stream::Reach;
use crate::streams::position::Position;

/// A comment: nothing was appended for a while.
pub(super) const HEARTBEAT: &str = ": ping\n\n";

/// The control event after `data` events: the place that they lead to.
pub(super) struct Control {
    pub(super) next: Position,
    pub(super) reach: Reach,
    pub(super) cursor: u64,
    /// The time after which to connect again, in the first event of a connection.
    pub(super) retry: Option<Duration>,
}

impl Control {
    /// Writes the event. The protocol's clients read `data` in the line after `event`.
    pub(super) fn write(&self, out: &mut String) {
        let (next, cursor) = (self.next.to_string(), self.cursor.to_string());
        out.extend(["event: control\ndata:{\"streamNextOffset\":\"", &next, "\""]);
        // A client that has received the end does not come back, and needs no cursor.
        if self.reach != Reach::End {
            out.extend([",\"streamCursor\":\"", &cursor, "\""]);
        }
        out.push_str(match self.reach {
            Reach::Partial => "}\n",
            Reach::Tail => ",\"upToDate\":true}\n",
            Reach::End => ",\"upToDate\":true,\"streamClosed\":true}\n",
        });
        if let Some(retry) = self.retry {
            out.extend(["retry:", &retry.as_millis().to_string(), "\n"]);
        }
        write_id(out, &next);
    }
}

/// The last line of an event: the offset as its id.
fn write_id(out: &mut String, next: &str) {
    out.extend(["id:", next, "\n\n"]);
}

/// Writes the event of appends that lead to a place.
pub(super) fn write_data(out: &mut String, mode: Mode, appends: &[Bytes], next: Position) {
    let body = read::body(mode, appends);
    out.push_str("event: data\n");
    match mode {
        Mode::Binary => {
            out.push_str("data:");
            STANDARD.encode_string(&body, out);
            out.push('\n');
        }
        Mode::Json | Mode::Text => write_lines(out, &String::from_utf8_lossy(&body)),
    }
    write_id(out, &next.to_string());
}

/// One `data` line for each line of a text, whatever its lines end with. A client takes one space away.
fn write_lines(out: &mut String, text: &str) {
    let mut rest = Some(text);
    while let Some(text) = rest {
        let (line, after) = match text.split_once(['\r', '\n']) {
            Some((line, after)) => {
                let is_pair = text.get(line.len()..).is_some_and(|end| end.starts_with("\r\n"));
                let after = if is_pair { after.strip_prefix('\n') } else { Some(after) };
                (line, after)
            }
            None => (text, None),
        };
        out.push_str(if line.starts_with(' ') { "data: " } else { "data:" });
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
}

/// The number of appends up to the end of a character: writers may cut a text anywhere.
pub(super) fn whole(mode: Mode, appends: &[Bytes]) -> usize {
    if mode != Mode::Text {
        return appends.len();
    }
    let is_cut = |count: &usize| {
        let last = appends.iter().take(*count).rev().flat_map(|append| append.iter().rev()).take(3);
        missing(last.copied())
    };
    (1..=appends.len()).rev().find(|count| !is_cut(count)).unwrap_or(0)
}

/// Whether a character is incomplete, by the last bytes before its end, the last one first.
fn missing(last: impl Iterator<Item = u8>) -> bool {
    for (behind, byte) in last.enumerate() {
        let length = match byte {
            0x80..0xc0 => continue,
            0xc0..0xe0 => 2,
            0xe0..0xf0 => 3,
            0xf0..0xf8 => 4,
            _ => 1,
        };
        return length > behind + 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::streams::position::Epoch;

    fn lines(text: &str) -> String {
        let mut out = String::new();
        write_lines(&mut out, text);
        out
    }

    #[test]
    fn every_line_of_a_text_is_data() {
        for (text, expected) in [
            ("one", "data:one\n"),
            ("a\nb", "data:a\ndata:b\n"),
            ("a\r\nb\rc\n", "data:a\ndata:b\ndata:c\ndata:\n"),
            (
                "\r\n\r\nevent: control\r\ndata: {}",
                "data:\ndata:\ndata:event: control\ndata:data: {}\n",
            ),
            (" x\n  y", "data:  x\ndata:   y\n"),
            ("\n", "data:\ndata:\n"),
        ] {
            assert_eq!(lines(text), expected, "{text:?}");
        }
    }

    /// The text that a client reads, by the rules of the HTML standard.
    fn parsed(block: &str) -> String {
        let mut data = Vec::new();
        for line in block.split('\n').filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').unwrap();
            assert_eq!(name, "data", "{block:?}");
            data.push(value.strip_prefix(' ').unwrap_or(value));
        }
        data.join("\n")
    }

    proptest! {
        #[test]
        fn a_text_is_read_as_it_was_written(text in "[ a:\\r\\n\u{e9}]{0,30}") {
            let expected = text.replace("\r\n", "\n").replace('\r', "\n");
            prop_assert_eq!(parsed(&lines(&text)), expected);
        }

        #[test]
        fn appends_are_held_back_to_the_end_of_a_character(
            (text, cut) in ("[a\u{e9}\u{20ac}\u{1f600}]{1,8}", 0usize..40)
        ) {
            let cut = cut % (text.len() + 1);
            let (before, after) = text.as_bytes().split_at(cut);
            let appends = [before, after].map(Bytes::copy_from_slice);
            let whole_first = std::str::from_utf8(before).is_ok();
            prop_assert_eq!(whole(Mode::Text, &appends), 2);
            prop_assert_eq!(whole(Mode::Text, &appends[..1]), usize::from(whole_first));
            prop_assert_eq!(whole(Mode::Binary, &appends[..1]), 1);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_not_held_back() {
        for bytes in [&b"\xff"[..], b"\x80\x80\x80\x80", b"a\x80", b"\xc3a"] {
            assert_eq!(whole(Mode::Text, &[Bytes::copy_from_slice(bytes)]), 1, "{bytes:?}");
        }
    }

    #[test]
    fn a_control_event_has_the_place_and_the_state() {
        let next = Epoch::random().at(7);
        for (reach, rest) in [
            (Reach::Partial, r#","streamCursor":"9""#),
            (Reach::Tail, r#","streamCursor":"9","upToDate":true"#),
            (Reach::End, r#","upToDate":true,"streamClosed":true"#),
        ] {
            let mut out = String::new();
            let retry = Some(Duration::from_millis(2500));
            Control { next, reach, cursor: 9, retry }.write(&mut out);
            let data = format!("{{\"streamNextOffset\":\"{next}\"{rest}}}");
            assert_eq!(out, format!("event: control\ndata:{data}\nretry:2500\nid:{next}\n\n"));
        }
    }
}
