//! Tests of the simulated upstream over real sockets, and of its programs as a table.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::program::{Content, Fault, FaultAction, Program, ProgramError, Replacement};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

/// A running upstream on its own port. It stops when the value is dropped.
struct Upstream {
    base: String,
    http: reqwest::Client,
    _served: JoinSet<()>,
}

/// A streamed answer as received by a caller.
struct Seen {
    text: String,
    /// The connection broke before the end of the body.
    broken: bool,
}

impl Upstream {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let mut served = JoinSet::new();
        served.spawn(super::serve(listener, std::future::pending()));
        Self { base, http: reqwest::Client::builder().build().unwrap(), _served: served }
    }

    async fn post(&self, path: &str, body: &Value) -> reqwest::Response {
        let url = format!("{}{path}", self.base);
        self.http.post(url).body(body.to_string()).send().await.unwrap()
    }

    /// Streams `model` to the end.
    async fn read(&self, path: &str, model: &str) -> Seen {
        let response = self.post(path, &ask(model)).await;
        assert_eq!(response.status(), 200, "{model}");
        read(response).await
    }

    async fn refusal(&self, path: &str, body: &Value) -> (u16, Value) {
        let response = self.post(path, body).await;
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
    }

    async fn stats(&self) -> Value {
        let response = self.http.get(format!("{}/_sim/stats", self.base)).send().await.unwrap();
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
    }

    /// Polls the counters until `name` is `wanted`.
    async fn until(&self, name: &str, wanted: u64) {
        let asked = async { while self.stats().await[name] != wanted {} };
        tokio::time::timeout(Duration::from_secs(10), asked).await.expect(name);
    }
}

async fn read(mut response: reqwest::Response) -> Seen {
    let mut bytes = Vec::new();
    let broken = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    Seen { text: String::from_utf8(bytes).unwrap(), broken }
}

fn ask(model: &str) -> Value {
    json!({
        "model": model,
        "stream": true,
        "max_tokens": 100_000,
        "messages": [{"role": "user", "content": "Say something."}],
    })
}

impl Seen {
    /// The data of each event that is JSON.
    fn data(&self) -> Vec<Value> {
        self.text
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .filter_map(|data| serde_json::from_str(data).ok())
            .collect()
    }

    /// The strings at `path` of all events, joined.
    fn joined(&self, path: &str) -> String {
        self.data().iter().filter_map(|data| data.pointer(path)?.as_str()).collect()
    }

    fn types(&self) -> Vec<String> {
        let mut types: Vec<String> = Vec::new();
        for data in self.data() {
            types.push(data["type"].as_str().unwrap().to_owned());
        }
        types.dedup();
        types
    }
}

const CONTENT: &str = "/choices/0/delta/content";
const TEXT: &str = "/delta/text";

fn tokens(count: u64) -> String {
    (0..count).flat_map(|i| [format!("t{i}"), " ".to_owned()]).collect()
}

#[test]
fn programs_parse() {
    let parse = |name| Program::parse(name).unwrap();
    assert_eq!(parse("n200").tokens(), 200);
    assert_eq!(parse("i5000").tokens(), 20);
    assert_eq!(parse("i5000").interval, Duration::from_millis(5));
    assert_eq!(parse("f20").first, Duration::from_millis(20));
    assert_eq!(parse("h2000").head, Duration::from_secs(2));
    assert_eq!(parse("n8-b4-z64").batch, 4);
    assert_eq!(parse("n8-b4-z64").padding, 64);
    assert_eq!(parse("stall50").tokens(), 50);
    assert_eq!(parse("sim-n3").tokens(), 3);
    assert_eq!(parse("tools2-n5").says, Content::Calls(2));
    assert_eq!(parse("refuse").says, Content::Refusal);
    assert_eq!(parse("think10").think, 10);
    assert_eq!(parse("hang").instead, Some(Replacement::Hang));
    assert_eq!(parse("e429").instead, Some(Replacement::Status(429)));
    assert_eq!(parse("nodone").fault, Some(Fault::NoDone));
    for (name, blow) in [
        ("reset7", FaultAction::Reset),
        ("close7", FaultAction::Close),
        ("stall7", FaultAction::Stall),
        ("err7", FaultAction::Error),
        ("junk7", FaultAction::Junk),
    ] {
        assert_eq!(parse(name).fault, Some(Fault::After(7, blow)), "{name}");
    }
    let framing = parse("crlf-comment-split").framing;
    assert!(framing.crlf && framing.comment && framing.split);
    for name in ["sim", "sim-anthropic", "simple", "sim-"] {
        assert_eq!(parse(name).says, Content::Prose, "{name}");
    }
}

