//! Tests of the formats: their names, and the native framings that are read.

use bytes::{Bytes, BytesMut};

use super::*;
use crate::chat::{Delta, End, Stop};
use crate::dialect::{Clock, DIALECTS, by_name};
use crate::framing::Frame;
use crate::sse;

pub(super) fn context(form: Form) -> ResponseContext {
    ResponseContext {
        id: "0123456789abcdefghijABCD".into(),
        created: 1_700_000_000,
        model: "m".into(),
        stream: true,
        want_usage: false,
        form,
        echo: String::new(),
        tool_forms: ToolForms::default(),
        input_estimate: 0,
        now: Clock::new(|| 7),
    }
}

/// The native bytes of two words.
fn native(dialect: &dyn Dialect, form: Form) -> Bytes {
    let caller = dialect.as_caller().expect("a caller's dialect");
    let mut encoder = caller.encoder(&context(form), Mode::Translated);
    let mut out = BytesMut::new();
    let text = |text: &'static str| Delta::Text { choice: 0, text: text.into() };
    for delta in [text("one "), text("two"), Delta::Stop { choice: 0, reason: Stop::End }] {
        encoder.frame(&Frame::default(), &[delta], &mut out);
    }
    encoder.finish(&End::Complete, None, &mut out);
    out.freeze()
}

