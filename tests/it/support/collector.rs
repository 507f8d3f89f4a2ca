//! A scripted OTLP collector: an upstream of the tests that spans are posted to, and its reading.

use std::collections::BTreeMap;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;

use super::gateway::Gateway;
use super::upstream::{Step, Upstream};

/// Attributes by name.
pub(crate) type Attributes = BTreeMap<String, serde_json::Value>;

/// A span as the collector got it.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) name: String,
    /// `Server` or `Client`.
    pub(crate) kind: SpanKind,
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) state: String,
    /// `Some` with its description: the status is an error.
    pub(crate) error: Option<String>,
    pub(crate) attributes: Attributes,
    /// Names and attributes, in order.
    pub(crate) events: Vec<(String, Attributes)>,
    /// Nanoseconds since the epoch.
    pub(crate) time: (u64, u64),
    pub(crate) resource: Attributes,
}

impl Span {
    pub(crate) fn text(&self, name: &str) -> &str {
        self.attributes.get(name).and_then(|value| value.as_str()).unwrap_or_default()
    }

    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        self.attributes.get(name)?.as_f64()
    }

    pub(crate) fn events(&self) -> Vec<&str> {
        self.events.iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// A collector that takes everything.
pub(crate) async fn willing() -> Upstream {
    let kind = "content-type: application/x-protobuf\r\n";
    Upstream::new(vec![Step::Whole(200, kind, Vec::new())]).await
}

/// The section that sends spans there, with more fields.
pub(crate) fn section(collector: &str, more: &str) -> String {
    format!("telemetry: {{ otlp: {{ endpoint: \"{collector}\"{more} }} }}\n")
}

/// Sends what is left, from a thread that may block.
pub(crate) async fn flush(gateway: &Gateway) {
    let tracing = gateway.app.tracing.clone();
    let bound = Duration::from_secs(10);
    tokio::task::spawn_blocking(move || tracing.shutdown(bound)).await.unwrap();
}

/// All spans that a collector has got.
pub(crate) async fn spans(collector: &Upstream) -> Vec<Span> {
    let requests = collector.requests().await;
    let exports = requests.iter().map(|request| {
        assert!(request.head.starts_with("POST /v1/traces HTTP/1.1"), "{}", request.head);
        assert!(request.head.contains("content-type: application/x-protobuf"), "{}", request.head);
        ExportTraceServiceRequest::decode(&request.body[..]).expect("an export of spans")
    });
    exports.flat_map(read).collect()
}

fn read(export: ExportTraceServiceRequest) -> Vec<Span> {
    let mut spans = Vec::new();
    for of_resource in export.resource_spans {
        let resource = attributes(of_resource.resource.unwrap_or_default().attributes);
        for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let status = span.status.clone().unwrap_or_default();
            spans.push(Span {
                kind: span.kind(),
                name: span.name,
                trace: super::gateway::hex(&span.trace_id),
                id: super::gateway::hex(&span.span_id),
                parent: super::gateway::hex(&span.parent_span_id),
                state: span.trace_state,
                error: (status.code == 2).then_some(status.message),
                attributes: attributes(span.attributes),
                events: span
                    .events
                    .into_iter()
                    .map(|event| (event.name, attributes(event.attributes)))
                    .collect(),
                time: (span.start_time_unix_nano, span.end_time_unix_nano),
                resource: resource.clone(),
            });
        }
    }
    spans
}

fn attributes(pairs: Vec<KeyValue>) -> Attributes {
    let value = |value: Option<Value>| match value {
        Some(Value::StringValue(text)) => text.into(),
        Some(Value::BoolValue(flag)) => flag.into(),
        Some(Value::IntValue(number)) => number.into(),
        Some(Value::DoubleValue(number)) => number.into(),
        Some(Value::ArrayValue(list)) => {
            let words = list.values.into_iter().map(|value| match value.value {
                Some(Value::StringValue(text)) => text,
                other => panic!("unexpected {other:?}"),
            });
            words.collect::<Vec<String>>().into()
        }
        other => panic!("unexpected {other:?}"),
    };
    pairs.into_iter().map(|pair| (pair.key, value(pair.value.and_then(|any| any.value)))).collect()
}
