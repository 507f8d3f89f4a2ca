//! Traces, from outside: what a collector gets, what upstreams and callers see of it, and that nobody
//! is held up by it.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::json;
use tokio::sync::Notify;

use super::{
    PAIRS, ask, before, before_two, begun, body, ending, error_of, good, path, preamble,
    read_until, record, refusal, settled, token, whole,
};
use crate::support::answers::{delta, opening};
use crate::support::collector::{Span, flush, section, spans, willing};
use crate::support::gateway::{Gateway, Log, yaml};
use crate::support::upstream::{Seen, Step, Upstream};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The request's span, and those of its attempts in order, after all was sent.
async fn told(gateway: &Gateway, collector: &Upstream) -> (Span, Vec<Span>) {
    settled(gateway).await;
    flush(gateway).await;
    let all = spans(collector).await;
    let (requests, mut attempts): (Vec<Span>, Vec<Span>) =
        all.into_iter().partition(|span| span.kind == SpanKind::Server);
    assert_eq!(requests.len(), 1, "{requests:?}");
    let request = requests[0].clone();
    for attempt in &attempts {
        assert_eq!(attempt.kind, SpanKind::Client);
        assert_eq!((&attempt.parent, &attempt.trace), (&request.id, &request.trace));
        assert!(request.time.0 <= attempt.time.0 && attempt.time.1 <= request.time.1);
        assert!(attempt.number("gen_ai.usage.output_tokens").is_none(), "would count twice");
    }
    attempts.sort_by_key(|attempt| attempt.time.0);
    (request, attempts)
}

/// A request header as the upstream got it.
fn header<'s>(seen: &'s Seen, name: &str) -> Option<&'s str> {
    let lines = seen.head.lines().filter_map(|line| line.split_once(": "));
    let mut values = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
    let value = values.next()?.1;
    assert_eq!(values.next(), None, "{name} twice");
    Some(value)
}

/// One request is one span with an attempt below it; the collector, the upstream, the caller and the
/// record agree on the trace.
#[tokio::test]
async fn one_request_is_one_span_and_its_attempt() {
    for (caller, provider) in PAIRS {
        let log = Log::default();
        let _capture = log.capture();
        let (upstream, collector) = (Upstream::new(good(provider)).await, willing().await);
        let more = ", headers: { authorization: Basic secret-canary }, service_name: mine";
        let gateway = before(&upstream, &section(&collector.url, more)).await;
        let response = ask(&gateway, caller, &format!("{provider}/m")).send().await.unwrap();
        let shown = response.headers()["x-trace-id"].to_str().unwrap().to_owned();
        let request_id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        response.text().await.unwrap();
        let (request, attempts) = told(&gateway, &collector).await;

        assert_eq!((request.trace.as_str(), request.parent.as_str()), (shown.as_str(), ""));
        assert_eq!(request.name, format!("chat {provider}/m"));
        assert_eq!(request.error, None);
        assert_eq!(request.resource["service.name"], "mine");
        let expected = json!({
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": format!("{provider}/m"),
            "gen_ai.request.stream": true,
            "gen_ai.response.model": "m",
            "gen_ai.response.id": if provider == "oai" { "c" } else { "msg_1" },
            "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.usage.input_tokens": 7,
            "gen_ai.usage.output_tokens": 3,
            "http.request.method": "POST",
            "http.route": path(caller),
            "http.response.status_code": 200,
            "streamgate.request_id": request_id,
            "streamgate.dialect": caller,
            "streamgate.caller": "test",
            "streamgate.target": format!("{provider}/m"),
            "streamgate.outcome": "complete",
            "streamgate.attempts": 1,
            "streamgate.heartbeats": 0,
            "streamgate.estimated": false,
        });
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(request.attributes.get(name), Some(value), "{name}");
        }
        assert!(request.number("gen_ai.response.time_to_first_chunk") > Some(0.0));
        assert_eq!(request.attributes.len(), expected.as_object().unwrap().len() + 2);

        let [attempt] = &attempts[..] else { panic!("{attempts:?}") };
        assert_eq!(attempt.name, format!("attempt {provider}/m"));
        assert_eq!(attempt.events(), ["first_token"]);
        assert_eq!(attempt.error, None);
        assert_eq!(attempt.text("server.address"), "127.0.0.1");
        let port = upstream.url.rsplit(':').next().unwrap().parse().ok();
        assert_eq!(attempt.number("server.port"), port);
        assert_eq!(attempt.number("http.response.status_code"), Some(200.0));
        let given = &upstream.requests().await[0];
        let parent = format!("00-{}-{}-01", attempt.trace, attempt.id);
        assert_eq!(header(given, "traceparent"), Some(parent.as_str()));
        assert_eq!(header(given, "tracestate"), None);
        assert_eq!(record(&gateway, &log).await["trace_id"], shown);

        for export in collector.requests().await {
            assert_eq!(header(&export, "authorization"), Some("Basic secret-canary"));
            let bytes = String::from_utf8_lossy(&export.body).into_owned();
            for secret in ["Hello", "up-canary", "sg-test", "secret-canary"] {
                assert!(!bytes.contains(secret), "{secret} in {bytes}");
            }
        }
    }
}

