//! Tracing: OpenTelemetry spans of requests and attempts.
//!
//! A span is started, gets attributes, and is exported when it is dropped. Off by default: then no span is created, and
//! the caller's trace context is passed on unchanged. Nothing here runs per token.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use opentelemetry::trace::{
    Span as _, SpanContext, SpanKind, Status, TraceContextExt, Tracer as _,
};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value};
#[cfg(feature = "otlp")]
use opentelemetry_http::HttpClient;

#[cfg(feature = "otlp")]
use super::Metrics;
use super::context::{self, Remote};
use super::otlp::{self, Exporter, Tracer};
#[cfg(feature = "otlp")]
use crate::config::Otlp;

/// The process's tracer; off unless created by [`Tracing::new`].
#[derive(Debug, Clone, Default)]
pub struct Tracing(Option<Arc<Sender>>);

#[derive(Debug)]
struct Sender {
    tracer: Tracer,
    exporter: Exporter,
}

impl Tracing {
    /// Exports spans to a collector from a thread of its own, with a blocking client.
    #[cfg(feature = "otlp")]
    pub fn new(
        otlp: &Otlp,
        client: impl HttpClient + 'static,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let exporter = Exporter::new(otlp, client, metrics)?;
        Ok(Self(Some(Arc::new(Sender { tracer: exporter.tracer(), exporter }))))
    }

    /// The trace context of a request with these headers, and its span if tracing is on.
    pub fn begin(&self, headers: &HeaderMap) -> (TraceContext, Option<Span>) {
        let remote = Remote::read(headers);
        let Some(sender) = &self.0 else {
            return (remote.map_or(TraceContext::None, TraceContext::Caller), None);
        };
        let parent = remote.map(|remote| remote.span);
        let span = Span::start(&sender.tracer, "request".into(), SpanKind::Server, parent);
        let context = span.lock().span_context().clone();
        (TraceContext::Ours(sender.tracer.clone(), context), Some(span))
    }

    /// Exports the remaining spans within `bound`. Blocks; spans that end later are lost.
    pub fn shutdown(&self, bound: Duration) {
        if let Some(sender) = &self.0 {
            sender.exporter.shutdown(bound);
        }
    }
}

/// The trace context of a request.
#[derive(Debug, Clone, Default)]
pub enum TraceContext {
    /// No trace.
    #[default]
    None,
    /// The caller's span, without one of our own.
    Caller(Remote),
    /// A span of our own.
    Ours(Tracer, SpanContext),
}

impl TraceContext {
    /// The trace id, 32 hexadecimal digits.
    pub fn trace_id(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Caller(remote) => Some(remote.span.trace_id().to_string()),
            Self::Ours(_, span) => Some(span.trace_id().to_string()),
        }
    }

    /// Whether the request has a span of our own.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Ours(..))
    }

    /// Starts a client span below the request's.
    pub fn child(&self, name: String) -> Option<Span> {
        let Self::Ours(tracer, parent) = self else { return None };
        Some(Span::start(tracer, name.into(), SpanKind::Client, Some(parent.clone())))
    }

    /// Writes the trace headers of an upstream request: those of `child`, or the caller's.
    pub fn pass_on(&self, child: Option<&Span>, headers: &mut HeaderMap) {
        match (self, child) {
            (_, Some(child)) => context::write(child.lock().span_context(), headers),
            (Self::Caller(remote), None) => remote.write(headers),
            (Self::Ours(_, span), None) => context::write(span, headers),
            (Self::None, None) => {}
        }
    }
}

/// A span in progress. It ends when it is dropped, and is exported if it is sampled.
#[derive(Debug)]
pub struct Span(Mutex<otlp::Span>);

impl Span {
    fn start(
        tracer: &Tracer,
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

    fn lock(&self) -> MutexGuard<'_, otlp::Span> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it will be exported. If not, setting attributes is wasted work.
    pub fn is_recording(&self) -> bool {
        self.lock().is_recording()
    }

    /// Sets its name.
    pub fn rename(&self, name: String) {
        self.lock().update_name(name);
    }

    /// Sets an attribute.
    pub fn set(&self, name: &'static str, value: impl Into<Value>) {
        self.lock().set_attribute(KeyValue::new(name, value));
    }

    /// Sets an attribute with several values.
    pub fn set_list(&self, name: &'static str, values: &[&str]) {
        let values = values.iter().map(|value| StringValue::from((*value).to_owned())).collect();
        self.set(name, Value::Array(Array::String(values)));
    }

    /// Adds an event that happened `ago`, with its duration.
    pub fn event(&self, name: &'static str, ago: Duration, took: Option<Duration>) {
        let now = opentelemetry::time::now();
        let at = now.checked_sub(ago).unwrap_or(now);
        let took = took.map(|took| KeyValue::new("streamgate.duration", took.as_secs_f64()));
        self.lock().add_event_with_timestamp(name, at, took.into_iter().collect());
    }

    /// Sets its status to an error; `why` is a stable label.
    pub fn fail(&self, why: &'static str) {
        self.lock().set_status(Status::error(why));
    }

    /// Ends it before it is dropped.
    pub fn end(&self) {
        self.lock().end();
    }
}