#[test]
fn other_names_are_no_programs() {
    for name in [
        "",
        "-",
        "gpt-4o",
        "n",
        "n-5",
        "n5x",
        "n5-",
        "n5-wat",
        "sim-n5-wat",
        "e200",
        "e600",
        "b0",
        "b101",
        "z9999",
        "n1000001",
        "n99999999999",
        "tools0",
        "hang5",
        "reset",
        "n٣",
        "é5",
        "5",
    ] {
        assert_eq!(Program::parse(name), Err(ProgramError), "{name}");
    }
}

#[tokio::test]
async fn openai_stream_is_whole() {
    let upstream = Upstream::start().await;
    let mut body = ask("n50-i100-b4");
    body["stream_options"] = json!({"include_usage": true});
    let response = upstream.post(CHAT, &body).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
    let seen = read(response).await;
    let data = seen.data();
    assert_eq!(data[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(data[0]["usage"], Value::Null);
    assert_eq!(seen.joined(CONTENT), tokens(50));
    assert_eq!(data[data.len() - 2]["choices"][0]["finish_reason"], "stop");
    let last = data.last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], 50);
    assert!(seen.text.ends_with("data: [DONE]\n\n") && !seen.broken);

    let plain = upstream.read("/chat/completions", "n2").await;
    assert!(!plain.text.contains("usage"));
    assert_eq!(upstream.stats().await["tokens_sent"], 52);
}

