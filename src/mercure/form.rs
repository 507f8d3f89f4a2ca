//! Forms (`application/x-www-form-urlencoded`), of queries and bodies, as names and values. A value that is not UTF-8 must
//! be an error, not a text with replacement characters.

use percent_encoding::percent_decode_str;

/// A form that is not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EncodingError;

/// The names and values of a form, in order.
pub(super) fn pairs(text: &str) -> Result<Vec<(String, String)>, EncodingError> {
    let decoded = |text: &str| {
        let spaced = text.replace('+', " ");
        let decoded = percent_decode_str(&spaced).decode_utf8().map_err(|_| EncodingError)?;
        Ok(decoded.into_owned())
    };
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decoded(name)?, decoded(value)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_in_order() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        for (text, expected) in [
            ("", vec![]),
            ("a=1&a=2&&b", vec![pair("a", "1"), pair("a", "2"), pair("b", "")]),
            (
                "topic=https%3A%2F%2Fe.com%2F%C3%A9&data=a+b%2Bc=d",
                vec![pair("topic", "https://e.com/é"), pair("data", "a b+c=d")],
            ),
            ("%61=100%", vec![pair("a", "100%")]),
        ] {
            assert_eq!(pairs(text), Ok(expected), "{text}");
        }
        assert_eq!(pairs("a=%ff"), Err(EncodingError));
    }
}
