//! W3C Trace Context: `traceparent` and `tracestate` of requests. Pure.
//!
//! Malformed headers count as absent; `baggage` is never read.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// The header with the trace id and the caller's span id.
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The header with vendors' data about the trace.
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The most bytes of `tracestate` that are passed on; the specification demands 512.
const MAX_STATE_BYTES: usize = 4096;

/// The most members of `tracestate`.
const MAX_STATE_MEMBERS: usize = 32;

/// A caller's span.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Its context.
    pub(super) span: SpanContext,
    /// The header as received.
    traceparent: HeaderValue,
}

impl Remote {
    /// Reads the headers of a request. `None`: there is no valid `traceparent`.
    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        let mut given = headers.get_all(TRACEPARENT).iter();
        let traceparent = given.next()?;
        // Two contradict each other.
        if given.next().is_some() {
            return None;
        }
        let (trace, span, flags) = parse(traceparent.to_str().ok()?)?;
        let state = state(headers).unwrap_or_default();
        let span = SpanContext::new(trace, span, flags, true, state);
        Some(Self { span, traceparent: traceparent.clone() })
    }

    /// Writes the caller's headers unchanged.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(TRACEPARENT, self.traceparent.clone());
        write_state(&self.span, headers);
    }
}

/// Writes headers with a span of our own as the parent.
pub(super) fn write(span: &SpanContext, headers: &mut HeaderMap) {
    let flags = span.trace_flags() & TraceFlags::SAMPLED;
    let text = format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id());
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert(TRACEPARENT, value);
        write_state(span, headers);
    }
}

fn write_state(span: &SpanContext, headers: &mut HeaderMap) {
    let state = span.trace_state().header();
    if let Some(value) = HeaderValue::from_str(&state).ok().filter(|_| !state.is_empty()) {
        headers.insert(TRACESTATE, value);
    }
}

/// Parses `version-trace-span-flags`, in lower case; later versions may add fields.
fn parse(text: &str) -> Option<(TraceId, SpanId, TraceFlags)> {
    let mut parts = text.split('-');
    let version = hex(parts.next()?, 2).filter(|version| *version != "ff")?;
    let trace = TraceId::from_hex(hex(parts.next()?, 32)?).ok()?;
    let span = SpanId::from_hex(hex(parts.next()?, 16)?).ok()?;
    let flags = u8::from_str_radix(hex(parts.next()?, 2)?, 16).ok()?;
    let whole = version != "00" || parts.next().is_none();
    let valid = whole && trace != TraceId::INVALID && span != SpanId::INVALID;
    valid.then(|| (trace, span, TraceFlags::new(flags) & TraceFlags::SAMPLED))
}

fn hex(part: &str, digits: usize) -> Option<&str> {
    let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (part.len() == digits && part.bytes().all(lower)).then_some(part)
}

/// All `tracestate` headers as one list. `None`: any of it is malformed.
fn state(headers: &HeaderMap) -> Option<TraceState> {
    let lines: Option<Vec<&str>> =
        headers.get_all(TRACESTATE).iter().map(|value| value.to_str().ok()).collect();
    let list = lines?.join(",");
    let members = list.split(',').map(|member| member.trim_matches([' ', '\t']));
    let members: Vec<&str> = members.filter(|member| !member.is_empty()).collect();
    if list.len() > MAX_STATE_BYTES || members.len() > MAX_STATE_MEMBERS {
        return None;
    }
    let pairs: Option<Vec<(&str, &str)>> =
        members.iter().map(|member| member.split_once('=')).collect();
    let pairs = pairs?;
    let plain = pairs.iter().all(|(key, value)| !key.is_empty() && !value.is_empty());
    let once = pairs
        .iter()
        .enumerate()
        .all(|(at, (key, _))| pairs.iter().take(at).all(|(earlier, _)| earlier != key));
    if !plain || !once {
        return None;
    }
    TraceState::from_key_value(pairs).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_valid_parent_is_read_and_passed_on_unchanged() {
        for (text, sampled) in [
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03", true),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-comes", true),
        ] {
            let given = headers(&[
                ("traceparent", text),
                ("tracestate", "a=1, b@c=2 "),
                ("tracestate", "d/e=f"),
                ("baggage", "secret=1"),
            ]);
            let remote = Remote::read(&given).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(remote.span.trace_id().to_string(), TRACE);
            assert_eq!(remote.span.span_id().to_string(), "b7ad6b7169203331");
            assert_eq!(remote.span.is_sampled(), sampled, "{text}");
            let mut passed = HeaderMap::new();
            remote.write(&mut passed);
            assert_eq!(
                passed,
                headers(&[("traceparent", text), ("tracestate", "a=1,b@c=2,d/e=f")])
            );
        }
    }

    #[test]
    fn a_malformed_parent_is_none() {
        for text in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0G",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-011",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "+0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-B7AD6B7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
        ] {
            assert!(Remote::read(&headers(&[("traceparent", text)])).is_none(), "{text}");
        }
        let valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let twice = headers(&[("traceparent", valid), ("traceparent", valid)]);
        assert!(Remote::read(&twice).is_none());
        assert!(Remote::read(&headers(&[("tracestate", "a=1")])).is_none());
    }

    #[test]
    fn a_malformed_state_is_dropped_and_the_parent_kept() {
        let many: Vec<String> = (0..=MAX_STATE_MEMBERS).map(|n| format!("k{n}=v")).collect();
        let long: Vec<String> = (0..20).map(|n| format!("k{n}={}", "v".repeat(250))).collect();
        for state in [
            "a",
            "A=1",
            "=1",
            "a=",
            "a=1,a=2",
            "a=b=c",
            "a=1,,ü=2",
            &many.join(","),
            &long.join(","),
        ] {
            let mut given = headers(&[(
                "traceparent",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            )]);
            given.insert(TRACESTATE, HeaderValue::from_bytes(state.as_bytes()).unwrap());
            let mut passed = HeaderMap::new();
            Remote::read(&given).unwrap().write(&mut passed);
            assert!(!passed.contains_key(TRACESTATE), "{state}");
            assert!(passed.contains_key(TRACEPARENT), "{state}");
        }
    }
}
