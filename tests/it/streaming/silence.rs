//! Silence: heartbeats towards callers, deadlines towards upstreams.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::{
    PAIRS, Raw, ask, before, begun, body, ending, error_of, heartbeat, preamble, read_until,
    record, strictly, token, token_text, whole,
};
use crate::support::gateway::Log;
use crate::support::upstream::{Step, Upstream};

/// Failure modes 2 and 22: heartbeats go out before the upstream's head, before its first output and
/// in every later pause, and the answer is none the worse.
#[tokio::test]
async fn fm02_heartbeats_fill_every_silence() {
    for (caller, provider) in PAIRS {
        let gates = [(); 3].map(|()| Arc::new(Notify::new()));
        let [head, first, later] = gates.clone().map(Step::Gate);
        let script = vec![
            head,
            Step::Sse,
            preamble(provider),
            first,
            token(provider, "Hello"),
            later,
            ending(provider),
            Step::End,
        ];
        let upstream = Upstream::new(script).await;
        let gateway = before(&upstream, "stream: { heartbeat: 20ms, commit_after: 20ms }\n").await;
        let mut response = ask(&gateway, caller, &format!("{provider}/m")).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let mut text = String::new();
        let more = async |response: &mut reqwest::Response, what: &str| {
            String::from_utf8(read_until(response, what).await).unwrap()
        };
        text += &more(&mut response, heartbeat(caller)).await;
        assert_eq!(text.replace(heartbeat(caller), ""), "", "only heartbeats, whole");
        gates[0].notify_one();
        text += &more(&mut response, &heartbeat(caller).repeat(2)).await;
        gates[1].notify_one();
        text += &more(&mut response, "Hello").await;
        text += &more(&mut response, heartbeat(caller)).await;
        gates[2].notify_one();
        text += &response.text().await.unwrap();
        assert_eq!(strictly(caller, &text).choices[&0].text, "Hello");
        assert!(gateway.metric("streamgate_heartbeats_total{") >= 4.0);
    }
}

/// Failure mode 2: an upstream's comments and pings keep our upstream connection alive, not the
/// caller's.
#[tokio::test]
async fn fm02_upstream_comments_do_not_suppress_the_heartbeat() {
    for (caller, provider) in PAIRS {
        for words in noises(provider) {
            let upstream = Upstream::new(begun(provider, noise(words))).await;
            let gateway = before(&upstream, "stream: { heartbeat: 60ms }\n").await;
            let mut response =
                ask(&gateway, caller, &format!("{provider}/m")).send().await.unwrap();
            read_until(&mut response, "Hello").await;
            // Were it put off by the noise, the stream would be cut before it came.
            read_until(&mut response, heartbeat(caller)).await;
        }
    }
}

/// Failure mode 22: Claude Code gives up on a stream that is silent for long, as thinking is. Pings of
/// ours fill it, whoever thinks: unless told otherwise after 15 seconds, of which three fit into any
/// of its watches.
#[tokio::test]
async fn fm22_heartbeat_pings_during_long_reasoning() {
    let config = crate::support::gateway::configuration(&crate::support::gateway::yaml(
        "http://127.0.0.1:9",
        "http://127.0.0.1:9",
        "",
    ));
    assert!(config.stream.heartbeat <= Duration::from_secs(15));
    for provider in ["oai", "ant"] {
        let gate = Arc::new(Notify::new());
        let then = [Step::Gate(Arc::clone(&gate)), ending(provider), Step::End];
        let upstream = Upstream::new(begun(provider, then)).await;
        let gateway = before(&upstream, "stream: { heartbeat: 20ms }\n").await;
        let mut response =
            ask(&gateway, "anthropic", &format!("{provider}/m")).send().await.unwrap();
        let mut text = read_until(&mut response, "Hello").await;
        // Within an open block, where the caller's own libraries drop them.
        text.extend(read_until(&mut response, &heartbeat("anthropic").repeat(5)).await);
        gate.notify_one();
        text.extend_from_slice(&response.bytes().await.unwrap());
        let text = String::from_utf8(text).unwrap();
        assert_eq!(strictly("anthropic", &text).choices[&0].text, "Hello");
    }
}

