//! The program as it is started: its arguments, exit statuses, signals and reloads.

use std::time::Duration;

use streamgate::config;

use crate::support::answers::{opening, request, streamed};
use crate::support::collector::{section, spans, willing};
use crate::support::gateway::{KEY, hex, yaml};
use crate::support::process::{File, Process, program, run, run_elsewhere};
use crate::support::raw::Raw;
use crate::support::upstream::{Step, Upstream};

const LISTEN: &str = "server: { listen: \"127.0.0.1:0\" }\n";

fn address(url: &str) -> std::net::SocketAddr {
    url.trim_start_matches("http://").parse().unwrap()
}

async fn ask(url: &str, key: &str) -> u16 {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let sent = client
        .post(format!("{url}/v1/chat/completions"))
        .bearer_auth(key)
        .header("content-type", "application/json")
        .body(request("oai/m", true, "prompt-canary"));
    let response = sent.send().await.unwrap();
    let status = response.status().as_u16();
    response.text().await.unwrap();
    status
}

#[test]
fn check_reports_all_problems_and_exits_with_2() {
    let file = File::new(
        "server: { listne: x, body_limit: 7parsecs }\nproviders: { a: { dialect: klingon } }\n",
    );
    let (status, out, err) = run(&["check", "--config", file.path()]);
    assert_eq!(status, Some(2));
    assert!(out.is_empty(), "{out}");
    for words in ["listne", "7parsecs", "klingon", file.path()] {
        assert!(err.contains(words), "{words} is not in {err}");
    }
    let (status, _, err) = run(&["--config", file.path()]);
    assert_eq!(status, Some(2), "{err}");
    let (status, _, err) = run(&["check", "--config", "/nowhere/at/all.yaml"]);
    assert_eq!(status, Some(2));
    assert!(err.contains("/nowhere/at/all.yaml"), "{err}");
    let (status, _, err) = run_elsewhere(&["check"]);
    assert_eq!(status, Some(2));
    assert!(err.contains("--config"), "{err}");
}

#[test]
fn check_reports_ok() {
    let file = File::new(&yaml("http://127.0.0.1:1", "http://127.0.0.1:1", LISTEN));
    let (status, out, err) = run(&["check", "--config", file.path()]);
    assert_eq!(status, Some(0), "{err}");
    assert!(out.contains("ok") && out.contains("2 providers"), "{out}");
}

#[test]
fn a_new_key_works_as_configuration() {
    let (status, out, _) = run(&["key", "new", "--name", "web"]);
    assert_eq!(status, Some(0));
    let lines: Vec<&str> = out.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let (key, line) = (lines[1], lines[3]);
    let text = format!(
        "auth:\n  keys:\n    {line}\nproviders:\n  a: {{ dialect: openai-chat, base_url: \"http://127.0.0.1:1/v1\" }}\n"
    );
    let loaded = crate::support::gateway::configuration(&text);
    assert_eq!(loaded.auth.keys[0].digest, config::digest(key));
    assert_eq!(loaded.auth.keys[0].name, "web");
    assert_ne!(run(&["key", "new", "--name", "web"]).1, out, "each key is new");
    let (status, out, err) = run(&["key", "new", "--name", "a b"]);
    assert_eq!(status, Some(2));
    assert!(out.is_empty() && err.contains("--name"), "{err}");
}

