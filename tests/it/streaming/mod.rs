//! Streaming from outside: HTTP in, HTTP out, a scripted upstream.
//!
//! Tests are named after the failure modes that they rule out (`fm04` is number 4 of
//! `docs/failure-modes.md`). They wait for events, never for time to pass.

mod aborted;
mod attempts;
mod cancel;
mod collected;
mod drain;
mod endings;
mod http2;
mod pressure;
mod silence;
mod tls;
mod traces;

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::support::gateway::{Gateway, KEY, Log, yaml};
use crate::support::upstream::{Step, Upstream};
use crate::support::{View, reader};

/// The caller's dialect and the upstream's provider, in every combination.
pub(super) const PAIRS: [(&str, &str); 4] =
    [("openai-chat", "oai"), ("openai-chat", "ant"), ("anthropic", "oai"), ("anthropic", "ant")];

/// Nothing here takes longer unless it is broken.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// The start of an answer, before any model output.
pub(super) fn preamble(provider: &str) -> Step {
    Step::chunk(match provider {
        "oai" => {
            "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n"
        }
        _ => {
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":7,\"output_tokens\":1}}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n"
        }
    })
}

/// One event with model output.
pub(super) fn token_text(provider: &str, text: &str) -> String {
    match provider {
        "oai" => format!(
            "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n"
        ),
        _ => format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{text}\"}}}}\n\n"
        ),
    }
}

pub(super) fn token(provider: &str, text: &str) -> Step {
    Step::Chunk(token_text(provider, text).into_bytes())
}

/// Stop, usage and terminal.
pub(super) fn ending(provider: &str) -> Step {
    Step::chunk(match provider {
        "oai" => {
            "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3,\"total_tokens\":10}}\n\ndata: [DONE]\n\n"
        }
        _ => {
            "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":3}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
        }
    })
}

/// An error told in the stream.
pub(super) fn failure(provider: &str) -> Step {
    Step::chunk(match provider {
        "oai" => {
            "data: {\"error\":{\"message\":\"boom\",\"type\":\"server_error\",\"param\":null,\"code\":null}}\n\n"
        }
        _ => {
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"boom\"}}\n\n"
        }
    })
}

/// An error with a status.
pub(super) fn refusal(provider: &str, status: u16) -> Vec<Step> {
    let kind = match status {
        400 | 422 => "invalid_request_error",
        401 => "authentication_error",
        404 => "not_found_error",
        408 => "timeout_error",
        429 => "rate_limit_error",
        _ => "api_error",
    };
    let body = match provider {
        "oai" => r#"{"error":{"message":"no","type":"KIND","param":null,"code":null}}"#,
        _ => r#"{"type":"error","error":{"type":"KIND","message":"no"}}"#,
    };
    let body = body.replace("KIND", kind).into_bytes();
    vec![Step::Whole(status, "content-type: application/json\r\n", body)]
}

/// The status for an upstream that failed.
pub(super) fn bad_gateway(dialect: &str) -> u16 {
    reader(dialect).bad_gateway
}

/// The bytes of a heartbeat (failure mode 3): no blank line for `OpenAI`, a whole event for Anthropic.
pub(super) fn heartbeat(dialect: &str) -> &'static str {
    reader(dialect).heartbeat.expect("a dialect with fixed heartbeats")
}

/// A whole good answer.
pub(crate) fn good(provider: &str) -> Vec<Step> {
    vec![Step::Sse, preamble(provider), token(provider, "Hello"), ending(provider), Step::End]
}

/// The start of an answer, then more.
pub(super) fn begun(provider: &str, then: impl IntoIterator<Item = Step>) -> Vec<Step> {
    let mut script = vec![Step::Sse, preamble(provider), token(provider, "Hello")];
    script.extend(then);
    script
}

/// A gateway before one upstream, whatever dialect it is asked in.
pub(super) async fn before(upstream: &Upstream, more: &str) -> Gateway {
    Gateway::new(&yaml(&upstream.url, &upstream.url, more)).await
}

/// A gateway with a model `two`: first `a`, then `b`, both of the provider's dialect.
pub(super) async fn before_two(provider: &str, a: &Upstream, b: &Upstream, more: &str) -> Gateway {
    let (first, second, dialect) = match provider {
        "oai" => (format!("{}/v1", a.url), format!("{}/v1", b.url), "openai-chat"),
        _ => (a.url.clone(), b.url.clone(), "anthropic"),
    };
    let yaml = yaml(&a.url, &a.url, "");
    let two = format!(
        "  a: {{ dialect: {dialect}, base_url: \"{first}\", api_key: up-canary-a }}\n  \
         b: {{ dialect: {dialect}, base_url: \"{second}\", api_key: up-canary-b }}\n\
         models:\n  two: {{ targets: [{{ provider: a, model: m }}, {{ provider: b, model: m }}] }}\n{more}"
    );
    Gateway::new(&(yaml + &two)).await
}

