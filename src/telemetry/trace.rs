//! Spans: what a request and its attempts look like to a tracing system.
//!
//! A span is begun, told a few things, and sent when it is dropped. Off by default, and then nothing
//! is made; the caller's own place in a trace is passed on all the same. Nothing here happens per token.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use opentelemetry::trace::{
    Span as _, SpanContext, SpanKind, Status, TraceContextExt, Tracer, TracerProvider,
};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value};
use opentelemetry_http::HttpClient;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span as SdkSpan};

use super::Metrics;
use super::context::{self, Remote};
use super::otlp::{self, Backlog};
use crate::config::Otlp;

/// The process's way to a collector; off unless it is made by [`Tracing::new`].
#[derive(Debug, Clone, Default)]
pub struct Tracing(Option<Arc<Sender>>);

#[derive(Debug)]
struct Sender {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    backlog: Arc<Backlog>,
}

impl Tracing {
    /// Sends spans to a collector, from a thread of its own, by a client that blocks it.
    pub fn new(
        otlp: &Otlp,
        client: impl HttpClient + 'static,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let backlog = Arc::new(Backlog::new(Arc::clone(metrics)));
        let provider = otlp::provider(otlp, client, &backlog)?;
        let tracer = provider.tracer("streamgate");
        Ok(Self(Some(Arc::new(Sender { provider, tracer, backlog }))))
    }

    /// Where a request with these headers stands in a trace, and its span if it gets one.
    pub fn begin(&self, headers: &HeaderMap) -> (Place, Option<Span>) {
        let remote = Remote::read(headers);
        let Some(sender) = &self.0 else {
            return (remote.map_or(Place::None, Place::Caller), None);
        };
        let parent = remote.map(|remote| remote.span);
        let span = Span::start(&sender.tracer, "request".into(), SpanKind::Server, parent);
        let context = span.lock().span_context().clone();
        (Place::Ours(sender.tracer.clone(), context), Some(span))
    }

    /// Sends what is left, but no longer than `bound`. Blocks; spans that end later are lost.
    pub fn shutdown(&self, bound: Duration) {
        if let Some(sender) = &self.0
            && sender.provider.shutdown_with_timeout(bound).is_err()
        {
            sender.backlog.abandon();
        }
    }
}

/// Where something stands in a trace.
#[derive(Debug, Clone, Default)]
pub enum Place {
    /// Nowhere.
    #[default]
    None,
    /// Below a caller's span, with none of ours.
    Caller(Remote),
    /// In a span of ours.
    Ours(SdkTracer, SpanContext),
}

impl Place {
    /// The trace's id, 32 hexadecimal digits.
    pub fn trace_id(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Caller(remote) => Some(remote.span.trace_id().to_string()),
            Self::Ours(_, span) => Some(span.trace_id().to_string()),
        }
    }

    /// Whether the trace is ours to show.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Ours(..))
    }

    /// Begins a span of something that we ask of somebody else.
    pub fn child(&self, name: String) -> Option<Span> {
        let Self::Ours(tracer, parent) = self else { return None };
        Some(Span::start(tracer, name.into(), SpanKind::Client, Some(parent.clone())))
    }

    /// Tells whom we ask where it stands: in `child`, or where the caller stood.
    pub fn pass_on(&self, child: Option<&Span>, headers: &mut HeaderMap) {
        match (self, child) {
            (_, Some(child)) => context::write(child.lock().span_context(), headers),
            (Self::Caller(remote), None) => remote.write(headers),
            (Self::Ours(_, span), None) => context::write(span, headers),
            (Self::None, None) => {}
        }
    }
}

/// A span under way. It ends, and is sent if it is sampled, when it is dropped.
#[derive(Debug)]
pub struct Span(Mutex<SdkSpan>);

impl Span {
    fn start(
        tracer: &SdkTracer,
        name: Cow<'static, str>,
        kind: SpanKind,
        parent: Option<SpanContext>,
    ) -> Self {
        let builder = tracer.span_builder(name).with_kind(kind);
        // Even an invalid parent would decide about sampling.
        let context = parent
            .map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent));
        Self(Mutex::new(tracer.build_with_context(builder, &context)))
    }

    fn lock(&self) -> MutexGuard<'_, SdkSpan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anybody will see it. If not, telling it things is a waste.
    pub fn is_recording(&self) -> bool {
        self.lock().is_recording()
    }

    /// Gives it another name.
    pub fn rename(&self, name: String) {
        self.lock().update_name(name);
    }

    /// Tells an attribute.
    pub fn set(&self, name: &'static str, value: impl Into<Value>) {
        self.lock().set_attribute(KeyValue::new(name, value));
    }

    /// Tells an attribute that has several values.
    pub fn set_list(&self, name: &'static str, values: &[&str]) {
        let values = values.iter().map(|value| StringValue::from((*value).to_owned())).collect();
        self.set(name, Value::Array(Array::String(values)));
    }

    /// Tells of something that happened some time ago.
    pub fn event(&self, name: &'static str, ago: Duration, took: Option<Duration>) {
        let now = opentelemetry::time::now();
        let at = now.checked_sub(ago).unwrap_or(now);
        let took = took.map(|took| KeyValue::new("streamgate.duration", took.as_secs_f64()));
        self.lock().add_event_with_timestamp(name, at, took.into_iter().collect());
    }

    /// What it is about has failed; `why` is a stable word.
    pub fn fail(&self, why: &'static str) {
        self.lock().set_status(Status::error(why));
    }

    /// Ends it before it is dropped.
    pub fn end(&self) {
        self.lock().end();
    }
}