#[tokio::test]
async fn anthropic_stream_is_whole() {
    let upstream = Upstream::start().await;
    let seen = upstream.read(MESSAGES, "n50-think10").await;
    assert_eq!(
        seen.types(),
        [
            "message_start",
            "content_block_start",
            "ping",
            "content_block_delta",
            "content_block_stop",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
    );
    assert_eq!(seen.joined(TEXT), tokens(50));
    assert_eq!(seen.joined("/delta/thinking"), "r0 r1 r2 r3 r4 r5 r6 r7 r8 r9 ");
    assert!(!seen.joined("/delta/signature").is_empty());
    let data = seen.data();
    let end = &data[data.len() - 2];
    assert_eq!(end["delta"]["stop_reason"], "end_turn");
    assert_eq!(end["usage"]["output_tokens"], 60);
    assert!(seen.text.starts_with("event: message_start\ndata: {"));
}

#[tokio::test]
async fn tools_are_called_and_then_answered() {
    let upstream = Upstream::start().await;
    let arguments = r#"{"call":0,"note":"simulated"}{"call":1,"note":"simulated"}"#;
    let mut body = ask("tools2");
    body["tools"] = json!([{"type": "function", "function": {"name": "weather"}}]);
    let seen = read(upstream.post(CHAT, &body).await).await;
    let call = "/choices/0/delta/tool_calls/0/function";
    assert_eq!(seen.joined(&format!("{call}/arguments")), arguments);
    assert_eq!(seen.joined(&format!("{call}/name")), "weatherweather");
    assert_eq!(seen.joined("/choices/0/finish_reason"), "tool_calls");
    body["messages"] = json!([{"role": "tool", "tool_call_id": "call_sim1_0", "content": "sun"}]);
    assert_eq!(read(upstream.post(CHAT, &body).await).await.joined(CONTENT), tokens(20));

    let mut body = ask("tools2");
    body["tools"] = json!([{"name": "a"}, {"name": "b"}]);
    let seen = read(upstream.post(MESSAGES, &body).await).await;
    assert_eq!(seen.joined("/delta/partial_json"), arguments);
    assert_eq!(seen.joined("/content_block/name"), "ab");
    assert_eq!(seen.joined("/delta/stop_reason"), "tool_use");
    body["messages"] = json!([{"role": "user", "content": [{"type": "tool_result"}]}]);
    assert_eq!(read(upstream.post(MESSAGES, &body).await).await.joined(TEXT), tokens(20));
}

#[tokio::test]
async fn answers_stop_early() {
    let upstream = Upstream::start().await;
    let mut body = ask("n50");
    body["max_tokens"] = json!(5);
    body["n"] = json!(2);
    let seen = read(upstream.post(CHAT, &body).await).await;
    assert_eq!(seen.joined(CONTENT), "t0 t0 t1 t1 t2 t2 t3 t3 t4 t4 ");
    assert_eq!(seen.joined("/choices/0/finish_reason"), "lengthlength");
    let seen = upstream.read(MESSAGES, "n5-length").await;
    assert_eq!(seen.joined("/delta/stop_reason"), "max_tokens");
    let seen = upstream.read(MESSAGES, "refuse").await;
    assert_eq!(seen.types(), ["message_start", "ping", "message_delta", "message_stop"]);
    assert_eq!(seen.joined("/delta/stop_reason"), "refusal");
    let seen = upstream.read(CHAT, "refuse").await;
    assert!(seen.joined("/choices/0/delta/refusal").starts_with("I am a simulated"));
}

#[tokio::test]
async fn answers_come_whole_when_not_streamed() {
    let upstream = Upstream::start().await;
    let mut body = ask("n3-think1");
    body["stream"] = json!(false);
    let (status, chat) = upstream.refusal(CHAT, &body).await;
    assert_eq!((status, &chat["object"]), (200, &json!("chat.completion")));
    assert_eq!(chat["choices"][0]["message"]["content"], "t0 t1 t2 ");
    assert_eq!(chat["choices"][0]["message"]["reasoning_content"], "r0 ");
    assert_eq!(chat["usage"]["completion_tokens"], 4);
    let (_, message) = upstream.refusal(MESSAGES, &body).await;
    assert_eq!(message["content"][1], json!({"type": "text", "text": "t0 t1 t2 "}));
    body["model"] = json!("tools1");
    let (_, message) = upstream.refusal(MESSAGES, &body).await;
    assert_eq!(message["content"][0]["input"], json!({"call": 0, "note": "simulated"}));
    body["model"] = json!("reset5");
    assert!(read(upstream.post(CHAT, &body).await).await.broken);
    body["model"] = json!("n1000000-z4096");
    assert_eq!(upstream.refusal(CHAT, &body).await.0, 400);
}

#[tokio::test]
async fn faults_strike_after_their_token() {
    let upstream = Upstream::start().await;
    for (path, text, failure, end) in [
        (CHAT, CONTENT, r#""server_error""#, "[DONE]"),
        (MESSAGES, TEXT, r#""overloaded_error""#, "message_stop"),
    ] {
        let seen = upstream.read(path, "n100-reset50").await;
        assert_eq!(seen.joined(text), tokens(50), "reset");
        assert!(seen.broken && !seen.text.contains(end));
        let seen = upstream.read(path, "close50-b7").await;
        assert_eq!(seen.joined(text), tokens(50), "close");
        assert!(!seen.broken && !seen.text.contains(end));
        let seen = upstream.read(path, "n10-close50").await;
        assert_eq!(seen.joined(text), tokens(10), "close before the end");
        assert!(!seen.text.contains(end));
        let seen = upstream.read(path, "n100-err50").await;
        assert_eq!(seen.joined(text), tokens(50), "err");
        assert!(seen.text.contains(failure));
        let seen = upstream.read(path, "n100-junk50").await;
        assert_eq!(seen.joined(text), tokens(100), "junk");
        let lines = seen.text.lines().filter(|line| line.starts_with("data: {"));
        assert_eq!(lines.filter(|line| !line.ends_with('}')).count(), 1);
        let seen = upstream.read(path, "n5-nodone").await;
        assert_eq!(seen.joined(text), tokens(5), "nodone");
        assert!(!seen.text.contains(end));
    }
    upstream.until("open_streams", 0).await;
    assert_eq!(upstream.stats().await["cancelled_streams"], 0);
}

#[tokio::test]
async fn framing_changes_nothing_else() {
    let upstream = Upstream::start().await;
    let seen = upstream.read(CHAT, "n5-crlf-comment-split-z3").await;
    assert_eq!(seen.joined(CONTENT), "t0xxx t1xxx t2xxx t3xxx t4xxx ");
    assert!(seen.text.starts_with(": simulated\r\n\r\ndata: {"));
    assert_eq!(seen.text.matches('\n').count(), seen.text.matches("\r\n").count());
}

#[tokio::test]
async fn a_cancel_is_seen() {
    let upstream = Upstream::start().await;
    for (cancelled, model) in [(1, "n5-stall5"), (2, "n100000-i10000")] {
        let mut response = upstream.post(CHAT, &ask(model)).await;
        response.chunk().await.unwrap().unwrap();
        upstream.until("open_streams", 1).await;
        drop(response);
        upstream.until("open_streams", 0).await;
        upstream.until("cancelled_streams", cancelled).await;
    }
    let body = ask("hang");
    let waiting = upstream.post(CHAT, &body);
    let seen = upstream.until("open_streams", 1);
    tokio::select! {
        _ = waiting => panic!("a head came"),
        () = seen => {}
    }
    upstream.until("cancelled_streams", 3).await;
}

#[tokio::test]
async fn refusals_are_the_vendors() {
    let upstream = Upstream::start().await;
    let response = upstream.post(CHAT, &ask("e429")).await;
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["retry-after"], "1");
    assert!(response.headers().contains_key("x-request-id"));
    let (status, body) = upstream.refusal(MESSAGES, &ask("e529")).await;
    assert_eq!((status, &body["error"]["type"]), (529, &json!("overloaded_error")));
    let (status, body) = upstream.refusal(CHAT, &ask("gpt-4o")).await;
    assert_eq!((status, &body["error"]["code"]), (404, &json!("model_not_found")));
    assert!(body["error"]["message"].as_str().unwrap().contains("stall<after tokens>"));
    for (path, field, value) in [
        (CHAT, "model", Value::Null),
        (CHAT, "messages", json!("hello")),
        (CHAT, "messages", json!([])),
        (CHAT, "n", json!(0)),
        (CHAT, "stream", json!("yes")),
        (MESSAGES, "messages", Value::Null),
        (MESSAGES, "max_tokens", Value::Null),
    ] {
        let mut body = ask("n1");
        body[field] = value;
        let (status, refusal) = upstream.refusal(path, &body).await;
        assert_eq!(status, 400, "{field}");
        assert!(refusal["error"]["message"].as_str().unwrap().contains(field), "{refusal}");
    }
    let (status, _) = upstream.refusal(CHAT, &json!("not an object")).await;
    assert_eq!(status, 400);
}

#[tokio::test(start_paused = true)]
async fn the_rate_holds() {
    let program = Program::parse("n11-i5000-f20").unwrap();
    let vendor: &dyn super::Vendor = &super::anthropic::Anthropic;
    let uri = super::Uri::from_static(MESSAGES);
    let ask = vendor.read(&uri, ask("x").to_string().as_bytes()).unwrap();
    let answer = super::Answer::new(&program, &ask, None);
    let encoder = vendor.encoder(1, &ask);
    let play = super::Play::new(program, encoder, answer);
    let stats = std::sync::Arc::new(super::Stats::default());
    let start = Instant::now();
    let mut body = std::pin::pin!(super::play::body(play, 1, stats.begin(&stats.model("m"))));
    while futures_util::StreamExt::next(&mut body).await.is_some() {}
    assert_eq!(start.elapsed(), Duration::from_millis(70));
    assert_eq!(stats.report()["tokens_sent"], 11);
}

/// Every word for trouble before an answer, at two vendors.
#[tokio::test]
async fn trouble_comes_in_place_of_an_answer() {
    let upstream = Upstream::start().await;
    for path in [CHAT, MESSAGES] {
        for (model, status, retry_after) in [
            ("ra30", 429, Some("30")),
            ("spent", 402, None),
            ("policy", 400, None),
            ("n5-ctx3", 400, None),
            ("n5-ctx1000", 200, None),
            ("e503", 503, Some("1")),
        ] {
            let response = upstream.post(path, &ask(model)).await;
            assert_eq!(response.status(), status, "{model}");
            let wait = response.headers().get("retry-after").cloned();
            assert_eq!(wait.as_ref().map(|wait| wait.to_str().unwrap()), retry_after, "{model}");
        }
        let response = upstream.post(path, &ask("n5-left0")).await;
        assert_eq!(response.headers()["x-ratelimit-remaining-requests"], "0");
        assert_eq!(response.headers()["x-ratelimit-reset-requests"], "20s");
        assert!(!read(response).await.broken);
    }
}

#[tokio::test]
async fn words_that_count_requests_count_those_of_one_name() {
    let upstream = Upstream::start().await;
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(upstream.post(CHAT, &ask("n5-flaky3")).await.status().as_u16());
    }
    assert_eq!(statuses, [503, 503, 503, 200, 200]);
    assert_eq!(upstream.post(CHAT, &ask("n6-flaky1")).await.status(), 503);
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(upstream.post(CHAT, &ask("n100000-i100000-cap4")).await);
    }
    assert!(open.iter().all(|response| response.status() == 200));
    let full = upstream.post(CHAT, &ask("n100000-i100000-cap4")).await;
    assert_eq!((full.status().as_u16(), full.headers().contains_key("retry-after")), (429, false));
}

