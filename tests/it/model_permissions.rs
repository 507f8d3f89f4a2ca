//! Requests that would exceed a caller's permissions at some upstream: no second spelling of a
//! member, no other models, no hold on what all callers share, no name that is none.

use serde_json::Value;

use crate::access::{by, with_keys};
use crate::support::answers::{SPOKEN, streamed};
use crate::support::gateway::{Gateway, Log};
use crate::support::upstream::{Step, Upstream};

/// Providers of the other dialects, for `with_keys`.
fn others(upstream: &Upstream, ollama: &str) -> String {
    let url = &upstream.url;
    format!(
        "  res: {{ dialect: openai-responses, base_url: \"{url}/v1\" }}\n  \
         gem: {{ dialect: gemini, base_url: \"{url}/v1beta\" }}\n  \
         oll: {{ dialect: ollama, base_url: \"{url}\"{ollama} }}\n  \
         coh: {{ dialect: cohere, base_url: \"{url}\" }}\n"
    )
}

async fn post(gateway: &Gateway, key: &str, path: &str, body: &str) -> (u16, String) {
    let request = gateway.client.post(format!("{}{path}", gateway.url)).bearer_auth(key);
    let request = request.header("content-type", "application/json").body(body.to_owned());
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// An upstream that answers with an error, so that only what it was asked counts.
async fn refusing() -> Upstream {
    let body = br#"{"error":{"message":"no","type":"invalid_request_error"}}"#.to_vec();
    Upstream::new(vec![Step::Whole(400, "content-type: application/json\r\n", body)]).await
}

/// Members to be added to a body, and the name that the refusal shows.
type Added = &'static [(&'static str, &'static str)];

/// Endpoints, bodies with a member to be added, and what is added to be refused, by its name.
const AMBIGUOUS: [(&str, &str, Added); 15] = [
    (
        "/v1/chat/completions",
        r#"{"model":"oai/m","messages":[]+}"#,
        &[
            (r#","Model":"secret""#, "Model"),
            (r#","MODEL":"secret""#, "MODEL"),
            (r#","mo\u0064eL":"secret""#, "modeL"),
            (r#","\u017ftream":true"#, "\u{17f}tream"),
            (r#","max_tokens":5,"Max_Tokens":900000"#, "Max_Tokens"),
            (r#","max_tokens":5,"max_tokens":900000"#, "max_tokens"),
            (r#","max_tokens":5,"max_completion_tokens":900000"#, "max_tokens"),
            (r#","N":50"#, "N"),
            (r#","stream_options":{"Include_Usage":false}"#, "stream_options.Include_Usage"),
            (r#","Stream_Options":{}"#, "Stream_Options"),
            (r#","Messages":[]"#, "Messages"),
        ],
    ),
    (
        "/v1/completions",
        r#"{"model":"oai/m"+}"#,
        &[(r#","Best_Of":20"#, "Best_Of"), (r#","prompt":"a","Prompt":["b"]"#, "Prompt")],
    ),
    (
        "/v1/embeddings",
        r#"{"model":"oai/m","input":"a"+}"#,
        &[(r#","moDel":"secret""#, "moDel"), (r#","model":"secret""#, "model")],
    ),
    (
        "/v1/responses",
        r#"{"model":"res/m","input":"a"+}"#,
        &[
            (r#","Model":"secret""#, "Model"),
            (r#","Background":true"#, "Background"),
            (r#","max_output_to\u212aens":9"#, "max_output_to\u{212a}ens"),
        ],
    ),
    ("/v1/responses/input_tokens", r#"{"model":"res/m"+}"#, &[(r#","Model":"secret""#, "Model")]),
    ("/v1/responses/compact", r#"{"model":"res/m"+}"#, &[(r#","Model":"secret""#, "Model")]),
    (
        "/v1/messages",
        r#"{"model":"ant/m","max_tokens":5,"messages":[]+}"#,
        &[
            (r#","Model":"secret""#, "Model"),
            (r#","Max_Tokens":900000"#, "Max_Tokens"),
            (r#","max_tokens":900000"#, "max_tokens"),
            (r#","thinking":{"Budget_Tokens":9}"#, "thinking.Budget_Tokens"),
            (r#","System":"b""#, "System"),
        ],
    ),
    (
        "/v1/messages/count_tokens",
        r#"{"model":"ant/m","messages":[]+}"#,
        &[(r#","Model":"secret""#, "Model")],
    ),
    (
        "/v1beta/models/gem/m:generateContent",
        r#"{"contents":[]+}"#,
        &[
            (r#","Contents":[]"#, "Contents"),
            (r#","generationConfig":{"MaxOutputTokens":9}"#, "generationConfig.MaxOutputTokens"),
            (
                r#","generation_config":{"max_output_tokens":9,"maxOutputTokens":1}"#,
                "generation_config.maxOutputTokens",
            ),
            (r#","generationConfig":{},"generation_config":{}"#, "generation_config"),
            (r#","Generation_Config":{}"#, "Generation_Config"),
        ],
    ),
    (
        "/v1beta/models/gem/m:countTokens",
        r#"{"contents":[]+}"#,
        &[
            (r#","generate_content_request":{"Model":"secret"}"#, "generate_content_request.Model"),
            (r#","GenerateContentRequest":{"model":"secret"}"#, "GenerateContentRequest"),
        ],
    ),
    (
        "/v1beta/models/gem/m:batchEmbedContents",
        r#"{"x":1+}"#,
        &[(r#","requests":[{"model":"a"},{"Model":"secret"}]"#, "requests[1].Model")],
    ),
    (
        "/api/chat",
        r#"{"model":"oll/m","messages":[]+}"#,
        &[
            (r#","Model":"secret""#, "Model"),
            (r#","STREAM":true"#, "STREAM"),
            (r#","options":{"Num_Predict":900000}"#, "options.Num_Predict"),
            (r#","Options":{"num_predict":900000}"#, "Options"),
            (r#","Keep_Alive":-1"#, "Keep_Alive"),
        ],
    ),
    ("/api/generate", r#"{"model":"oll/m"+}"#, &[(r#","Model":"secret""#, "Model")]),
    ("/api/embed", r#"{"model":"oll/m"+}"#, &[(r#","Model":"secret""#, "Model")]),
    (
        "/v2/chat",
        r#"{"model":"coh/m","messages":[]+}"#,
        &[
            (r#","Model":"secret""#, "Model"),
            (r#","Max_Tokens":900000"#, "Max_Tokens"),
            (r#","thinking":{"Token_Budget":9}"#, "thinking.Token_Budget"),
        ],
    ),
];

/// Servers that match names without regard to case, and those that take the first of duplicates or the
/// last, would read another request than the gateway does.
#[tokio::test]
async fn members_that_servers_read_differently_are_refused_by_name() {
    let upstream = refusing().await;
    let keys = [("key", ", models: [\"*/m\"]")];
    let gateway = Gateway::new(&with_keys(&upstream, &keys, &others(&upstream, ""))).await;
    for (path, body, added) in AMBIGUOUS {
        for (added, name) in added {
            let body = body.replacen('+', added, 1);
            let (status, answer) = post(&gateway, "key", path, &body).await;
            assert_eq!(status, 400, "{path} {body}: {answer}");
            let said: Value = serde_json::from_str(&answer).unwrap();
            let shown = format!("`{name}`");
            assert!(said.to_string().contains(&shown), "{path} {body}: {answer}");
        }
        assert!(upstream.requests().await.is_empty(), "{path}");
    }
    for (asked, (path, body, _)) in AMBIGUOUS.into_iter().enumerate() {
        post(&gateway, "key", path, &body.replace('+', "")).await;
        assert_eq!(upstream.requests().await.len(), asked + 1, "{path}: the plain request passes");
    }
}

/// A model of a counted prompt is the target's, in either spelling of the member around it.
#[tokio::test]
async fn a_nested_model_is_the_targets() {
    let upstream = refusing().await;
    let gateway = Gateway::new(&with_keys(&upstream, &[("key", "")], &others(&upstream, ""))).await;
    for name in ["generateContentRequest", "generate_content_request"] {
        let body = format!(r#"{{"{name}":{{"model":"models/secret","contents":[]}}}}"#);
        post(&gateway, "key", "/v1beta/models/gem/m:countTokens", &body).await;
        let seen = upstream.requests().await.pop().unwrap();
        let expected = body.replace("models/secret", "models/m");
        assert_eq!(String::from_utf8(seen.body).unwrap(), expected);
    }
}

#[tokio::test]
async fn members_that_name_other_models_are_for_callers_who_may_use_all() {
    let upstream = refusing().await;
    let keys = [
        ("some", ", models: [\"oai/*\", \"res/*\", \"ant/*\", \"gem/*\"]"),
        ("every", ", models: [\"oai/*\", \"*\"]"),
        ("all", ""),
    ];
    let gateway = Gateway::new(&with_keys(&upstream, &keys, &others(&upstream, ""))).await;
    let mut passed = 0;
    for (path, body, name) in [
        (
            "/v1/chat/completions",
            r#"{"model":"oai/m","messages":[],"models":["secret"]}"#,
            "models",
        ),
        ("/v1/chat/completions", r#"{"model":"oai/m","Route":"fallback"}"#, "route"),
        ("/v1/completions", r#"{"model":"oai/m","fallbacks":["secret"]}"#, "fallbacks"),
        ("/v1/embeddings", r#"{"model":"oai/m","models":["secret"]}"#, "models"),
        ("/v1/responses", r#"{"model":"res/m","input":"a","models":["secret"]}"#, "models"),
        ("/v1/messages", r#"{"model":"ant/m","fallbacks":[{"model":"secret"}]}"#, "fallbacks"),
        (
            "/v1/messages",
            r#"{"model":"ant/m","tools":[{"type":"advisor_20260301","model":"secret"}]}"#,
            "tools.model",
        ),
        (
            "/v1beta/models/gem/m:generateContent",
            r#"{"generationConfig":{"routingConfig":{"manualMode":{"modelName":"secret"}}}}"#,
            "generationConfig.routingConfig",
        ),
    ] {
        let (status, answer) = post(&gateway, "some", path, body).await;
        assert_eq!(status, 403, "{path} {body}: {answer}");
        assert!(answer.contains(name), "{answer}");
        assert_eq!(upstream.requests().await.len(), passed, "{path} {body}");
        for key in ["every", "all"] {
            let (status, answer) = post(&gateway, key, path, body).await;
            assert_ne!(status, 403, "{path} {body}: {answer}");
            passed += 1;
            assert_eq!(upstream.requests().await.len(), passed, "{path} {body}: {answer}");
        }
    }
    // Members that translation drops select nothing.
    let body = r#"{"model":"ant/m","messages":[{"role":"user","content":"a"}],"route":"fallback"}"#;
    let (status, answer) = post(&gateway, "some", "/v1/chat/completions", body).await;
    assert_ne!(status, 403, "{answer}");
}

/// The time for which a model stays loaded concerns all callers.
#[tokio::test]
async fn keep_alive_is_set_by_the_operator_only() {
    for (setting, kept) in
        [("", false), (", keep_alive: server", false), (", keep_alive: callers", true)]
    {
        let upstream = refusing().await;
        let providers = others(&upstream, setting);
        let gateway = Gateway::new(&with_keys(&upstream, &[("key", "")], &providers)).await;
        for path in ["/api/chat", "/api/generate", "/api/embed"] {
            let body = r#"{"model":"oll/m", "keep_alive" : -1,"x":{"keep_alive":0}}"#;
            post(&gateway, "key", path, body).await;
            let seen = upstream.requests().await.pop().unwrap();
            let own = if kept { r#", "keep_alive" : -1"# } else { "" };
            let expected = format!(r#"{{"model":"m"{own},"x":{{"keep_alive":0}}}}"#);
            assert_eq!(String::from_utf8(seen.body).unwrap(), expected, "{path}{setting}");
        }
    }
}

/// Members that the operator drops or sets cannot be sent in another spelling.
#[tokio::test]
async fn dropped_members_have_one_spelling() {
    let upstream = refusing().await;
    let provider = format!(
        "  cut: {{ dialect: openai-chat, base_url: \"{}/v1\", drop: [user, web.search] }}\n",
        upstream.url
    );
    let gateway = Gateway::new(&with_keys(&upstream, &[("key", "")], &provider)).await;
    for (member, name) in [(r#""USER":"u""#, "USER"), (r#""web":{"Search":1}"#, "Search")] {
        let body = format!(r#"{{"model":"cut/m",{member}}}"#);
        let (status, answer) = post(&gateway, "key", "/v1/chat/completions", &body).await;
        assert_eq!(status, 400, "{answer}");
        assert!(answer.contains(&format!("`{name}`")), "{answer}");
    }
    assert!(upstream.requests().await.is_empty());
}

#[tokio::test]
async fn a_direct_models_name_is_bounded() {
    for (dialect, provider) in SPOKEN {
        let upstream = Upstream::new(streamed(dialect, "hi")).await;
        let gateway = Gateway::new(&with_keys(&upstream, &[("key", "")], "")).await;
        let log = Log::default();
        let _capture = log.capture();
        let long = "m".repeat(257);
        for name in [long.as_str(), "a b", "\u{e9}", "..", "../m", "a/../m", "a/..", r"a\u0001b"] {
            let model = format!("{provider}/{name}");
            let response = by(&gateway, "key", dialect, &model).send().await.unwrap();
            assert_eq!(response.status(), 400, "{name}");
            let answer = response.text().await.unwrap();
            assert!(answer.contains("256 visible ASCII"), "{answer}");
        }
        assert!(upstream.requests().await.is_empty());
        let model = format!("{provider}/{}", "m".repeat(256));
        let response = by(&gateway, "key", dialect, &model).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let shown = response.headers()["x-streamgate-target"].to_str().unwrap().to_owned();
        assert_eq!(Some(shown.as_str()), model.get(..100));
        response.text().await.unwrap();
        crate::streaming::settled(&gateway).await;
        let record = log.records().pop().unwrap();
        assert_eq!(record["target"], shown);
    }
}

/// An upstream's error may repeat what the operator's headers and parameters say.
#[tokio::test]
async fn secrets_of_headers_and_parameters_never_reach_a_caller() {
    const HEADER: &str = "canary/header+one";
    const QUERY: &str = "canary query&two";
    let spelled = format!(
        r"{HEADER} canary\/header\u002bone Basic Y2FuYXJ5LXRocmVl Y2FuYXJ5LXRocmVl {QUERY} canary+query%26two canary query\u0026two, version 2099-10-21"
    );
    for (dialect, provider) in SPOKEN {
        let error =
            format!(r#"{{"error":{{"message":"{spelled}","type":"invalid_request_error"}}}}"#);
        let event = format!("event: error\ndata: {error}\n\n");
        let json = "content-type: application/json\r\n";
        for script in [
            vec![Step::Whole(400, json, error.clone().into_bytes())],
            vec![Step::Whole(200, json, error.clone().into_bytes())],
            vec![Step::Sse, Step::chunk(&event), Step::End],
        ] {
            let upstream = Upstream::new(script).await;
            let settings = format!(
                "api_key: up-canary-{provider}, headers: {{ x-team: \"{HEADER}\", x-proxy: \"Basic Y2FuYXJ5LXRocmVl\" }}, \
                 query: {{ code: \"{QUERY}\", api-version: \"2099-10-21\" }}"
            );
            let config = with_keys(&upstream, &[("key", "")], "")
                .replace(&format!("api_key: up-canary-{provider}"), &settings);
            let gateway = Gateway::new(&config).await;
            for (caller, _) in SPOKEN {
                let model = format!("{provider}/m");
                let answer = by(&gateway, "key", caller, &model).send().await.unwrap();
                let answer = answer.text().await.unwrap();
                for secret in ["canary", "header", "Y2Fu", "two"] {
                    assert!(!answer.contains(secret), "{secret} from {dialect}: {answer}");
                }
                assert!(answer.contains("version 2099-10-21"), "{answer}");
            }
        }
    }
}
