//! Embeddings that cannot be asked for, that upstreams answer wrongly, and that go to another target.

use serde_json::{Value, json};
use streamgate::wire::adapt;
use streamgate::wire::dialect::{Form, Quirks, Target, by_name};

use super::{JSON, answer, answering, before, json_of, list, told};
use crate::answers::towards;
use crate::support::simulated;
use crate::support::upstream::{Step, Upstream};

/// A path or Gemini's method, a body but for its model, and the field or the words that are refused.
const WRONG: &[(&str, &str, &str)] = &[
    ("/v1/embeddings", "{}", "input"),
    ("/v1/embeddings", r#"{"input":null}"#, "input"),
    ("/v1/embeddings", r#"{"input":[]}"#, "input"),
    ("/v1/embeddings", r#"{"input":7}"#, "input"),
    ("/v1/embeddings", r#"{"input":["a",{}]}"#, "input[1]"),
    ("/v1/embeddings", r#"{"input":[1,2,3]}"#, "token ids"),
    ("/v1/embeddings", r#"{"input":[[1,2],[3]]}"#, "token ids"),
    ("/v1/embeddings", r#"{"input":"a","dimensions":"8"}"#, "dimensions"),
    ("/v1/embeddings", r#"{"input":"a","dimensions":-8}"#, "dimensions"),
    ("/v1/embeddings", r#"{"input":"a","encoding_format":"int8"}"#, "encoding_format"),
    ("/v1/embeddings", r#"{"input":"a","user":7}"#, "user"),
    ("/api/embed", "{}", "input"),
    ("/api/embed", r#"{"input":[7]}"#, "input[0]"),
    ("/api/embed", r#"{"input":"a","truncate":"END"}"#, "truncate"),
    ("/api/embed", r#"{"input":"a","dimensions":1.5}"#, "dimensions"),
    ("/api/embeddings", "{}", "prompt"),
    ("/api/embeddings", r#"{"prompt":""}"#, "prompt"),
    ("/api/embeddings", r#"{"prompt":["a"]}"#, "prompt"),
    ("/v2/embed", r#"{"texts":["a"]}"#, "input_type"),
    ("/v2/embed", r#"{"texts":["a"],"input_type":"other"}"#, "input_type"),
    ("/v2/embed", r#"{"texts":["a"],"input_type":"image"}"#, "input_type"),
    ("/v2/embed", r#"{"input_type":"search_query"}"#, "texts"),
    ("/v2/embed", r#"{"texts":"a","input_type":"search_query"}"#, "texts"),
    ("/v2/embed", r#"{"texts":[],"input_type":"search_query"}"#, "texts"),
    ("/v2/embed", r#"{"texts":[7],"input_type":"search_query"}"#, "texts[0]"),
    ("/v2/embed", r#"{"texts":["a"],"images":["data:"],"input_type":"search_query"}"#, "images"),
    ("/v2/embed", r#"{"texts":["a"],"inputs":[],"input_type":"search_query"}"#, "inputs"),
    ("/v2/embed", r#"{"inputs":[],"input_type":"search_query"}"#, "inputs"),
    (
        "/v2/embed",
        r#"{"inputs":[{"content":[]}],"input_type":"search_query"}"#,
        "inputs[0].content",
    ),
    (
        "/v2/embed",
        r#"{"inputs":[{"content":[{"type":"image_url","image_url":{}}]}],"input_type":"search_query"}"#,
        "inputs[0].content[0]",
    ),
    (
        "/v2/embed",
        r#"{"inputs":[{"content":[{"type":"text"}]}],"input_type":"search_query"}"#,
        "inputs[0].content[0].text",
    ),
    (
        "/v2/embed",
        r#"{"texts":["a"],"input_type":"search_query","embedding_types":["float","int8"]}"#,
        "embedding_types[1]",
    ),
    (
        "/v2/embed",
        r#"{"texts":["a"],"input_type":"search_query","output_dimension":"8"}"#,
        "output_dimension",
    ),
    ("/v2/embed", r#"{"texts":["a"],"input_type":"search_query","truncate":"MIDDLE"}"#, "truncate"),
    ("/v2/embed", r#"{"texts":["a"],"input_type":"search_query","max_tokens":8}"#, "max_tokens"),
    ("embedContent", "{}", "content"),
    ("embedContent", r#"{"content":"a"}"#, "content"),
    ("embedContent", r#"{"content":{"parts":[]}}"#, "content.parts"),
    ("embedContent", r#"{"content":{"parts":[{"inlineData":{}}]}}"#, "content.parts[0]"),
    ("embedContent", r#"{"content":{"parts":[{"text":"a"}]},"taskType":"OTHER"}"#, "taskType"),
    ("embedContent", r#"{"content":{"parts":[{"text":"a"}]},"title":7}"#, "title"),
    (
        "embedContent",
        r#"{"content":{"parts":[{"text":"a"}]},"outputDimensionality":"many"}"#,
        "outputDimensionality",
    ),
    (
        "embedContent",
        r#"{"content":{"parts":[{"text":"a"}]},"embedContentConfig":{}}"#,
        "embedContentConfig",
    ),
    ("batchEmbedContents", "{}", "requests"),
    ("batchEmbedContents", r#"{"requests":[]}"#, "requests"),
    ("batchEmbedContents", r#"{"requests":[7]}"#, "requests[0]"),
    (
        "batchEmbedContents",
        r#"{"requests":[{"content":{"parts":[{"text":"a"}]}},{}]}"#,
        "requests[1].content",
    ),
    (
        "batchEmbedContents",
        r#"{"requests":[{"content":{"parts":[{"text":"a"}]}},{"content":{"parts":[{"text":"a"}]},"taskType":"CLUSTERING"}]}"#,
        "requests[1]",
    ),
];

#[tokio::test]
async fn invalid_or_untranslatable_members_are_rejected_by_name() {
    let gateway = simulated::gateway().await;
    for (path, body, field) in WRONG {
        let mut body: Value = serde_json::from_str(body).unwrap();
        let upstream = if *path == "/v1/embeddings" { "ollama" } else { "openai-chat" };
        let model = format!("{upstream}/n1-i0");
        let path = if path.starts_with('/') {
            body["model"] = model.as_str().into();
            (*path).to_owned()
        } else {
            format!("/v1beta/models/{model}:{path}")
        };
        let (status, answer) = told(&gateway, &path, &body).await;
        assert_eq!(status, 400, "{path} {body}: {answer}");
        let message = answer.to_string();
        assert!(message.contains(field), "{path} {body}: {answer}");
    }
    for upstream in ["anthropic", "bedrock", "openai-responses"] {
        let body = json!({ "model": format!("{upstream}/n1-i0"), "input": "a" });
        let (status, answer) = told(&gateway, "/v1/embeddings", &body).await;
        assert_eq!((status, &answer["error"]["param"]), (400, &json!("model")), "{answer}");
        assert!(answer.to_string().contains("no embeddings in its API"), "{answer}");
    }
}

#[tokio::test]
async fn malformed_upstream_answers_are_errors() {
    let two = |vectors: &[&str]| answer("openai-chat", vectors);
    let shuffled =
        r#"{"data":[{"index":1,"embedding":[2]},{"index":0,"embedding":[1]}],"model":"m"}"#;
    let doubled =
        r#"{"data":[{"index":0,"embedding":[2]},{"index":0,"embedding":[1]}],"model":"m"}"#;
    let error = r#"{"error":{"message":"the model is busy","type":"server_error"}}"#;
    for (body, wanted) in [
        (shuffled.to_owned(), "ok"),
        (two(&["[1]"]), "1 embeddings for 2 texts"),
        (two(&["[1]", "[2]", "[3]"]), "3 embeddings for 2 texts"),
        (doubled.to_owned(), "1 embeddings for 2 texts"),
        (two(&["[1]", "[null]"]), "embedding of text 1"),
        (two(&["[]", "[]"]), "embedding of text 0"),
        (two(&["[1]", "[1,2]"]), "differ in length"),
        (two(&["[1]", "7"]), "embedding of text 1"),
        (error.to_owned(), "the model is busy"),
        ("{}".to_owned(), "holds no embeddings"),
        ("[]".to_owned(), "holds no embeddings"),
        (two(&["[1]", "[2]"]).trim_end_matches('}').to_owned(), ""),
        (r#"{"data":[{"index":0,"embed"#.to_owned(), ""),
        (String::new(), ""),
    ] {
        let served = answering(&body).await;
        let gateway = before(&[("openai-chat", &served)], "").await;
        let ask = json!({ "model": "openai-chat/m", "input": ["a", "b"] });
        let (status, value) = told(&gateway, "/api/embed", &ask).await;
        if wanted == "ok" {
            assert_eq!((status, &value["embeddings"]), (200, &json!([[1], [2]])), "by its numbers");
            continue;
        }
        assert!(status >= 500 && value["error"].is_string(), "{body}: {status} {value}");
        assert!(value.to_string().contains(wanted), "{body}: {value}");
    }
}

#[tokio::test]
async fn errors_and_failover_are_those_of_chats() {
    // Refused in the upstream's words, told in the caller's.
    let body = br#"{"error":{"message":"input is too long","type":"invalid_request_error"}}"#;
    let refusing = Upstream::new(vec![Step::Whole(400, JSON, body.to_vec())]).await;
    let fine = answering(&answer("cohere", &["[1]"])).await;
    let gateway = before(&[("openai-chat", &refusing), ("cohere", &fine)], "").await;
    let ask = json!({ "model": "two", "input": "a" });
    let (status, value) = told(&gateway, "/api/embed", &ask).await;
    assert_eq!((status, &value["error"]), (400, &json!("input is too long")));
    assert!(fine.requests().await.is_empty(), "the caller's own mistake");

    // Failed, rate limited, or without a vector for a text: the next one.
    let short = answer("openai-chat", &[]).into_bytes();
    for (status, body) in
        [(500, b"{}".to_vec()), (429, b"{}".to_vec()), (404, b"{}".to_vec()), (200, short)]
    {
        let failing = Upstream::new(vec![Step::Whole(status, JSON, body)]).await;
        let gateway = before(&[("openai-chat", &failing), ("cohere", &fine)], "").await;
        let (told_status, value) = told(&gateway, "/api/embed", &ask).await;
        assert_eq!((told_status, &value["embeddings"]), (200, &json!([[1]])), "{status}: {value}");
    }
}

#[tokio::test]
async fn more_texts_than_an_upstream_takes_go_elsewhere_or_are_refused() {
    let gemini = answering("{}").await;
    let many: Vec<String> = (0..101).map(|at| format!("text {at}")).collect();
    let served = answering(&answer("ollama", &vec!["[1]"; 101])).await;
    let gateway = before(&[("gemini", &gemini), ("ollama", &served)], "").await;
    let ask = json!({ "model": "gemini/m", "input": many });
    let (status, value) = told(&gateway, "/v1/embeddings", &ask).await;
    assert_eq!((status, &value["error"]["param"]), (400, &json!("input")));
    let message = value["error"]["message"].as_str().unwrap();
    assert!(message.contains("101 texts") && message.contains("at most 100"), "{message}");
    let ask = json!({ "model": "two", "input": many });
    let (status, value) = told(&gateway, "/v1/embeddings", &ask).await;
    assert_eq!((status, list(&value["data"]).len()), (200, 101), "another target takes them");
    assert!(gemini.requests().await.is_empty());
    for (dialect, model, most) in
        [("cohere", "m", 96), ("gemini", "m", 100), ("openai-chat", "text-embedding-3-small", 2048)]
    {
        let quirks = Quirks::default();
        let to = by_name(dialect).unwrap();
        for (texts, fits) in [(most, true), (most + 1, false)] {
            let ask = json!({ "model": "x", "input": vec!["a"; texts] }).to_string();
            let request = towards("ollama").decode_embeddings(Form::Embeddings, &ask).unwrap();
            let target = Target { model, stream: false, form: Form::Embeddings, quirks: &quirks };
            let written = adapt::write_embeddings(request, to, &target, false);
            assert_eq!(written.is_ok(), fits, "{texts} to {dialect}");
        }
    }
}

#[tokio::test]
async fn strict_requests_keep_their_hints() {
    let gateway = simulated::gateway().await;
    let ask = json!({ "model": "gemini/n1-i0", "input": "a", "user": "u" }).to_string();
    let strict = gateway.post("/v1/embeddings", &ask).header("streamgate-strict", "true");
    let response = strict.send().await.unwrap();
    assert_eq!(response.status(), 400);
    let value: Value = json_of(response).await;
    assert_eq!(value["error"]["param"], "user", "{value}");
}
