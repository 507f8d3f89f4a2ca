//! `GET /metrics` on both listeners, and the rule that decides which peers get it on the callers' listener.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State as Shared};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::AdminState;
use crate::config::Server;
use crate::gateway::{auth, direct_response};

const OPENMETRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// The maximum age of a page on the operators' listener, which bounds the cost of scrapes.
const MAX_PAGE_AGE: Duration = Duration::from_secs(1);

/// The page on the operators' listener.
pub(super) async fn admin(Shared(admin): Shared<Arc<AdminState>>) -> Response {
    page(&admin, MAX_PAGE_AGE).await
}

/// The page on the callers' listener, or a 404 that names the settings.
pub(super) async fn public(Shared(admin): Shared<Arc<AdminState>>, request: Request) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0);
    if is_public(&admin.gateway.state().config.server, peer, request.headers()) {
        // Scripts compare counts before and after a request: never a page from before this request.
        return page(&admin, Duration::ZERO).await;
    }
    let message = "metrics are not served here; ask the operators' listener (server.admin), or set \
                   server.public_metrics: true";
    direct_response::not_served(&admin.gateway, request, message.to_owned()).await
}

/// Whether a peer of the callers' listener gets metrics. Without `public_metrics`, only direct callers on the same
/// machine do, of a gateway that listens on loopback only and has no operators' listener.
fn is_public(server: &Server, peer: Option<SocketAddr>, headers: &HeaderMap) -> bool {
    server.public_metrics.unwrap_or_else(|| {
        let local = |peer: SocketAddr| peer.ip().to_canonical().is_loopback();
        server.admin.is_none()
            && server.listen.ip().is_loopback()
            && peer.is_some_and(|peer| local(peer) && !auth::is_forwarded(headers))
    })
}

async fn page(admin: &AdminState, max_age: Duration) -> Response {
    match admin.page.get(&admin.gateway, max_age).await {
        Some(page) => ([(CONTENT_TYPE, OPENMETRICS)], page).into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "a peer that is known")]
    fn peer(address: &str) -> Option<SocketAddr> {
        Some(SocketAddr::new(address.parse().unwrap(), 1))
    }

    #[test]
    fn metrics_are_public_only_for_direct_callers_on_loopback() {
        let local = Server::default();
        let none = HeaderMap::new();
        assert!(is_public(&local, peer("127.0.0.1"), &none));
        assert!(is_public(&local, peer("::ffff:127.0.0.1"), &none));
        assert!(!is_public(&local, peer("192.0.2.1"), &none));
        assert!(!is_public(&local, None, &none));
        for name in
            ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "cf-ray"]
        {
            let forwarded = HeaderMap::from_iter([(
                http::HeaderName::from_static(name),
                HeaderValue::from_static("x"),
            )]);
            assert!(!is_public(&local, peer("127.0.0.1"), &forwarded), "{name}");
        }
        let everywhere = Server { listen: "0.0.0.0:8080".parse().unwrap(), ..local.clone() };
        assert!(!is_public(&everywhere, peer("127.0.0.1"), &none));
        let asked = Server { public_metrics: Some(true), ..everywhere };
        assert!(is_public(&asked, peer("192.0.2.1"), &none));
        let elsewhere = Server { admin: Some("127.0.0.1:9090".parse().unwrap()), ..local.clone() };
        assert!(!is_public(&elsewhere, peer("127.0.0.1"), &none));
        let off = Server { public_metrics: Some(false), ..local };
        assert!(!is_public(&off, peer("127.0.0.1"), &none));
    }
}
