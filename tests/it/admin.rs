//! The operators' listener: what it serves, what the callers' listener no longer does, and
//! readiness while the process stops.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::support::answers::{opening, request, streamed};
use crate::support::gateway::{Gateway, KEY, yaml};
use crate::support::process::{File, Process, run};
use crate::support::raw::Raw;
use crate::support::upstream::{Step, Upstream};

/// Both listeners on free ports.
const BOTH: &str =
    "server: { listen: \"127.0.0.1:0\", admin: \"127.0.0.1:0\", shutdown_delay: 1h }\n";

/// The operators' address, as it is printed.
async fn admin_of(process: &mut Process) -> String {
    let out = process.out("operators on ").await;
    let (_, url) = out.split_once("operators on ").unwrap();
    url.trim().to_owned()
}

async fn get(url: &str, path: &str) -> (u16, String) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let response = client.get(format!("{url}{path}")).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

fn address(url: &str) -> SocketAddr {
    url.trim_start_matches("http://").parse().unwrap()
}

#[tokio::test]
async fn metrics_are_on_the_operators_listener_and_not_on_the_public_one() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let file = File::new(&yaml(&upstream.url, &upstream.url, BOTH));
    let (mut process, url) = Process::gateway(&file, "info").await;
    let admin = admin_of(&mut process).await;
    let (status, page) = get(&admin, "/metrics").await;
    assert_eq!(status, 200, "{page}");
    assert!(page.contains("streamgate_limit_used_ratio{") && page.ends_with("# EOF\n"), "{page}");
    for url in [&admin, &url] {
        assert_eq!(get(url, "/healthz").await, (200, "ok\n".to_owned()));
        assert_eq!(get(url, "/readyz").await, (200, "ready\n".to_owned()));
    }
    let (status, refusal) = get(&url, "/metrics").await;
    assert_eq!(status, 404, "{refusal}");
    assert!(refusal.contains("server.admin") && refusal.contains("public_metrics"), "{refusal}");
    assert!(!refusal.contains("streamgate_"), "{refusal}");
    for path in ["/v1/models", "/v1/chat/completions", "/"] {
        let (status, text) = get(&admin, path).await;
        assert_eq!(status, 404, "{path}");
        assert!(text.contains("/metrics"), "{text}");
    }
    let log = process.log("started").await;
    assert!(log.contains(&format!("admin={}", address(&admin))), "{log}");
}

/// Requests that a proxy on the same machine forwards are not local.
#[tokio::test]
async fn a_loopback_listener_alone_serves_metrics_to_direct_callers() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, "")).await;
    assert_eq!(get(&gateway.url, "/metrics").await.0, 200);
    let forwarded = gateway.client.get(format!("{}/metrics", gateway.url));
    let forwarded = forwarded.header("x-forwarded-for", "192.0.2.1").send().await.unwrap();
    assert_eq!(forwarded.status(), 404);
    for (server, status) in [
        ("listen: \"0.0.0.0:8080\"", 404),
        ("listen: \"0.0.0.0:8080\", public_metrics: true", 200),
        ("public_metrics: false", 404),
        ("admin: \"127.0.0.1:9090\"", 404),
        ("admin: \"127.0.0.1:9090\", public_metrics: true", 200),
    ] {
        let more = format!("server: {{ {server} }}\n");
        let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, &more)).await;
        assert_eq!(get(&gateway.url, "/metrics").await.0, status, "{server}");
    }
}

#[tokio::test]
async fn an_operators_port_in_use_is_reported_with_its_remedy() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let admin = taken.local_addr().unwrap();
    let more = format!("server: {{ listen: \"127.0.0.1:0\", admin: \"{admin}\" }}\n");
    let file = File::new(&yaml("http://127.0.0.1:1", "http://127.0.0.1:1", &more));
    let (status, out, err) = run(&["--config", file.path()]);
    assert_eq!((status, out.as_str()), (Some(1), ""));
    assert!(err.contains(&admin.to_string()) && err.contains("server.admin"), "{err}");
}

#[tokio::test]
async fn a_changed_operators_address_waits_for_the_next_start() {
    let text = yaml("http://127.0.0.1:1", "http://127.0.0.1:1", BOTH);
    let file = File::new(&text);
    let (mut process, _) = Process::gateway(&file, "info").await;
    let admin = admin_of(&mut process).await;
    file.write(&text.replace("admin: \"127.0.0.1:0\"", "admin: \"127.0.0.1:1\""));
    let log = process.log("takes effect at the next start").await;
    assert!(log.contains("setting=server.admin"), "{log}");
    assert_eq!(get(&admin, "/healthz").await.0, 200);
}

#[test]
fn an_operators_address_that_others_reach_gets_a_warning() {
    let check = |server: &str| {
        let more = format!("server: {{ {server} }}\n");
        let file = File::new(&yaml("http://127.0.0.1:1", "http://127.0.0.1:1", &more));
        run(&["check", "--config", file.path()])
    };
    let (status, _, err) = check("admin: \"0.0.0.0:9090\"");
    assert_eq!(status, Some(0), "{err}");
    assert!(err.contains("warning: `admin`") && err.contains("admin_networks"), "{err}");
    for server in ["admin: \"127.0.0.1:9090\"", "admin: \"[::1]:9090\""] {
        assert_eq!(check(server).2, "", "{server}");
    }
    assert_eq!(check("admin: \"0.0.0.0:9090\", admin_networks: [10.0.0.0/8]").2, "");
}

