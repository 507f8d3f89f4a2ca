//! Viewers that are far behind: what they put together must equal what one that keeps up gets, from every position.

use serde_json::Value;

use super::super::event::{Framing, State};
use super::super::generation::Origin;
use super::*;
use crate::config::{Config, OnDisconnect};
use crate::memory::MemoryBudget;
use crate::streams::registry::Streams;
use crate::telemetry::Metrics;
use crate::wire::chat::{Delta, End, Stop, ToolForms};
use crate::wire::dialect::{Clock, DEFAULT, Ending, Mode, ResponseContext};
use crate::wire::framing::Frame;

const COUNT: usize = 1600;

/// A generation whose log has at most so many bytes.
pub(crate) fn generation(max_bytes: usize) -> Arc<Generation> {
    framed(Framing::Sse, max_bytes)
}

fn framed(framing: Framing, max_bytes: usize) -> Arc<Generation> {
    let memory = MemoryBudget::new(Config::default().server.memory, &Arc::<Metrics>::default());
    let origin = Origin {
        owner: "test".into(),
        dialect: DEFAULT,
        framing,
        context: ResponseContext {
            id: "0123456789abcdefghijABCD".into(),
            created: 1_700_000_000,
            model: "m".into(),
            stream: true,
            want_usage: true,
            form: crate::wire::dialect::Form::Chat,
            echo: String::new(),
            tool_forms: ToolForms::default(),
            input_estimate: 0,
            now: Clock::new(|| 7),
        },
        chat: None,
        on_disconnect: OnDisconnect::Continue,
        max_bytes,
        key: None,
    };
    Streams::new(&memory.streams).begin(origin, 10).unwrap()
}

/// Appends an answer event by event: reasoning, a long text, two tool calls, the end.
fn produce(generation: &Generation, mut after_each: impl FnMut()) {
    const TEXTS: [&str; 6] = ["one ", "\"two\"}\n\n", "\n", "\\ \u{1F600}", " ", "data: \r"];
    let mut encoder = DEFAULT.encoder(&generation.origin.context, Mode::Translated);
    let texts = (0..COUNT).map(|at| TEXTS[at % TEXTS.len()]);
    let mut deltas: Vec<Delta<'_>> =
        ["think", "ing "].map(|text| Delta::Reasoning { choice: 0, text: text.into() }).into();
    deltas.extend(texts.map(|text| Delta::Text { choice: 0, text: text.into() }));
    for call in 0..2 {
        let (id, name) = (if call == 0 { "a" } else { "b" }.into(), "f".into());
        deltas.push(Delta::ToolStart { choice: 0, call, id, name });
        let json = ["{\"x\":", "\"\\n\"", "}"];
        deltas.extend(json.map(|json| Delta::ToolArguments { choice: 0, call, json: json.into() }));
    }
    deltas.push(Delta::Stop { choice: 0, reason: Stop::ToolUse });
    for delta in deltas {
        let mut out = BytesMut::new();
        encoder.frame(&Frame::default(), &[delta], &mut out);
        generation.append(&out, false);
        after_each();
    }
    let mut out = BytesMut::new();
    encoder.finish(&End::Complete, None, &mut out);
    generation.append(&out, false);
    let end = StreamEnd { state: State::Complete, message: None, ending: Ending::Closed };
    generation.close(end, 0);
}

fn viewer(generation: &Arc<Generation>, format: Format, seq: u64) -> Viewer {
    let track = generation.in_format(format);
    Viewer::new(Arc::clone(generation), track, seq, (Form::Blocks, Duration::ZERO))
}

/// The blocks that a viewer gets.
async fn rest(mut viewer: Viewer) -> Vec<String> {
    let mut all = String::new();
    loop {
        match viewer.next(Instant::now()).await {
            Next::Bytes(bytes) => all.push_str(std::str::from_utf8(&bytes).unwrap()),
            Next::Ended(_) => break,
            other => panic!("{other:?}"),
        }
    }
    all.split_terminator("\n\n").map(str::to_owned).collect()
}

/// The kinds and texts of blocks.
fn parts(blocks: &[String]) -> Vec<(String, String)> {
    let part = |block: &String| {
        let field = |name| block.lines().filter_map(move |line| line.strip_prefix(name));
        let data = field("data: ").collect::<Vec<_>>().join("\n");
        let kind = field("event: ").next().unwrap_or("text").to_owned();
        let parsed: Value = serde_json::from_str(&data).unwrap_or_default();
        match (&parsed["text"], &parsed["arguments"]) {
            (Value::String(text), _) => (kind, text.clone()),
            (_, Value::String(text)) => (format!("{kind} {}", parsed["index"]), text.clone()),
            _ => (kind, data),
        }
    };
    blocks.iter().map(part).collect()
}

