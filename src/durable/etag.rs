//! Entity tags of reads: the stream, the range, and whether it is closed. Two reads with one tag must never differ.

use http::header::IF_NONE_MATCH;
use http::{HeaderMap, HeaderValue};

use super::stream::{Page, Reach, Stream};

/// The tag of a read after a sequence number.
pub(super) fn of(stream: &Stream, after: u64, page: &Page) -> Option<HeaderValue> {
    let closed = if page.reach == Reach::End { ":c" } else { "" };
    let tag = format!("\"{}:{after}:{}{closed}\"", stream.incarnation, page.next);
    HeaderValue::try_from(tag).ok()
}

/// Whether a client has the response with this tag.
pub(super) fn is_known(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let lists = headers.get_all(IF_NONE_MATCH).iter().filter_map(|list| list.to_str().ok());
    let mut tags = lists.flat_map(|list| list.split(',')).map(str::trim);
    tags.any(|known| {
        known == "*" || known.strip_prefix("W/").unwrap_or(known).as_bytes() == tag.as_bytes()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_tags_is_compared() {
        let tag = HeaderValue::from_static("\"a:0:1\"");
        for (sent, known) in [
            ("\"a:0:1\"", true),
            ("W/\"a:0:1\"", true),
            ("\"x\", \"a:0:1\"", true),
            ("*", true),
            ("\"a:0:1:c\"", false),
            ("a:0:1", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::from_static(sent))]);
            assert_eq!(is_known(&headers, &tag), known, "{sent}");
        }
        assert!(!is_known(&HeaderMap::new(), &tag));
    }
}