/// Each attempt is a span of its own; what an upstream says of its failure stays behind.
#[tokio::test]
async fn each_attempt_is_a_span() {
    for (caller, provider) in PAIRS {
        let mut refused = refusal(provider, 503);
        if let Some(Step::Whole(_, _, body)) = refused.first_mut() {
            *body = String::from_utf8_lossy(body).replace("no", "prompt-canary").into_bytes();
        }
        let (a, b) = (Upstream::new(refused).await, Upstream::new(good(provider)).await);
        let collector = willing().await;
        let gateway = before_two(provider, &a, &b, &section(&collector.url, "")).await;
        whole(ask(&gateway, caller, "two")).await;
        let (request, attempts) = told(&gateway, &collector).await;
        let [first, second] = &attempts[..] else { panic!("{attempts:?}") };
        assert_eq!((first.name.as_str(), second.name.as_str()), ("attempt a/m", "attempt b/m"));
        let kind = first.text("error.type");
        assert!(["upstream", "overloaded"].contains(&kind), "{kind}");
        assert_eq!(first.error.as_deref(), Some(kind));
        assert_eq!(first.number("http.response.status_code"), Some(503.0));
        assert_eq!(first.events(), [""; 0]);
        assert_eq!((second.error.as_ref(), second.number("streamgate.attempt")), (None, Some(2.0)));
        assert_eq!(
            (request.error.as_ref(), request.number("streamgate.attempts")),
            (None, Some(2.0))
        );
        assert_eq!(request.text("streamgate.target"), "b/m");
        for (upstream, attempt) in [(&a, first), (&b, second)] {
            let given = &upstream.requests().await[0];
            let parent = format!("00-{}-{}-01", attempt.trace, attempt.id);
            assert_eq!(header(given, "traceparent"), Some(parent.as_str()));
        }
        for export in collector.requests().await {
            assert!(!String::from_utf8_lossy(&export.body).contains("canary"));
        }
    }
}

