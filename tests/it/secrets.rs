//! Secrets that must not leak: credentials and prompts; redirects to other hosts.

use std::time::Duration;

use crate::support::answers::{SPOKEN, error_message, opening, path, request, streamed};
use crate::support::gateway::{Gateway, KEY, Log, yaml};
use crate::support::raw::Raw;
use crate::support::upstream::{Step, Upstream};

/// Provider keys in every test's configuration begin with this.
const PROVIDER_KEY: &str = "up-canary";

#[tokio::test]
async fn fm61_redirects_are_not_followed() {
    for (dialect, provider) in SPOKEN {
        for (status, stream) in [(301, true), (302, false), (307, true), (307, false), (308, true)]
        {
            let elsewhere = Upstream::new(streamed(dialect, "hi")).await;
            let head = format!(
                "HTTP/1.1 {status} X\r\nlocation: {}/v1\r\ncontent-length: 0\r\n\r\n",
                elsewhere.url
            );
            let upstream = Upstream::new(vec![Step::Raw(head.into_bytes())]).await;
            for (caller, _) in SPOKEN {
                let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, "")).await;
                let body = request(&format!("{provider}/m"), stream, "prompt-canary");
                let response = gateway.post(path(caller), &body).send().await.unwrap();
                // Bad gateway, in the words of each vendor.
                let expected = if caller == "anthropic" { 500 } else { 502 };
                assert_eq!(response.status(), expected);
                assert!(!response.headers().contains_key("location"));
                let message = error_message(caller, &response.text().await.unwrap());
                assert!(message.contains("base_url"), "{message}");
            }
            assert_eq!(elsewhere.connections(), 0, "{status}");
        }
    }
}

#[tokio::test]
async fn fm62_no_credential_of_a_caller_reaches_an_upstream() {
    const SLOTS: [&str; 16] = [
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "xi-api-key",
        "cookie",
        "proxy-authorization",
        "x-auth-token",
        "x-access-token",
        "x-amz-security-token",
        "openai-organization",
        "openai-project",
        "x-forwarded-for",
        "forwarded",
        "referer",
        "origin",
        "x-canary",
    ];
    for (caller, _) in SPOKEN {
        for (dialect, provider) in SPOKEN {
            let upstream = Upstream::new(streamed(dialect, "hi")).await;
            let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, "")).await;
            let mut headers = String::from("authorization: Bearer caller-canary\r\n");
            for slot in SLOTS {
                headers.push_str(slot);
                headers.push_str(": caller-canary\r\n");
            }
            let path = format!("{}?key=caller-canary&api_key=caller-canary", path(caller));
            let mut raw = Raw::new(gateway.address).await;
            raw.post(&path, &headers, &request(&format!("{provider}/m"), true, "hi")).await;
            raw.until("\r\n0\r\n\r\n").await;
            let seen = &upstream.requests().await[0];
            let all = format!("{}{}", seen.head, String::from_utf8_lossy(&seen.body));
            assert!(!all.contains("caller-canary") && !all.contains(KEY), "{all}");
            assert!(all.contains(&format!("{PROVIDER_KEY}-{provider}")), "{all}");
        }
    }
}

#[tokio::test]
async fn fm62_upstream_headers_pass_by_allow_list() {
    const HEADERS: &str = "content-type: application/json\r\nset-cookie: canary\r\n\
        authorization: canary\r\nx-api-key: canary\r\nx-canary: canary\r\nserver: canary\r\n\
        cf-ray: canary\r\nopenai-organization: canary\r\nalt-svc: canary\r\nlocation: canary\r\n\
        strict-transport-security: canary\r\naccess-control-allow-origin: canary\r\n";
    for (caller, _) in SPOKEN {
        for (_, provider) in SPOKEN {
            for status in [200, 400, 500] {
                let body = br#"{"error":{"type":"invalid_request_error","message":"no"}}"#;
                let upstream =
                    Upstream::new(vec![Step::Whole(status, HEADERS, body.to_vec())]).await;
                let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, "")).await;
                let body = request(&format!("{provider}/m"), true, "hi");
                let response = gateway.post(path(caller), &body).send().await.unwrap();
                let headers = format!("{:?}", response.headers());
                assert!(!headers.contains("canary"), "{headers}");
            }
        }
    }
}