/// Failure mode 20: an upstream that pauses within a frame never gets a heartbeat into it.
#[tokio::test]
async fn fm20_a_heartbeat_is_never_inside_a_frame() {
    for (caller, provider) in PAIRS {
        let event = token_text(provider, "wörld");
        let gate = Arc::new(Notify::new());
        for cut in [1, event.find('{').unwrap() + 3, event.find('ö').unwrap() + 1, event.len() - 1]
        {
            let (start, rest) = event.as_bytes().split_at(cut);
            let then = [
                Step::Chunk(start.to_vec()),
                Step::Gate(Arc::clone(&gate)),
                Step::Chunk(rest.to_vec()),
                ending(provider),
                Step::End,
            ];
            let upstream = Upstream::new(begun(provider, then)).await;
            let gateway = before(&upstream, "stream: { heartbeat: 20ms }\n").await;
            let mut response =
                ask(&gateway, caller, &format!("{provider}/m")).send().await.unwrap();
            let mut text = read_until(&mut response, heartbeat(caller)).await;
            gate.notify_one();
            text.extend_from_slice(&response.bytes().await.unwrap());
            let text = String::from_utf8(text).unwrap();
            assert!(text.contains(&format!("\n\n{}", heartbeat(caller))), "{text}");
            assert_eq!(strictly(caller, &text).choices[&0].text, "Hellowörld");
        }
    }
}

/// Failure mode 14: silence ends a stream in-band; what the upstream sends besides output does not
/// put that off.
#[tokio::test]
async fn fm14_stall_timeout_ends_the_stream_in_band() {
    for (caller, provider) in PAIRS {
        for words in noises(provider) {
            let upstream = Upstream::new(begun(provider, noise(words))).await;
            let log = Log::default();
            let _capture = log.capture();
            let gateway = before(&upstream, "stream: { stall: 100ms }\n").await;
            let text = whole(ask(&gateway, caller, &format!("{provider}/m"))).await;
            assert!(error_of(caller, &text).contains("stall"), "{text}");
            upstream.all_closed().await;
            let record = record(&gateway, &log).await;
            // Were it put off by the noise, the outcome would be that the upstream closed.
            assert_eq!(record["outcome"], "stalled");
            assert!(record["output_tokens"].as_u64() > Some(0));
        }
    }
}

/// Failure modes 2 and 14, when the noise leaves no pause at all.
#[tokio::test]
async fn fm14_stall_timeout_ignores_a_flood_of_comments() {
    for (caller, provider) in PAIRS {
        let noise = Step::Repeat(": hm\n\n".repeat(1000).into_bytes(), 1_000_000);
        let upstream = Upstream::new(begun(provider, [noise])).await;
        let gateway = before(&upstream, "stream: { heartbeat: 30ms }\n").await;
        let mut response = ask(&gateway, caller, &format!("{provider}/m")).send().await.unwrap();
        read_until(&mut response, heartbeat(caller)).await;
        drop(response);
        let gateway = before(&upstream, "stream: { stall: 150ms }\n").await;
        let text = whole(ask(&gateway, caller, &format!("{provider}/m"))).await;
        assert!(error_of(caller, &text).contains("stall"), "{text}");
        upstream.all_closed().await;
    }
}

/// Bytes of an upstream that are not output.
fn noises(provider: &str) -> &'static [&'static str] {
    const PING: &str = "event: ping\ndata: {\"type\":\"ping\"}\n\n";
    if provider == "ant" { &[": keep-alive\n\n", PING] } else { &[": keep-alive\n\n"] }
}

/// Such words, a hundred times a second for ten seconds. Then it closes.
fn noise(words: &str) -> Vec<Step> {
    let once = || [Step::chunk(words), Step::Pause(Duration::from_millis(10))];
    let mut steps: Vec<Step> = (0..1000).flat_map(|_| once()).collect();
    steps.push(Step::Close);
    steps
}

