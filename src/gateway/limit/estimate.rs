//! How many tokens a prompt may have, from its bytes alone: good enough to reserve, never told as
//! the truth. Pure.

use memchr::memchr_iter;

/// A shorter text is not looked at: it cannot hold a picture worth speaking of.
const LONG: usize = 8 * 1024;

/// What a picture or a file in base64 counts, whatever its size: vendors count its area or pages.
const ATTACHMENT: u64 = 2_000;

/// Four bytes are a token. Attachments in base64 would count a thousand times too much that way,
/// so each long string without anything but base64 in it counts once.
pub fn prompt_tokens(body: &str) -> u64 {
    let (mut bytes, mut attachments) = (body.len(), 0);
    if body.len() > LONG {
        let mut from = 0;
        for to in memchr_iter(b'"', body.as_bytes()) {
            if let Some(string) = body.as_bytes().get(from..to).filter(|run| run.len() > LONG)
                && is_base64(string)
            {
                bytes -= string.len();
                attachments += 1;
            }
            from = to + 1;
        }
    }
    (bytes as u64).div_ceil(4) + attachments * ATTACHMENT
}

/// Whether a string is base64, perhaps as a `data:` address.
fn is_base64(string: &[u8]) -> bool {
    const MARK: &[u8] = b";base64,";
    let head = string.get(..128).unwrap_or_default();
    let start = memchr::memmem::find(head, MARK).map_or(0, |at| at + MARK.len());
    let data = string.get(start..).unwrap_or_default();
    // Some writers escape each `/`.
    let escapes = |at: usize| data.get(at + 1) == Some(&b'/');
    let mut bytes = data.iter().enumerate();
    bytes.all(|(at, byte)| {
        byte.is_ascii_alphanumeric() || b"+/=-_".contains(byte) || *byte == b'\\' && escapes(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attachments_count_by_number_and_words_by_length() {
        let picture = "iVBORw0KGgo+/A==".repeat(20_000);
        let words = "some words and more ".repeat(1000);
        for (prompt, expected) in [
            (String::new(), 0),
            ("12345".to_owned(), 2),
            (format!(r#"{{"text":"{words}"}}"#), 5_003),
            (format!(r#"{{"data":"{picture}"}}"#), 2_003),
            (format!(r#"{{"url":"data:image/png;base64,{picture}"}}"#), 2_003),
            (format!(r#"{{"data":"{}"}}"#, picture.replace('/', r"\/")), 2_003),
            (format!(r#"["{picture}","{picture}","{words}"]"#), 9_003),
            ("a".repeat(40_000), 10_000),
            (format!(r#""{}"#, "a".repeat(40_000)), 10_001),
        ] {
            assert_eq!(prompt_tokens(&prompt), expected, "{} bytes", prompt.len());
        }
    }
}
