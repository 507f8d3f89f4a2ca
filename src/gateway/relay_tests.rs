//! What of the relay cannot be provoked from outside.

use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use http::{HeaderMap, Request, Response};
use opentelemetry_http::{Bytes, HttpClient, HttpError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Record, Session, Start, stream};
use crate::config::{Limits, Otlp, Stream as Deadlines};
use crate::gateway::limit::{Gate, Need, Scope};
use crate::telemetry::Metrics;
use crate::telemetry::trace::Tracing;
use crate::wire::chat::ToolForms;
use crate::wire::dialect::{Clock, Form, Operation, ResponseContext, caller_dialects};

/// A collector: what it was sent.
#[derive(Debug, Clone, Default)]
struct Sent(Arc<Mutex<Vec<u8>>>);

type Answered<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl HttpClient for Sent {
    fn send_bytes<'s, 'a>(&'s self, request: Request<Bytes>) -> Answered<'a>
    where
        's: 'a,
        Self: 'a,
    {
        self.0.lock().unwrap().extend_from_slice(request.body());
        Box::pin(async { Ok(Response::new(Bytes::new())) })
    }
}

fn tracing(metrics: &Arc<Metrics>, sent: &Sent) -> Tracing {
    let otlp = Otlp {
        endpoint: "http://localhost/v1/traces".parse().unwrap(),
        headers: Vec::new(),
        sample: 1.0,
        service_name: "test".to_owned(),
        timeout: Duration::from_secs(10),
    };
    Tracing::new(&otlp, sent.clone(), metrics).unwrap()
}

/// Failure mode 54: a panic within a stream is an error event, a record, a span and a returned
/// permit.
#[tokio::test]
async fn fm54_a_panic_in_a_stream_is_told_and_settled() {
    for dialect in caller_dialects() {
        let metrics = Arc::<Metrics>::default();
        let mut record = Record::begin(&metrics, "req_1", dialect.name(), &Request::new(()));
        let sent = Sent::default();
        let tracing = tracing(&metrics, &sent);
        record.trace(
            &tracing,
            &HeaderMap::new(),
            (&dialect.endpoints()[0], Operation::Chat),
            Duration::MAX,
        );
        let limits = Limits {
            concurrent_streams: Some(1),
            tokens_per_minute: NonZeroU32::new(50),
            ..Limits::default()
        };
        let need = Need { input: 10, max_output: Some(40), choices: 1 };
        let gate = Arc::new(Gate::new(Scope::Caller, limits));
        let mut admission = gate.admit().unwrap();
        admission.reserve(&need).unwrap();
        record.admitted(admission, &need, false);
        assert!(gate.admit().is_err());
        let session = Session {
            dialect,
            call: ResponseContext {
                id: "0123456789abcdefghijABCD".to_owned(),
                created: 1,
                model: "m".to_owned(),
                stream: true,
                want_usage: false,
                form: Form::Chat,
                echo: String::new(),
                tool_forms: ToolForms::default(),
                input_estimate: 0,
                now: Clock(|| 0),
            },
            stream: Deadlines::default(),
            started: Instant::now(),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let start = Start::Opening(Box::pin(async { panic!("a fault of ours") }));
        let body: Vec<_> = stream(start, session, record).collect().await;
        // Some dialects have the body cut after that, behind the error once more.
        let event = match body.as_slice() {
            [Ok(event)] | [Ok(event), Err(_)] | [Ok(event), Ok(_), Err(_)] => event,
            other => panic!("{other:?}"),
        };
        let text = String::from_utf8(event.to_vec()).unwrap();
        assert!(text.contains("error") && text.ends_with('\n'), "{text}");
        assert!(!text.contains("a fault of ours"), "{text}");
        assert!(metrics.render().contains("outcome=\"internal_error\"} 1"), "{}", metrics.render());
        gate.admit().unwrap().reserve(&need).unwrap();
        // Nothing of this collector needs the runtime.
        tracing.shutdown(Duration::from_secs(10));
        let span = String::from_utf8_lossy(&sent.0.lock().unwrap()).into_owned();
        assert!(span.contains("internal_error"), "{span}");
        assert!(!span.contains("a fault of ours"), "{span}");
    }
}
