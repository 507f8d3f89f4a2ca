//! Answers: reading those of each upstream, writing those of each caller, and both at once.

use bytes::{Bytes, BytesMut};
use streamgate::wire::chat::{Citation, Delta, End, Scheme, SearchResult, SearchRun, Stop};
use streamgate::wire::dialect::{
    CallerDialect, DIALECTS, Dialect, Encode, Form, Mode, ResponseContext, by_name, caller_dialects,
};
use streamgate::wire::format::{Format, Snapshot};
use streamgate::wire::framing::{Frame, Framer, Framing};
use streamgate::wire::stage::Stage;
use streamgate::wire::stop_strings::{StopFilter, StopStrings};
use streamgate::wire::transcode::Transcoder;

use super::grows_linearly;
use super::upstream_events::{
    ANTHROPIC, BEDROCK, CHAT_END, CHAT_SHAPES, COHERE, GEMINI, OLLAMA, RESPONSES, Shape,
    chat_delta, with,
};
use crate::support::aws;

/// The smaller size for one side alone.
const SIZE: usize = 256;

/// The same for both sides: at the larger one no bound on calls is passed.
const BOTH: usize = 60;

const CAP: usize = 64 << 20;

pub(super) fn call(stream: bool) -> ResponseContext {
    crate::support::call(stream, true)
}

fn framing(dialect: &dyn Dialect) -> Framing {
    match dialect.name() {
        "ollama" => Framing::Ndjson,
        "bedrock" => Framing::AwsEventStream,
        _ => Framing::Sse,
    }
}

/// Events as they come. For `bedrock`, the type of each precedes it.
fn bytes(dialect: &dyn Dialect, events: &[String]) -> Bytes {
    let mut out = BytesMut::new();
    for event in events {
        match framing(dialect) {
            Framing::Ndjson => out.extend_from_slice(format!("{event}\n").as_bytes()),
            Framing::AwsEventStream => {
                let (kind, payload) = event.split_once(' ').unwrap();
                let headers = [(":event-type", kind), (":message-type", "event")];
                out.extend_from_slice(&aws::message(&headers, payload));
            }
            _ => out.extend_from_slice(format!("data: {event}\n\n").as_bytes()),
        }
    }
    out.freeze()
}

/// Every shape of an upstream dialect: read alone, and encoded for every caller, streamed and collected.
fn all(name: &str, shapes: &[Shape]) {
    let upstream = by_name(name).unwrap();
    for (what, events) in shapes {
        let place = format!("{name}, {what}");
        let frames = |n| {
            let mut frames = Vec::new();
            let mut framer = Framer::new(framing(upstream), CAP);
            framer.push(bytes(upstream, &events(n)), &mut frames).unwrap();
            frames
        };
        grows_linearly(&place, SIZE, frames, |frames| {
            let mut decoder = upstream.decoder(Form::Chat);
            frames.iter().any(|frame| decoder.frame(frame, &mut Vec::new()).is_some())
        });
        for caller in caller_dialects() {
            for stream in [true, false] {
                let place = format!("{place}, to {} (stream={stream})", caller.name());
                let make = |n| bytes(upstream, &events(n));
                grows_linearly(&place, BOTH, make, |bytes| told((upstream, caller), bytes, stream));
            }
        }
    }
}

fn told(
    (upstream, caller): (&dyn Dialect, &dyn CallerDialect),
    bytes: Bytes,
    stream: bool,
) -> BytesMut {
    let encoder = caller.encoder(&call(stream), Mode::Translated);
    let (framing, decoder) = (framing(upstream), upstream.decoder(Form::Chat));
    let mut transcoder = Transcoder::new(framing, CAP, decoder, encoder, Mode::Translated);
    let mut out = BytesMut::new();
    transcoder.push(bytes, &mut out);
    transcoder.finish(&mut out);
    assert_eq!(transcoder.end(), Some(&End::Complete), "{} {}", upstream.name(), caller.name());
    assert!(!out.is_empty());
    out
}