/// A request that nobody could serve, and one that was refused: only the first is a failure of the
/// service.
#[tokio::test]
async fn spans_separate_failures_from_rejections() {
    for (caller, provider) in PAIRS {
        let (upstream, collector) = (Upstream::new(refusal(provider, 500)).await, willing().await);
        let gateway = before(&upstream, &section(&collector.url, "")).await;
        let response = ask(&gateway, caller, &format!("{provider}/m")).send().await.unwrap();
        let status = f64::from(response.status().as_u16());
        response.bytes().await.unwrap();
        let (request, attempts) = told(&gateway, &collector).await;
        assert_eq!(request.error.as_deref(), Some("upstream_error"));
        assert_eq!(request.number("http.response.status_code"), Some(status));
        assert_eq!(attempts.len(), 1);

        let collector = willing().await;
        let gateway = before(&upstream, &section(&collector.url, "")).await;
        let wrong = gateway.client.post(format!("{}{}", gateway.url, path(caller)));
        let wrong = wrong.header("authorization", "Bearer wrong").body(body("m", true));
        let response = wrong.send().await.unwrap();
        assert_eq!(response.status(), 401);
        response.bytes().await.unwrap();
        let (request, attempts) = told(&gateway, &collector).await;
        assert_eq!((request.name.as_str(), request.error.as_ref()), ("chat", None));
        assert_eq!(request.text("error.type"), "authentication");
        assert_eq!(request.text("streamgate.outcome"), "rejected");
        assert_eq!(request.number("http.response.status_code"), Some(401.0));
        assert_eq!(attempts.len(), 0);
    }
}

/// A long pause is an event.
#[tokio::test]
async fn a_pause_is_a_span_event() {
    for (caller, provider) in PAIRS {
        let gate = Arc::new(Notify::new());
        let then = [Step::Gate(Arc::clone(&gate)), token(provider, "later")];
        let mut script = begun(provider, then);
        script.extend([ending(provider), Step::End]);
        let (upstream, collector) = (Upstream::new(script).await, willing().await);
        let more = "stream: { heartbeat: 40ms }\n";
        let gateway = before(&upstream, &(section(&collector.url, "") + more)).await;
        let mut response = ask(&gateway, caller, &format!("{provider}/m")).send().await.unwrap();
        // A heartbeat is a pause that is long enough.
        read_until(&mut response, "ping").await;
        gate.notify_one();
        response.text().await.unwrap();
        let (request, attempts) = told(&gateway, &collector).await;
        assert_eq!(request.text("streamgate.outcome"), "complete");
        assert!(request.number("streamgate.heartbeats") > Some(0.0));
        let [(first, _), (stall, told)] = &attempts[0].events[..] else {
            panic!("{:?}", attempts[0].events)
        };
        assert_eq!((first.as_str(), stall.as_str()), ("first_token", "stall"));
        assert!(told["streamgate.duration"].as_f64() >= Some(0.04), "{told:?}");
    }
}

/// So is the one that ends the answer.
#[tokio::test]
async fn a_stall_timeout_is_a_span_event_and_a_failure() {
    for (caller, provider) in PAIRS {
        let script = begun(provider, [Step::Hang]);
        let (upstream, collector) = (Upstream::new(script).await, willing().await);
        let more = "stream: { stall: 80ms }\n";
        let gateway = before(&upstream, &(section(&collector.url, "") + more)).await;
        let text = whole(ask(&gateway, caller, &format!("{provider}/m"))).await;
        error_of(caller, &text);
        let (request, attempts) = told(&gateway, &collector).await;
        assert_eq!(request.text("streamgate.outcome"), "stalled");
        assert_eq!(request.text("error.type"), "timeout");
        assert_eq!(request.error.as_deref(), Some("stalled"));
        assert_eq!(request.attributes["streamgate.estimated"], true);
        assert_eq!(attempts[0].events(), ["first_token", "stall"]);
        assert_eq!(attempts[0].error.as_deref(), Some("stalled"));
        let told = &attempts[0].events[1].1;
        assert!(told["streamgate.duration"].as_f64() >= Some(0.08), "{told:?}");
    }
}

