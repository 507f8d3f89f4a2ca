//! Durable streams, from HTTP to HTTP: exactly once under repeats and disconnects, slow and fast readers, wrong offsets,
//! other callers' streams, records and pages of other origins.

use std::collections::BTreeMap;

use http::Method;
use rand::RngExt as _;
use streamgate::config::digest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::gateway::{Gateway, KEY, Log, hex};

/// A gateway with the callers `test` and `other`, and more YAML.
async fn gateway(more: &str) -> Gateway {
    let key = |name, key| format!("{{ name: {name}, sha256: {} }}", hex(&digest(key)));
    let keys = format!("[{}, {}]", key("test", KEY), key("other", "sg-other"));
    let provider = "providers: { oai: { dialect: openai-chat, base_url: \"http://127.0.0.1:1\" } }";
    Gateway::new(&format!("auth: {{ keys: {keys} }}\nlimits: none\n{provider}\n{more}")).await
}

/// A request of the caller `test` to a stream.
fn request(gateway: &Gateway, method: Method, target: &str) -> reqwest::RequestBuilder {
    let url = format!("{}/v1/stream/{target}", gateway.url);
    gateway.client.request(method, url).bearer_auth(KEY)
}

async fn create(gateway: &Gateway, path: &str, content_type: &str) -> reqwest::Response {
    let request = request(gateway, Method::PUT, path).header("content-type", content_type);
    let created = request.send().await.unwrap();
    assert_eq!(created.status(), 201);
    created
}

fn header<'r>(response: &'r reqwest::Response, name: &str) -> &'r str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// Everything that a stream has, read in pages.
async fn whole(gateway: &Gateway, path: &str) -> Vec<u8> {
    let (mut offset, mut whole) = ("-1".to_owned(), Vec::new());
    loop {
        let target = format!("{path}?offset={offset}");
        let page = request(gateway, Method::GET, &target).send().await.unwrap();
        assert_eq!(page.status(), 200);
        header(&page, "stream-next-offset").clone_into(&mut offset);
        let is_last = header(&page, "stream-up-to-date") == "true";
        whole.extend_from_slice(&page.bytes().await.unwrap());
        if is_last {
            return whole;
        }
    }
}

/// One append of a producer, as it may be sent: several times, at once, or by a connection that is cut before the
/// response.
async fn send_somehow(gateway: &Gateway, path: &str, producer: &str, seq: usize) {
    let body = format!("{{\"producer\":\"{producer}\",\"seq\":{seq}}}");
    let send = async || {
        let sent = request(gateway, Method::POST, path)
            .header("content-type", "application/json")
            .header("producer-id", producer)
            .header("producer-epoch", "0")
            .header("producer-seq", seq.to_string())
            .body(body.clone());
        let response = sent.send().await.unwrap();
        assert!([200, 204].contains(&response.status().as_u16()), "{}", response.status());
        let highest: usize = header(&response, "producer-seq").parse().unwrap();
        assert!(highest >= seq);
    };
    match rand::rng().random_range(0..4) {
        0 => send().await,
        1 => drop(tokio::join!(send(), send(), send())),
        2 => {
            send().await;
            send().await;
        }
        _ => {
            let mut cut = TcpStream::connect(gateway.address).await.unwrap();
            let head = format!(
                "POST /v1/stream/{path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\
                 content-type: application/json\r\nproducer-id: {producer}\r\nproducer-epoch: 0\r\n\
                 producer-seq: {seq}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            let length = rand::rng().random_range(0..=head.len());
            cut.write_all(&head.as_bytes()[..length]).await.unwrap();
            drop(cut);
            send().await;
        }
    }
}

#[tokio::test]
async fn producers_that_repeat_themselves_append_exactly_once() {
    const APPENDS: usize = 40;
    let gateway = gateway("").await;
    create(&gateway, "once", "application/json").await;
    let producer = async |name: &str| {
        for seq in 0..APPENDS {
            send_somehow(&gateway, "once", name, seq).await;
        }
    };
    tokio::join!(producer("a"), producer("b"), producer("c"), producer("d"));
    let read: serde_json::Value = serde_json::from_slice(&whole(&gateway, "once").await).unwrap();
    let mut found = BTreeMap::<String, Vec<u64>>::new();
    for message in read.as_array().unwrap() {
        let producer = message["producer"].as_str().unwrap().to_owned();
        found.entry(producer).or_default().push(message["seq"].as_u64().unwrap());
    }
    assert_eq!(found.len(), 4);
    for (producer, seqs) in found {
        assert_eq!(seqs, (0..APPENDS as u64).collect::<Vec<_>>(), "{producer}");
    }
}

/// A reader of an event stream that leaves its bytes in the kernel's buffers, and the gateway's, until it reads. HTTP/1.0
/// has no transfer coding.
async fn follow(gateway: &Gateway, path: &str) -> TcpStream {
    let mut follower = TcpStream::connect(gateway.address).await.unwrap();
    let head = format!(
        "GET /v1/stream/{path}?offset=-1&live=sse HTTP/1.0\r\nauthorization: Bearer {KEY}\r\n\r\n"
    );
    follower.write_all(head.as_bytes()).await.unwrap();
    follower
}

/// The bytes of all `data` events of an event stream of bytes, to its end.
async fn followed(mut follower: TcpStream) -> Vec<u8> {
    let mut text = String::new();
    follower.read_to_string(&mut text).await.unwrap();
    assert!(text.contains("\"streamClosed\":true"));
    let decode = |line: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.decode(line).unwrap()
    };
    let data = text.split("event: data\n").skip(1).map(|event| {
        let line = event.strip_prefix("data:").unwrap();
        decode(line.split('\n').next().unwrap())
    });
    data.flatten().collect()
}

