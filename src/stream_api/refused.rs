//! Refusals for browsers' `EventSource`, which never reconnects after a status other than 200 (WHATWG HTML 9.2.3): the
//! same refusal as an event, with a time after which to come back.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use http_body_util::BodyExt;
use rand::RngExt as _;
use serde_json::{Value, json};

use crate::gateway::reply::stream_response;

/// The time after which a refused client comes back, in milliseconds. Drawn for each, so that they do not come
/// together.
const RETRY: std::ops::RangeInclusive<u32> = 15_000..=60_000;

/// A response as `EventSource` can read it. 204 stays: it ends the reconnecting, as it should.
pub(super) async fn for_event_source(response: Response) -> Response {
    let status = response.status();
    if status == StatusCode::OK || status == StatusCode::NO_CONTENT {
        return response;
    }
    let (mut head, body) = response.into_parts();
    // Error bodies are short, and written by the gateway.
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let message = body.pointer("/error/message").cloned().unwrap_or_default();
    let data = json!({"status": status.as_u16(), "message": message});
    let retry = rand::rng().random_range(RETRY);
    let event = format!("retry: {retry}\nevent: refused\ndata: {data}\n\n");
    head.headers.remove(http::header::CONTENT_LENGTH);
    stream_response(head.headers, "text/event-stream", Body::from(event))
}
