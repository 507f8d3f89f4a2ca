//! The way to providers: proxies of each kind and their failures, private authorities, client
//! certificates, the age of connections, and what of it a reload changes.

use std::time::Duration;

use crate::support::answers::{delta, ending, error_message, opening, streamed};
use crate::support::egress::{Authority, Manner, Proxy};
use crate::support::gateway::{Gateway, KEY, Log, configuration, hex};
use crate::support::upstream::{Step, Upstream};

/// A configuration with providers of these fields, `name: fields`, and more YAML.
fn yaml(providers: &[(&str, &str)], more: &str) -> String {
    let digest = hex(&streamgate::config::digest(KEY));
    let line = |(name, fields)| format!("  {name}: {{ dialect: openai-chat, {fields} }}\n");
    let providers = providers.iter().copied().map(line).collect::<Vec<String>>().concat();
    format!("auth: {{ keys: [{{ name: test, sha256: {digest} }}] }}\nproviders:\n{providers}{more}")
}

/// The upstream's answer came whole.
async fn answered(gateway: &Gateway, model: &str) {
    let response = gateway.chat(model).send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    assert_eq!(status, 200, "{text}");
    assert!(text.contains("Hello") && text.ends_with("data: [DONE]\n\n"), "{text}");
}

/// The status and the message of a refusal.
async fn refused(gateway: &Gateway, model: &str) -> (u16, String) {
    let response = gateway.chat(model).send().await.unwrap();
    let status = response.status().as_u16();
    (status, error_message("openai-chat", &response.text().await.unwrap()))
}

#[tokio::test]
async fn requests_go_through_the_proxy() {
    let upstream = Upstream::new(streamed("openai-chat", "Hello")).await;
    let authority = Authority::new();
    let port = authority.front(&upstream.url, false).await;
    let plain_port = upstream.url.rsplit(':').next().unwrap();
    for (manner, scheme, credentials) in [
        (Manner::Http, "http", ""),
        (Manner::HttpWithCredentials, "http", "user:p%40ss@"),
        (Manner::Socks, "socks5h", ""),
        (Manner::Socks, "socks5", ""),
        (Manner::SocksWithCredentials, "socks5h", "user:p%40ss@"),
    ] {
        // A name that only the proxy resolves, but for the kind whose names are resolved here.
        let host = if scheme == "socks5" { "127.0.0.1" } else { "upstream.test" };
        for base_url in
            [format!("https://{host}:{port}/v1"), format!("http://{host}:{plain_port}/v1")]
        {
            let proxy = Proxy::new(manner).await;
            let fields = format!(
                "base_url: \"{base_url}\", proxy: \"{scheme}://{credentials}{}\", tls: {{ ca: {} }}",
                proxy.address,
                authority.file("ca.pem")
            );
            let gateway = Gateway::new(&yaml(&[("p", &fields)], "")).await;
            answered(&gateway, "p/m").await;
            let to = base_url.split('/').nth(2).unwrap();
            assert_eq!(proxy.asked(), [to], "{manner:?} {base_url}");
        }
    }
}

/// Failures of a proxy are distinguished from the upstream's, in errors and logs, without its credentials; and
/// the next target is asked.
#[tokio::test]
async fn a_failing_proxy_is_named_and_failover_follows() {
    let upstream = Upstream::new(streamed("openai-chat", "Hello")).await;
    let log = Log::default();
    let _guard = log.capture();
    let refuses = "the egress proxy refused to connect to the upstream";
    let credentials =
        "the egress proxy did not accept our credentials; correct those of its address";
    let late = "the egress proxy did not connect to the upstream in time";
    let broken = "the egress proxy did not answer as one";
    for (manner, scheme, status, message) in [
        (Manner::Refuses, "http", 502, refuses),
        (Manner::Refuses, "socks5h", 502, refuses),
        (Manner::HttpWithCredentials, "http", 502, credentials),
        (Manner::SocksWithCredentials, "socks5h", 502, credentials),
        (Manner::Silent, "http", 504, late),
        (Manner::Silent, "socks5h", 504, late),
        (Manner::Silent, "https", 504, late),
        (Manner::Hangup, "http", 502, broken),
        (Manner::Hangup, "socks5h", 502, broken),
        (Manner::Junk, "http", 502, refuses),
        (Manner::Junk, "socks5h", 502, broken),
        (Manner::Junk, "https", 502, "the egress proxy could not be reached"),
    ] {
        let proxy = Proxy::new(manner).await;
        let fields = format!(
            "base_url: \"https://upstream.test/v1\", proxy: \"{scheme}://canary:secret-canary@{}\"",
            proxy.address
        );
        let direct = format!("base_url: \"{}/v1\", proxy: none", upstream.url);
        let more = "models: { m: { targets: [{ provider: p, model: m }, { provider: q, model: m }] } }\n\
                    stream: { connect: 300ms }\n";
        let yaml = yaml(&[("p", &fields), ("q", &direct)], more);
        let gateway = Gateway::new(&yaml).await;
        answered(&gateway, "m").await;
        // The host is passed over now, but a target that is named alone is tried all the same.
        assert_eq!(
            refused(&gateway, "p/m").await,
            (status, message.to_owned()),
            "{manner:?} {scheme}"
        );
        assert!(gateway.metric("streamgate_upstream_errors_total{provider=\"p\"") >= 2.0);
    }
    let text = log.text();
    for message in [refuses, credentials, broken, "did not connect", "tunnel error"] {
        assert!(text.contains(message), "{message}");
    }
    assert!(!text.contains("canary"), "a credential was logged");
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    for (scheme, base_url) in [
        ("http", "https://upstream.test"),
        ("http", "http://upstream.test"),
        ("https", "http://upstream.test"),
        ("socks5h", "https://upstream.test"),
        ("socks5h", "http://upstream.test"),
    ] {
        let fields = format!("base_url: \"{base_url}/v1\", proxy: \"{scheme}://{nobody}\"");
        let gateway = Gateway::new(&yaml(&[("p", &fields)], "")).await;
        let expected = (502, "the egress proxy could not be reached".to_owned());
        assert_eq!(refused(&gateway, "p/m").await, expected, "{scheme} {base_url}");
    }
}

