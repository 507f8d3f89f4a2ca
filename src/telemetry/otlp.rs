//! The way of spans to a collector: a bounded backlog, sent in batches by the SDK's own thread.
//!
//! A collector that is down or hangs costs spans and never a request: what does not fit is dropped,
//! counted, and reported in the log once a minute at most.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Request, Response};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, Span, SpanData,
    SpanExporter as Export, SpanProcessor,
};
use tokio::time::Instant;

use super::{Metrics, SpanLossLabels};
use crate::config::Otlp;

/// The most spans that wait to be sent, or are being sent.
const BACKLOG: usize = 8192;

/// The most spans in one export.
const BATCH: usize = 512;

/// The log tells of lost spans no more often than this.
const QUIET: Duration = Duration::from_mins(1);

/// Builds the SDK's part of it.
pub(super) fn provider(
    otlp: &Otlp,
    client: impl HttpClient + 'static,
    backlog: &Arc<Backlog>,
) -> Result<SdkTracerProvider, ExporterBuildError> {
    let headers = otlp.headers.iter().cloned().collect();
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(otlp.endpoint.as_str())
        .with_timeout(otlp.timeout)
        .with_http_client(Client { client, headers })
        .build()?;
    let delivery = Delivery { exporter, backlog: Arc::clone(backlog) };
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(BACKLOG)
        .with_max_export_batch_size(BATCH)
        .build();
    let batches = BatchSpanProcessor::builder(delivery).with_batch_config(config).build();
    let resource = Resource::builder()
        .with_service_name(otlp.service_name.clone())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    Ok(SdkTracerProvider::builder()
        .with_resource(resource)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(otlp.sample))))
        .with_span_processor(Bounded { batches, backlog: Arc::clone(backlog) })
        .build())
}

/// Spans that are on their way, and those that did not make it.
#[derive(Debug)]
pub(super) struct Backlog {
    metrics: Arc<Metrics>,
    waiting: AtomicUsize,
    /// Lost since the last log line about it.
    unreported: AtomicU64,
    reported_at: Mutex<Option<Instant>>,
}

impl Backlog {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        let (waiting, unreported) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self { metrics, waiting, unreported, reported_at: Mutex::new(None) }
    }

    /// Whether there is room for one more, which is then taken.
    fn take_in(&self) -> bool {
        let taken = self
            .waiting
            .fetch_update(Relaxed, Relaxed, |waiting| (waiting < BACKLOG).then_some(waiting + 1));
        if taken.is_err() {
            self.lose(1, "backlog_full");
        }
        taken.is_ok()
    }

    /// An export has ended.
    fn exported(&self, spans: usize, result: &OTelSdkResult) {
        self.waiting.fetch_sub(spans, Relaxed);
        if result.is_err() {
            self.lose(spans as u64, "export_failed");
        }
        if self.unreported.load(Relaxed) == 0 {
            return;
        }
        let Ok(mut reported_at) = self.reported_at.lock() else { return };
        if reported_at.is_none_or(|reported_at| reported_at.elapsed() >= QUIET) {
            *reported_at = Some(Instant::now());
            let error = result.as_ref().err().map(OTelSdkError::to_string);
            tracing::warn!(
                lost = self.unreported.swap(0, Relaxed),
                error,
                "spans were lost; check telemetry.otlp.endpoint and the collector behind it"
            );
        }
    }

    /// What is still waiting will not be sent any more.
    pub(super) fn abandon(&self) {
        let left = self.waiting.load(Relaxed) as u64;
        self.lose(left, "shutdown");
        let lost = self.unreported.swap(0, Relaxed);
        if lost > 0 {
            tracing::warn!(lost, "spans were lost: the collector did not take them in time");
        }
    }

    fn lose(&self, spans: u64, reason: &'static str) {
        self.unreported.fetch_add(spans, Relaxed);
        self.metrics.spans_lost.get_or_create(&SpanLossLabels { reason }).inc_by(spans);
    }
}

/// Lets no more spans into the SDK's queue than it holds, so that none is dropped unseen.
#[derive(Debug)]
struct Bounded {
    batches: BatchSpanProcessor,
    backlog: Arc<Backlog>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.backlog.take_in() {
            self.batches.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// The exporter, which tells the backlog what became of its spans.
#[derive(Debug)]
struct Delivery {
    exporter: SpanExporter,
    backlog: Arc<Backlog>,
}

impl Export for Delivery {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.exporter.export(batch).await;
        self.backlog.exported(spans, &result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// A client that sends our headers and no others: the exporter would add those of the environment,
/// whatever the configuration says.
struct Client<C> {
    client: C,
    headers: HeaderMap,
}

impl<C> Debug for Client<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Headers may hold credentials.
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

type Sent<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl<C: HttpClient> HttpClient for Client<C> {
    fn send_bytes<'s, 'a>(&'s self, mut request: Request<Bytes>) -> Sent<'a>
    where
        's: 'a,
        Self: 'a,
    {
        let mut headers = self.headers.clone();
        for name in [CONTENT_TYPE, CONTENT_ENCODING] {
            if let Some(value) = request.headers_mut().remove(&name) {
                headers.insert(name, value);
            }
        }
        *request.headers_mut() = headers;
        self.client.send_bytes(request)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;
    use crate::telemetry::trace::Tracing;

    /// A collector that signals when it gets a request, and responds on a signal.
    struct Slow {
        asked: Sender<()>,
        answer: Mutex<Receiver<()>>,
    }

    impl Debug for Slow {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Slow")
        }
    }

    impl HttpClient for Slow {
        fn send_bytes<'s, 'a>(&'s self, _: Request<Bytes>) -> Sent<'a>
        where
            's: 'a,
            Self: 'a,
        {
            self.asked.send(()).ok();
            // Disconnected: every later request is answered at once.
            self.answer.lock().unwrap().recv().ok();
            Box::pin(async { Ok(Response::new(Bytes::new())) })
        }
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        const MORE: usize = 100;
        let metrics = Arc::<Metrics>::default();
        let (asked, is_asked) = channel();
        let (answer, answers) = channel();
        let otlp = Otlp {
            endpoint: "http://localhost/v1/traces".parse().unwrap(),
            headers: Vec::new(),
            sample: 1.0,
            service_name: "test".to_owned(),
            timeout: Duration::from_mins(1),
        };
        let tracing =
            Tracing::new(&otlp, Slow { asked, answer: Mutex::new(answers) }, &metrics).unwrap();
        for _ in 0..BACKLOG + MORE {
            drop(tracing.begin(&HeaderMap::new()));
        }
        // The first batch is on its way, and still counts.
        is_asked.recv().unwrap();
        let lost = |spans: usize| {
            format!("streamgate_spans_lost_total{{reason=\"backlog_full\"}} {spans}\n")
        };
        assert!(metrics.render().contains(&lost(MORE)), "{}", metrics.render());
        drop(answer);
        tracing.shutdown(Duration::from_mins(1));
        assert!(metrics.render().contains(&lost(MORE)), "{}", metrics.render());
        assert!(!metrics.render().contains("export_failed"), "{}", metrics.render());
        assert!(is_asked.iter().count() >= BACKLOG / BATCH - 1, "everything else was sent");
    }
}
