//! Durable streams, HTTP to HTTP: what viewers put together must equal what the upstream sent, whatever happens to
//! their connections.

mod attaching;
mod compression;
mod ends;
mod exactly_once;
mod following;
mod formats;
mod injection;
mod lifetimes;
mod merging;
mod multiplexed;
pub(crate) mod restart;
mod restart_stored;
mod rights;
mod stored;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Notify;

use crate::support::gateway::{Gateway, KEY, yaml};
use crate::support::upstream::{Step, Upstream};

/// Longer than anything takes; without it, a lost wake-up would hang the suite.
const PATIENCE: Duration = Duration::from_mins(1);

/// One event of a viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Received {
    id: String,
    event: Option<String>,
    data: String,
}

/// Reads blocks of an event stream. Every event must carry its id in its own block.
fn received(body: &str) -> Vec<Received> {
    let mut all = Vec::new();
    let whole = body.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
    for block in whole.split("\n\n").filter(|block| !block.is_empty()) {
        let field = |name: &str| {
            let lines = block.lines().filter_map(|line| line.strip_prefix(name));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let data = field("data: ");
        if data.is_empty() {
            let plain = |line: &str| line.starts_with(':') || line.starts_with("retry: ");
            assert!(block.lines().all(plain), "{block:?}");
            continue;
        }
        let [id] = &field("id: ")[..] else { panic!("no id in {block:?}") };
        let event = field("event: ").first().cloned();
        all.push(Received { id: id.clone(), event, data: data.join("\n") });
    }
    all
}

/// The text of a chat of OpenAI's form.
fn text(events: &[Received]) -> String {
    let content = |event: &Received| {
        let chunk: Value = serde_json::from_str(&event.data).ok()?;
        Some(chunk.pointer("/choices/0/delta/content")?.as_str()?.to_owned())
    };
    events.iter().filter_map(content).collect()
}

/// A chunk with a piece of text; the first one has the role.
fn token(number: usize) -> String {
    let role = if number == 0 { "\"role\":\"assistant\"," } else { "" };
    format!(
        "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{{role}\"content\":\"t{number} \"}},\"finish_reason\":null}}]}}\n\n"
    )
}

/// The chunks that end an answer.
fn terminal() -> String {
    "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"
        .to_owned()
}

/// The texts of so many tokens.
pub(super) fn expected(tokens: usize) -> String {
    (0..tokens).fold(String::new(), |text, number| text + &format!("t{number} "))
}

/// An upstream that sends some tokens, waits at the gate, and sends the others and the end.
pub(super) async fn gated(before: usize, after: usize) -> (Upstream, Arc<Notify>) {
    let gate = Arc::new(Notify::new());
    let chunks = |range: std::ops::Range<usize>| range.map(|number| Step::chunk(&token(number)));
    let mut script = vec![Step::Sse];
    script.extend(chunks(0..before));
    script.push(Step::Gate(Arc::clone(&gate)));
    script.extend(chunks(before..before + after));
    script.extend([Step::chunk(&terminal()), Step::End]);
    (Upstream::new(script).await, gate)
}

/// An upstream that sends so many tokens and the end.
pub(super) async fn whole(tokens: usize) -> Upstream {
    let mut script = vec![Step::Sse];
    script.extend((0..tokens).map(|number| Step::chunk(&token(number))));
    script.extend([Step::chunk(&terminal()), Step::End]);
    Upstream::new(script).await
}

pub(super) async fn gateway(upstream: &Upstream, more: &str) -> Gateway {
    Gateway::new(&yaml(&upstream.url, "http://127.0.0.1:9", more)).await
}

impl Gateway {
    /// A request for a durable stream.
    pub(super) fn durable(&self) -> reqwest::RequestBuilder {
        self.chat("oai/m").header("streamgate-stream", "resumable")
    }

    pub(super) fn get(&self, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.get(format!("{}{path}", self.url));
        request.header("authorization", format!("Bearer {KEY}"))
    }

    fn follow(&self, id: &str, after: &str) -> reqwest::RequestBuilder {
        let request = self.get(&format!("/v1/streams/{id}")).header("accept", "text/event-stream");
        if after.is_empty() { request } else { request.header("last-event-id", after) }
    }
}

/// The stream that a response names.
pub(super) fn stream_id(response: &reqwest::Response) -> String {
    let id = response.headers()["streamgate-stream-id"].to_str().unwrap().to_owned();
    assert_eq!(response.headers()["content-location"], format!("/v1/streams/{id}"));
    id
}

/// The body of a response as JSON.
pub(super) async fn json(response: reqwest::Response) -> Value {
    let body = response.text().await.unwrap();
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

/// Reads a body up to a number of events, or to its end, and hangs up.
async fn read_events(mut response: reqwest::Response, most: usize) -> Vec<Received> {
    let mut body = String::new();
    loop {
        let events = received(&body);
        if events.len() >= most {
            return events.into_iter().take(most).collect();
        }
        match tokio::time::timeout(PATIENCE, response.chunk()).await.expect("bytes").unwrap() {
            Some(chunk) => body.push_str(std::str::from_utf8(&chunk).unwrap()),
            None => return events,
        }
    }
}
