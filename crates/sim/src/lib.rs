//! The simulated upstream: it serves the vendors' protocols over real HTTP and answers as the model name
//! specifies.
//!
//! It is meant for first runs, tests, load generators and front-end development; `docs/simulator.md` lists its
//! words. It is an independent implementation of the protocols: it must never depend on `streamgate-wire`, or
//! the same mistake on both sides would go unnoticed.

mod answer;
mod anthropic;
mod anthropic_hosted;
mod aws_frames;
mod bedrock;
mod cohere;
mod embeddings;
mod encoder;
mod gemini;
mod ollama;
mod openai;
mod openai_passthrough;
mod openai_responses;
mod play;
mod program;
mod request;
mod stats;
#[cfg(test)]
mod tests;
mod trouble;
mod vendor;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, Uri};
use axum::routing::{get, post};
use bytes::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;

use answer::Answer;
use encoder::{Encoder, Totals};
use play::Play;
use program::{Fault, FaultAction, Program, Replacement, Resume, WORDS};
use request::{RequestError, SimRequest};
use stats::{OpenStream, Stats};
use trouble::Trouble;
use vendor::{VENDORS, Vendor};

/// The most bytes of a request body, as at the vendors.
const BODY_LIMIT: usize = 32 * 1024 * 1024;
/// The most bytes of tokens in an answer that is not streamed.
const WHOLE_LIMIT: u64 = 16 * 1024 * 1024;
/// Delay after a connection could not be accepted, for example for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Creates a router with the simulated upstream. Each router has its own counters.
pub fn router() -> Router {
    let mut router = Router::new();
    for vendor in VENDORS {
        for path in vendor.paths() {
            let answer = move |State(stats): State<Arc<Stats>>,
                               headers: HeaderMap,
                               uri: Uri,
                               body: Bytes| async move {
                reply(*vendor, &stats, (&headers, &uri, &body)).await
            };
            router = router.route(path, post(answer));
        }
    }
    router
        .route("/v1/models", get(models))
        .route("/api/tags", get(|| async { json_response(&ollama::tags()) }))
        .route("/_sim/stats", get(report))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(Arc::new(Stats::default()))
}

/// Serves the simulated upstream on `listener`, HTTP/1.1 and h2c, until `until` resolves. Then every connection
/// is dropped immediately.
pub async fn serve(listener: TcpListener, until: impl Future<Output = ()>) {
    let service = TowerToHyperService::new(router());
    let mut connections = JoinSet::new();
    let mut until = std::pin::pin!(until);
    loop {
        let accepted = tokio::select! {
            () = &mut until => return,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        let Ok((socket, _)) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // A token must not wait for the acknowledgement of the one before it. A socket that rejects the option
        // is already closed.
        if socket.set_nodelay(true).is_err() {
            continue;
        }
        let service = service.clone();
        connections.spawn(async move {
            // Connection errors need no handling here; the counters record them.
            let ended = Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(socket), service)
                .await;
            drop(ended);
        });
    }
}

async fn report(State(stats): State<Arc<Stats>>) -> Response<Body> {
    json_response(&stats.report())
}

async fn models(headers: HeaderMap) -> Response<Body> {
    json_response(&if headers.contains_key("anthropic-version") {
        json!({
            "data": [{
                "type": "model",
                "id": "sim",
                "display_name": "Simulated upstream",
                "created_at": "2026-01-01T00:00:00Z",
            }],
            "has_more": false,
            "first_id": "sim",
            "last_id": "sim",
        })
    } else {
        let model = json!({
            "id": "sim",
            "object": "model",
            "created": openai::CREATED,
            "owned_by": "simulator",
        });
        json!({"object": "list", "data": [model]})
    })
}