/// The same as text.
fn text(dialect: &'static dyn Dialect, form: Form, bytes: Bytes) -> String {
    let mut codec = transcoder(dialect, Format::Text, &context(form), 1 << 20).expect("a codec");
    let mut out = BytesMut::new();
    codec.push(bytes, &mut out);
    codec.finish(&mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

const TWO_WORDS: &str = "data: one \n\ndata: two\n\nevent: end\ndata: complete\n\n";

#[test]
fn every_format_has_a_name_of_its_own() {
    let names: Vec<&str> = Format::all().map(Format::name).collect();
    let dialects = caller_dialects().map(CallerDialect::name);
    let own = ["native", "ui", "text", "events", "snapshot"];
    assert_eq!(names, own.into_iter().chain(dialects).collect::<Vec<_>>());
    for format in Format::all() {
        assert_eq!(Format::parse(format.name()), Some(format));
        let named_alike = names.iter().filter(|name| **name == format.name());
        assert_eq!(named_alike.count(), 1, "{format:?}");
    }
    for unknown in ["", "UI", "native ", "bedrock", "openai"] {
        assert_eq!(Format::parse(unknown), None);
    }
}

#[test]
fn a_dialect_is_native_to_itself() {
    let context = context(Form::Chat);
    for native in DIALECTS.iter().copied().filter(|native| native.as_caller().is_some()) {
        for format in Format::all() {
            let own = format == Format::Native || format.name() == native.name();
            assert_eq!(format.resolved(native) == Format::Native, own);
            assert_eq!(transcoder(native, format, &context, 1).is_none(), own);
            let media_type = format.media_type(native, &context);
            let lines = own && native.name() == "ollama" || format.name() == "ollama";
            let expected = match format {
                Format::Snapshot => "application/json",
                _ if lines => "application/x-ndjson",
                _ => "text/event-stream",
            };
            assert_eq!(media_type, expected, "{format:?} of {}", native.name());
        }
    }
    assert_eq!(Format::Ui.headers(), [("x-vercel-ai-ui-message-stream", "v1")]);
    assert!(Format::Events.headers().is_empty());
}

#[test]
fn native_framings_are_read() {
    let forms = [("gemini", Form::ChatArray), ("ollama", Form::Generate)];
    let chats = caller_dialects().map(|caller| (caller.name(), Form::Chat));
    for (name, form) in chats.chain(forms) {
        let dialect = by_name(name).expect("a dialect");
        assert_eq!(text(dialect, form, native(dialect, form)), TWO_WORDS, "{name} {form:?}");
    }
    let array = native(by_name("gemini").expect("a dialect"), Form::ChatArray);
    assert!(array.starts_with(b"["), "{array:?}");
}

/// A log may hold lines as the data of events, with positions and comments between them.
#[test]
fn lines_in_events_are_read() {
    let ollama = by_name("ollama").expect("a dialect");
    let lines = native(ollama, Form::Chat);
    let mut events = BytesMut::from(&b": stream\n\n"[..]);
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        events.extend_from_slice(b"id: abcdefghijkl_0000000001\n");
        sse::write(None, line, &mut events);
    }
    assert_eq!(text(ollama, Form::Chat, events.freeze()), TWO_WORDS);
}

/// The end of the log replaces the native one.
#[test]
fn an_end_of_the_log_is_told_in_every_format() {
    let anthropic = by_name("anthropic").expect("a dialect");
    let bytes = native(anthropic, Form::Chat);
    let begun = bytes.slice(..bytes.len() - b"event: message_stop".len() - 40);
    for (end, words) in [
        (End::Cancelled, ["\"abort\"}", "data: cancelled", r#"{"state":"cancelled"}"#]),
        (End::Lost, ["process that made", "data: lost", r#"{"state":"lost","error":{"#]),
    ] {
        for (format, words) in [Format::Ui, Format::Text, Format::Events].into_iter().zip(words) {
            let codec = transcoder(anthropic, format, &context(Form::Chat), 1 << 20);
            let (mut codec, mut out) = (codec.expect("a codec"), BytesMut::new());
            codec.push(begun.clone(), &mut out);
            let before = out.len();
            codec.abort(end.clone(), &mut out);
            let last = String::from_utf8_lossy(&out[before..]).into_owned();
            assert!(last.contains(words), "{format:?} {end:?}: {last}");
        }
    }
}

/// A snapshot grows with its events, wherever they are cut.
#[test]
fn a_snapshot_is_the_sum_so_far() {
    let events = concat!(
        "event: reasoning\ndata: {\"text\":\"hm\"}\n\n",
        ": ping\n\nid: abcdefghijkl_0000000002\nevent: text\ndata: {\"text\":\"a\\n\"}\n\n",
        "event: control\ndata: {\"type\":\"caught_up\",\"text\":\"no text\"}\n\n",
        "event: tool_call\ndata: {\"index\":0,\"id\":\"c\",\"name\":\"f\"}\n\n",
        "event: tool_arguments\ndata: {\"index\":0,\"arguments\":\"{\\\"a\\\"\"}\n\n",
        "event: tool_arguments\ndata: {\"index\":0,\"arguments\":\":1}\"}\n\n",
        "event: tool_arguments\ndata: {\"index\":7,\"arguments\":\"lost\"}\n\n",
        "event: text\ndata: {\"text\":\"b\"}\n\n",
        "event: usage\ndata: {\"output_tokens\":3}\n\n",
        "event: stop\ndata: {\"reason\":\"tool_use\"}\n\n",
        "event: end\ndata: {\"state\":\"complete\"}\n\n",
    );
    let empty = r#"{"stream":"s","state":"streaming","text":"","reasoning":"","tool_calls":[],"usage":null,"stop_reason":null,"error":null,"position":"p"}"#;
    let whole = r#"{"stream":"s","state":"complete","text":"a\nb","reasoning":"hm","tool_calls":[{"id":"c","name":"f","arguments":"{\"a\":1}"}],"usage":{"output_tokens":3},"stop_reason":"tool_use","error":null,"position":"p"}"#;
    assert_eq!(Snapshot::default().document("s", "p"), empty);
    for cut in 0..=events.len() {
        let mut snapshot = Snapshot::default();
        let bytes = Bytes::from_static(events.as_bytes());
        snapshot.push(&bytes.slice(..cut));
        assert_eq!(snapshot.document("s", "p").contains("streaming"), cut < events.len());
        snapshot.push(&bytes.slice(cut..));
        assert_eq!(snapshot.document("s", "p"), whole, "cut at {cut}");
        assert_eq!(snapshot.kept(), "hma\nbcf{\"a\":1}".len());
    }
    let failed = "event: end\ndata: {\"state\":\"error\",\"error\":{\"message\":\"m\",\"type\":\"timeout\"}}\n\n";
    let mut snapshot = Snapshot::default();
    snapshot.push(&Bytes::from_static(failed.as_bytes()));
    let document = snapshot.document("s", "p");
    let error = r#""state":"error","text":"","reasoning":"","tool_calls":[],"usage":null,"stop_reason":null,"error":{"message":"m","type":"timeout"}"#;
    assert!(document.contains(error), "{document}");
}