/// Nobody has failed where the caller's own allowance ends.
#[tokio::test]
async fn a_cut_off_answer_is_no_span_error() {
    let limits = "limits: { tokens_per_minute: 600, assumed_output: 50, cut_off: true }\n";
    for (caller, provider) in PAIRS {
        let dialect = if provider == "oai" { "openai-chat" } else { "anthropic" };
        let more = Step::Repeat(delta(dialect, "four").into_bytes(), 3000);
        let begin = Step::chunk(&opening(dialect, "four"));
        let upstream = Upstream::new(vec![Step::Sse, begin, more, Step::Hang]).await;
        let collector = willing().await;
        let gateway = before(&upstream, &format!("{limits}{}", section(&collector.url, ""))).await;
        let response = ask(&gateway, caller, &format!("{provider}/m")).send().await.unwrap();
        error_of(caller, &response.text().await.unwrap());
        let (request, attempts) = told(&gateway, &collector).await;
        for span in [&request, &attempts[0]] {
            assert_eq!(span.text("streamgate.outcome"), "cut_off");
            assert_eq!(span.text("error.type"), "rate_limited");
            assert_eq!(span.error, None);
        }
    }
}

/// A caller who leaves is no failure, whenever it leaves; the spans end with it.
#[tokio::test]
async fn cancel_is_no_span_error() {
    for (caller, provider) in PAIRS {
        for (script, events) in [
            (vec![Step::Hang], &[][..]),
            (vec![Step::Sse, preamble(provider), Step::Hang], &[]),
            (begun(provider, [Step::Hang]), &["first_token"]),
        ] {
            let (upstream, collector) = (Upstream::new(script).await, willing().await);
            let gateway = before(&upstream, &section(&collector.url, "")).await;
            let asked = ask(&gateway, caller, &format!("{provider}/m")).send();
            if events.is_empty() {
                let asked = super::super::support::spawn(asked);
                upstream.until("it is asked", |requests, _| requests == 1).await;
                asked.abort();
            } else {
                read_until(&mut asked.await.unwrap(), "Hello").await;
            }
            upstream.all_closed().await;
            let (request, attempts) = told(&gateway, &collector).await;
            assert_eq!(request.text("streamgate.outcome"), "client_gone");
            assert_eq!((request.error, request.attributes.get("error.type")), (None, None));
            assert!(request.attributes.contains_key("gen_ai.usage.input_tokens"));
            assert_eq!(attempts.len(), 1);
            assert_eq!(attempts[0].events(), events);
            assert_eq!(attempts[0].error, None);
            assert_eq!(attempts[0].text("streamgate.outcome"), "client_gone");
        }
    }
}

/// A caller's trace goes on: through our spans if there are any, past us if not.
#[tokio::test]
async fn a_callers_trace_goes_on() {
    for (caller, provider) in PAIRS {
        let upstream = Upstream::new(good(provider)).await;
        let model = format!("{provider}/m");
        let asked = |gateway: &Gateway| {
            ask(gateway, caller, &model)
                .header("traceparent", PARENT)
                .header("tracestate", "vendor=1")
                .header("tracestate", "other@x=2")
                .header("baggage", "user=secret")
        };
        let collector = willing().await;
        let gateway = before(&upstream, &section(&collector.url, ", sample: 0")).await;
        whole(asked(&gateway)).await;
        let (request, attempts) = told(&gateway, &collector).await;
        assert_eq!((request.trace.as_str(), request.parent.as_str()), (TRACE, "b7ad6b7169203331"));
        assert_eq!(request.state, "vendor=1,other@x=2");
        let seen = &upstream.requests().await[0];
        let child = format!("00-{TRACE}-{}-01", attempts[0].id);
        assert_eq!(header(seen, "traceparent"), Some(child.as_str()));
        assert_eq!(header(seen, "tracestate"), Some("vendor=1,other@x=2"));
        assert_eq!(header(seen, "baggage"), None);

        // Off: passed on as it came, and in the record.
        let log = Log::default();
        let _capture = log.capture();
        let gateway = before(&upstream, "").await;
        let response = asked(&gateway).send().await.unwrap();
        assert!(!response.headers().contains_key("x-trace-id"));
        response.bytes().await.unwrap();
        let seen = &upstream.requests().await[1];
        assert_eq!(header(seen, "traceparent"), Some(PARENT));
        assert_eq!(header(seen, "tracestate"), Some("vendor=1,other@x=2"));
        assert_eq!(header(seen, "baggage"), None);
        assert_eq!(record(&gateway, &log).await["trace_id"], TRACE);
    }
}

