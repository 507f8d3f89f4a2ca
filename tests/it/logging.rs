//! The program's log: its lines, and readers of it that pause, leave, or have no room.

use std::fs::OpenOptions;
use std::process::Stdio;

use crate::support::answers::{request, streamed};
use crate::support::gateway::{KEY, yaml};
use crate::support::process::{File, Process, program};
use crate::support::upstream::Upstream;

const LISTEN: &str = "server: { listen: \"127.0.0.1:0\" }\n";

/// A client of the running program.
struct Client {
    http: reqwest::Client,
    url: String,
}

impl Client {
    fn new(url: String) -> Self {
        Self { http: reqwest::Client::builder().no_proxy().build().unwrap(), url }
    }

    async fn chat(&self, key: &str) -> (u16, String) {
        let post = self.http.post(format!("{}/v1/chat/completions", self.url)).bearer_auth(key);
        let post = post.header("content-type", "application/json").header("user-agent", "probe/1");
        let response = post.body(request("oai/m", true, "hi")).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    async fn get(&self, path: &str) -> String {
        let response = self.http.get(format!("{}{path}", self.url)).send().await.unwrap();
        response.text().await.unwrap()
    }

    async fn lines_lost(&self) -> u64 {
        let metrics = self.get("/metrics").await;
        let value =
            metrics.lines().find_map(|it| it.strip_prefix("streamgate_log_lines_lost_total "));
        value.unwrap().parse().unwrap()
    }
}

async fn start(stderr: impl Into<Stdio>, arguments: &[&str]) -> (Process, Client, Upstream, File) {
    let upstream = Upstream::new(streamed("openai-chat", "hello")).await;
    let file = File::new(&yaml(&upstream.url, &upstream.url, LISTEN));
    let command = program(&[&["--config", file.path()], arguments].concat());
    let mut process = Process::logging_to(stderr, command);
    let client = Client::new(process.url().await);
    (process, client, upstream, file)
}

/// Requests, a reload and the end of the process all go on as if there were a log.
async fn is_unharmed(process: Process, client: &Client) {
    for _ in 0..10 {
        let (status, text) = client.chat(KEY).await;
        assert_eq!(status, 200);
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
        assert_eq!(client.chat("wrong").await.0, 401);
    }
    process.signal("HUP");
    assert_eq!(client.chat(KEY).await.0, 200);
    assert_eq!(client.get("/healthz").await, "ok\n");
    process.signal("TERM");
    assert_eq!(process.ended().await, Some(0));
}

#[tokio::test]
async fn a_closed_standard_error_delays_no_request() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let (process, client, ..) = start(writer, &[]).await;
    while client.lines_lost().await == 0 {
        assert_eq!(client.chat(KEY).await.0, 200);
    }
    is_unharmed(process, &client).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_delays_no_request() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (process, client, ..) = start(full, &[]).await;
    while client.lines_lost().await == 0 {
        assert_eq!(client.chat(KEY).await.0, 200);
    }
    is_unharmed(process, &client).await;
}

#[tokio::test]
async fn a_paused_reader_of_the_log_delays_no_request() {
    let (reader, writer) = std::io::pipe().unwrap();
    let (process, client, ..) = start(writer, &["--log", "json"]).await;
    // More than a pipe holds.
    for _ in 0..300 {
        assert_eq!(client.chat(KEY).await.0, 200);
    }
    is_unharmed(process, &client).await;
    drop(reader);
}

/// The text form: the start with what was started, and a line for each request.
#[tokio::test]
async fn the_text_form_has_a_short_line_per_request() {
    let (mut process, client, ..) = start(Stdio::piped(), &[]).await;
    let log = process.log("started").await;
    let version = format!("started version={} listen=127.0.0.1:", env!("CARGO_PKG_VERSION"));
    assert!(log.contains(&version), "{log}");
    for word in
        [" tls=false ", " config_digest=", " providers=", " models=", " keys=", " issuers=0"]
    {
        assert!(log.contains(word), "{word} in {log}");
    }
    client.chat(KEY).await;
    let log = process.log("outcome=complete").await;
    let line = log.lines().find(|line| line.contains("outcome=complete")).unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words[1..5], ["INFO", "200", "POST", "/v1/chat/completions"], "{line}");
    let names: Vec<_> = words[5..].iter().map(|word| word.split_once('=').unwrap().0).collect();
    let expected = [
        "request_id",
        "caller",
        "client",
        "model",
        "target",
        "outcome",
        "attempts",
        "duration_ms",
        "ttft_ms",
        "input_tokens",
        "output_tokens",
        "estimated",
    ];
    assert_eq!(names, expected, "{line}");
    for word in ["client=127.0.0.1", "model=oai/m", "target=oai/m", "attempts=1"] {
        assert!(words.contains(&word), "{word} in {line}");
    }
    client.chat("wrong").await;
    let log = process.log("outcome=rejected").await;
    let line = log.lines().find(|line| line.contains("outcome=rejected")).unwrap();
    assert!(line.contains(" INFO 401 POST /v1/chat/completions request_id="), "{line}");
    for absent in ["caller", "model", "target", "tokens", "estimated"] {
        assert!(!line.contains(&format!(" {absent}")), "{absent} in {line}");
    }
    process.signal("TERM");
    let log = process.ended_with_log().await;
    assert!(log.lines().last().unwrap().ends_with("INFO stopped"), "{log}");
}

/// The JSON form has everything, and every line of it is an object.
#[tokio::test]
async fn the_json_form_has_every_member() {
    let (mut process, client, _upstream, file) = start(Stdio::piped(), &["--log", "json"]).await;
    client.chat(KEY).await;
    process.log("\"outcome\":\"complete\"").await;
    process.signal("TERM");
    let log = process.ended_with_log().await;
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.last().unwrap()["message"], "stopped");
    let start = lines.iter().find(|line| line["message"] == "started").unwrap();
    assert_eq!(start["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (&start["config"], &start["providers"]),
        (&file.path().into(), &2.into()),
        "{start}"
    );
    for name in ["listen", "config_digest", "models", "keys", "issuers"] {
        assert!(!start[name].is_null(), "{name} in {start}");
    }
    let record = lines.iter().find(|line| line["message"] == "request").unwrap();
    assert_eq!((&record["status"], &record["stream"]), (&200.into(), &true.into()));
    for (name, value) in [
        ("method", "POST"),
        ("path", "/v1/chat/completions"),
        ("client", "127.0.0.1"),
        ("user_agent", "probe/1"),
        ("dialect", "openai-chat"),
        ("model", "oai/m"),
        ("target", "oai/m"),
    ] {
        assert_eq!(record[name], value, "{record}");
    }
    let duration = record["duration_ms"].to_string();
    let digits = duration.split_once('.').map_or(0, |(_, digits)| digits.len());
    assert!(digits <= 3, "{duration}");
}