/// Upstreams repeat the key that they refuse: in an error response, in an answer with status 200,
/// as the only event of a stream, in the middle of one, and cut in two on the way; as words and as
/// a code.
#[tokio::test]
async fn fm62_provider_keys_never_reach_a_caller() {
    const JSON: &str = "content-type: application/json\r\n";
    let kinds = ["authentication_error", "invalid_request_error"];
    let spoken = SPOKEN.into_iter().flat_map(|spoken| kinds.map(|kind| (spoken, kind)));
    for ((dialect, provider), kind) in spoken {
        let key = format!("{PROVIDER_KEY}-{provider}");
        let error = format!(
            r#"{{"type":"error","error":{{"message":"Incorrect API key provided: {key}","type":"{kind}","code":"{key}"}}}}"#
        );
        let event = format!("event: error\ndata: {error}\n\n");
        let html = format!("<html>{key}</html>");
        let (before, after) = event.split_at(event.find(&key).unwrap() + 4);
        let halves = [Step::Sse, Step::chunk(before), Step::chunk(after), Step::End];
        let scripts = [
            halves.to_vec(),
            vec![Step::Whole(401, JSON, error.clone().into_bytes())],
            vec![Step::Whole(500, "content-type: text/plain\r\n", html.into_bytes())],
            vec![Step::Whole(200, JSON, error.into_bytes())],
            vec![Step::Sse, Step::chunk(&event), Step::End],
            vec![Step::Sse, Step::chunk(&opening(dialect, "hi")), Step::chunk(&event), Step::End],
        ];
        for (number, script) in scripts.into_iter().enumerate() {
            let upstream = Upstream::new(script).await;
            let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, "")).await;
            for (caller, _) in SPOKEN {
                for stream in [true, false] {
                    let body = request(&format!("{provider}/m"), stream, "hi");
                    let response = gateway.post(path(caller), &body).send().await.unwrap();
                    let headers = format!("{:?}", response.headers());
                    let text = headers + &response.text().await.unwrap();
                    let where_ = format!("{number}: {caller} from {dialect}, stream {stream}");
                    assert!(!text.contains(PROVIDER_KEY), "{where_}: {text}");
                }
            }
        }
    }
}

/// Secrets of the operator that an upstream repeats, in any spelling.
#[tokio::test]
async fn upstream_errors_that_repeat_our_request_show_no_secret() {
    const SPELLINGS: [&str; 9] = [
        "key+canary/1",
        r"key\u002bcanary\/1",
        "key%2Bcanary%2F1",
        "header+canary/1",
        "header%2bcanary/1",
        r"header+canary\u002F1",
        "query canary=1",
        "query+canary%3D1",
        "query%20canary%3d1",
    ];
    for (dialect, provider) in SPOKEN {
        for spelling in SPELLINGS {
            let error = format!(
                r#"{{"type":"error","error":{{"type":"invalid_request_error","message":"you sent {spelling}, did you"}}}}"#
            );
            let event = format!("event: error\ndata: {error}\n\n");
            let scripts = [
                vec![Step::Whole(400, "content-type: application/json\r\n", error.into_bytes())],
                vec![
                    Step::Sse,
                    Step::chunk(&opening(dialect, "hi")),
                    Step::chunk(&event),
                    Step::End,
                ],
            ];
            for script in scripts {
                let upstream = Upstream::new(script).await;
                let settings = "headers: { x-team: \"header+canary/1\" }, query: { q: \"query canary=1\" }, api_key: key+canary/1";
                let text = yaml(&upstream.url, &upstream.url, "")
                    .replace(&format!("api_key: up-canary-{provider}"), settings);
                let gateway = Gateway::new(&text).await;
                for (caller, _) in SPOKEN {
                    let body = request(&format!("{provider}/m"), true, "hi");
                    let response = gateway.post(path(caller), &body).send().await.unwrap();
                    let text = response.text().await.unwrap();
                    assert!(text.contains("you sent [redacted], did you"), "{spelling}: {text}");
                    assert!(!text.contains("canary"), "{spelling}: {text}");
                }
            }
        }
    }
}

