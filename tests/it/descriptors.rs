//! File descriptors: the soft limit is raised, callers get a part of them, and idle connections make room for new
//! ones, so that health checks and streams go on.

use tokio::net::TcpStream;

use crate::support::gateway::{KEY, yaml};
use crate::support::process::{File, Process, program};
use crate::support::raw::{Raw, post};
use crate::support::upstream::{Step, Upstream};
use std::sync::Arc;
use tokio::sync::Notify;

/// Starts the program with a limit of its descriptors.
async fn limited(file: &File, limit: &str) -> (Process, String) {
    let streamgate = program(&["--config", file.path(), "--listen", "127.0.0.1:0"]);
    let mut command = std::process::Command::new("sh");
    command.arg("-c").arg(format!("ulimit {limit} && exec \"$0\" \"$@\""));
    command.arg(streamgate.get_program()).args(streamgate.get_args());
    let mut process = Process::start(command);
    let url = process.url().await;
    (process, url)
}

async fn page(client: &reqwest::Client, url: &str) -> String {
    client.get(format!("{url}/metrics")).send().await.unwrap().text().await.unwrap()
}

fn value(page: &str, name: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("{name} "))).unwrap();
    line.parse().unwrap()
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap()
}

/// 600 connections that ask nothing, at limits that they exceed, beside a stream.
#[tokio::test]
async fn idle_connections_leave_room_for_health_checks_and_streams() {
    let gate = Arc::new(Notify::new());
    let word = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"one\"}}]}\n\n";
    let end = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let script = vec![
        Step::Sse,
        Step::chunk(word),
        Step::Gate(Arc::clone(&gate)),
        Step::chunk(end),
        Step::End,
    ];
    let upstream = Upstream::new(script).await;
    let file = File::new(&yaml(&upstream.url, &upstream.url, ""));
    let (_process, url) = limited(&file, "-n 96").await;
    let address = url.strip_prefix("http://").unwrap().parse().unwrap();
    let body = r#"{"model":"oai/m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let mut stream = Raw::new(address).await;
    assert!(stream.write(post("/v1/chat/completions", "", body)).await);
    stream.until("one").await;
    // Some have asked something before they became idle.
    let mut idle = Vec::new();
    for number in 0..600 {
        let mut raw = Raw { stream: TcpStream::connect(address).await.unwrap(), read: Vec::new() };
        if number % 10 == 0 {
            raw.write(format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx-n: {KEY}\r\n\r\n")).await;
        }
        idle.push(raw);
    }
    let client = client();
    for _ in 0..3 {
        let healthy = client.get(format!("{url}/healthz")).send().await.unwrap();
        assert_eq!(healthy.status(), 200);
    }
    let page = page(&client, &url).await;
    let most = value(&page, "streamgate_max_connections");
    assert!((16.0..=32.0).contains(&most), "{page}");
    assert!(value(&page, "streamgate_open_connections") <= most, "{page}");
    assert!(value(&page, "streamgate_evicted_connections_total") >= 600.0 - 2.0 * most, "{page}");
    // Another stream has a descriptor for its upstream, and the first one was never closed.
    gate.notify_one();
    assert!(stream.until("0\r\n\r\n").await.contains("[DONE]"));
    let mut second = Raw::new(address).await;
    assert!(second.write(post("/v1/chat/completions", "", body)).await);
    second.until("one").await;
}

#[tokio::test]
async fn the_soft_limit_of_file_descriptors_is_raised() {
    let upstream = Upstream::new(vec![Step::Close]).await;
    let file = File::new(&yaml(&upstream.url, &upstream.url, ""));
    let (_process, url) = limited(&file, "-S -n 64").await;
    let page = page(&client(), &url).await;
    let most = value(&page, "process_max_fds");
    assert!(most > 64.0, "{most}");
    let connections = value(&page, "streamgate_max_connections");
    let workers = std::thread::available_parallelism().unwrap().get();
    let own = 32.0 + 8.0 * f64::from(u32::try_from(workers).unwrap());
    let expected = ((most - own) / 3.0).floor().min(50_000.0);
    assert!((connections - expected).abs() < 0.5, "{page}");
}