/// A streaming request in a dialect.
pub(super) fn ask(gateway: &Gateway, dialect: &str, model: &str) -> reqwest::RequestBuilder {
    if dialect == "anthropic" { gateway.messages(model) } else { gateway.chat(model) }
}

pub(super) fn path(dialect: &str) -> &'static str {
    if dialect == "anthropic" { "/v1/messages" } else { "/v1/chat/completions" }
}

/// A request body that suits both dialects.
pub(super) fn body(model: &str, stream: bool) -> String {
    format!(
        r#"{{"model":"{model}","stream":{stream},"max_tokens":100,"messages":[{{"role":"user","content":"hi"}}]}}"#
    )
}

/// Reads a response until it says something.
pub(crate) async fn read_until(response: &mut reqwest::Response, what: &str) -> Vec<u8> {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(what) {
        let chunk = timeout(PATIENCE, response.chunk()).await;
        match chunk.unwrap_or_else(|_| panic!("no {what:?} in time")).unwrap() {
            Some(bytes) => seen.extend_from_slice(&bytes),
            None => panic!("ended without {what:?}: {}", String::from_utf8_lossy(&seen)),
        }
    }
    seen
}

/// Sends a request and reads all of a 200.
pub(super) async fn whole(request: reqwest::RequestBuilder) -> String {
    let response = timeout(PATIENCE, request.send()).await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    timeout(PATIENCE, response.text()).await.expect("the end of the stream").unwrap()
}

/// Reads a stream strictly; heartbeats were looked at elsewhere.
pub(super) fn strictly(dialect: &str, text: &str) -> View {
    let read = (reader(dialect).stream)(text.replace(heartbeat(dialect), "").as_bytes(), false);
    read.unwrap_or_else(|wrong| panic!("{dialect}: {wrong} in {text}"))
}

/// The message of a stream that ended with an error; there must be no terminator.
pub(super) fn error_of(dialect: &str, text: &str) -> String {
    assert!(!text.contains("[DONE]") && !text.contains("message_stop"), "{text}");
    match strictly(dialect, text).ended {
        crate::support::Ended::Error(message) => message,
        other => panic!("{dialect}: {other:?} in {text}"),
    }
}

/// A caller that is nothing but a socket.
pub(crate) struct Raw(pub(super) TcpStream);

impl Raw {
    /// Sends a request, and more bytes right behind it.
    pub(crate) async fn ask(gateway: &Gateway, dialect: &str, body: &str, behind: &str) -> Self {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            path(dialect),
            body.len()
        );
        stream.write_all(format!("{head}{body}{behind}").as_bytes()).await.unwrap();
        Self(stream)
    }

    /// Reads until the bytes so far contain something.
    pub(super) async fn until(&mut self, what: &str) -> String {
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains(what) {
            let read = timeout(PATIENCE, self.0.read_buf(&mut seen)).await;
            let read = read.unwrap_or_else(|_| panic!("no {what:?}")).unwrap();
            assert!(read > 0, "ended without {what:?}: {}", String::from_utf8_lossy(&seen));
        }
        String::from_utf8_lossy(&seen).into_owned()
    }
}

/// Waits until something holds; panics after 20 s.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let since = Instant::now();
    let mut look = tokio::time::interval(Duration::from_millis(2));
    while !holds() {
        assert!(since.elapsed() < PATIENCE, "not in 20 s: {what}");
        look.tick().await;
    }
}

/// A metric that counts.
pub(crate) fn count(gateway: &Gateway, metric: &str) -> String {
    // The sum of nothing is -0.
    (gateway.metric(metric) + 0.0).to_string()
}

/// Waits until no request is under way, so that all records are written.
pub(crate) async fn settled(gateway: &Gateway) {
    until("no request under way", || count(gateway, "streamgate_open_requests{") == "0").await;
}

/// The only record so far, once its request has ended.
pub(crate) async fn record(gateway: &Gateway, log: &Log) -> Value {
    settled(gateway).await;
    let records = log.records();
    assert_eq!(records.len(), 1, "{}", log.text());
    records[0].clone()
}
