//! Models in list endpoints, and the pages of such lists. Permissions are checked elsewhere.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::chat::{ApiError, Kind};

/// The most models that are read of one upstream's list.
const LONGEST: usize = 2000;

/// A model as shown in a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelInfo {
    /// Its name.
    pub id: String,
    /// The most tokens of prompt and answer, if known.
    pub context: Option<u64>,
    /// The most tokens of an answer, if known.
    pub max_output: Option<u64>,
}

impl ModelInfo {
    /// A model of which only the name is known.
    pub fn named(id: impl Into<String>) -> Self {
        Self { id: id.into(), ..Self::default() }
    }
}

/// The decoded value of a query parameter.
pub fn parameter<'q>(query: &'q str, name: &str) -> Option<Cow<'q, str>> {
    let found = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name);
    found.map(|(_, value)| value).filter(|value| !value.is_empty())
}

/// The parameter that bounds a page. `None` if it is missing, which requests the whole list. Values above
/// `most` are reduced to `most`.
pub fn page_size(query: &str, name: &str, most: usize) -> Result<Option<usize>, ApiError> {
    let Some(text) = parameter(query, name) else { return Ok(None) };
    match text.parse::<usize>() {
        Ok(size) if size > 0 => Ok(Some(size.min(most))),
        _ => Err(ApiError::field(name, "must be a whole number above zero")),
    }
}

/// A page of a list, and the token of the next page, if there is one. Tokens are positions in the list (the
/// parameters `size` and `token`).
pub fn page<'m>(
    models: &'m [ModelInfo],
    query: &str,
    (size, token): (&str, &str),
) -> Result<(&'m [ModelInfo], Option<String>), ApiError> {
    let size = page_size(query, size, 1000)?.unwrap_or(models.len());
    let start = match parameter(query, token) {
        None => 0,
        Some(text) => text
            .parse()
            .ok()
            .filter(|start| *start <= models.len())
            .ok_or_else(|| ApiError::field(token, "is not one that this list gave"))?,
    };
    let end = start.saturating_add(size).min(models.len());
    let next = (end < models.len()).then(|| end.to_string());
    Ok((models.get(start..end).unwrap_or_default(), next))
}

/// A model in OpenAI's shape, with the members that OpenRouter, vLLM and Groq add.
pub fn openai_model(model: &ModelInfo) -> Value {
    let mut shown = json!({
        "id": model.id,
        "object": "model",
        "created": 0,
        "owned_by": "streamgate",
    });
    let limits = [
        ("context_length", model.context),
        ("max_model_len", model.context),
        ("context_window", model.context),
        ("max_completion_tokens", model.max_output),
    ];
    for (name, tokens) in limits {
        if let (Value::Object(shown), Some(tokens)) = (&mut shown, tokens) {
            shown.insert(name.to_owned(), tokens.into());
        }
    }
    shown
}

/// A list in OpenAI's shape. Codex, which sends its version, requires a catalogue in `models`. Each entry there
/// carries the model's system prompt, which a gateway does not know, so that the list is empty and Codex keeps
/// its built-in catalogue.
pub fn openai_list(models: &[ModelInfo], query: &str) -> String {
    let data: Vec<Value> = models.iter().map(openai_model).collect();
    let mut list = Map::new();
    list.insert("object".to_owned(), "list".into());
    list.insert("data".to_owned(), data.into());
    if parameter(query, "client_version").is_some() {
        list.insert("models".to_owned(), Value::Array(Vec::new()));
    }
    Value::Object(list).to_string()
}

/// An entry of an upstream's list in OpenAI's shape, in all known variants.
#[derive(Deserialize)]
struct OpenAiEntry {
    id: String,
    /// OpenRouter, Together AI, Mistral (`max_context_length`).
    #[serde(alias = "max_context_length")]
    context_length: Option<Value>,
    /// vLLM, `SGLang`.
    max_model_len: Option<Value>,
    /// Groq.
    context_window: Option<Value>,
    max_completion_tokens: Option<Value>,
    /// OpenRouter.
    top_provider: Option<TopProvider>,
}

#[derive(Deserialize)]
struct TopProvider {
    max_completion_tokens: Option<Value>,
}

/// Reads an upstream's list in OpenAI's shape, or a bare array (Together AI).
pub fn read_openai(body: &[u8]) -> Result<Vec<ModelInfo>, ApiError> {
    let entry = |entry: OpenAiEntry| ModelInfo {
        id: entry.id,
        context: [entry.context_length, entry.max_model_len, entry.context_window]
            .iter()
            .find_map(tokens),
        max_output: tokens(&entry.max_completion_tokens)
            .or_else(|| tokens(&entry.top_provider?.max_completion_tokens)),
    };
    entries(body, "data", entry)
}