/// The two steps: first not ready and still serving, then closed to new connections. A second signal ends
/// the first one, so that the test need not wait.
#[tokio::test]
async fn during_the_shutdown_delay_readiness_fails_and_requests_are_served() {
    let gate = Arc::new(Notify::new());
    let done = Step::chunk("data: [DONE]\n\n");
    let held = vec![
        Step::Sse,
        Step::chunk(&opening("openai-chat", "hi")),
        Step::Gate(Arc::clone(&gate)),
        done,
        Step::End,
    ];
    let upstream = Upstream::scripted(vec![held, streamed("openai-chat", "late")]).await;
    let file = File::new(&yaml(&upstream.url, &upstream.url, BOTH));
    let (mut process, url) = Process::gateway(&file, "info").await;
    let admin = admin_of(&mut process).await;
    let mut stream = Raw::new(address(&url)).await;
    stream.post("/v1/chat/completions", "", &request("oai/m", true, "hi")).await;
    stream.until("\"hi\"").await;

    process.signal("TERM");
    process.log("not ready").await;
    for url in [&url, &admin] {
        assert_eq!(get(url, "/readyz").await, (503, "shutting down\n".to_owned()));
        assert_eq!(get(url, "/healthz").await.0, 200);
    }
    let mut late = Raw::new(address(&url)).await;
    late.post("/v1/chat/completions", "", &request("oai/m", true, "hi")).await;
    late.until("late").await;

    process.signal("TERM");
    process.log("no new connections").await;
    while Raw::try_new(address(&url)).await.is_some() {}
    assert_eq!(get(&admin, "/readyz").await.0, 503);
    let (_, page) = get(&admin, "/metrics").await;
    assert!(page.contains("streamgate_open_requests"), "the drain can be watched: {page}");
    gate.notify_one();
    stream.until("[DONE]").await;
    assert_eq!(process.ended().await, Some(0));
}

/// R6: a dead host is passed over after its first refused connection. Operators see that, and can end it; callers and
/// pages cannot.
#[tokio::test]
async fn r06_operators_see_and_reset_the_health_of_targets() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let text = yaml("http://127.0.0.1:1", &upstream.url, BOTH);
    let text = format!("{text}health: {{ cooldown: 1h, max_cooldown: 1h }}\n");
    let file = File::new(&text);
    let (mut process, url) = Process::gateway(&file, "info").await;
    let admin = admin_of(&mut process).await;
    let state = async || {
        let (status, page) = get(&admin, "/status/targets").await;
        assert_eq!(status, 200, "{page}");
        let page: serde_json::Value = serde_json::from_str(&page).unwrap();
        let targets = page["targets"].as_array().unwrap().clone();
        targets.into_iter().find(|target| target["target"] == "oai/*").unwrap()
    };
    assert_eq!(state().await["host"], "closed");
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let body = r#"{"model":"oai/m","messages":[{"role":"user","content":"hi"}]}"#;
    let chat = client.post(format!("{url}/v1/chat/completions")).bearer_auth(KEY);
    let response = chat.header("content-type", "application/json").body(body).send().await.unwrap();
    assert_eq!(response.status(), 502);
    let failed = state().await;
    assert_eq!((&failed["host"], &failed["open_streams"]), (&"open".into(), &0.into()), "{failed}");
    assert!(failed["ready_in_ms"].as_u64().is_some_and(|wait| wait > 2_000_000), "{failed}");
    let reset = client.post(format!("{admin}/status/targets?reset=oai/*"));
    let page = reset.try_clone().unwrap().header("origin", "https://example.com");
    assert_eq!(page.send().await.unwrap().status(), 403);
    assert_eq!(state().await["host"], "open");
    assert_eq!(reset.send().await.unwrap().status(), 204);
    assert_eq!(state().await["host"], "closed");
    assert_eq!(get(&url, "/status/targets").await.0, 404);
    // A drained target is not asked, even as the only one, until it is reset.
    let post = async |query: &str| {
        let request = client.post(format!("{admin}/status/targets?{query}"));
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!((post("drain=oai/none").await, post("stop=oai/*").await), (404, 400));
    assert_eq!(post("drain=oai/*").await, 204);
    assert_eq!(state().await["state"], "drained");
    let chat = client.post(format!("{url}/v1/chat/completions")).bearer_auth(KEY);
    let chat = chat.header("content-type", "application/json").body(body);
    assert_eq!(chat.try_clone().unwrap().send().await.unwrap().status(), 503);
    assert_eq!(state().await["host"], "closed", "nobody has asked");
    assert_eq!(post("reset=oai/*").await, 204);
    assert_eq!(chat.send().await.unwrap().status(), 502);
    let page = get(&admin, "/metrics").await.1;
    for series in [
        "streamgate_target_state{target=\"oai/*\",state=\"closed\"} 1",
        "streamgate_breaker_changes_total{target=\"oai/*\",to=\"drained\",reason=\"operator\"} 1",
    ] {
        assert!(page.contains(series), "{series}: {page}");
    }
}
