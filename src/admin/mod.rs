//! The operators' endpoints: health, readiness and metrics, on a listener of their own (`server.admin`)
//! and, where the configuration allows it, beside the callers' endpoints. They never ask an upstream,
//! change nothing, and know no credential: who may connect is a matter of addresses.

mod metrics_page;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State as Shared};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use ipnet::IpNet;

use crate::app::App;
use crate::config::Server;
use crate::gateway::{self, auth, direct_response};
pub use metrics_page::MetricsPage;

const OPENMETRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// How long a page is reused where operators scrape: whatever they do, it costs little.
const SCRAPED: Duration = Duration::from_secs(1);

/// The operators' listener. Further endpoints for operators belong here, not on the callers' listener.
pub fn router(app: Arc<App>) -> Router {
    let metrics = async |Shared(app): Shared<Arc<App>>| page(&app, SCRAPED).await;
    let unknown = async || (StatusCode::NOT_FOUND, "served here: /metrics, /healthz, /readyz\n");
    health()
        .route("/metrics", get(metrics))
        .fallback(unknown)
        .layer(from_fn_with_state(Arc::clone(&app), permitted))
        .layer(from_fn(identified))
        .with_state(app)
}

/// The same endpoints where callers connect.
pub fn public_routes() -> Router<Arc<App>> {
    let metrics = get(public_metrics).fallback(only_get);
    health().route("/metrics", metrics).layer(from_fn(identified))
}

fn health() -> Router<Arc<App>> {
    Router::new()
        .route("/healthz", get(async || "ok\n").fallback(only_get))
        .route("/readyz", get(ready).fallback(only_get))
}

/// Rejects peers that the configuration does not name.
async fn permitted(Shared(app): Shared<Arc<App>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0);
    if may_connect(&app.state().config.server.admin_networks, peer) {
        return next.run(request).await;
    }
    let message = "this address is not in server.admin_networks\n";
    (StatusCode::FORBIDDEN, message).into_response()
}

/// Loopback always may: who is on the machine can read the process itself.
fn may_connect(networks: &[IpNet], peer: Option<SocketAddr>) -> bool {
    let Some(peer) = peer.map(|peer| peer.ip().to_canonical()) else { return false };
    networks.is_empty() || peer.is_loopback() || networks.iter().any(|net| net.contains(&peer))
}

/// Gives a response the id that the gateway's own answers have.
async fn identified(request: Request, next: Next) -> Response {
    let id = gateway::ids::request_id(request.headers());
    let mut response = next.run(request).await;
    gateway::ids::set_request_id(&mut response, &id);
    response
}

async fn ready(Shared(app): Shared<Arc<App>>) -> Response {
    if app.shutdown.unready.is_cancelled() || app.shutdown.stopping.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response();
    }
    "ready\n".into_response()
}

async fn public_metrics(Shared(app): Shared<Arc<App>>, request: Request) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0);
    let served = has_public_metrics(&app.state().config.server, peer, request.headers());
    if served {
        // Scripts compare what is counted before and after a request: nothing older than theirs.
        return page(&app, Duration::ZERO).await;
    }
    let message = "metrics are not served here; ask the operators' listener (server.admin), or set \
                   server.public_metrics: true";
    direct_response::not_served(&app, request, message.to_owned()).await
}

/// Whether a peer of the callers' listener gets metrics. Unless the configuration says, only direct
/// callers on the same machine do, of a gateway that listens on loopback only and has no other
/// place for them.
fn has_public_metrics(server: &Server, peer: Option<SocketAddr>, headers: &HeaderMap) -> bool {
    server.public_metrics.unwrap_or_else(|| {
        let local = |peer: SocketAddr| peer.ip().to_canonical().is_loopback();
        server.admin.is_none()
            && server.listen.ip().is_loopback()
            && peer.is_some_and(|peer| local(peer) && !auth::is_forwarded(headers))
    })
}

async fn page(app: &App, oldest: Duration) -> Response {
    match app.metrics_page.get(app, oldest).await {
        Some(page) => ([(CONTENT_TYPE, OPENMETRICS)], page).into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn only_get(Shared(app): Shared<Arc<App>>, request: Request) -> Response {
    direct_response::method_not_allowed(&app, request, "GET").await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "a peer that is known")]
    fn peer(address: &str) -> Option<SocketAddr> {
        Some(SocketAddr::new(address.parse().unwrap(), 1))
    }

    #[test]
    fn metrics_are_public_only_where_nobody_else_is() {
        let local = Server::default();
        let none = HeaderMap::new();
        assert!(has_public_metrics(&local, peer("127.0.0.1"), &none));
        assert!(has_public_metrics(&local, peer("::ffff:127.0.0.1"), &none));
        assert!(!has_public_metrics(&local, peer("192.0.2.1"), &none));
        assert!(!has_public_metrics(&local, None, &none));
        for name in
            ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "cf-ray"]
        {
            let forwarded = HeaderMap::from_iter([(
                http::HeaderName::from_static(name),
                HeaderValue::from_static("x"),
            )]);
            assert!(!has_public_metrics(&local, peer("127.0.0.1"), &forwarded), "{name}");
        }
        let everywhere = Server { listen: "0.0.0.0:8080".parse().unwrap(), ..local.clone() };
        assert!(!has_public_metrics(&everywhere, peer("127.0.0.1"), &none));
        let asked = Server { public_metrics: Some(true), ..everywhere };
        assert!(has_public_metrics(&asked, peer("192.0.2.1"), &none));
        let elsewhere = Server { admin: Some("127.0.0.1:9090".parse().unwrap()), ..local.clone() };
        assert!(!has_public_metrics(&elsewhere, peer("127.0.0.1"), &none));
        let off = Server { public_metrics: Some(false), ..local };
        assert!(!has_public_metrics(&off, peer("127.0.0.1"), &none));
    }

    #[test]
    fn operators_connect_from_their_networks() {
        assert!(may_connect(&[], peer("192.0.2.1")));
        let networks = ["10.0.0.0/8".parse().unwrap()];
        for (address, allowed) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("127.0.0.1", true),
            ("11.0.0.1", false),
        ] {
            assert_eq!(may_connect(&networks, peer(address)), allowed, "{address}");
        }
        assert!(!may_connect(&networks, None));
    }
}