/// Upstreams that fail in every way we know, each repeating what it was sent.
fn failures(dialect: &str) -> Vec<Vec<Step>> {
    const JSON: &str = "content-type: application/json\r\n";
    let error = r#"{"type":"error","error":{"type":"invalid_request_error","message":"bad key up-canary-oai up-canary-ant of sg-test in prompt-canary","code":"prompt-canary"}}"#;
    let error = || error.as_bytes().to_vec();
    let event = [b"event: error\ndata: ".to_vec(), error(), b"\n\n".to_vec()].concat();
    let begun = || vec![Step::Sse, Step::chunk(&opening(dialect, "answer-canary"))];
    let then = |steps: Vec<Step>| [begun(), steps].concat();
    let mut scripts: Vec<Vec<Step>> = [400, 401, 403, 404, 408, 413, 422, 429, 500, 503, 529]
        .into_iter()
        .map(|status| vec![Step::Whole(status, JSON, error())])
        .collect();
    scripts.extend([
        vec![Step::Whole(200, JSON, error())],
        vec![Step::Whole(200, JSON, b"{\"prompt-canary\":".to_vec())],
        vec![Step::Whole(500, "content-type: text/html\r\n", b"<p>prompt-canary".to_vec())],
        vec![Step::Whole(200, "content-type: text/html\r\n", b"<p>prompt-canary".to_vec())],
        vec![Step::Raw(b"HTTP/1.1 307 X\r\nlocation: http://127.0.0.1:1/?prompt-canary\r\ncontent-length: 0\r\n\r\n".to_vec())],
        vec![Step::Raw(b"prompt-canary sg-test\r\n\r\n".to_vec()), Step::Close],
        vec![Step::Close],
        vec![Step::Reset],
        vec![Step::Hang],
        vec![Step::Sse, Step::Chunk(event.clone()), Step::End],
        vec![Step::Sse, Step::chunk("data: {\"prompt-canary\n\n"), Step::End],
        then(vec![Step::Chunk(event)]),
        then(vec![Step::chunk("data: {\"prompt-canary\n\n"), Step::End]),
        then(vec![Step::chunk("data: [\"prompt-canary\"]\n\n"), Step::End]),
        then(vec![Step::End]),
        then(vec![Step::Reset]),
        then(vec![Step::Raw(b"prompt-canary\r\n".to_vec())]),
        then(vec![Step::Hang]),
    ]);
    scripts
}

/// A configuration whose deadlines pass at once, with a secret in every place that can hold one.
fn secretive(oai: &str, ant: &str) -> String {
    let more = "stream: { first_token: 100ms, unstreamed: 200ms, stall: 100ms, connect: 100ms }\n";
    yaml(oai, ant, more).replace(
        "api_key: up",
        "query: { key: query-canary }, headers: { x-team: header-canary }, api_key: up",
    )
}