/// Parts as a client puts them together: the texts of one kind, until another one follows.
fn content(parts: &[(String, String)]) -> Vec<(&str, String)> {
    let mut all: Vec<(&str, String)> = Vec::new();
    for (kind, text) in parts {
        match all.last_mut() {
            Some((last, before)) if last == kind => before.push_str(text),
            _ => all.push((kind, text.clone())),
        }
    }
    all
}

fn ids(blocks: &[String]) -> Vec<u64> {
    let id = |block: &String| block.rsplit_once('_').unwrap().1.parse().unwrap();
    blocks.iter().map(id).collect()
}

#[tokio::test]
async fn a_stalled_viewer_gets_the_same_content_in_fewer_events_from_every_position() {
    for format in [Format::Events, Format::Text] {
        let generation = generation(usize::MAX);
        let stalled = viewer(&generation, format, 0);
        let track = generation.in_format(format).unwrap();
        let mut single: Vec<String> = Vec::new();
        // Another viewer keeps up.
        produce(&generation, || track.advance(&generation));
        track.advance(&generation);
        while let Read::Entries { entries, .. } = track.log.read(single.len() as u64, 1) {
            let block = |event: &Event| String::from_utf8(event.block.to_vec()).unwrap();
            single.extend(entries.iter().map(block).map(|block| block.trim_end().to_owned()));
        }
        assert!(single.len() > COUNT / 2, "{}", single.len());
        let joined = rest(stalled).await;
        assert!(joined.len() < 25, "{format:?}: {}", joined.len());
        let parts_of_single = parts(&single);
        let parts_of_joined = parts(&joined);
        assert_eq!(content(&parts_of_joined), content(&parts_of_single));
        for from in 0..single.len() {
            let joined = rest(viewer(&generation, format, from as u64)).await;
            let expected = content(&parts_of_single[from..]);
            assert!(content(&parts(&joined)) == expected, "{format:?} {from}");
            let ids = ids(&joined);
            assert!(ids.is_sorted() && *ids.last().unwrap() == single.len() as u64, "{ids:?}");
        }
        // Each id that it has received is a position after which it gets the rest.
        for (at, id) in ids(&joined).into_iter().enumerate() {
            let rest = parts(&rest(viewer(&generation, format, id)).await);
            assert_eq!(content(&rest), content(&parts_of_joined[at + 1..]), "{format:?} {id}");
        }
    }
}

#[tokio::test]
async fn a_viewer_that_is_not_far_behind_gets_every_event() {
    let generation = generation(usize::MAX);
    produce(&generation, || ());
    let tail = {
        let track = generation.in_format(Format::Events).unwrap();
        track.advance(&generation);
        track.log.extent().tail
    };
    let near = rest(viewer(&generation, Format::Events, tail - 600)).await;
    assert_eq!(ids(&near), (tail - 599..=tail).collect::<Vec<_>>());
    // Clients of vendors' formats may count events.
    for format in [Format::Native, Format::Ui] {
        let all = ids(&rest(viewer(&generation, format, 0)).await);
        assert_eq!(all, (1..=all.len() as u64).collect::<Vec<_>>(), "{format:?}");
    }
}

/// The log of the generation is trimmed, and that of the slow viewer's format is not.
#[tokio::test]
async fn a_slow_viewer_does_not_lose_what_its_own_track_has() {
    let whole = generation(usize::MAX);
    produce(&whole, || ());
    let expected = parts(&rest(viewer(&whole, Format::Text, 0)).await);
    let native = whole.extent().bytes;
    let trimmed = generation(native / 2);
    let slow = viewer(&trimmed, Format::Text, 0);
    produce(&trimmed, || ());
    assert!(trimmed.extent().earliest > 0);
    assert_eq!(content(&parts(&rest(slow).await)), content(&expected));
    // Without room in its own track, the gap is reported.
    let small = generation(native / 100);
    let mut slow = viewer(&small, Format::Text, 0);
    produce(&small, || ());
    assert!(matches!(slow.next(Instant::now()).await, Next::Behind(_)));
}

/// The size of one event makes no viewer one that is far behind.
#[tokio::test]
async fn a_large_event_stays_as_it_was_produced() {
    let generation = generation(usize::MAX);
    let large = format!("data: {}\n\n", "x".repeat(2 * FAR_BEHIND));
    generation.append(large.as_bytes(), false);
    for form in [Form::Blocks, Form::Produced] {
        let mut viewer = Viewer::new(Arc::clone(&generation), None, 0, (form, Duration::ZERO));
        let Next::Bytes(bytes) = viewer.next(Instant::now()).await else { panic!("{form:?}") };
        assert!(bytes.starts_with(large.trim_end().as_bytes()), "{form:?}");
    }
    let (lines, line) =
        (framed(Framing::Ndjson, usize::MAX), format!("\"{}\"\n", "x".repeat(2 * FAR_BEHIND)));
    lines.append(line.as_bytes(), false);
    let mut viewer = Viewer::new(lines, None, 0, (Form::Produced, Duration::ZERO));
    assert!(viewer.next(Instant::now()).await == Next::Bytes(line.into()));
}