/// Without a tunnel the proxy's 407 is a response like an upstream's.
#[tokio::test]
async fn a_proxy_without_a_tunnel_may_want_credentials() {
    let proxy = Proxy::new(Manner::HttpWithCredentials).await;
    let fields =
        format!("base_url: \"http://upstream.test/v1\", proxy: \"http://{}\"", proxy.address);
    let gateway = Gateway::new(&yaml(&[("p", &fields)], "")).await;
    let (status, message) = refused(&gateway, "p/m").await;
    assert_eq!(status, 502);
    assert!(message.starts_with("the egress proxy did not accept our credentials"), "{message}");
}

#[tokio::test]
async fn a_socks_proxy_may_want_credentials() {
    let proxy = Proxy::new(Manner::SocksWithCredentials).await;
    let fields =
        format!("base_url: \"http://upstream.test/v1\", proxy: \"socks5h://{}\"", proxy.address);
    let gateway = Gateway::new(&yaml(&[("p", &fields)], "")).await;
    let (status, message) = refused(&gateway, "p/m").await;
    assert_eq!(status, 502);
    assert!(message.starts_with("the egress proxy did not accept our credentials"), "{message}");
}

/// Errors of an upstream behind a proxy are not reported as the proxy's.
#[tokio::test]
async fn an_upstream_behind_a_proxy_keeps_its_own_failures() {
    let upstream = Upstream::new(streamed("openai-chat", "Hello")).await;
    let authority = Authority::new();
    let port = authority.front(&upstream.url, false).await;
    let proxy = Proxy::new(Manner::Http).await;
    let fields = format!(
        "base_url: \"https://upstream.test:{port}/v1\", proxy: \"http://{}\"",
        proxy.address
    );
    let gateway = Gateway::new(&yaml(&[("p", &fields)], "")).await;
    let expected = (
        502,
        "the upstream could not be reached; the gateway's log has the reason for its operator"
            .to_owned(),
    );
    assert_eq!(refused(&gateway, "p/m").await, expected);
    assert_eq!(proxy.asked().len(), 1);
}

#[tokio::test]
async fn private_authorities_and_client_certificates_are_used() {
    let upstream = Upstream::new(streamed("openai-chat", "Hello")).await;
    let authority = Authority::new();
    let strange = Authority::new();
    let tls = authority.front(&upstream.url, false).await;
    let mutual = authority.front(&upstream.url, true).await;
    let fields = |port: u16, tls: String| format!("base_url: \"https://127.0.0.1:{port}/v1\"{tls}");
    let ca = |authority: &Authority| format!("ca: {}", authority.file("ca.pem"));
    let client = |authority: &Authority| {
        format!("cert: {}, key: {}", authority.file("client.pem"), authority.file("client.key"))
    };
    let (own, other) = (ca(&authority), ca(&strange));
    let providers = [
        ("none", fields(tls, String::new())),
        ("other", fields(tls, format!(", tls: {{ {other} }}"))),
        ("own", fields(tls, format!(", tls: {{ {own} }}"))),
        ("without", fields(mutual, format!(", tls: {{ {own} }}"))),
        ("stranger", fields(mutual, format!(", tls: {{ {own}, {} }}", client(&strange)))),
        ("mutual", fields(mutual, format!(", tls: {{ {own}, {} }}", client(&authority)))),
    ];
    let providers: Vec<_> =
        providers.iter().map(|(name, fields)| (*name, fields.as_str())).collect();
    let gateway = Gateway::new(&yaml(&providers, "")).await;
    for name in ["own", "mutual"] {
        answered(&gateway, &format!("{name}/m")).await;
    }
    for name in ["none", "other", "without", "stranger"] {
        let (status, message) = refused(&gateway, &format!("{name}/m")).await;
        assert_eq!(status, 502, "{name}: {message}");
    }
    assert_eq!(upstream.requests().await.len(), 2);
}

