//! Log probabilities between dialects. Several vendors share one shape, so that the text is validated and
//! passed on unchanged.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::replace_lone_surrogates;

/// The fields that readers rely on.
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

/// The elements of a list of log probabilities, without its brackets. `None` if the list is empty or has
/// another shape.
pub(crate) fn elements(list: &RawValue) -> Option<Cow<'_, str>> {
    let inner = list.get().strip_prefix('[')?.strip_suffix(']')?.trim();
    if inner.is_empty() {
        return None;
    }
    if serde_json::from_str::<Vec<Token>>(list.get()).is_ok() {
        return Some(Cow::Borrowed(inner));
    }
    // Lone surrogates are replaced. Any other fault is not accepted.
    let list = replace_lone_surrogates(list.get());
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
