//! What of the relay cannot be provoked from outside.

use std::sync::Arc;

use futures_util::StreamExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Record, Session, Start, stream};
use crate::config::{Limits, Stream as Deadlines};
use crate::gateway::limit::Gate;
use crate::telemetry::Metrics;
use crate::wire::dialect::{CHAT, Call, caller_dialects};

/// Failure mode 54: a panic within a stream is an error event, a record and a returned permit.
#[tokio::test]
async fn fm54_a_panic_in_a_stream_is_told_and_settled() {
    for dialect in caller_dialects() {
        let metrics = Arc::<Metrics>::default();
        let record = Record::begin(&metrics, "req_1", dialect.name());
        let gate = Gate::new(Limits { concurrent_streams: Some(1), ..Limits::default() });
        let admission = gate.admit().unwrap();
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
        let body: Vec<_> = stream(start, session, record, admission).collect().await;
        let [Ok(event)] = body.as_slice() else { panic!("{} events", body.len()) };
        let text = String::from_utf8(event.to_vec()).unwrap();
        assert!(text.contains("error") && text.ends_with("\n\n"), "{text}");
        assert!(!text.contains("a fault of ours"), "{text}");
        assert!(metrics.render().contains("outcome=\"internal_error\"} 1"), "{}", metrics.render());
        assert!(gate.admit().is_ok());
    }
}
