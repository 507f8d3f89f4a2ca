//! Requests that cannot be served: each is refused in its caller's dialect, with the right status,
//! a message that names the field or the remedy, and an id.

use reqwest::RequestBuilder;

use crate::support::answers::{SPOKEN, error_message, path, request, streamed};
use crate::support::gateway::{Gateway, KEY, yaml};
use crate::support::upstream::Upstream;

async fn gateway(more: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    (Gateway::new(&yaml(&upstream.url, &upstream.url, more)).await, upstream)
}

/// Sends it, and checks that the refusal has this status and a message with this in it.
async fn refused(dialect: &str, sent: RequestBuilder, status: u16, words: &str) {
    let response = sent.send().await.unwrap();
    let id = response.headers().get("x-request-id").expect("x-request-id").clone();
    assert!(!id.is_empty());
    assert_eq!(response.headers()["content-type"], "application/json", "{words}");
    let found = response.status().as_u16();
    let body = response.text().await.unwrap();
    assert_eq!(found, status, "{dialect}, {words}: {body}");
    let message = error_message(dialect, &body);
    assert!(message.contains(words), "{dialect}: {message:?} does not say {words:?}");
}

#[tokio::test]
async fn bodies_that_are_no_request() {
    let (gateway, upstream) = gateway("").await;
    for (dialect, provider) in SPOKEN {
        // The other dialect's provider, so that the whole request is read.
        let other = if provider == "oai" { "ant" } else { "oai" };
        let messages = |messages: &str| {
            format!(r#"{{"model":"{other}/m","max_tokens":5,"stream":true,"messages":{messages}}}"#)
        };
        let cases = [
            (String::new(), 400, "JSON"),
            ("{\"model\":".into(), 400, "JSON"),
            ("[]".into(), 400, "object"),
            ("{}".into(), 400, "model"),
            (r#"{"model":7,"messages":[]}"#.into(), 400, "model"),
            (r#"{"model":null,"messages":[]}"#.into(), 400, "model"),
            (format!(r#"{{"model":"{provider}/m","stream":"yes","messages":[]}}"#), 400, "stream"),
            (messages("\"hi\""), 400, "messages"),
            (messages("[7]"), 400, "messages"),
            (messages(r#"[{"role":"user","content":7}]"#), 400, "content"),
            (messages(r#"[{"role":7,"content":"x"}]"#), 400, "role"),
            (messages("[]").replace(&format!("{other}/m"), "nobody/m"), 404, "/v1/models"),
            (messages("[]").replace(&format!("{other}/m"), "unknown"), 404, "unknown"),
        ];
        for (body, status, words) in cases {
            refused(dialect, gateway.post(path(dialect), &body), status, words).await;
        }
    }
    assert!(upstream.requests().await.is_empty());
}

#[tokio::test]
async fn bodies_that_are_not_utf8() {
    let (gateway, _upstream) = gateway("").await;
    for (dialect, _) in SPOKEN {
        let mut body = request("oai/m", true, "hi?").into_bytes();
        let at = body.iter().position(|byte| *byte == b'?').unwrap();
        body[at] = 0xff;
        refused(dialect, gateway.post(path(dialect), "").body(body), 400, "UTF-8").await;
    }
}

#[tokio::test]
async fn keys_that_are_missing_wrong_or_oddly_formed() {
    let (gateway, _upstream) = gateway("").await;
    for (dialect, _) in SPOKEN {
        let plain = || {
            gateway
                .client
                .post(format!("{}{}", gateway.url, path(dialect)))
                .header("content-type", "application/json")
                .body(request("oai/m", true, "hi"))
        };
        refused(dialect, plain(), 401, "authorization: Bearer").await;
        for (name, value, words) in [
            ("authorization", "Bearer wrong", "Incorrect API key"),
            ("authorization", "Basic c2ctdGVzdA==", "Bearer"),
            ("authorization", "Bearer ", "Bearer"),
            ("authorization", KEY, "Bearer"),
            ("authorization", "Bearer a.b.c", "JWT"),
            ("x-api-key", "wrong", "Incorrect API key"),
            ("x-api-key", "", "no key"),
            ("api-key", "wrong", "Incorrect API key"),
            ("x-goog-api-key", "wrong", "Incorrect API key"),
        ] {
            refused(dialect, plain().header(name, value), 401, words).await;
        }
        for (name, value) in [
            ("authorization", format!("Bearer {KEY}")),
            ("authorization", format!("bearer   {KEY} ")),
            ("x-api-key", KEY.to_owned()),
            ("api-key", KEY.to_owned()),
            ("x-goog-api-key", KEY.to_owned()),
        ] {
            let response = plain().header(name, &value).send().await.unwrap();
            assert_eq!(response.status(), 200, "{name}: {value}");
            assert!(response.headers().contains_key("x-request-id"));
        }
        let response = plain().send().await.unwrap();
        assert!(response.headers().contains_key("www-authenticate"));
    }
}

/// Failure mode 68, too: what is compressed in a way that is not known, or twice, is refused.
#[tokio::test]
async fn fm68_media_types_that_are_not_plain_json() {
    let (gateway, _upstream) = gateway("").await;
    for (dialect, _) in SPOKEN {
        let plain = || {
            gateway
                .client
                .post(format!("{}{}", gateway.url, path(dialect)))
                .header("authorization", format!("Bearer {KEY}"))
                .body(request("oai/m", true, "hi"))
        };
        refused(dialect, plain(), 415, "content-type").await;
        for kind in ["text/plain", "multipart/form-data; boundary=x", "application/xml", ""] {
            refused(dialect, plain().header("content-type", kind), 415, "application/json").await;
        }
        for encoding in ["compress", "gzip, gzip", "br, zstd", "aes128gcm"] {
            let sent = || {
                plain()
                    .header("content-type", "application/json")
                    .header("content-encoding", encoding)
            };
            refused(dialect, sent(), 415, "compressed").await;
            let response = sent().send().await.unwrap();
            let accepted = response.headers()["accept-encoding"].to_str().unwrap();
            assert!(accepted.contains("gzip") && accepted.contains("identity"), "{accepted}");
        }
        for encoding in ["gzip", "br", "zstd", "deflate"] {
            let sent = plain()
                .header("content-type", "application/json")
                .header("content-encoding", encoding);
            refused(dialect, sent, 400, encoding).await;
        }
        for kind in ["application/json; charset=utf-8", "Application/JSON"] {
            let response = plain().header("content-type", kind).send().await.unwrap();
            assert_eq!(response.status(), 200, "{kind}");
        }
    }
}

#[tokio::test]
async fn fm58_a_3_mb_image_passes() {
    for (dialect, provider) in SPOKEN {
        for (upstream_dialect, target) in SPOKEN {
            let upstream = Upstream::new(streamed(upstream_dialect, "hi")).await;
            let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, "")).await;
            let data = "A".repeat(3 << 20);
            let image = if provider == "ant" {
                r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"DATA"}}"#
            } else {
                r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,DATA"}}"#
            };
            let body = request(&format!("{target}/m"), true, "hi")
                .replace("\"hi\"", &format!("[{image}]"))
                .replace("DATA", &data);
            let response = gateway.post(path(dialect), &body).send().await.unwrap();
            assert_eq!(response.status(), 200, "{dialect} to {upstream_dialect}");
            let seen = upstream.requests().await;
            assert!(seen[0].body.len() > data.len());
        }
    }
}

#[tokio::test]
async fn fm58_a_larger_body_than_the_limit_is_413_in_dialect() {
    let (gateway, upstream) = gateway("server: { body_limit: 1KiB }\n").await;
    for (dialect, _) in SPOKEN {
        let body = request("oai/m", true, &"x".repeat(2000));
        refused(dialect, gateway.post(path(dialect), &body), 413, "1 KiB").await;
        let pieces: Vec<Result<Vec<u8>, std::io::Error>> =
            body.as_bytes().chunks(100).map(|piece| Ok(piece.to_vec())).collect();
        let chunked = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
        refused(dialect, gateway.post(path(dialect), "").body(chunked), 413, "1 KiB").await;
    }
    assert!(upstream.requests().await.is_empty());
}

/// The refusal must reach a caller who is still sending.
#[tokio::test]
async fn fm58_a_much_larger_body_is_413_too_and_not_a_reset() {
    let (gateway, _upstream) = gateway("server: { body_limit: 1MiB }\n").await;
    for (dialect, _) in SPOKEN {
        let body = request("oai/m", true, &"x".repeat(12 << 20));
        refused(dialect, gateway.post(path(dialect), &body), 413, "limit").await;
    }
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there() {
    let (gateway, _upstream) = gateway("").await;
    for (dialect, _) in SPOKEN {
        let marked = |request: RequestBuilder| {
            if dialect == "anthropic" {
                request.header("anthropic-version", "2023-06-01")
            } else {
                request
            }
        };
        for (path, words) in [
            ("/v1/talk", "the client's base URL is http://"),
            ("/v1/response", "did you mean /v1/responses?"),
            ("/v1/model", "the client's base URL is http://"),
            ("/v3/answers", "the client's base URL is http://"),
        ] {
            refused(dialect, marked(gateway.post(path, "{}")), 404, words).await;
        }
        for method in [http::Method::GET, http::Method::PUT, http::Method::DELETE] {
            let url = format!("{}{}", gateway.url, path(dialect));
            refused(dialect, gateway.client.request(method, url), 405, "POST").await;
        }
        for path in ["/v1/models", "/healthz", "/readyz", "/metrics"] {
            let sent = marked(gateway.post(path, "{}"));
            refused(dialect, sent, 405, "GET").await;
        }
    }
    let url = format!("{}/v1/messages", gateway.url);
    let response = gateway.client.get(url).send().await.unwrap();
    assert_eq!(response.headers()["allow"], "POST");
}

#[tokio::test]
async fn every_response_has_an_id_and_a_plain_one_is_kept() {
    let (gateway, _upstream) = gateway("").await;
    let id = |response: &reqwest::Response| response.headers()["x-request-id"].clone();
    let kept = gateway.chat("oai/m").header("x-request-id", "mine-1").send().await.unwrap();
    assert_eq!(id(&kept), "mine-1");
    let long = "x".repeat(65);
    for odd in ["a b", "a\"b", long.as_str(), "", "a/b"] {
        let response = gateway.chat("oai/m").header("x-request-id", odd).send().await.unwrap();
        assert!(id(&response).to_str().unwrap().starts_with("req_"), "{odd:?}");
    }
    for path in ["/v1/models", "/healthz", "/readyz", "/metrics", "/nowhere"] {
        let response = gateway.client.get(format!("{}{path}", gateway.url)).send().await.unwrap();
        assert!(response.headers().contains_key("x-request-id"), "{path}");
    }
}
