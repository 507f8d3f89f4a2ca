//! `GET /status/targets`: the health of targets, and `POST` to drain or reset one, on the operators' listener. It must never show an
//! address or a credential.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, ORIGIN};
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::AdminState;
use crate::gateway::target_health::TargetStatus;

/// The state of all targets.
pub(super) async fn list(Shared(admin): Shared<Arc<AdminState>>) -> Response {
    let targets = admin.gateway.health.status(Instant::now());
    let page = json!({ "targets": targets.iter().map(shown).collect::<Vec<_>>() });
    ([(CONTENT_TYPE, "application/json")], format!("{page}\n")).into_response()
}

/// Takes the target that `drain` names out, or ends the drain and the ejections of the one that `reset` names.
pub(super) async fn change(
    Shared(admin): Shared<Arc<AdminState>>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    if headers.contains_key(ORIGIN) {
        let message = "pages may not change anything here\n";
        return (StatusCode::FORBIDDEN, message).into_response();
    }
    let query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let query: Vec<_> = query.collect();
    let [(name, target)] = query.as_slice() else { return usage() };
    let (known, done) = match &**name {
        "reset" => (admin.gateway.health.reset(target), "target reset by an operator"),
        "drain" => (admin.gateway.health.drain(target), "target drained by an operator"),
        _ => return usage(),
    };
    if !known {
        let message = "there is no such target; GET /status/targets lists them\n";
        return (StatusCode::NOT_FOUND, message).into_response();
    }
    tracing::info!(target = %crate::gateway::access_log::short(target), "{done}");
    StatusCode::NO_CONTENT.into_response()
}

fn usage() -> Response {
    let message = "expected ?reset=PROVIDER/MODEL or ?drain=PROVIDER/MODEL; GET /status/targets lists the targets\n";
    (StatusCode::BAD_REQUEST, message).into_response()
}

fn shown(status: &TargetStatus) -> Value {
    let [(own, _), (credential, _), (host, _)] = status.states;
    let ready = status.states.iter().map(|(_, wait)| *wait).max().unwrap_or_default();
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let mut shown = json!({
        "target": &*status.target,
        "state": if status.drained { "drained" } else { own },
        "credential": credential,
        "host": host,
        "ready_in_ms": millis(ready),
        "open_streams": status.open_streams,
        "ttft_ms": status.ttft.map(millis),
    });
    if let (Some(key), Some(members)) = (&status.key, shown.as_object_mut()) {
        members.insert("key".to_owned(), json!(&**key));
    }
    if let (Some(limit), Some(members)) = (status.learned_limit, shown.as_object_mut()) {
        members.insert("learned_limit".to_owned(), json!(limit));
    }
    shown
}