/// A malformed parent starts a new trace and is not forwarded.
#[tokio::test]
async fn a_malformed_parent_begins_a_new_trace() {
    for (caller, provider) in PAIRS {
        let upstream = Upstream::new(good(provider)).await;
        let upper = PARENT.to_uppercase();
        for wrong in ["x", &upper, &PARENT.replace("b7ad6b7169203331", "0000000000000000")] {
            let asked = |gateway: &Gateway| {
                ask(gateway, caller, &format!("{provider}/m"))
                    .header("traceparent", wrong)
                    .header("tracestate", "vendor=1")
            };
            let collector = willing().await;
            let gateway = before(&upstream, &section(&collector.url, "")).await;
            whole(asked(&gateway)).await;
            let (request, attempts) = told(&gateway, &collector).await;
            assert_ne!(request.trace, TRACE);
            assert_eq!((request.parent.as_str(), request.state.as_str()), ("", ""));
            let seen = upstream.requests().await.pop().unwrap();
            let child = format!("00-{}-{}-01", request.trace, attempts[0].id);
            assert_eq!(header(&seen, "traceparent"), Some(child.as_str()));
            assert_eq!(header(&seen, "tracestate"), None);

            let gateway = before(&upstream, "").await;
            whole(asked(&gateway)).await;
            let seen = upstream.requests().await.pop().unwrap();
            assert_eq!(header(&seen, "traceparent"), None);
            assert_eq!(header(&seen, "tracestate"), None);
        }
    }
}

/// Without the section nothing is traced; and what is not sampled is traced by nobody, but still has
/// a trace that upstreams and callers can be asked about. The collector never hears of us.
#[tokio::test]
async fn no_span_is_exported_by_default() {
    for (caller, provider) in PAIRS {
        let (upstream, collector) = (Upstream::new(good(provider)).await, willing().await);
        let model = format!("{provider}/m");
        let gateway = before(&upstream, "").await;
        let response = ask(&gateway, caller, &model).send().await.unwrap();
        assert!(!response.headers().contains_key("x-trace-id"));
        response.bytes().await.unwrap();
        assert_eq!(header(&upstream.requests().await[0], "traceparent"), None);
        assert_eq!(format!("{:?}", gateway.app.tracing), "Tracing(None)");

        let gateway = before(&upstream, &section(&collector.url, ", sample: 0")).await;
        whole(ask(&gateway, caller, &model)).await;
        let refused = PARENT.replace("-01", "-00");
        let full = before(&upstream, &section(&collector.url, "")).await;
        whole(ask(&full, caller, &model).header("traceparent", &refused)).await;
        for gateway in [&gateway, &full] {
            settled(gateway).await;
            flush(gateway).await;
        }
        for seen in &upstream.requests().await[1..] {
            assert!(header(seen, "traceparent").unwrap().ends_with("-00"), "{}", seen.head);
        }
        assert_eq!(collector.connections(), 0);
    }
}

/// A collector that refuses, breaks off, hangs or is not there costs spans, never a request.
#[tokio::test]
async fn a_failing_collector_delays_no_request() {
    let upstream = Upstream::new(good("oai")).await;
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let refusing = Upstream::new(vec![Step::Whole(401, "", b"who?".to_vec())]).await;
    let broken = Upstream::new(vec![Step::Close]).await;
    let hanging = Upstream::new(vec![Step::Hang]).await;
    let cases = [
        (&nobody, "export_failed"),
        (&refusing.url, "export_failed"),
        (&broken.url, "export_failed"),
        (&hanging.url, "shutdown"),
    ];
    for (collector, reason) in cases {
        let gateway = before(&upstream, &section(collector, ", timeout: 60s")).await;
        whole(ask(&gateway, "openai-chat", "oai/m")).await;
        settled(&gateway).await;
        let tracing = gateway.app.tracing.clone();
        let patient = if reason == "shutdown" { 50 } else { 60_000 };
        let shutdown = move || tracing.shutdown(Duration::from_millis(patient));
        let shutdown = tokio::task::spawn_blocking(shutdown);
        // The next request does not wait for the one before to be told.
        whole(ask(&gateway, "openai-chat", "oai/m")).await;
        shutdown.await.unwrap();
        let lost = format!("streamgate_spans_lost_total{{reason=\"{reason}\"}}");
        assert!(gateway.metric(&lost) >= 2.0, "{}", gateway.app.metrics.render());
    }
}