/// Provokes every failure, of upstreams and of callers, and returns what was logged.
async fn logged() -> String {
    let log = Log::default();
    let _guard = log.capture();
    for (dialect, provider) in SPOKEN {
        let scripts = failures(dialect);
        let count = scripts.len();
        let upstream =
            Upstream::scripted(scripts.iter().flat_map(|s| vec![s.clone(); 4]).collect());
        let upstream = upstream.await;
        let gateway = Gateway::new(&secretive(&upstream.url, &upstream.url)).await;
        for _ in 0..count {
            for (caller, _) in SPOKEN {
                for stream in [true, false] {
                    let body = request(&format!("{provider}/m"), stream, "prompt-canary");
                    let response = gateway.post(path(caller), &body).send().await.unwrap();
                    let _whatever = response.text().await;
                }
            }
        }
        // Nobody listens there.
        let dead = Gateway::new(&secretive("http://127.0.0.1:1", "http://127.0.0.1:1")).await;
        for (caller, _) in SPOKEN {
            let body = request(&format!("{provider}/m"), true, "prompt-canary");
            dead.post(path(caller), &body).send().await.unwrap().text().await.unwrap();
            for body in [
                r#"{"model":"oai/m","messages":"prompt-canary"#,
                r#"{"model":"oai/m","stream":"prompt-canary","messages":"prompt-canary"}"#,
                r#"{"model":"ant/m","max_tokens":"prompt-canary","messages":[{"role":"prompt-canary","content":{"prompt-canary":7}}]}"#,
                r#"{"model":["prompt-canary"]}"#,
            ] {
                dead.post(path(caller), body).send().await.unwrap().text().await.unwrap();
            }
            let wrong = dead.client.post(format!("{}{}", dead.url, path(caller)));
            wrong.header("x-api-key", "wrong-canary").send().await.unwrap();
        }
    }
    let records = log.records();
    assert!(records.len() > 60, "{} records", records.len());
    log.text()
}

/// No line holds a canary; if some do, one of each kind is shown.
fn assert_absent(mode: &str, text: &str, canaries: &[&str]) {
    let mut kinds = std::collections::BTreeMap::new();
    for line in text.lines().filter(|line| canaries.iter().any(|canary| line.contains(canary))) {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        kinds.insert(format!("{} {}", record["target"], record["message"]), line);
    }
    assert!(kinds.is_empty(), "{mode}: {kinds:#?}");
}

#[tokio::test]
async fn fm63_fm64_neither_keys_nor_prompts_are_ever_logged() {
    let text = tokio::time::timeout(Duration::from_secs(50), logged()).await.expect("done");
    let keys = [PROVIDER_KEY, KEY, "wrong-canary", "query-canary", "header-canary"];
    assert_absent("fm63", &text, &keys);
    assert_absent("fm64", &text, &["prompt-canary", "answer-canary"]);
}

#[tokio::test]
async fn fm65_callers_do_not_choose_the_upstream_address() {
    for (caller, _) in SPOKEN {
        for (dialect, provider) in SPOKEN {
            let upstream = Upstream::new(streamed(dialect, "hi")).await;
            let elsewhere = Upstream::new(streamed(dialect, "hi")).await;
            let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, "")).await;
            let url = &elsewhere.url;
            let overrides = format!(
                r#","base_url":"{url}","api_base":"{url}","api_key":"x","extra_body":{{"api_base":"{url}"}}}}"#
            );
            let body = request(&format!("{provider}/m"), true, "hi");
            let body = body.strip_suffix('}').unwrap().to_owned() + &overrides;
            let sent = gateway
                .post(&format!("{}?api_base={url}&base_url={url}", path(caller)), &body)
                .header("x-base-url", url)
                .header("x-api-base", url)
                .header("x-forwarded-host", url.trim_start_matches("http://"))
                .header("host", url.trim_start_matches("http://"));
            let response = sent.send().await.unwrap();
            let status = response.status();
            let text = response.text().await.unwrap();
            if status == 200 {
                let seen = &upstream.requests().await[0].head;
                assert!(!seen.contains(url.trim_start_matches("http://")), "{seen}");
            } else {
                // A translation may refuse fields that it does not know.
                assert_eq!(status, 400, "{text}");
                assert_ne!(caller, dialect, "{text}");
            }
            assert_eq!(elsewhere.connections(), 0);
        }
    }
}
