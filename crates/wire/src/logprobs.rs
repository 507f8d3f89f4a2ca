//! Log probabilities as they pass from one language to another: several vendors have one shape for
//! them, so that their text is passed on as it came, once it was looked at.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::mended;

/// What readers rely on.
#[derive(Deserialize)]
struct Token {
    #[serde(rename = "token")]
    _words: String,
    #[serde(rename = "logprob")]
    _value: Option<f64>,
    #[serde(rename = "bytes")]
    _bytes: Option<Vec<u8>>,
    #[serde(rename = "top_logprobs")]
    _top: Option<Vec<Self>>,
}

/// The elements of a list of them, without its brackets. `None`: it is empty, or something else.
pub(crate) fn elements(list: &RawValue) -> Option<Cow<'_, str>> {
    let inner = list.get().strip_prefix('[')?.strip_suffix(']')?.trim();
    if inner.is_empty() {
        return None;
    }
    if serde_json::from_str::<Vec<Token>>(list.get()).is_ok() {
        return Some(Cow::Borrowed(inner));
    }
    // Half a character is no reason to lose them; anything else is.
    let list = mended(list.get());
    serde_json::from_str::<Vec<Token>>(&list).ok()?;
    Some(Cow::Owned(list.strip_prefix('[')?.strip_suffix(']')?.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_one_passes() {
        let one = r#"{"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":[{"token":"b","logprob":-1,"more":{}}]}"#;
        for (given, expected) in [
            (format!("[ {one} ]"), Some(one.to_owned())),
            (format!("[{one},{one}]"), Some(format!("{one},{one}"))),
            (
                r#"[{"token":"\ud83d","logprob":-1}]"#.into(),
                Some(r#"{"token":"\ufffd","logprob":-1}"#.into()),
            ),
            (
                r#"[{"token":"a","logprob":null,"bytes":null}]"#.into(),
                Some(r#"{"token":"a","logprob":null,"bytes":null}"#.into()),
            ),
            ("[]".into(), None),
            ("7".into(), None),
            ("[7]".into(), None),
            (r#"[{"token":7,"logprob":-1}]"#.into(), None),
            (r#"[{"token":"a","logprob":"x"}]"#.into(), None),
        ] {
            let raw = RawValue::from_string(given).unwrap();
            assert_eq!(elements(&raw).map(Cow::into_owned), expected, "{raw}");
        }
    }
}
