//! Embeddings between dialects, from HTTP to HTTP: values, order and digits, and what upstreams are
//! asked.

mod refused;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::support::gateway::{Gateway, KEY, Log, hex};
use crate::support::simulated;
use crate::support::upstream::{Step, Upstream};

const JSON: &str = "content-type: application/json\r\n";
const UPSTREAMS: [&str; 4] = ["openai-chat", "ollama", "gemini", "cohere"];

/// A caller's form: its path for a model, its request for texts, and where the vectors are.
struct Form {
    name: &'static str,
    path: fn(&str) -> String,
    request: fn(&str, &[&str]) -> Value,
    vectors: fn(&Value) -> Vec<Value>,
    /// It takes several texts.
    several: bool,
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn content(text: &str) -> Value {
    json!({ "parts": [{ "text": text }] })
}

const FORMS: [Form; 6] = [
    Form {
        name: "openai-chat",
        path: |_| "/v1/embeddings".to_owned(),
        request: |model, texts| json!({ "model": model, "input": texts }),
        vectors: |answer| {
            let items = list(&answer["data"]);
            for (at, item) in items.iter().enumerate() {
                assert_eq!((&item["object"], &item["index"]), (&json!("embedding"), &json!(at)));
            }
            items.iter().map(|item| item["embedding"].clone()).collect()
        },
        several: true,
    },
    Form {
        name: "ollama",
        path: |_| "/api/embed".to_owned(),
        request: |model, texts| json!({ "model": model, "input": texts }),
        vectors: |answer| list(&answer["embeddings"]),
        several: true,
    },
    Form {
        name: "ollama, the older one",
        path: |_| "/api/embeddings".to_owned(),
        request: |model, texts| json!({ "model": model, "prompt": texts[0] }),
        vectors: |answer| vec![answer["embedding"].clone()],
        several: false,
    },
    Form {
        name: "gemini",
        path: |model| format!("/v1beta/models/{model}:embedContent"),
        request: |_, texts| json!({ "content": content(texts[0]) }),
        vectors: |answer| vec![answer["embedding"]["values"].clone()],
        several: false,
    },
    Form {
        name: "gemini, several",
        path: |model| format!("/v1beta/models/{model}:batchEmbedContents"),
        request: |model, texts| {
            let one = |text: &&str| json!({ "model": format!("models/{model}"), "content": content(text) });
            json!({ "requests": texts.iter().map(one).collect::<Vec<_>>() })
        },
        vectors: |answer| {
            list(&answer["embeddings"]).iter().map(|vector| vector["values"].clone()).collect()
        },
        several: true,
    },
    Form {
        name: "cohere",
        path: |_| "/v2/embed".to_owned(),
        request: |model, texts| {
            json!({ "model": model, "texts": texts, "input_type": "search_query",
                "embedding_types": ["float"] })
        },
        vectors: |answer| list(&answer["embeddings"]["float"]),
        several: true,
    },
];

async fn post(gateway: &Gateway, path: &str, body: &Value) -> reqwest::Response {
    gateway.post(path, &body.to_string()).send().await.unwrap()
}

async fn json_of(response: reqwest::Response) -> Value {
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

async fn told(gateway: &Gateway, path: &str, body: &Value) -> (u16, Value) {
    let response = post(gateway, path, body).await;
    let status = response.status().as_u16();
    (status, json_of(response).await)
}

/// A gateway before scripted upstreams: a provider for each, named as its dialect, and a model `two`
/// that has the first two behind it.
pub(crate) async fn before(providers: &[(&str, &Upstream)], more: &str) -> Gateway {
    let digest = hex(&streamgate::config::digest(KEY));
    let provider = |(dialect, upstream): &(&str, &Upstream)| {
        format!("  {dialect}: {{ dialect: {dialect}, base_url: \"{}\" }}\n", upstream.url)
    };
    let lines: String = providers.iter().map(provider).collect();
    let target = |(dialect, _): &(&str, &Upstream)| format!("{{ provider: {dialect}, model: m }}");
    let targets: Vec<String> = providers.iter().map(target).collect();
    let targets = targets.join(", ");
    Gateway::new(&format!(
        "auth:\n  keys:\n    - {{ name: test, sha256: {digest}{more} }}\nproviders:\n{lines}\
         models:\n  two: {{ targets: [{targets}] }}\n"
    ))
    .await
}

/// An upstream that gives one answer.
async fn answering(body: &str) -> Upstream {
    Upstream::new(vec![Step::Whole(200, JSON, body.into())]).await
}

/// An upstream's answer with these vectors, each JSON, and 7 tokens where it counts.
fn answer(dialect: &str, vectors: &[&str]) -> String {
    let each = |write: &dyn Fn(usize, &str) -> String| {
        let all: Vec<String> =
            vectors.iter().enumerate().map(|(at, json)| write(at, json)).collect();
        all.join(",")
    };
    match dialect {
        "openai-chat" => {
            let item = |at, vector: &str| {
                format!(r#"{{"object":"embedding","embedding":{vector},"index":{at}}}"#)
            };
            let data = each(&item);
            format!(
                r#"{{"object":"list","data":[{data}],"model":"own-name","usage":{{"prompt_tokens":7,"total_tokens":7}}}}"#
            )
        }
        "ollama" => {
            let all = vectors.join(",");
            format!(
                r#"{{"model":"own-name","embeddings":[{all}],"total_duration":1,"load_duration":1,"prompt_eval_count":7}}"#
            )
        }
        "gemini" => {
            let all = each(&|_, vector| format!(r#"{{"values":{vector}}}"#));
            format!(r#"{{"embeddings":[{all}]}}"#)
        }
        _ => {
            let all = vectors.join(",");
            format!(
                r#"{{"id":"x","texts":[],"embeddings":{{"float":[{all}]}},"meta":{{"api_version":{{"version":"2"}},"billed_units":{{"input_tokens":7.0}}}},"response_type":"embeddings_by_type"}}"#
            )
        }
    }
}

/// The last request to an upstream: its path and its body.
async fn asked(upstream: &Upstream) -> (String, Value) {
    let requests = upstream.requests().await;
    let last = requests.last().expect("a request");
    let path = last.head.split(' ').nth(1).unwrap().to_owned();
    (path, serde_json::from_slice(&last.body).unwrap())
}

#[tokio::test]
async fn every_caller_gets_the_same_vectors_from_every_upstream() {
    let gateway = simulated::gateway().await;
    let log = Log::default();
    let _capture = log.capture();
    let texts = ["first", "second text", "drei \"ä\"\n"];
    let reference = json!({ "model": "openai-chat/n1-i0", "input": texts });
    let (_, reference) = told(&gateway, "/v1/embeddings", &reference).await;
    let reference = (FORMS[0].vectors)(&reference);
    assert_eq!(reference.len(), 3);
    assert!(reference[0] != reference[1] && reference[1] != reference[2], "{reference:?}");
    let mut count = 1;
    for form in &FORMS {
        for upstream in UPSTREAMS {
            let model = format!("{upstream}/n1-i0");
            let texts = if form.several { &texts[..] } else { &texts[..1] };
            let body = (form.request)(&model, texts);
            let (status, answer) = told(&gateway, &(form.path)(&model), &body).await;
            assert_eq!(status, 200, "{} to {upstream}: {answer}", form.name);
            let vectors = (form.vectors)(&answer);
            assert_eq!(vectors, reference[..texts.len()], "{} to {upstream}", form.name);
            count += 1;
            let record = log.records().pop().unwrap();
            assert_eq!(
                (&record["outcome"], &record["output_tokens"]),
                (&json!("complete"), &json!(0))
            );
        }
    }
    assert_eq!(log.records().len(), count);
}

#[tokio::test]
async fn answers_have_their_whole_shape() {
    let vectors = ["[0.5,-1]", "[2,1e-3]"];
    for upstream in UPSTREAMS {
        let served = answering(&answer(upstream, &vectors)).await;
        let gateway = before(&[(upstream, &served)], "").await;
        let model = format!("{upstream}/m");
        // Gemini neither counts nor says its name.
        let (own, counted) = match upstream {
            "gemini" => (model.as_str(), None),
            "cohere" => (model.as_str(), Some(7)),
            _ => ("own-name", Some(7)),
        };
        for form in &FORMS {
            if form.name == upstream
                || form.name.starts_with(&format!("{upstream},"))
                || !form.several
            {
                continue;
            }
            let body = (form.request)(&model, &["a", "b"]);
            let response = post(&gateway, &(form.path)(&model), &body).await;
            assert_eq!(response.headers()["x-streamgate-target"], model.as_str());
            let estimated = response.headers().contains_key("x-streamgate-estimated");
            assert_eq!(estimated, counted.is_none(), "{} to {upstream}", form.name);
            let value: Value = json_of(response).await;
            let estimate = |pointer: &str| value.pointer(pointer).and_then(Value::as_u64);
            let tokens = |pointer: &str| counted.or_else(|| estimate(pointer)).unwrap();
            let wanted = match form.name {
                "openai-chat" => {
                    let used = tokens("/usage/prompt_tokens");
                    json!({ "object": "list", "model": own,
                        "data": [{ "object": "embedding", "index": 0, "embedding": [0.5, -1] },
                            { "object": "embedding", "index": 1, "embedding": [2, 1e-3] }],
                        "usage": { "prompt_tokens": used, "total_tokens": used } })
                }
                "ollama" => {
                    json!({ "model": own, "embeddings": [[0.5, -1], [2, 1e-3]], "total_duration": 0,
                        "load_duration": 0, "prompt_eval_count": tokens("/prompt_eval_count") })
                }
                "cohere" => {
                    json!({ "id": value["id"], "embeddings": { "float": [[0.5, -1], [2, 1e-3]] },
                        "texts": ["a", "b"], "response_type": "embeddings_by_type",
                        "meta": { "api_version": { "version": "2" }, "billed_units":
                            { "input_tokens": tokens("/meta/billed_units/input_tokens") } } })
                }
                _ => json!({ "embeddings": [{ "values": [0.5, -1] }, { "values": [2, 1e-3] }] }),
            };
            assert_eq!(value, wanted, "{} to {upstream}", form.name);
        }
    }
}

#[tokio::test]
async fn digits_are_kept_and_base64_is_exact() {
    let odd = "[0.10000000000000000555,-1e-7,1E+2]";
    for upstream in UPSTREAMS {
        let served = answering(&answer(upstream, &[odd])).await;
        let gateway = before(&[(upstream, &served)], "").await;
        let model = format!("{upstream}/m");
        for form in &FORMS {
            let body = (form.request)(&model, &["a"]).to_string();
            let response = gateway.post(&(form.path)(&model), &body).send().await.unwrap();
            if form.name.starts_with(upstream) && !response.status().is_success() {
                continue; // Asked in its own words, which the script does not answer.
            }
            let text = response.text().await.unwrap();
            assert!(text.contains(odd), "{} to {upstream}: {text}", form.name);
        }
        let floats = [0.1f32, -1e-7, 100.0];
        let bytes: Vec<u8> = floats.iter().flat_map(|float| float.to_le_bytes()).collect();
        let packed = BASE64_STANDARD.encode(bytes);
        if upstream != "openai-chat" {
            let body = json!({ "model": model, "input": "a", "encoding_format": "base64" });
            let (_, value) = told(&gateway, "/v1/embeddings", &body).await;
            assert_eq!(value["data"][0]["embedding"], packed.as_str(), "{upstream}");
        }
        if upstream != "cohere" {
            let body = json!({ "model": model, "texts": ["a"], "input_type": "clustering",
                "embedding_types": ["float", "base64"] });
            let (_, value) = told(&gateway, "/v2/embed", &body).await;
            assert_eq!(value["embeddings"]["base64"], json!([packed]), "{upstream}");
            assert!(value["embeddings"]["float"].is_array(), "{upstream}: {value}");
        }
    }
    // An upstream that answers in base64 unasked.
    let served = answering(&answer("openai-chat", &["\"zczMPQAAIMA=\""])).await;
    let gateway = before(&[("openai-chat", &served)], "").await;
    let body = json!({ "model": "openai-chat/m", "input": "a" });
    let (_, value) = told(&gateway, "/api/embed", &body).await;
    assert_eq!(value["embeddings"], json!([[0.1, -2.5]]));
}

/// A path and a body, the upstream, what it is asked, and what is left out. `M` stands for the model.
const SAID: &[(&str, &str, &str, &str, &str)] = &[
    (
        "/v1/embeddings",
        r#"{"model":"M","input":["a","b"],"dimensions":2,"user":"u"}"#,
        "ollama",
        r#"{"model":"m","input":["a","b"],"dimensions":2}"#,
        "user",
    ),
    (
        "/v1/embeddings",
        r#"{"model":"M","input":["a","b"],"dimensions":2,"user":"u"}"#,
        "gemini",
        r#"{"requests":[{"model":"models/m","content":{"parts":[{"text":"a"}]},"outputDimensionality":2},{"model":"models/m","content":{"parts":[{"text":"b"}]},"outputDimensionality":2}]}"#,
        "user",
    ),
    (
        "/v1/embeddings",
        r#"{"model":"M","input":["a","b"],"dimensions":2,"user":"u"}"#,
        "cohere",
        r#"{"model":"m","texts":["a","b"],"input_type":"search_document","embedding_types":["float"],"output_dimension":2}"#,
        "user",
    ),
    (
        "/api/embed",
        r#"{"model":"M","input":"a","truncate":false,"dimensions":2,"keep_alive":"5m","options":{"num_ctx":8}}"#,
        "openai-chat",
        r#"{"model":"m","input":["a"],"dimensions":2}"#,
        "",
    ),
    (
        "/api/embed",
        r#"{"model":"M","input":"a","truncate":false,"dimensions":2,"keep_alive":"5m","options":{"num_ctx":8}}"#,
        "gemini",
        r#"{"requests":[{"model":"models/m","content":{"parts":[{"text":"a"}]},"outputDimensionality":2}]}"#,
        "",
    ),
    (
        "/api/embed",
        r#"{"model":"M","input":"a","truncate":false,"dimensions":2,"keep_alive":"5m","options":{"num_ctx":8}}"#,
        "cohere",
        r#"{"model":"m","texts":["a"],"input_type":"search_document","embedding_types":["float"],"output_dimension":2,"truncate":"NONE"}"#,
        "",
    ),
    (
        "/v1beta/models/M:embedContent",
        r#"{"model":"models/M","content":{"parts":[{"text":"a"}]},"taskType":"RETRIEVAL_QUERY","outputDimensionality":2,"title":"t"}"#,
        "openai-chat",
        r#"{"model":"m","input":["a"],"dimensions":2}"#,
        "taskType, title",
    ),
    (
        "/v1beta/models/M:embedContent",
        r#"{"model":"models/M","content":{"parts":[{"text":"a"}]},"taskType":"RETRIEVAL_QUERY","outputDimensionality":2,"title":"t"}"#,
        "ollama",
        r#"{"model":"m","input":["a"],"dimensions":2}"#,
        "taskType, title",
    ),
    (
        "/v1beta/models/M:embedContent",
        r#"{"model":"models/M","content":{"parts":[{"text":"a"}]},"taskType":"RETRIEVAL_QUERY","outputDimensionality":2,"title":"t"}"#,
        "cohere",
        r#"{"model":"m","texts":["a"],"input_type":"search_query","embedding_types":["float"],"output_dimension":2}"#,
        "title",
    ),
    (
        "/v1beta/models/M:embedContent",
        r#"{"content":{"parts":[{"text":"a"},{"text":"b"}]},"task_type":"SEMANTIC_SIMILARITY","output_dimensionality":2}"#,
        "cohere",
        r#"{"model":"m","texts":["a\nb"],"input_type":"search_document","embedding_types":["float"],"output_dimension":2}"#,
        "taskType",
    ),
    (
        "/v1beta/models/M:batchEmbedContents",
        r#"{"requests":[{"model":"models/M","content":{"parts":[{"text":"a"}]},"taskType":"RETRIEVAL_QUERY","outputDimensionality":2,"title":"t"},{"model":"models/M","content":{"parts":[{"text":"a"}]},"taskType":"RETRIEVAL_QUERY","outputDimensionality":2,"title":"t"}]}"#,
        "cohere",
        r#"{"model":"m","texts":["a","a"],"input_type":"search_query","embedding_types":["float"],"output_dimension":2}"#,
        "title",
    ),
    (
        "/v2/embed",
        r#"{"model":"M","input_type":"classification","truncate":"START","inputs":[{"content":[{"type":"text","text":"a"}]}],"output_dimension":2}"#,
        "openai-chat",
        r#"{"model":"m","input":["a"],"dimensions":2}"#,
        "input_type, truncate",
    ),
    (
        "/v2/embed",
        r#"{"model":"M","input_type":"classification","truncate":"START","inputs":[{"content":[{"type":"text","text":"a"}]}],"output_dimension":2}"#,
        "ollama",
        r#"{"model":"m","input":["a"],"dimensions":2}"#,
        "input_type, truncate",
    ),
    (
        "/v2/embed",
        r#"{"model":"M","input_type":"classification","truncate":"START","inputs":[{"content":[{"type":"text","text":"a"}]}],"output_dimension":2}"#,
        "gemini",
        r#"{"requests":[{"model":"models/m","content":{"parts":[{"text":"a"}]},"taskType":"CLASSIFICATION","outputDimensionality":2}]}"#,
        "truncate",
    ),
    (
        "/api/embeddings",
        r#"{"model":"M","prompt":"a"}"#,
        "openai-chat",
        r#"{"model":"m","input":["a"]}"#,
        "",
    ),
    (
        "/api/embeddings",
        r#"{"model":"M","prompt":"a"}"#,
        "ollama",
        r#"{"model":"m","prompt":"a"}"#,
        "",
    ),
];

#[tokio::test]
async fn all_supported_members_reach_the_upstream() {
    for (path, body, upstream, wanted, dropped) in SAID {
        let wanted: Value = serde_json::from_str(wanted).unwrap();
        let texts = ["texts", "input", "requests"].iter().find_map(|name| wanted[name].as_array());
        let vectors = vec!["[1,2]"; texts.map_or(1, Vec::len)];
        let served = answering(&answer(upstream, &vectors)).await;
        let gateway = before(&[(upstream, &served)], "").await;
        let model = format!("{upstream}/m");
        let path = path.replace("/M:", &format!("/{model}:"));
        let body = body.replace("\"M\"", &format!("\"{model}\""));
        let response = gateway.post(&path, &body).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path} to {upstream}");
        let left_out = response.headers().get("x-streamgate-dropped");
        let left_out = left_out.map_or("", |names| names.to_str().unwrap());
        assert_eq!(left_out, *dropped, "{path} to {upstream}");
        let (at, sent) = asked(&served).await;
        assert_eq!(sent, wanted, "{path} to {upstream}");
        let own = match *upstream {
            "openai-chat" => "/embeddings",
            "ollama" if path == "/api/embeddings" => "/api/embeddings",
            "ollama" => "/api/embed",
            "gemini" => "/models/m:batchEmbedContents",
            _ => "/v2/embed",
        };
        assert_eq!(at, own);
    }
}