#[tokio::test]
async fn credentials_may_be_refused() {
    let upstream = Upstream::start().await;
    for (name, value, status) in [
        ("authorization", "Bearer bad-1", 401),
        ("x-api-key", "bad-1", 401),
        ("authorization", "Bearer poor-1", 402),
        ("x-goog-api-key", "poor-1", 402),
        ("authorization", "Bearer good", 200),
    ] {
        let post = upstream.http.post(format!("{}{CHAT}", upstream.base)).header(name, value);
        let response = post.body(ask("n5").to_string()).send().await.unwrap();
        assert_eq!(response.status(), status, "{name}: {value}");
    }
}

/// `thaw` hangs for its time from the first request, and then answers.
#[tokio::test(start_paused = true)]
async fn a_model_that_thaws_hangs_at_first() {
    let stats = std::sync::Arc::new(super::stats::Stats::default());
    let program = Program::parse("n5-thaw20").unwrap();
    let state = stats.model("n5-thaw20");
    let trouble = || super::trouble::trouble(&program, (&state, 1), 1);
    assert_eq!(trouble(), Some(super::trouble::Trouble::Hang));
    tokio::time::advance(Duration::from_secs(19)).await;
    assert_eq!(trouble(), Some(super::trouble::Trouble::Hang));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(trouble(), None);
}