/// Deltas in an order that no dialect has, encoded for every caller and every viewer.
fn written(what: &str, deltas: fn(usize) -> Vec<Delta<'static>>) {
    for caller in caller_dialects() {
        for stream in [true, false] {
            let place = format!("{what}, to {} (stream={stream})", caller.name());
            let encoder = || caller.encoder(&call(stream), Mode::Translated);
            grows_linearly(&place, SIZE, deltas, |deltas| encoded(encoder(), deltas));
        }
    }
    let native = DIALECTS[0];
    for format in [Format::Ui, Format::Text, Format::Events] {
        let encoder = || format.encoder(native, &call(true)).unwrap();
        let place = format!("{what}, as {format:?}");
        grows_linearly(&place, SIZE, deltas, |deltas| {
            let events = encoded(encoder(), deltas);
            let mut snapshot = Snapshot::default();
            snapshot.push(&events.freeze());
            snapshot.document("", "")
        });
    }
}

fn encoded(mut encoder: Box<dyn Encode>, deltas: Vec<Delta<'static>>) -> BytesMut {
    let mut out = BytesMut::new();
    for delta in deltas {
        encoder.frame(&Frame::default(), &[delta], &mut out);
    }
    encoder.finish(&End::Complete, None, &mut out);
    out
}

fn text(text: String) -> Delta<'static> {
    Delta::Text { choice: 0, text: text.into() }
}

fn tool(call: usize) -> Delta<'static> {
    let (id, name) = (format!("c{call}").into(), "f".into());
    Delta::ToolStart { choice: 0, call: u32::try_from(call).unwrap(), id, name }
}

fn arguments(call: usize, json: &'static str) -> Delta<'static> {
    Delta::ToolArguments { choice: 0, call: u32::try_from(call).unwrap(), json: json.into() }
}

fn thought(i: usize) -> [Delta<'static>; 2] {
    let reasoning = Delta::Reasoning { choice: 0, text: format!("thought {i}").into() };
    let scheme = [Scheme::Anthropic, Scheme::OpenAi, Scheme::Gemini][i % 3];
    [reasoning, Delta::Signature { value: format!("s{i}").into(), scheme }]
}

fn source(i: usize) -> Citation {
    let url = Some(format!("https://a.example/{i}"));
    Citation { url, title: Some("t".to_owned()), ..Citation::default() }
}

fn search(i: usize) -> Delta<'static> {
    let found = SearchResult { url: format!("https://a.example/{i}"), title: String::new() };
    Delta::Search(SearchRun { queries: vec![format!("query {i}")], results: vec![found] })
}

/// All that waits for the first call, whose arguments end last.
#[test]
fn what_waits_for_a_call() {
    written("all that waits for a call", |n| {
        let mut deltas = vec![tool(0), arguments(0, "{")];
        for i in 1..n {
            deltas.extend([text(format!("text {i}")), Delta::Citation(source(i))]);
            deltas.extend(thought(i));
            deltas.extend([tool(i), arguments(i, "{")]);
        }
        deltas.extend((1..n).map(|i| arguments(i, "}")));
        deltas.push(arguments(0, "}"));
        deltas
    });
}

#[test]
fn sources_of_a_long_text() {
    written("sources of a long text", |n| {
        let words = |i: usize| format!("some words of an answer, é, [{}] ", i + 1);
        let mut deltas: Vec<_> = (0..n).map(|i| text(words(i))).collect();
        let places = |i: usize| {
            let start = Some(i as u64 * 20);
            Citation { start, end: Some(i as u64 * 20 + 10), ..source(i) }
        };
        deltas.extend((0..n).map(|i| Delta::Citation(places(i))));
        let mark = |i: usize| Some(u32::try_from(i + 1).unwrap());
        deltas.extend((0..n).map(|i| Delta::Citation(Citation { mark: mark(i), ..source(i) })));
        // These stand behind calls, by which their text is done.
        deltas.extend((0..n / 4).flat_map(|i| [tool(i), arguments(i, "{}")]));
        deltas.extend((0..n).map(|i| Delta::Citation(places(i))));
        deltas.push(Delta::Stop { choice: 0, reason: Stop::End });
        deltas
    });
}

