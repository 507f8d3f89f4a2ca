//! Tracing: the `telemetry` section, and the standard `OTEL_*` variables where it is silent. No message, log line or
//! `Debug` may show a value of `endpoint` or `headers`.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use url::Url;

use super::error::Location;
use super::field::{Field, Format, Notation, Section};
use super::provider::{HEADERS, headers};
use super::reader::{Reader, Table};
use super::tree::Value;
use super::units::{BASE_URL, POSITIVE_DURATION, SHARE, base_url, header_name};

/// The path of traces below a collector's address, as the protocol has it.
const TRACES: &str = "/v1/traces";

const ENDPOINT: Field<Url> = Format { scalar: BASE_URL.scalar, parse: traces }
    .key("endpoint", "The collector's address; `/v1/traces` is added.")
    .otherwise("`OTEL_EXPORTER_OTLP_ENDPOINT` of the environment; without it, traces are off")
    .example("http://127.0.0.1:4318");
const SAMPLE: Field<f64> = SHARE
    .key(
        "sample",
        "The share of traces begun here that are recorded; a caller's own decision is kept.",
    )
    .default("1.0");
const SERVICE_NAME: Field<String> = Format::new(
    "text of at most 255 visible characters",
    "a name of visible characters",
    Notation::Text,
    |text| {
        let fits = (1..=255).contains(&text.len()) && !text.chars().any(char::is_control);
        fits.then(|| text.to_owned())
    },
)
.key("service_name", "The name of this process in traces.")
.otherwise("`OTEL_SERVICE_NAME` of the environment, else `streamgate`")
.example("streamgate");
const TIMEOUT: Field<Duration> =
    POSITIVE_DURATION.key("timeout", "Timeout of an export, with its retries.").default("10s");
const OTLP: Section = Section::table(
    "otlp",
    "Export of traces by OTLP over HTTP (docs/tracing.md).",
    &[ENDPOINT.key, HEADERS.key, SAMPLE.key, SERVICE_NAME.key, TIMEOUT.key],
);

pub(super) const TELEMETRY: Section = Section::table("telemetry", "Tracing.", &[OTLP.key]);

/// The notation of the variable of headers.
const HEADER_PAIRS: &str = "`name=value` pairs, separated by commas";

/// The error of a configuration that names a collector, in a build without the export.
const NOT_IN_THIS_BUILD: &str = "`telemetry.otlp` or OTEL_EXPORTER_OTLP_ENDPOINT is set, and this build cannot export \
    traces: remove it, or use a build with the cargo feature `otlp`";

/// Export of traces by OTLP over HTTP.
#[derive(Debug, Clone, PartialEq)]
pub struct Otlp {
    /// The address that spans are posted to, with its path.
    pub endpoint: Url,
    /// Headers that every export carries; their values are marked as sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The share of traces begun here that are recorded.
    pub sample: f64,
    /// The name of this process in traces.
    pub service_name: String,
    /// Timeout of an export, with its retries.
    pub timeout: Duration,
}

/// Reads the section. `None`: neither it nor the environment names a collector.
pub(super) fn otlp(reader: &mut Reader<'_>, root: &Table<'_>) -> Option<Otlp> {
    let telemetry = reader.section(root, &TELEMETRY);
    let table = reader.section(&telemetry, &OTLP);
    let endpoint = if table.has(&ENDPOINT) {
        reader.field(&table, &ENDPOINT)
    } else {
        let expected = BASE_URL.scalar.expected();
        variable(reader, "OTEL_EXPORTER_OTLP_ENDPOINT", (&expected, traces))
    };
    let given = telemetry.get(&OTLP).is_some_and(|node| matches!(node.value, Value::Table(_)));
    if given && reader.variable("OTEL_EXPORTER_OTLP_ENDPOINT").is_none() {
        reader.require(&table, &ENDPOINT, "a collector's address such as `http://127.0.0.1:4318`");
    }
    let headers = if table.has(&HEADERS) {
        headers(reader, &table)
    } else {
        let headers = variable(reader, "OTEL_EXPORTER_OTLP_HEADERS", (HEADER_PAIRS, pairs));
        headers.unwrap_or_default()
    };
    let sample = reader.value(&table, &SAMPLE);
    let service_name = if table.has(&SERVICE_NAME) {
        reader.field(&table, &SERVICE_NAME)
    } else {
        let Format { scalar, parse } = SERVICE_NAME.format;
        variable(reader, "OTEL_SERVICE_NAME", (&scalar.expected(), parse))
    };
    let timeout = reader.value(&table, &TIMEOUT);
    if endpoint.is_some() && !cfg!(feature = "otlp") {
        reader.report(Location::FILE, NOT_IN_THIS_BUILD);
    }
    Some(Otlp {
        endpoint: endpoint?,
        headers,
        sample,
        service_name: service_name.unwrap_or_else(|| "streamgate".to_owned()),
        timeout,
    })
}

/// Reads a variable of the environment. The error does not show it.
fn variable<T>(
    reader: &mut Reader<'_>,
    name: &str,
    (expected, parse): (&str, impl Fn(&str) -> Option<T>),
) -> Option<T> {
    let value = parse(&reader.variable(name)?);
    if value.is_none() {
        let message =
            format!("the environment variable `{name}` is not valid; expected {expected}");
        reader.report(Location::FILE, message);
    }
    value
}

/// Reads a collector's address, with or without the path of traces.
fn traces(text: &str) -> Option<Url> {
    let mut url = base_url(text)?;
    let path = url.path().trim_end_matches('/').to_owned();
    if !path.ends_with(TRACES) {
        url.set_path(&format!("{path}{TRACES}"));
    }
    Some(url)
}

/// Reads the variable of headers: `name=value,name=value`, values percent-encoded.
fn pairs(text: &str) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        Some((header_name(name.trim())?, value))
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(pair).collect()
}
