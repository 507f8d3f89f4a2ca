//! The mark of an answer that another target went on with: a comment in event streams of dialects, an event in formats of
//! the gateway's own. It must never change what the answer says.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use memchr::memmem;
use serde::Serialize;

use super::Format;

/// The comment before the target's name. No data of an event begins a line with it.
const COMMENT: &[u8] = b": streamgate-continued ";

/// The comment that names the target.
pub fn comment(target: &str) -> Bytes {
    let mut out = BytesMut::from(COMMENT);
    out.put_slice(target.as_bytes());
    out.put_u8(b'\n');
    out.freeze()
}

/// The place of such a comment in native bytes, which begin a line, and its target.
pub fn find(bytes: &[u8]) -> Option<(Range<usize>, &str)> {
    let mut places = memmem::find_iter(bytes, COMMENT);
    let begin =
        places.find(|at| at.checked_sub(1).is_none_or(|at| bytes.get(at) == Some(&b'\n')))?;
    let rest = bytes.get(begin + COMMENT.len()..)?;
    let length = memchr::memchr(b'\n', rest)?;
    let target = std::str::from_utf8(rest.get(..length)?).ok()?;
    Some((begin..begin + COMMENT.len() + length + 1, target))
}

#[derive(Serialize)]
struct Continued<'t> {
    target: &'t str,
}

/// A part of the UI message stream that is no part of the message.
#[derive(Serialize)]
struct UiPart<'t> {
    r#type: &'static str,
    data: Continued<'t>,
    transient: bool,
}

impl Format {
    /// Writes the mark, if the format has one.
    pub fn write_continued(self, target: &str, out: &mut BytesMut) {
        let data = Continued { target };
        // Writing to memory cannot fail.
        match self {
            Self::Events | Self::Snapshot => {
                out.put_slice(b"event: continued\ndata: ");
                serde_json::to_writer(out.writer(), &data).unwrap_or_default();
            }
            Self::Ui => {
                let part = UiPart { r#type: "data-continued", data, transient: true };
                out.put_slice(b"data: ");
                serde_json::to_writer(out.writer(), &part).unwrap_or_default();
            }
            Self::Native | Self::Text | Self::Dialect(_) => return,
        }
        out.put_slice(b"\n\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_found_where_it_stands() {
        let mark = comment("p/m");
        assert_eq!(find(&mark), Some((0..mark.len(), "p/m")));
        let within = [&b"data: a\n\n"[..], &mark, b"data: b\n\n"].concat();
        assert_eq!(find(&within), Some((9..9 + mark.len(), "p/m")));
        for other in [
            &b"data: {\"text\":\": streamgate-continued p/m\"}\n\n"[..],
            b": streamgate-continued p/m",
            b": ping\n",
            b"",
        ] {
            assert_eq!(find(other), None);
        }
    }

    #[test]
    fn formats_of_our_own_have_an_event() {
        let written = |format: Format| {
            let mut out = BytesMut::new();
            format.write_continued("p/\"m", &mut out);
            String::from_utf8(out.to_vec()).unwrap()
        };
        let event = "event: continued\ndata: {\"target\":\"p/\\\"m\"}\n\n";
        assert_eq!([written(Format::Events), written(Format::Snapshot)], [event, event]);
        let part = r#"data: {"type":"data-continued","data":{"target":"p/\"m"},"transient":true}"#;
        assert_eq!(written(Format::Ui), format!("{part}\n\n"));
        assert_eq!([written(Format::Text), written(Format::Native)], ["", ""]);
    }
}