#[test]
fn schema_prints_the_files_of_the_repository() {
    for (options, file) in [
        (&["schema"][..], "streamgate.schema.json"),
        (&["schema", "--prompt"], "streamgate-prompt.schema.json"),
        (&["schema", "--markdown"], "docs/configuration.md"),
    ] {
        let committed =
            std::fs::read_to_string(format!("{}/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert_eq!(run(options), (Some(0), committed, String::new()), "{options:?}");
    }
    assert_eq!(run(&["schema", "--prompt", "--markdown"]).0, Some(2));
}

#[test]
fn help_and_mistakes() {
    let (status, out, _) = run(&["--help"]);
    assert_eq!(status, Some(0));
    for words in
        ["--config", "check", "schema", "sim", "key", "STREAMGATE_CONFIG", "127.0.0.1:8080"]
    {
        assert!(out.contains(words), "{words} is not in {out}");
    }
    let (status, _, err) = run(&["--cofnig", "x"]);
    assert_eq!(status, Some(2));
    assert!(err.contains("--config"), "{err}");
}

/// Whether the default port is free here or not: either everything is said that a first run needs,
/// or only what is in the way and what to do.
#[tokio::test]
async fn a_first_run_prints_key_and_address() {
    // If it is free, it is taken by us.
    let _taken = tokio::net::TcpListener::bind("127.0.0.1:8080").await;
    let (status, out, err) = tokio::task::spawn_blocking(|| run_elsewhere(&[])).await.unwrap();
    assert_eq!(status, Some(1), "{err}");
    assert!(out.is_empty(), "nothing that is not so: {out}");
    for words in ["127.0.0.1:8080", "in use", "--config", "server"] {
        assert!(err.contains(words), "{words} is not in {err}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_reported_with_its_remedy() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = taken.local_addr().unwrap();
    let more = format!("server: {{ listen: \"{listen}\" }}\n");
    let file = File::new(&yaml("http://127.0.0.1:1", "http://127.0.0.1:1", &more));
    let (status, out, err) = run(&["--config", file.path()]);
    assert_eq!(status, Some(1));
    assert!(out.is_empty(), "{out}");
    assert!(err.contains(&listen.to_string()) && err.contains("server.listen"), "{err}");
    let (status, out, err) = run(&["sim", "--listen", &listen.to_string()]);
    assert_eq!((status, out.as_str()), (Some(1), ""));
    assert!(err.contains(&listen.to_string()) && err.contains("--listen"), "{err}");
}

#[tokio::test]
async fn sigterm_and_sigint_end_it_with_success() {
    for name in ["TERM", "INT"] {
        let file = File::new(&yaml("http://127.0.0.1:1", "http://127.0.0.1:1", LISTEN));
        let (process, url) = Process::gateway(&file, "info").await;
        let ready = reqwest::get(format!("{url}/readyz")).await.unwrap();
        assert_eq!(ready.status(), 200);
        process.signal(name);
        assert_eq!(process.ended().await, Some(0), "{name}");
    }
    let mut sim = Process::start(program(&["sim", "--listen", "127.0.0.1:0"]));
    sim.out("http://").await;
    sim.signal("TERM");
    assert_eq!(sim.ended().await, Some(0));
}

#[tokio::test]
async fn a_reload_by_signal_or_by_file() {
    let held = vec![Step::Sse, Step::chunk(&opening("openai-chat", "hi")), Step::Hang];
    let upstream = Upstream::scripted(vec![held, streamed("openai-chat", "hi")]).await;
    let first = yaml(&upstream.url, &upstream.url, LISTEN);
    let digest = hex(&config::digest(KEY));
    let other = hex(&config::digest("sg-other"));
    let second = first.replace(&digest, &other);
    let file = File::new(&first);
    let (mut process, url) = Process::gateway(&file, "info").await;

    let mut under_way = Raw::new(address(&url)).await;
    under_way.post("/v1/chat/completions", "", &request("oai/m", true, "hi")).await;
    // The whole of it: what is left of a part would pass for something new.
    under_way.until("}]}\n\n\r\n").await;
    assert_eq!((ask(&url, KEY).await, ask(&url, "sg-other").await), (200, 401));

    // By file.
    file.write(&second);
    process.log("configuration reloaded").await;
    assert_eq!((ask(&url, KEY).await, ask(&url, "sg-other").await), (401, 200));

    // A broken one.
    file.write(&second.replace("openai-chat", "klingon"));
    let log = process.log("stays in force").await;
    assert!(log.contains("klingon"), "it says why: {log}");
    assert_eq!(ask(&url, "sg-other").await, 200);

    // By signal: the mark must be a new one.
    process.signal("HUP");
    let twice = async {
        while process.logged().matches("stays in force").count() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), twice).await.expect("SIGHUP reloads");

    // The stream under way has not noticed.
    upstream.until("the first stream is open", |_, open| open >= 1).await;
    assert!(under_way.stream.try_read(&mut [0; 8]).is_err(), "neither closed nor written to");
}

/// A file that does not answer is waited for no longer than it is named.
#[tokio::test]
async fn a_hanging_reload_restarts_when_the_configuration_changes() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let first = yaml(&upstream.url, &upstream.url, LISTEN);
    let other = hex(&config::digest("sg-other"));
    let file = File::new(&first);
    let (mut process, url) = Process::gateway(&file, "info").await;
    let pipe = format!("{}.pipe", file.path());
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let hung = format!(
        "providers:\n  hung: {{ dialect: openai-chat, base_url: \"http://127.0.0.1:9\", api_key: \"${{file:{pipe}}}\" }}\n"
    );
    file.write(&first.replace("providers:\n", &hung));
    while !process.threads().iter().any(|name| name == "config-file") {
        tokio::task::yield_now().await;
    }
    file.write(&first.replace(&hex(&config::digest(KEY)), &other));
    let log = process.log("configuration reloaded").await;
    assert!(!log.contains("is wrong"), "{log}");
    assert_eq!(ask(&url, "sg-other").await, 200);
    std::fs::remove_file(pipe).unwrap();
}

/// The whole program at debug level, with the logs of its libraries.
#[tokio::test]
async fn fm63_fm64_the_program_logs_no_secret_at_debug_level() {
    let upstream = Upstream::scripted(vec![
        streamed("openai-chat", "answer-canary"),
        vec![Step::Whole(500, "content-type: application/json\r\n", b"{\"error\":{}}".to_vec())],
        vec![Step::Reset],
        vec![Step::Sse, Step::chunk(&opening("openai-chat", "answer-canary")), Step::Reset],
        vec![Step::Raw(b"HTTP/1.1 307 X\r\nlocation: http://127.0.0.1:1/?key=query-canary\r\ncontent-length: 0\r\n\r\n".to_vec())],
    ])
    .await;
    let text = yaml(&upstream.url, "http://127.0.0.1:1", LISTEN)
        .replace("api_key: up", "query: { key: query-canary }, api_key: up");
    let file = File::new(&text);
    let (process, url) = Process::gateway(&file, "debug").await;
    for _ in 0..6 {
        ask(&url, KEY).await;
    }
    assert_eq!(ask(&url, "wrong-canary").await, 401);
    process.signal("TERM");
    let logged = process.ended_with_log().await;
    assert!(logged.contains("attempt failed"), "{logged}");
    for canary in [KEY, "canary"] {
        let line = logged.lines().find(|line| line.contains(canary));
        assert!(line.is_none(), "{canary}: {line:?}");
    }
}

#[tokio::test]
async fn fm51_aborted_streams_leave_no_file_descriptor_open() {
    let held = vec![Step::Sse, Step::chunk(&opening("openai-chat", "hi")), Step::Hang];
    let upstream = Upstream::new(held).await;
    let file = File::new(&yaml(&upstream.url, &upstream.url, LISTEN));
    let (process, url) = Process::gateway(&file, "info").await;
    let round = async || {
        let mut callers = Vec::new();
        for _ in 0..50 {
            let mut raw = Raw::new(address(&url)).await;
            raw.post("/v1/chat/completions", "", &request("oai/m", true, "hi")).await;
            callers.push(raw);
        }
        for raw in &mut callers {
            raw.until("\"hi\"").await;
        }
        let open = process.descriptors().len();
        drop(callers);
        upstream.all_closed().await;
        open
    };
    for _ in 0..4 {
        assert!(round().await >= 100, "both sides of 50 streams");
    }
    // Neither side of any stream is left; what else there is was opened once.
    let settled = async {
        while process.descriptors().len() > 40 {
            tokio::task::yield_now().await;
        }
    };
    let settled = tokio::time::timeout(Duration::from_secs(5), settled).await;
    assert!(settled.is_ok(), "still open: {:#?}", process.descriptors());
}

/// The last spans are sent before the process ends, and another collector waits for the next start.
#[tokio::test]
async fn the_last_spans_are_sent_before_the_end() {
    let upstream = Upstream::new(streamed("openai-chat", "answer-canary")).await;
    let collector = willing().await;
    let traced = yaml(&upstream.url, &upstream.url, LISTEN) + &section(&collector.url, "");
    let file = File::new(&traced);
    let (mut process, url) = Process::gateway(&file, "info").await;
    assert_eq!(ask(&url, KEY).await, 200);
    file.write(&traced.replace(&collector.url, "http://127.0.0.1:1"));
    process.signal("HUP");
    let log = process.log("takes effect at the next start").await;
    assert!(log.contains("setting=telemetry"), "{log}");
    assert_eq!(ask(&url, KEY).await, 200);
    process.signal("TERM");
    assert_eq!(process.ended().await, Some(0));
    let spans = spans(&collector).await;
    assert_eq!(spans.len(), 4, "{spans:?}");
    assert!(spans.iter().all(|span| span.resource["service.name"] == "streamgate"));
    for export in collector.requests().await {
        assert!(!String::from_utf8_lossy(&export.body).contains("canary"));
    }
}
