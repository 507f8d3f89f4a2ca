//! What of the relay cannot be provoked from outside.

use std::num::NonZeroU32;
use std::sync::Arc;

use futures_util::StreamExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Record, Session, Start, stream};
use crate::config::{Limits, Stream as Deadlines};
use crate::gateway::limit::{Gate, Need, Scope};
use crate::telemetry::Metrics;
use crate::wire::dialect::{CHAT, Call, caller_dialects};

/// Failure mode 54: a panic within a stream is an error event, a record and a returned permit.
#[tokio::test]
async fn fm54_a_panic_in_a_stream_is_told_and_settled() {
    for dialect in caller_dialects() {
        let metrics = Arc::<Metrics>::default();
        let mut record = Record::begin(&metrics, "req_1", dialect.name());
        let limits = Limits {
            concurrent_streams: Some(1),
            tokens_per_minute: NonZeroU32::new(50),
            ..Limits::default()
        };
        let need = Need { input: 10, max_output: Some(40), choices: 1 };
        let gate = Arc::new(Gate::new(Scope::Caller, limits));
        let mut admission = gate.admit().unwrap();
        admission.reserve(&need).unwrap();
        record.admitted(admission);
        assert!(gate.admit().is_err());
        let session = Session {
            dialect,
            call: Call {
                id: "0123456789abcdefghijABCD".to_owned(),
                created: 1,
                model: "m".to_owned(),
                stream: true,
                want_usage: false,
                form: CHAT,
            },
            stream: Deadlines::default(),
            started: Instant::now(),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let start = Start::Opening(Box::pin(async { panic!("a fault of ours") }));
        let body: Vec<_> = stream(start, session, record).collect().await;
        let [Ok(event)] = body.as_slice() else { panic!("{} events", body.len()) };
        let text = String::from_utf8(event.to_vec()).unwrap();
        assert!(text.contains("error") && text.ends_with("\n\n"), "{text}");
        assert!(!text.contains("a fault of ours"), "{text}");
        assert!(metrics.render().contains("outcome=\"internal_error\"} 1"), "{}", metrics.render());
        gate.admit().unwrap().reserve(&need).unwrap();
    }
}
