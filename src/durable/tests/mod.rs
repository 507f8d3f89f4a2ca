//! Requests to streams, with the clock in the test's hand and without sockets. Nothing here may wait for real time.

mod forks;
mod limits;
mod live;
mod writes;

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::HeaderMap;
use http_body_util::BodyExt as _;

use super::{Streams, answer};
use crate::config::{Auth, ChannelRightTemplates, Config, Durable, Key, Limits, digest};
use crate::gateway::state::Gateway;
use crate::server::Shutdown;

/// A gateway with the callers `a` and `b`, without sockets.
struct Server {
    gateway: Gateway,
    streams: Streams,
    shutdown: Shutdown,
}

/// A response that was read whole.
struct Reply {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Reply {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn next(&self) -> String {
        self.header("stream-next-offset").to_owned()
    }
}

impl Server {
    fn new(settings: Durable, limits: Limits) -> Self {
        let key = |name: &str| Key {
            class: None,
            name: name.to_owned(),
            digest: digest(name),
            models: vec!["*".to_owned()],
            limits,
            channels: ChannelRightTemplates::default(),
        };
        let auth = Auth { keys: vec![key("a"), key("b")], ..Auth::default() };
        let shutdown = Shutdown::default();
        let config = Config { auth, durable: settings, ..Config::default() };
        let gateway = Gateway::new(config, &shutdown).unwrap();
        let streams = Streams::new(&settings, &gateway.metrics);
        Self { gateway, streams, shutdown }
    }

    fn plain() -> Self {
        Self::new(Durable::default(), Limits::NONE)
    }

    async fn begin(&self, request: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let (method, target) = request.split_once(' ').unwrap();
        let builder = Request::builder().method(method).uri(format!("/v1/stream/{target}"));
        let mut builder = builder.header("host", "gateway.example");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        if !headers.iter().any(|(name, _)| *name == "authorization") {
            builder = builder.header("authorization", "Bearer a");
        }
        let request = builder.body(Body::from(body.to_owned())).unwrap();
        answer(&self.gateway, &self.streams, request).await
    }

    async fn send(&self, request: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let response = self.begin(request, headers, body).await;
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        let body = String::from_utf8(body).unwrap();
        Reply { status: head.status.as_u16(), headers: head.headers, body }
    }

    /// Creates a stream of text.
    async fn create(&self, path: &str, body: &str) -> Reply {
        let created = self.send(&format!("PUT {path}"), &[TEXT], body).await;
        assert_eq!(created.status, 201, "{}", created.body);
        created
    }

    async fn append(&self, path: &str, body: &str) -> Reply {
        let appended = self.send(&format!("POST {path}"), &[TEXT], body).await;
        assert_eq!(appended.status, 204, "{}", appended.body);
        appended
    }

    async fn status(&self, request: &str) -> u16 {
        self.send(request, &[], "").await.status
    }

    /// The bytes that all streams hold.
    fn used(&self) -> i64 {
        let metrics = self.gateway.metrics.render();
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("streamgate_memory_used_bytes{share=\"durable\"} "));
        line.unwrap().parse().unwrap()
    }
}

const TEXT: (&str, &str) = ("content-type", "text/plain");
const JSON: (&str, &str) = ("content-type", "application/json");

const SECOND: Duration = Duration::from_secs(1);
