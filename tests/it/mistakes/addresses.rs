//! Mistakes in an address: the wrong port, certificates, pages of other origins, providers that cannot be reached.

use http::Method;

use crate::support::answers::streamed;
use crate::support::certificate::Certificate;
use crate::support::gateway::{Gateway, Log, yaml};
use crate::support::process::program;
use crate::support::raw::Raw;
use crate::support::upstream::Upstream;

async fn gateway(more: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    (Gateway::new(&yaml(&upstream.url, &upstream.url, more)).await, upstream)
}

#[tokio::test]
async fn m20_m21_the_wrong_scheme_is_answered_counted_and_logged() {
    let certificate = Certificate::new();
    for (more, bytes, words, reason) in [
        (
            String::new(),
            &b"\x16\x03\x01\x00\x05hello"[..],
            "speaks plain HTTP",
            "tls_on_plain_port",
        ),
        (
            certificate.server(""),
            b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
            "speaks TLS",
            "plain_on_tls_port",
        ),
    ] {
        let (gateway, _upstream) = gateway(&more).await;
        let log = Log::default();
        let guard = log.capture();
        let mut raw = Raw::new(gateway.address).await;
        raw.write(bytes).await;
        assert!(raw.rest().await.contains(words), "{reason}");
        drop(guard);
        let counted = format!("streamgate_refused_requests_total{{reason={reason:?}}}");
        assert_eq!(gateway.count(&counted), 1);
        assert!(log.text().contains(reason), "{}", log.text());
    }
}

#[test]
fn m22_the_page_about_certificates_names_what_sdks_read() {
    let page = std::fs::read_to_string(format!("{}/docs/tls.md", env!("CARGO_MANIFEST_DIR")));
    assert!(page.unwrap().contains("SSL_CERT_FILE"));
}

async fn preflight(url: &str, origin: &str) -> reqwest::Response {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let sent = client.request(Method::OPTIONS, format!("{url}/v1/chat/completions"));
    let sent = sent.header("origin", origin).header("access-control-request-method", "POST");
    sent.send().await.unwrap()
}

#[tokio::test]
async fn m23_origins_of_any_port_may_call_and_others_are_recorded() {
    let (gateway, _upstream) =
        gateway("server: { cors: { origins: [\"http://localhost:*\"] } }\n").await;
    let log = Log::default();
    let guard = log.capture();
    for (origin, allowed) in [
        ("http://localhost:3000", true),
        ("http://localhost:5173", true),
        ("https://localhost:3000", false),
        ("http://localhost.evil.example:80", false),
    ] {
        let response = preflight(&gateway.url, origin).await;
        let found = response.headers().get("access-control-allow-origin");
        assert_eq!(found.is_some_and(|found| found == origin), allowed, "{origin}");
    }
    drop(guard);
    let counted = "streamgate_refused_requests_total{reason=\"origin_not_allowed\"}";
    assert_eq!(gateway.count(counted), 2);
    assert!(log.text().contains("add it to server.cors.origins"), "{}", log.text());
}

/// A first run is for trying a page of one's own.
#[tokio::test]
async fn m23_without_a_configuration_pages_on_this_machine_may_call() {
    let mut command = program(&["--listen", "127.0.0.1:0"]);
    command.current_dir(std::env::temp_dir()).env("STREAMGATE_KEY", "sg-first");
    let mut process = crate::support::process::Process::start(command);
    let url = process.url().await.trim_end_matches(',').to_owned();
    for (origin, allowed) in [("http://localhost:3000", true), ("https://evil.example", false)] {
        let response = preflight(&url, origin).await;
        let found = response.headers().contains_key("access-control-allow-origin");
        assert_eq!(found, allowed, "{origin}");
    }
}

#[tokio::test]
async fn m26_a_provider_that_cannot_be_reached_is_logged_with_its_address() {
    // Nothing listens there: the listener that had the port is gone.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let dead = format!("http://{address}");
    let gateway = Gateway::new(&yaml(&dead, &dead, "")).await;
    let log = Log::default();
    let guard = log.capture();
    let response = gateway.chat("oai/m").send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    drop(guard);
    assert_eq!(status, 502);
    assert!(!text.contains(&address.to_string()), "the address is the operator's: {text}");
    let log = log.text();
    let line = log.lines().find(|line| line.contains("attempt failed")).unwrap();
    assert!(line.contains(&address.to_string()) && line.contains("refused"), "{line}");
}