#[tokio::test]
async fn a_slow_reader_slows_nobody_and_loses_nothing() {
    let gateway = gateway("").await;
    create(&gateway, "both", "application/octet-stream").await;
    let [slow, fast] = [follow(&gateway, "both").await, follow(&gateway, "both").await];
    let part: Vec<u8> = (0..60 << 10).map(|_| rand::rng().random()).collect();
    let mut sent = Vec::new();
    // The slow one reads nothing until the writer is done and the fast one has everything.
    let write = async {
        for number in 0..200_u8 {
            let mut part = part.clone();
            part[0] = number;
            sent.extend_from_slice(&part);
            let append = request(&gateway, Method::POST, "both")
                .header("content-type", "application/octet-stream")
                .header("stream-closed", if number == 199 { "true" } else { "false" })
                .body(part);
            assert_eq!(append.send().await.unwrap().status(), 204);
        }
    };
    let (read, ()) = tokio::join!(followed(fast), write);
    assert!(read == sent, "{} of {} bytes", read.len(), sent.len());
    let late = followed(slow).await;
    assert!(late == sent, "{} of {} bytes", late.len(), sent.len());
    assert!(whole(&gateway, "both").await == sent);
}

#[tokio::test]
async fn wrong_offsets_are_refused_and_never_skip_anything() {
    let gateway = gateway("").await;
    let created = create(&gateway, "s", "text/plain").await;
    let offset = header(&created, "stream-next-offset").to_owned();
    let get = async |offset: &str, live: &str| {
        let url = format!("s?offset={offset}{live}");
        let response = request(&gateway, Method::GET, &url).send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.text().await.unwrap())
    };
    let (epoch, digits) = offset.split_once('_').unwrap();
    let ahead = format!("{epoch}_{:010}", digits.parse::<u64>().unwrap() + 1);
    let (truncated, _) = offset.split_at(offset.len() - 1);
    let (_, without_first) = offset.split_at(1);
    for live in ["", "&live=long-poll", "&live=sse"] {
        for wrong in
            [truncated, &ahead, "0", "-2", "%00", "%ff", "a,b", "a%2Fb", "..%2F", without_first]
        {
            let (status, body) = get(wrong, live).await;
            assert_eq!(status, 400, "{wrong}{live}: {body}");
            assert!(body.contains("`offset`"), "{body}");
        }
    }
    assert_eq!(get(&offset, "").await, (200, String::new()));
    assert_eq!(get("-1&offset=-1", "").await.0, 400);
    assert_eq!(get("-1", "&live=websocket").await.0, 400);
    for live in ["long-poll", "sse"] {
        let url = format!("s?live={live}");
        assert_eq!(request(&gateway, Method::GET, &url).send().await.unwrap().status(), 400);
    }
    // The path has another stream now.
    assert_eq!(request(&gateway, Method::DELETE, "s").send().await.unwrap().status(), 204);
    create(&gateway, "s", "text/plain").await;
    let (status, body) = get(&offset, "").await;
    assert_eq!(status, 410);
    assert!(body.contains("\"code\":\"offset_gone\""), "{body}");
}

