//! Token estimation: the tokens of a prompt by its bytes alone. Good enough to reserve; it must never be returned as
//! a count without a mark. Pure.

use memchr::{memchr_iter, memmem};

/// A shorter text is not searched: a picture in it would count for little.
const MIN_ATTACHMENT: usize = 8 * 1024;

/// The least that a picture or a file in base64 counts: vendors count its area or its pages, not its bytes.
const ATTACHMENT: u64 = 2_000;

/// The bytes of a large attachment that count as one token, so that its size counts, too.
const BYTES_PER_TOKEN: u64 = 64;

/// The text before base64 in a `data:` address.
const BASE64_MARK: &[u8] = b";base64,";

/// The largest distance between a medium's type and its data, in bytes.
const TYPE_DISTANCE: usize = 128;

/// Members that hold base64 in one of the dialects: media, and what only its vendor can read.
const MEDIA: [&[u8]; 12] = [
    b"data",
    b"bytes",
    b"file_data",
    b"images",
    b"image_url",
    b"url",
    b"uri",
    b"signature",
    b"thoughtSignature",
    b"thought_signature",
    b"encrypted_content",
    b"encrypted_index",
];

/// Four bytes are a token. Attachments in base64 would count a thousand times too much that way, so each
/// long one counts by its size in another measure. Only a `data:` address, or the value of a member that
/// holds media, is an attachment: text without blanks looks like base64, too.
pub fn prompt_tokens(body: &str) -> u64 {
    let bytes = body.as_bytes();
    let (mut words, mut attachments) = (bytes.len(), 0);
    // The end of the last attachment: the next one of its list follows at once.
    let mut last = 0;
    if bytes.len() > MIN_ATTACHMENT {
        let mut from = 0;
        for to in memchr_iter(b'"', bytes) {
            if to - from > MIN_ATTACHMENT && is_attachment(bytes, (from, to), last) {
                words -= to - from;
                attachments += ATTACHMENT.max((to - from) as u64 / BYTES_PER_TOKEN);
                last = to;
            }
            from = to + 1;
        }
    }
    (words as u64).div_ceil(4) + attachments
}

/// Whether the string between `from` and `to` is base64 where base64 stands, and no text in disguise.
fn is_attachment(body: &[u8], (from, to): (usize, usize), last: usize) -> bool {
    let part = |from: usize, to: usize| body.get(from..to.min(body.len())).unwrap_or_default();
    let string = part(from, to);
    let head = string.get(..TYPE_DISTANCE).unwrap_or_default();
    let start = memmem::find(head, BASE64_MARK).map(|at| at + BASE64_MARK.len());
    let address = start.is_some() && head.starts_with(b"data:");
    let listed = last > 0 && part(last + 1, from).iter().all(|byte| b", \t\r\n\"".contains(byte));
    if !(address
        || listed
        || MEDIA.contains(&member(part(from.saturating_sub(TYPE_DISTANCE), from))))
    {
        return false;
    }
    let text = |part: &[u8]| memmem::find(part, b"text/").is_some();
    if text(if address { head } else { part(from.saturating_sub(TYPE_DISTANCE), from) })
        || !address && text(part(to, to + TYPE_DISTANCE))
    {
        return false;
    }
    let data = string.get(start.unwrap_or(0)..).unwrap_or_default();
    // Slashes may be escaped, and lines broken.
    data.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+/=-_\\".contains(byte))
}

/// The member whose value, or the first element of whose list, follows `before`, which ends with a quote.
fn member(before: &[u8]) -> &[u8] {
    let blank = |byte: &u8| byte.is_ascii_whitespace();
    let until = |end: usize| before.get(..end).unwrap_or_default();
    let mut end = before.len().saturating_sub(1);
    let skip = |mut end: usize, past: u8| {
        while until(end).last().is_some_and(blank) {
            end -= 1;
        }
        until(end).last().filter(|byte| **byte == past).map(|_| end - 1)
    };
    end = skip(end, b'[').unwrap_or(end);
    let Some(end) = skip(end, b':').and_then(|end| skip(end, b'"')) else { return &[] };
    let start = until(end).iter().rposition(|byte| *byte == b'"').map_or(0, |at| at + 1);
    before.get(start..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attachments_count_by_number_and_words_by_length() {
        let picture = "iVBORw0KGgo+/A==".repeat(20_000);
        let words = "some words and more ".repeat(1000);
        let blob = "the_quick_brown_fox_".repeat(20_000);
        for (prompt, expected) in [
            (String::new(), 0),
            ("12345".to_owned(), 2),
            (format!(r#"{{"text":"{words}"}}"#), 5_003),
            (format!(r#"{{"data":"{picture}"}}"#), 5_003),
            (format!(r#"{{"mimeType":"image/png", "data" : "{picture}"}}"#), 5_010),
            (format!(r#"{{"url":"data:image/png;base64,{picture}"}}"#), 5_003),
            (
                format!(
                    r#"{{"images": [ "{picture}",
                "{picture}"],"content":"{words}"}}"#
                ),
                15_013,
            ),
            (format!(r#"{{"data":"{}"}}"#, "iVBORw0KGgo+/A==".repeat(1000)), 2_003),
            // Escaped slashes are base64, too.
            (format!(r#"{{"bytes":"{}"}}"#, "iVBORw0KGgo+\\/A==".repeat(1000)), 2_003),
            // Text that looks like base64.
            (format!(r#"{{"content":"{blob}"}}"#), 100_004),
            (format!(r#"["{picture}"]"#), 80_001),
            (format!(r#"{{"images":["{picture}"],"content":"{blob}"}}"#), 105_007),
            // Text as a file.
            (format!(r#"{{"media_type":"text/plain","data":"{blob}"}}"#), 100_010),
            (format!(r#"{{"data":"{blob}","mime_type":"text/plain"}}"#), 100_009),
            (format!(r#"{{"url":"data:text/plain;base64,{blob}"}}"#), 100_009),
            ("a".repeat(40_000), 10_000),
            (format!(r#""{}"#, "a".repeat(40_000)), 10_001),
        ] {
            assert_eq!(prompt_tokens(&prompt), expected, "{} bytes", prompt.len());
        }
    }
}
