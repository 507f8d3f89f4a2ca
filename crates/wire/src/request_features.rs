//! Features of a request that routing may depend on: tools, images, structured output, reasoning. Pure, for the bodies of
//! all dialects. It must never fail: what it cannot read is no feature.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::Members;

/// The features of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a feature of its own")]
pub struct RequestFeatures {
    /// It has tools.
    pub tools: bool,
    /// It has an image.
    pub images: bool,
    /// It asks for JSON.
    pub json: bool,
    /// It asks for reasoning.
    pub reasoning: bool,
}

/// Members that ask for JSON, below an object of this name if there is one.
const JSON: [(&str, &str); 5] = [
    ("response_format", "type"),
    ("text", "format"),
    ("generationConfig", "responseMimeType"),
    ("generationConfig", "responseSchema"),
    ("", "format"),
];

/// Members that ask for reasoning, in the same way.
const REASONING: [(&str, &str); 5] = [
    ("", "reasoning_effort"),
    ("", "reasoning"),
    ("", "think"),
    ("thinking", "type"),
    ("generationConfig", "thinkingConfig"),
];

/// Values that switch a member off.
const OFF: [&str; 8] =
    ["null", "false", "{}", "\"\"", "\"none\"", "\"text\"", "\"disabled\"", "\"text/plain\""];

impl RequestFeatures {
    /// The features of a body.
    pub fn of(body: &str) -> Self {
        let Ok(members) = Members::parse(body) else { return Self::default() };
        let has = |rows: &[(&str, &str)]| rows.iter().any(|row| is_set(&members, *row));
        let mut lists = ["tools", "functions"].into_iter().filter_map(|name| members.get(name));
        Self {
            tools: lists.any(is_filled),
            images: has_images(&members),
            json: has(&JSON),
            reasoning: has(&REASONING),
        }
    }
}

fn is_set(members: &Members<'_>, (object, name): (&str, &str)) -> bool {
    let inner = match object {
        "" => members.get(name),
        object => members.get(object).and_then(|object| member(object, name)),
    };
    let Some(value) = inner else { return false };
    // `text.format` is an object whose type says it.
    let value = member(value, "type").unwrap_or(value);
    !OFF.contains(&value.get())
}

fn member<'a>(object: &'a RawValue, name: &str) -> Option<&'a RawValue> {
    Members::parse(object.get()).ok()?.get(name)
}

fn is_filled(list: &RawValue) -> bool {
    !matches!(list.get(), "null" | "[]" | "{}")
}

/// A turn, as far as images may be in it.
#[derive(Deserialize)]
struct Turn<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    parts: Option<&'a RawValue>,
    #[serde(borrow)]
    images: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
}

/// A part of a turn.
#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(
        borrow,
        alias = "inlineData",
        alias = "inline_data",
        alias = "fileData",
        alias = "file_data"
    )]
    file: Option<&'a RawValue>,
}

/// The types of parts that are images.
const IMAGES: [&str; 3] = ["\"image_url\"", "\"input_image\"", "\"image\""];

fn has_images(members: &Members<'_>) -> bool {
    let turns = ["messages", "input", "contents"].into_iter().find_map(|name| members.get(name));
    let turns: Vec<&RawValue> =
        turns.and_then(|turns| serde_json::from_str(turns.get()).ok()).unwrap_or_default();
    turns.into_iter().any(|turn| {
        let Ok(turn) = serde_json::from_str::<Turn<'_>>(turn.get()) else { return false };
        let parts = [turn.content, turn.parts].into_iter().flatten();
        turn.images.is_some_and(is_filled)
            || turn.kind.is_some_and(is_image)
            || parts.into_iter().any(has_image)
    })
}

fn is_image(kind: &RawValue) -> bool {
    IMAGES.contains(&kind.get())
}

fn has_image(parts: &RawValue) -> bool {
    let parts: Vec<&RawValue> = serde_json::from_str(parts.get()).unwrap_or_default();
    parts.into_iter().any(|part| {
        let Ok(part) = serde_json::from_str::<Part<'_>>(part.get()) else { return false };
        let file = part
            .file
            .and_then(|file| member(file, "mimeType").or_else(|| member(file, "mime_type")));
        let file = file.is_some_and(|kind| kind.get().starts_with("\"image/"));
        part.kind.is_some_and(is_image) || file
    })
}

#[cfg(test)]
mod tests {
    use super::RequestFeatures;

    fn features(body: &str) -> String {
        let RequestFeatures { tools, images, json, reasoning } = RequestFeatures::of(body);
        let words =
            [(tools, "tools"), (images, "images"), (json, "json"), (reasoning, "reasoning")];
        let words: Vec<&str> =
            words.iter().filter(|(has, _)| *has).map(|(_, word)| *word).collect();
        words.join(" ")
    }

    #[test]
    fn features_of_requests_in_every_dialect() {
        for (body, expected) in [
            ("", ""),
            ("[]", ""),
            (r#"{"messages":"x","tools":null,"response_format":null,"thinking":1}"#, ""),
            (r#"{"messages":[{"role":"user","content":"an \"image_url\" and tools"}]}"#, ""),
            (r#"{"tools":[],"functions":[{"name":"f"}]}"#, "tools"),
            (
                r#"{"tools":[{"type":"function"}],"messages":[{"content":[{"type":"text"},{"type":"image_url"}]}]}"#,
                "tools images",
            ),
            (r#"{"response_format":{"type":"text"},"reasoning_effort":"none"}"#, ""),
            (
                r#"{"response_format":{"type":"json_schema"},"reasoning_effort":"low"}"#,
                "json reasoning",
            ),
            (
                r#"{"input":[{"content":[{"type":"input_image"}]}],"text":{"format":{"type":"json_object"}}}"#,
                "images json",
            ),
            (
                r#"{"input":"hi","text":{"format":{"type":"text"}},"reasoning":{"effort":"high"}}"#,
                "reasoning",
            ),
            (
                r#"{"messages":[{"content":[{"type":"image"}]}],"thinking":{"type":"enabled"}}"#,
                "images reasoning",
            ),
            (r#"{"thinking":{"type":"disabled"}}"#, ""),
            (
                r#"{"contents":[{"parts":[{"inlineData":{"mimeType":"image/png"}}]}],"generationConfig":{"responseMimeType":"application/json","thinkingConfig":{"thinkingBudget":1}}}"#,
                "images json reasoning",
            ),
            (r#"{"contents":[{"parts":[{"inlineData":{"mimeType":"audio/wav"}}]}]}"#, ""),
            (
                r#"{"messages":[{"content":"x","images":["aGk="]}],"format":"json","think":true}"#,
                "images json reasoning",
            ),
            (r#"{"toolConfig":{"functionCallingConfig":{"mode":"NONE"}}}"#, ""),
        ] {
            assert_eq!(features(body), expected, "{body}");
        }
    }
}