#[tokio::test]
async fn another_callers_stream_is_as_good_as_none() {
    let gateway = gateway("").await;
    create(&gateway, "mine", "text/plain").await;
    for method in [Method::GET, Method::HEAD, Method::POST, Method::DELETE] {
        let mut replies = Vec::new();
        for path in ["mine", "none"] {
            let url = format!("{}/v1/stream/{path}", gateway.url);
            let sent = gateway.client.request(method.clone(), url).bearer_auth("sg-other");
            let sent = sent.header("content-type", "text/plain").header("x-request-id", "same");
            let response = sent.body("x").send().await.unwrap();
            assert_eq!(response.status(), 404, "{method} {path}");
            let mut headers = response.headers().clone();
            headers.remove("date");
            replies.push((headers, response.text().await.unwrap()));
        }
        assert_eq!(replies[0], replies[1], "{method}");
    }
    let put = |path: &str| {
        let url = format!("{}/v1/stream/{path}", gateway.url);
        gateway.client.put(url).bearer_auth("sg-other")
    };
    let fork = put("fork").header("stream-forked-from", "/v1/stream/mine").send().await.unwrap();
    assert_eq!(fork.status(), 404);
    // The same path is another stream for each caller.
    assert_eq!(put("mine").body("theirs").send().await.unwrap().status(), 201);
    assert_eq!(whole(&gateway, "mine").await, b"");
    let unknown = gateway.client.get(format!("{}/v1/stream/mine", gateway.url));
    assert_eq!(unknown.send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn requests_to_streams_are_recorded() {
    let log = Log::default();
    let _capture = log.capture();
    let gateway = gateway("").await;
    create(&gateway, "s", "text/plain").await;
    let followed = request(&gateway, Method::GET, "s?offset=-1&live=sse").send().await.unwrap();
    request(&gateway, Method::POST, "s").header("stream-closed", "true").send().await.unwrap();
    followed.text().await.unwrap();
    let late =
        request(&gateway, Method::POST, "s").header("content-type", "text/plain").body("canary");
    let late = late.send().await.unwrap();
    assert_eq!((late.status().as_u16(), header(&late, "x-should-retry")), (409, "false"));
    request(&gateway, Method::GET, "none").send().await.unwrap();
    let mut records: Vec<_> = log
        .records()
        .into_iter()
        .map(|record| {
            let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
            assert_eq!(
                (text("dialect"), text("caller")),
                ("durable-streams".into(), "test".into())
            );
            (text("method"), record["status"].as_u64().unwrap(), text("outcome"))
        })
        .collect();
    records.sort();
    let expected = [
        ("GET", 200, "complete"),
        ("GET", 404, "rejected"),
        ("POST", 204, "complete"),
        ("POST", 409, "rejected"),
        ("PUT", 201, "complete"),
    ];
    let expected =
        expected.map(|(method, status, outcome)| (method.into(), status, outcome.into()));
    assert_eq!(records, expected);
    assert!(!log.text().contains("canary"), "{}", log.text());
    let counted = "streamgate_requests_total{dialect=\"durable-streams\",caller=\"test\"";
    assert_eq!(gateway.count(counted), 5);
    assert_eq!(gateway.count("streamgate_open_requests{dialect=\"durable-streams\"}"), 0);
}

#[tokio::test]
async fn pages_of_allowed_origins_may_use_streams() {
    let cors = "server: { cors: { origins: [\"https://chat.example.com\"] } }\n";
    let gateway = gateway(cors).await;
    create(&gateway, "s", "text/plain").await;
    for (origin, allowed) in
        [("https://chat.example.com", true), ("https://evil.example.com", false)]
    {
        let preflight = gateway
            .client
            .request(Method::OPTIONS, format!("{}/v1/stream/s", gateway.url))
            .header("origin", origin)
            .header("access-control-request-method", "PUT")
            .header("access-control-request-headers", "if-none-match, producer-id, last-event-id");
        let preflight = preflight.send().await.unwrap();
        assert_eq!(
            header(&preflight, "access-control-allow-origin") == origin,
            allowed,
            "{origin}"
        );
        if allowed {
            let methods = header(&preflight, "access-control-allow-methods");
            assert!(
                ["PUT", "DELETE", "HEAD"].iter().all(|method| methods.contains(method)),
                "{methods}"
            );
            let names = header(&preflight, "access-control-allow-headers");
            assert!(names.contains("if-none-match") && names.contains("producer-id"), "{names}");
        }
        let read =
            request(&gateway, Method::GET, "s").header("origin", origin).send().await.unwrap();
        let exposed = header(&read, "access-control-expose-headers");
        assert!(exposed.contains("stream-next-offset") && exposed.contains("etag"), "{exposed}");
        assert_eq!(header(&read, "access-control-allow-origin") == origin, allowed, "{origin}");
    }
    let read = request(&gateway, Method::GET, "s").send().await.unwrap();
    assert_eq!(header(&read, "content-security-policy"), "default-src 'none'; sandbox");
    assert_eq!(header(&read, "cross-origin-resource-policy"), "same-origin");
}

#[tokio::test]
async fn streams_can_be_switched_off() {
    let gateway = gateway("durable: { enabled: false }\n").await;
    let put = request(&gateway, Method::PUT, "s").send().await.unwrap();
    assert_eq!(put.status(), 404);
    let patched = request(&self::gateway("").await, Method::PATCH, "s").send().await.unwrap();
    assert_eq!(patched.status(), 405);
    assert_eq!(header(&patched, "allow"), "GET, HEAD, PUT, POST, DELETE");
}