/// Reads the entries of the array `member`, or of a body that is an array. Unreadable entries are skipped, and
/// so are names that no header or path could carry.
pub fn entries<T: serde::de::DeserializeOwned>(
    body: &[u8],
    member: &str,
    read: impl Fn(T) -> ModelInfo,
) -> Result<Vec<ModelInfo>, ApiError> {
    let unread = || ApiError::new(Kind::Upstream, format!("the list has no array `{member}`"));
    let mut body: Value = serde_json::from_slice(body).map_err(|_| unread())?;
    let list = match &mut body {
        Value::Object(members) => members.get_mut(member).map(Value::take),
        _ => Some(body.take()),
    };
    let Some(Value::Array(list)) = list else { return Err(unread()) };
    let models = list.into_iter().take(LONGEST);
    let models = models.filter_map(|entry| serde_json::from_value(entry).ok()).map(read);
    Ok(models.filter(|model| is_name(&model.id)).collect())
}

/// A positive number of tokens.
pub fn tokens(value: &Option<Value>) -> Option<u64> {
    value.as_ref()?.as_u64().filter(|tokens| *tokens > 0)
}

fn is_name(id: &str) -> bool {
    (1..=256).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models(names: &[&str]) -> Vec<ModelInfo> {
        names.iter().map(|name| ModelInfo::named(*name)).collect()
    }

    #[test]
    fn pages_cover_a_list_once() {
        let all = models(&["a", "b", "c", "d", "e"]);
        let mut query = "size=2".to_owned();
        let mut seen = Vec::new();
        loop {
            let (part, next) = page(&all, &query, ("size", "token")).unwrap();
            assert!(part.len() <= 2);
            seen.extend(part.iter().map(|model| model.id.as_str()));
            let Some(next) = next else { break };
            query = format!("size=2&token={next}");
        }
        assert_eq!(seen, ["a", "b", "c", "d", "e"]);
        assert_eq!(page(&all, "", ("size", "token")).unwrap(), (&all[..], None));
    }

    #[test]
    fn wrong_pages_are_refused() {
        for query in ["size=0", "size=x", "size=-1", "token=6", "token=x", "token=-1"] {
            let fault = page(&models(&["a"]), query, ("size", "token")).unwrap_err();
            assert_eq!(fault.kind, Kind::Invalid, "{query}");
            assert_eq!(fault.param.as_deref(), query.split('=').next(), "{query}");
        }
    }

    #[test]
    fn lists_of_upstreams_are_read_in_their_variants() {
        let body = br#"{"object":"list","data":[
            {"id":"vllm","max_model_len":4096},
            {"id":"router","context_length":131072,"top_provider":{"max_completion_tokens":8192}},
            {"id":"groq","context_window":32768,"max_completion_tokens":16384},
            {"id":"mistral","max_context_length":1000},
            {"id":"odd","context_length":"x"},
            {"id":"zero","context_length":0},
            {"id":""},{"id":"two words"},{"name":"no id"},7]}"#;
        let read = read_openai(body).unwrap();
        let found: Vec<_> = read.iter().map(|m| (m.id.as_str(), m.context, m.max_output)).collect();
        assert_eq!(
            found,
            [
                ("vllm", Some(4096), None),
                ("router", Some(131_072), Some(8192)),
                ("groq", Some(32768), Some(16384)),
                ("mistral", Some(1000), None),
                ("odd", None, None),
                ("zero", None, None),
            ]
        );
        assert_eq!(read_openai(br#"[{"id":"bare"}]"#).unwrap(), models(&["bare"]));
        for body in ["", "data: {}", "{}", r#"{"data":7}"#, "7", "null"] {
            assert_eq!(read_openai(body.as_bytes()).unwrap_err().kind, Kind::Upstream, "{body}");
        }
        let many = format!("[{}]", vec![r#"{"id":"m"}"#; LONGEST + 1].join(","));
        assert_eq!(read_openai(many.as_bytes()).unwrap().len(), LONGEST);
    }

    #[test]
    fn codex_gets_a_catalogue_that_it_can_read() {
        let list: Value =
            serde_json::from_str(&openai_list(&models(&["a"]), "client_version=0.99.0")).unwrap();
        assert_eq!((&list["models"], &list["data"][0]["id"]), (&json!([]), &json!("a")));
        let list: Value = serde_json::from_str(&openai_list(&models(&["a"]), "")).unwrap();
        assert!(list.get("models").is_none());
    }
}