#[test]
fn thoughts_of_several_vendors() {
    written("thoughts and texts", |n| {
        (0..n).flat_map(|i| thought(i).into_iter().chain([text(format!("text {i}"))])).collect()
    });
}

#[test]
fn searches_and_texts() {
    written("searches and texts", |n| {
        (0..n).flat_map(|i| [search(i), text(format!("text {i}"))]).collect()
    });
}

/// A new upstream dialect needs shapes here.
#[test]
fn every_upstream_dialect_has_shapes() {
    let names: Vec<&str> = DIALECTS.iter().map(|dialect| dialect.name()).collect();
    let here =
        ["openai-chat", "openai-responses", "anthropic", "gemini", "ollama", "cohere", "bedrock"];
    assert_eq!(names, here);
}

#[test]
fn openai_chat() {
    all("openai-chat", CHAT_SHAPES);
}

#[test]
fn openai_responses() {
    all("openai-responses", RESPONSES);
}

#[test]
fn anthropic() {
    all("anthropic", ANTHROPIC);
}

#[test]
fn gemini() {
    all("gemini", GEMINI);
}

#[test]
fn ollama() {
    all("ollama", OLLAMA);
}

#[test]
fn cohere() {
    all("cohere", COHERE);
}

#[test]
fn bedrock() {
    all("bedrock", BEDROCK);
}

/// Beyond the bound an answer ends with an error, whatever its dialect, and without one it does not.
#[test]
fn more_calls_than_the_bound_end_an_answer() {
    let call = r#""tool_calls":[{"function":{"name":"f","arguments":"{}"}}]"#;
    let upstream = by_name("openai-chat").unwrap();
    for (calls, whole) in [(1024, true), (1025, false)] {
        let events = with(vec![chat_delta(call); calls], &CHAT_END);
        for caller in caller_dialects() {
            let encoder = caller.encoder(&self::call(true), Mode::Translated);
            let decoder = upstream.decoder(Form::Chat);
            let mut transcoder =
                Transcoder::new(Framing::Sse, CAP, decoder, encoder, Mode::Translated);
            let mut out = BytesMut::new();
            transcoder.push(bytes(upstream, &events), &mut out);
            match transcoder.end() {
                Some(End::Complete) => assert!(whole),
                Some(End::Failed(fault)) => {
                    let message = "the upstream sent more than 1024 tool calls in one answer";
                    assert!(!whole && fault.message == message, "{}", fault.message);
                }
                end => panic!("{end:?}"),
            }
        }
    }
}

/// The deltas of an answer of this size.
type MakeDeltas = fn(usize) -> Vec<Delta<'static>>;

/// Stop strings that an answer almost holds, again and again: as many and as long as they may be.
#[test]
fn stop_strings() {
    let mut strings = StopStrings::new(1);
    for i in 0..16 {
        assert!(strings.add(format!("{}b", "a".repeat(1000 + i))));
    }
    let logprobs = |choice| Delta::Logprobs { choice, items: r#"{"token":"a"}"#.into() };
    let shapes: [(&str, MakeDeltas); 3] = [
        ("one long text", |n| vec![text("a".repeat(64 * n))]),
        ("a letter at a time", |n| (0..64 * n).map(|_| text("a".into())).collect()),
        ("many alternatives", |n| {
            let choice = |i| Delta::Text { choice: u32::try_from(i).unwrap(), text: "a".into() };
            (0..4 * n).map(choice).collect()
        }),
    ];
    for (what, make) in shapes {
        grows_linearly(what, BOTH, make, |deltas| {
            let mut filter = StopFilter::new(strings.clone(), 0).unwrap();
            let length = |deltas: &[Delta<'_>]| -> usize {
                deltas.iter().map(|delta| delta.output().len()).sum()
            };
            let (given, mut written) = (length(&deltas), 0);
            for delta in deltas {
                let choice = if let Delta::Text { choice, .. } = delta { choice } else { 0 };
                let mut frame = vec![delta, logprobs(choice)];
                filter.pass(&mut frame);
                assert!(filter.kept() > 0);
                written += length(&frame);
            }
            let mut rest = Vec::new();
            filter.flush(&mut rest);
            assert_eq!(written + length(&rest), given);
        });
    }
}
