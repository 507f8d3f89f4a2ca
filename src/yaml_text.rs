//! YAML scalars in files that commands write. It must never write a text that is read as anything else.

/// Words that YAML reads as something other than a text, in one version or another.
const RESERVED: [&str; 8] = ["true", "false", "null", "yes", "no", "on", "off", "none"];

/// A text as a scalar: plain if that is safe, else in double quotes. A JSON string is a YAML string.
pub(crate) fn scalar(text: &str) -> String {
    let opens = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    let reserved = RESERVED.iter().any(|word| text.eq_ignore_ascii_case(word));
    if opens && plain && !reserved {
        text.to_owned()
    } else {
        serde_json::Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stay_texts() {
        assert_eq!(scalar("gpt-4o.mini_x"), "gpt-4o.mini_x");
        for text in ["", "4", "1e3", "No", "~", "a: b", "a #b", "${KEY}", "*", "-x", "a/b"] {
            assert_eq!(scalar(text), format!("\"{text}\""));
        }
        assert_eq!(scalar("a\"b\n"), r#""a\"b\n""#);
    }
}