/// An answer that is collected is traced like one that is streamed.
#[tokio::test]
async fn a_collected_answer_is_traced() {
    for (caller, provider) in PAIRS.into_iter().filter(|(caller, provider)| {
        // Translated, so that the upstream streams.
        (*caller == "anthropic") == (*provider == "oai")
    }) {
        let (upstream, collector) = (Upstream::new(good(provider)).await, willing().await);
        let text = yaml(&upstream.url, &upstream.url, &section(&collector.url, ""));
        let gateway = Gateway::new(&text).await;
        let request = body(&format!("{provider}/m"), false);
        let response = gateway.post(path(caller), &request).send().await.unwrap();
        let shown = response.headers()["x-trace-id"].to_str().unwrap().to_owned();
        response.bytes().await.unwrap();
        let (request, attempts) = told(&gateway, &collector).await;
        assert_eq!(request.trace, shown);
        assert_eq!(request.attributes["gen_ai.request.stream"], false);
        assert_eq!(request.number("http.response.status_code"), Some(200.0));
        assert_eq!(request.number("gen_ai.usage.output_tokens"), Some(3.0));
        assert_eq!(attempts[0].events(), ["first_token"]);
    }
}

/// A head that went out before the first output says 200, whatever comes of it.
#[tokio::test]
async fn a_committed_head_is_what_the_caller_saw() {
    for (late, outcome) in [(good("oai"), "complete"), (refusal("oai", 500), "upstream_error")] {
        let gate = Arc::new(Notify::new());
        let script = [Step::Gate(Arc::clone(&gate))].into_iter().chain(late);
        let (upstream, collector) = (Upstream::new(script.collect()).await, willing().await);
        let more = section(&collector.url, "") + "stream: { commit_after: 10ms }\n";
        let gateway = before(&upstream, &more).await;
        let response = ask(&gateway, "openai-chat", "oai/m").send().await.unwrap();
        assert_eq!(response.status(), 200);
        upstream.until("it is asked", |requests, _| requests == 1).await;
        gate.notify_one();
        response.text().await.unwrap();
        let (request, attempts) = told(&gateway, &collector).await;
        assert_eq!(request.text("streamgate.outcome"), outcome);
        assert_eq!(request.number("http.response.status_code"), Some(200.0));
        assert_eq!(attempts.len(), 1);
    }
}

/// Operations have the names of the OpenTelemetry conventions.
#[tokio::test]
async fn an_operation_has_the_name_of_the_conventions() {
    for (path, operation) in
        [("/v1/completions", "text_completion"), ("/v1/embeddings", "embeddings")]
    {
        let answer = Step::Whole(200, "content-type: application/json\r\n", b"{}".to_vec());
        let (upstream, collector) = (Upstream::new(vec![answer]).await, willing().await);
        let gateway = before(&upstream, &section(&collector.url, "")).await;
        let asked = r#"{"model":"oai/m","prompt":"hi","input":"hi"}"#;
        gateway.post(path, asked).send().await.unwrap().bytes().await.unwrap();
        let (request, _) = told(&gateway, &collector).await;
        assert_eq!(request.name, format!("{operation} oai/m"));
        assert_eq!(request.text("gen_ai.operation.name"), operation);
        assert_eq!(request.text("http.route"), path);
    }
}