/// Answers one request. Every input gets a response.
async fn reply(
    vendor: &dyn Vendor,
    stats: &Arc<Stats>,
    (headers, uri, body): (&HeaderMap, &Uri, &[u8]),
) -> Response<Body> {
    let number = stats.arrived();
    let request_id = format!("req_sim{number}");
    let answered = match (trouble::credential(headers, uri), vendor.read(uri, body)) {
        (Some(refused), _) | (None, Err(refused)) => Err(refused),
        (None, Ok(ask)) => answer(vendor, stats, number, (ask, request::prefill(body))).await,
    };
    let mut response = answered.unwrap_or_else(|refused| refused.response(vendor, &request_id));
    if let Ok(value) = HeaderValue::try_from(request_id) {
        response.headers_mut().insert(HeaderName::from_static(vendor.request_id()), value);
    }
    response
}

async fn answer(
    vendor: &dyn Vendor,
    stats: &Arc<Stats>,
    number: u64,
    (ask, prefill): (SimRequest, Option<String>),
) -> Result<Response<Body>, RequestError> {
    let program = Program::parse(&ask.model).map_err(|_| RequestError::no_model(WORDS))?;
    let state = stats.model(&ask.model);
    let mut under_way = stats.begin(&state);
    match trouble::trouble(&program, (&state, under_way.of_model()), ask.prompt_tokens) {
        Some(Trouble::Hang) => std::future::pending().await,
        Some(Trouble::Refused(error)) => {
            under_way.end();
            return Err(error);
        }
        None => {}
    }
    sleep(program.head).await;
    match program.instead {
        Some(Replacement::Hang) => std::future::pending().await,
        Some(Replacement::Status(code)) => {
            under_way.end();
            return Err(RequestError::asked(code));
        }
        None => {}
    }
    if prefill.is_some() && program.resume == Resume::Reject {
        under_way.end();
        let message = "This model does not support prefill: the last message must be the user's.";
        return Err(RequestError::invalid(message.to_owned(), None));
    }
    let answer = Answer::new(&program, &ask, prefill.as_deref());
    let encoder = vendor.encoder(number, &ask);
    let left = program.left;
    if !ask.stream {
        let mut response = whole(&program, &ask, answer, (encoder, under_way)).await?;
        trouble::add_quota(response.headers_mut(), left);
        return Ok(response);
    }
    let media_type = encoder.layout().media_type();
    let play = Play::new(program, encoder, answer);
    let mut response = Response::new(Body::from_stream(play::body(play, ask.choices, under_way)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    trouble::add_quota(headers, left);
    Ok(response)
}

/// An answer that is not streamed. It takes as long as a streamed one and is sent at once.
async fn whole(
    program: &Program,
    ask: &SimRequest,
    answer: Answer,
    (encoder, mut under_way): (Box<dyn Encoder>, OpenStream),
) -> Result<Response<Body>, RequestError> {
    let width = u64::try_from(program.padding).unwrap_or(u64::MAX).saturating_add(8);
    if answer.total.saturating_mul(width).saturating_mul(ask.choices) > WHOLE_LIMIT {
        under_way.end();
        return Err(RequestError::invalid(
            "The simulated answer is too long to be sent at once: set 'stream'.".to_owned(),
            Some("stream"),
        ));
    }
    sleep(play::lasts(program, answer.total)).await;
    let blow = match program.fault {
        Some(Fault::After(_, blow)) => Some(blow),
        Some(Fault::NoDone) | None => None,
    };
    if blow == Some(FaultAction::Error) {
        under_way.end();
        return Err(RequestError::asked(500));
    }
    let totals = Totals { tokens: answer.total, thinking: answer.thinking, stop: answer.stop };
    let pieces: Vec<_> = answer.pieces.collect();
    under_way.sent(answer.total.saturating_mul(ask.choices));
    let bytes = Bytes::from(encoder.whole(&pieces, totals).to_string());
    Ok(json_body(if let Some(blow) = blow {
        Body::from_stream(play::cut(bytes, blow, under_way))
    } else {
        under_way.end();
        Body::from(bytes)
    }))
}

fn json_response(value: &Value) -> Response<Body> {
    json_body(Body::from(value.to_string()))
}

fn json_body(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