/// Requests of equal ways out share connections, and those of others do not.
#[tokio::test]
async fn equal_providers_share_connections() {
    let upstream = Upstream::new(streamed("openai-chat", "Hello")).await;
    let authority = Authority::new();
    let base = format!("base_url: \"{}/v1\"", upstream.url);
    let tls = format!("{base}, tls: {{ ca: {} }}", authority.file("ca.pem"));
    let providers = [("a", &*base), ("b", &*base), ("c", &*tls), ("d", &*tls)];
    let gateway = Gateway::new(&yaml(&providers, "")).await;
    for (name, connections) in [("a", 1), ("b", 1), ("a", 1), ("c", 2), ("d", 2), ("a", 2)] {
        answered(&gateway, &format!("{name}/m")).await;
        assert_eq!(upstream.connections(), connections, "{name}");
    }
}

/// Under steady traffic a connection is not used for longer than its age.
#[tokio::test]
async fn connections_have_an_age() {
    for (age, replaced) in [("300ms", true), ("none", false), ("5m", false)] {
        let upstream = Upstream::new(streamed("openai-chat", "Hello")).await;
        let base = format!("base_url: \"{}/v1\"", upstream.url);
        let more = format!("stream: {{ connection_age: {age} }}\n");
        let gateway = Gateway::new(&yaml(&[("p", &base)], &more)).await;
        let mut beat = tokio::time::interval(Duration::from_millis(50));
        for _ in 0..24 {
            beat.tick().await;
            answered(&gateway, "p/m").await;
        }
        let connections = upstream.connections();
        let expected = if replaced { connections >= 3 } else { connections == 1 };
        assert!(expected, "{age}: {connections} connections");
        // The connections of earlier periods close with their last request.
        upstream.until("one is left", |_, open| open <= 1).await;
    }
}

/// A stream outlives the period of its connection.
#[tokio::test]
async fn a_stream_outlives_the_age_of_its_connection() {
    let mut long = vec![Step::Sse, Step::chunk(&opening("openai-chat", "Hello"))];
    for _ in 0..5 {
        long.push(Step::Pause(Duration::from_millis(100)));
        long.push(Step::chunk(&delta("openai-chat", " more")));
    }
    long.push(Step::chunk(ending("openai-chat")));
    long.push(Step::End);
    let upstream = Upstream::scripted(vec![long, streamed("openai-chat", "Hello")]).await;
    let base = format!("base_url: \"{}/v1\"", upstream.url);
    let gateway = Gateway::new(&yaml(&[("p", &base)], "stream: { connection_age: 100ms }\n")).await;
    let long = gateway.chat("p/m").send().await.unwrap();
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(110)).await;
        answered(&gateway, "p/m").await;
    }
    let long = long.text().await.unwrap();
    assert_eq!(long.matches(" more").count(), 5, "{long}");
    assert!(long.ends_with("data: [DONE]\n\n"), "{long}");
}

#[tokio::test]
async fn a_reload_changes_the_proxy_for_new_requests() {
    let upstream = Upstream::new(streamed("openai-chat", "Hello")).await;
    let (first, second) = (Proxy::new(Manner::Http).await, Proxy::new(Manner::Http).await);
    let silent = Proxy::new(Manner::Silent).await;
    let port = upstream.url.rsplit(':').next().unwrap();
    let with = |proxy: &Proxy, more: &str| {
        let fields = format!(
            "base_url: \"http://upstream.test:{port}/v1\", proxy: \"http://{}\"",
            proxy.address
        );
        yaml(&[("p", &fields)], more)
    };
    let gateway = Gateway::new(&with(&first, "")).await;
    answered(&gateway, "p/m").await;
    answered(&gateway, "p/m").await;
    gateway.app.reload(configuration(&with(&second, "")));
    answered(&gateway, "p/m").await;
    assert_eq!((first.asked().len(), second.asked().len()), (1, 1));
    let impatient =
        with(&silent, "stream: { connect: 100ms }\n").replace("http://127", "socks5h://127");
    gateway.app.reload(configuration(&impatient));
    assert_eq!(refused(&gateway, "p/m").await.0, 504);
    gateway.app.reload(configuration(&with(&first, "")));
    answered(&gateway, "p/m").await;
    // The connection of before was still there: nothing else has changed.
    assert_eq!(first.asked().len(), 1);
}
