//! Admin endpoints: health, readiness, metrics and the health of targets, on the operators' listener (`server.admin`)
//! and, as far as the configuration permits, on the callers' listener.
//!
//! They never send a request to an upstream, and require no credential: access is by address. One changes something,
//! and is on the operators' listener alone: it ends the ejection of a target.

mod health;
mod metrics;
mod metrics_page;
mod targets;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State as Shared};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use http::StatusCode;
use ipnet::IpNet;

use crate::gateway::state::Gateway;
use crate::gateway::{self, direct_response};
pub use metrics_page::MetricsPage;

/// The state of the admin endpoints.
pub struct AdminState {
    /// The gateway that they are about.
    pub gateway: Gateway,
    /// The metrics page, shared by all listeners.
    pub page: Arc<MetricsPage>,
}

/// A path, the methods that it supports, and their handlers.
type Endpoint = (&'static str, &'static str, MethodRouter<Arc<AdminState>>);

/// Endpoints of both listeners: the workers that serve callers are what has to be alive and ready.
fn shared_endpoints() -> Vec<Endpoint> {
    vec![("/healthz", "GET", get(health::alive)), ("/readyz", "GET", get(health::ready))]
}

/// Endpoints of the operators' listener alone. A new one is a line here: the router, its 404, which lists them, and
/// 405 for other methods follow. Their handlers may stream, and run on a thread that serves no caller.
fn admin_endpoints() -> Vec<Endpoint> {
    vec![
        ("/metrics", "GET", get(metrics::admin)),
        ("/status/targets", "GET, HEAD, POST", get(targets::list).post(targets::change)),
    ]
}

/// The router of the operators' listener.
pub fn router(admin: Arc<AdminState>) -> Router {
    let endpoints = [admin_endpoints(), shared_endpoints()].concat();
    let paths: Vec<&str> = endpoints.iter().map(|(path, ..)| *path).collect();
    let not_found = format!("served here: {}\n", paths.join(", "));
    routes(endpoints)
        .fallback(async move || (StatusCode::NOT_FOUND, not_found.clone()))
        .layer(from_fn_with_state(Arc::clone(&admin), check_address))
        .layer(from_fn(add_request_id))
        .with_state(admin)
}

/// The admin endpoints of the callers' listener.
pub fn public_routes<S>(admin: Arc<AdminState>) -> Router<S> {
    let metrics = ("/metrics", "GET", get(metrics::public));
    routes([shared_endpoints(), vec![metrics]].concat())
        .layer(from_fn(add_request_id))
        .with_state(admin)
}

fn routes(endpoints: Vec<Endpoint>) -> Router<Arc<AdminState>> {
    endpoints.into_iter().fold(Router::new(), |router, (path, allowed, methods)| {
        let other = async move |Shared(admin): Shared<Arc<AdminState>>, request: Request| {
            direct_response::method_not_allowed(&admin.gateway, request, allowed).await
        };
        router.route(path, methods.fallback(other))
    })
}

/// Rejects peers that `server.admin_networks` does not list.
async fn check_address(
    Shared(admin): Shared<Arc<AdminState>>,
    request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0);
    if may_connect(&admin.gateway.state().config.server.admin_networks, peer) {
        return next.run(request).await;
    }
    let message = "this address is not in server.admin_networks\n";
    (StatusCode::FORBIDDEN, message).into_response()
}

/// Loopback always may: a process on the same machine can read this one's memory anyway.
fn may_connect(networks: &[IpNet], peer: Option<SocketAddr>) -> bool {
    let Some(peer) = peer.map(|peer| peer.ip().to_canonical()) else { return false };
    networks.is_empty() || peer.is_loopback() || networks.iter().any(|net| net.contains(&peer))
}

/// Sets the request id on a response, as the gateway does on its own.
async fn add_request_id(request: Request, next: Next) -> Response {
    let id = gateway::ids::request_id(request.headers());
    let mut response = next.run(request).await;
    gateway::ids::set_request_id(&mut response, &id);
    response
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt as _;

    use super::*;
    use crate::config::Config;
    use crate::server::Shutdown;

    fn peer(address: &str) -> SocketAddr {
        SocketAddr::new(address.parse().unwrap(), 1)
    }

    #[test]
    fn operators_connect_from_loopback_and_the_listed_networks() {
        let networks = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        for (address, may) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("fd00::1", true),
            ("127.0.0.1", true),
            ("11.0.0.1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(may_connect(&networks, Some(peer(address))), may, "{address}");
            assert!(may_connect(&[], Some(peer(address))), "{address}");
        }
        assert!(!may_connect(&networks, None));
    }

    /// Every endpoint of a list is served, named by the 404, and answers other methods with 405 and `allow`.
    #[tokio::test(start_paused = true)]
    async fn an_endpoint_in_the_list_is_served_listed_and_bound_to_its_method() {
        let gateway = Gateway::new(Config::default(), &Shutdown::default()).unwrap();
        let router = router(Arc::new(AdminState { gateway, page: Arc::default() }));
        let send = async |method: &str, path: &str| {
            let request = Request::builder().method(method).uri(path);
            let request = request.extension(ConnectInfo(peer("127.0.0.1")));
            router.clone().oneshot(request.body(axum::body::Body::empty()).unwrap()).await.unwrap()
        };
        let unknown = send("GET", "/").await;
        assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
        let text = axum::body::to_bytes(unknown.into_body(), 1024).await.unwrap();
        assert_eq!(text, "served here: /metrics, /status/targets, /healthz, /readyz\n");
        for (path, allowed, _) in [admin_endpoints(), shared_endpoints()].concat() {
            let response = send("GET", path).await;
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            assert!(response.headers().contains_key("x-request-id"), "{path}");
            let response = send("PUT", path).await;
            assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
            let allowed = if allowed == "GET" { "GET, HEAD" } else { allowed };
            assert_eq!(response.headers()["allow"], allowed, "{path}");
        }
        for (query, status) in
            [("", 400), ("?reset=a", 404), ("?reset=a&reset=b", 400), ("?x=a", 400)]
        {
            let response = send("POST", &format!("/status/targets{query}")).await;
            assert_eq!(response.status(), status, "{query}");
        }
    }
}