/// Failure mode 14: the first output has a deadline of its own, with a real status if the head is
/// still ours to choose.
#[tokio::test]
async fn fm14_first_token_timeout() {
    for (caller, provider) in PAIRS {
        let mut noisy = vec![Step::Sse, preamble(provider)];
        for _ in 0..200 {
            noisy.extend([Step::chunk(": hm\n\n"), Step::Pause(Duration::from_millis(10))]);
        }
        for script in [vec![Step::Hang], noisy] {
            let log = Log::default();
            let _capture = log.capture();
            let upstream = Upstream::new(script).await;
            let gateway = before(&upstream, "stream: { first_token: 100ms }\n").await;
            let model = format!("{provider}/m");
            let response = ask(&gateway, caller, &model).send().await.unwrap();
            assert_eq!(response.status(), 504, "{caller} {provider}");
            upstream.all_closed().await;
            assert_eq!(record(&gateway, &log).await["outcome"], "upstream_timeout");

            let upstream = Upstream::new(vec![Step::Hang]).await;
            let more = "stream: { first_token: 200ms, commit_after: 20ms, heartbeat: 50ms }\n";
            let gateway = before(&upstream, more).await;
            let text = whole(ask(&gateway, caller, &model)).await;
            assert!(error_of(caller, &text).contains("first_token"), "{text}");
            upstream.all_closed().await;
        }
    }
}

/// Failure mode 15: steady output outlives every deadline, unless a total one is set.
#[tokio::test]
async fn fm15_only_a_total_timeout_ends_a_healthy_stream() {
    // Every answer lasts longer than each deadline, and no pause comes near one.
    let healthy = PAIRS.map(|(caller, provider)| async move {
        let mut script = begun(provider, []);
        for _ in 0..30 {
            script.extend([token(provider, "x"), Step::Pause(Duration::from_millis(50))]);
        }
        script.extend([ending(provider), Step::End]);
        let upstream = Upstream::new(script).await;
        let deadlines = "connect: 1s, first_token: 1s, stall: 1s, write_stall: 1s";
        let gateway = before(&upstream, &format!("stream: {{ {deadlines} }}\n")).await;
        let model = format!("{provider}/m");
        let text = whole(ask(&gateway, caller, &model)).await;
        let read = strictly(caller, &text);
        assert_eq!(read.choices[&0].text, format!("Hello{}", "x".repeat(30)));
        let gateway =
            before(&upstream, &format!("stream: {{ {deadlines}, total: 300ms }}\n")).await;
        let text = whole(ask(&gateway, caller, &model)).await;
        assert!(error_of(caller, &text).contains("total"), "{text}");
    });
    futures_util::future::join_all(healthy).await;
}

/// Failure mode 7: every event arrives when it is sent, and the head says what proxies must know.
#[tokio::test]
async fn fm07_events_arrive_when_they_are_sent() {
    for (caller, provider) in PAIRS {
        let gate = Arc::new(Notify::new());
        let mut script = begun(provider, []);
        for word in ["one", "two", "three"] {
            script.extend([Step::Gate(Arc::clone(&gate)), token(provider, word)]);
        }
        script.extend([Step::Gate(Arc::clone(&gate)), ending(provider), Step::End]);
        let upstream = Upstream::new(script).await;
        let gateway = before(&upstream, "").await;
        let mut raw = Raw::ask(&gateway, caller, &body(&format!("{provider}/m"), true), "").await;
        let head = raw.until("Hello").await.to_ascii_lowercase();
        for line in [
            "http/1.1 200 ok",
            "content-type: text/event-stream",
            "cache-control: no-cache, no-transform",
            "x-accel-buffering: no",
            "x-request-id: ",
            &format!("x-streamgate-target: {provider}/m"),
        ] {
            assert!(head.contains(line), "no {line} in {head}");
        }
        for word in ["connection: close", "content-length", "content-encoding", "\nserver:"] {
            assert!(!head.contains(word), "{word} in {head}");
        }
        for word in ["one", "two", "three"] {
            gate.notify_one();
            let more = raw.until(word).await;
            assert!(more.contains(word));
        }
        gate.notify_one();
        raw.until("0\r\n\r\n").await;
    }
}
