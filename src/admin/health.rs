//! Liveness and readiness. Neither ever depends on an upstream: a restart does not repair one.

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::AdminState;

/// 200 for as long as the thread that serves the listener runs.
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// 200, or 503 from the stop signal on.
pub(super) async fn ready(Shared(admin): Shared<Arc<AdminState>>) -> Response {
    if admin.gateway.shutdown.unready.is_cancelled()
        || admin.gateway.shutdown.stopping.is_cancelled()
    {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response();
    }
    "ready\n".into_response()
}
