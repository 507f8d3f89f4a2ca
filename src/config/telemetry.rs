//! Where traces go: the `telemetry` section, and the standard `OTEL_*` variables where it says nothing.
//! No value of `endpoint` or `headers` is ever shown.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use url::{Url, form_urlencoded};

use super::error::Location;
use super::provider::{BASE_URL, base_url, headers};
use super::raw::{Reader, Table};
use super::tree::Value;
use super::units;

/// The path of traces below a collector's address, as the protocol has it.
const TRACES: &str = "/v1/traces";

const SAMPLE: &str = "a share from `0` to `1`, such as `0.1`";
const SERVICE_NAME: &str = "a name of visible characters";
const TIMEOUT: &str = "a duration above zero such as `500ms`, `10s` or `1m`";
const HEADERS: &str = "`name=value` pairs, separated by commas";

const NOT_IN_THIS_BUILD: &str = "`telemetry.otlp` or OTEL_EXPORTER_OTLP_ENDPOINT is set, and this build cannot export \
    traces: remove it, or use a build with the cargo feature `otlp`";

/// Traces by OTLP over HTTP.
#[derive(Debug, Clone, PartialEq)]
pub struct Otlp {
    /// Where spans are posted, path included.
    pub endpoint: Url,
    /// Headers that every export carries; their values are marked as sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The share of the traces begun here that are recorded.
    pub sample: f64,
    /// What this process is called in traces.
    pub service_name: String,
    /// How long an export may take, with its repetitions.
    pub timeout: Duration,
}

/// Reads the section. `None`: neither it nor the environment names a collector.
pub(super) fn otlp(reader: &mut Reader<'_>, root: &Table<'_>) -> Option<Otlp> {
    let telemetry = reader.section(root, "telemetry", &["otlp"]);
    let known = ["endpoint", "headers", "sample", "service_name", "timeout"];
    let table = reader.section(&telemetry, "otlp", &known);
    let endpoint = match table.get("endpoint") {
        Some(node) => reader.hidden("endpoint", node, (BASE_URL, traces)),
        None => variable(reader, "OTEL_EXPORTER_OTLP_ENDPOINT", (BASE_URL, traces)),
    };
    let given = telemetry.get("otlp").is_some_and(|node| matches!(node.value, Value::Table(_)));
    if given && reader.variable("OTEL_EXPORTER_OTLP_ENDPOINT").is_none() {
        reader.require(&table, "endpoint", "a collector's address such as `http://127.0.0.1:4318`");
    }
    let headers = match table.get("headers") {
        Some(_) => headers(reader, &table),
        None => {
            variable(reader, "OTEL_EXPORTER_OTLP_HEADERS", (HEADERS, pairs)).unwrap_or_default()
        }
    };
    let sample = reader.field(&table, "sample", (SAMPLE, share));
    let service_name = match table.get("service_name") {
        Some(node) => reader.parsed("service_name", node, (SERVICE_NAME, name)),
        None => variable(reader, "OTEL_SERVICE_NAME", (SERVICE_NAME, name)),
    };
    let timeout = reader.field(&table, "timeout", (TIMEOUT, units::positive_duration));
    if endpoint.is_some() && !cfg!(feature = "otlp") {
        reader.report(Location::FILE, NOT_IN_THIS_BUILD.to_owned());
    }
    Some(Otlp {
        endpoint: endpoint?,
        headers,
        sample: sample.unwrap_or(1.0),
        service_name: service_name.unwrap_or_else(|| "streamgate".to_owned()),
        timeout: timeout.unwrap_or(Duration::from_secs(10)),
    })
}

/// What a variable of the environment says, or a error that does not show it.
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

/// A collector's address, with or without the path of traces.
fn traces(text: &str) -> Option<Url> {
    let mut url = base_url(text)?;
    let path = url.path().trim_end_matches('/').to_owned();
    if !path.ends_with(TRACES) {
        url.set_path(&format!("{path}{TRACES}"));
    }
    Some(url)
}

fn share(text: &str) -> Option<f64> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share))
}

fn name(text: &str) -> Option<String> {
    let fits = (1..=255).contains(&text.len()) && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

/// Headers as the variable has them: `name=value,name=value`, values percent-encoded.
fn pairs(text: &str) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        // As in a form, save that `+` and `&` are themselves.
        let form = format!("v={}", value.trim().replace('+', "%2B").replace('&', "%26"));
        let (_, value) = form_urlencoded::parse(form.as_bytes()).next().unwrap_or_default();
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        Some((super::provider::header_name(name.trim())?, value))
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(pair).collect()
}
