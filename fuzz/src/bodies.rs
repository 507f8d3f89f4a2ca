//! Bodies of the fuzz targets, shared with `tests/it/fuzz.rs`. A body must never depend on anything but
//! its input, and says what is wrong by panicking.

mod credentials;

pub use credentials::{capability, position, ticket};

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use serde_json::value::RawValue;
use streamgate_wire::adapt;
use streamgate_wire::chat::{End, ToolForms};
use streamgate_wire::dialect::{
    CallerDialect, Clock, DIALECTS, Dialect, Form, Mode, Quirks, RequestView, ResponseContext,
    Target, caller_dialects,
};
use streamgate_wire::format::{EndState, Format, Snapshot, transcoder};
use streamgate_wire::framing::{Frame, Framer, Framing, FramingError};
use streamgate_wire::json;
use streamgate_wire::transcode::Transcoder;

const CAP: usize = 4096;

/// Takes the first byte off, as a choice.
fn choice(data: &mut &[u8]) -> usize {
    let Some((first, rest)) = data.split_first() else { return 0 };
    *data = rest;
    usize::from(*first)
}

fn frames(framing: Framing, data: &[u8], step: usize) -> (Vec<Frame>, Result<(), FramingError>) {
    let mut framer = Framer::new(framing, CAP);
    let mut out = Vec::new();
    for chunk in data.chunks(step.max(1)) {
        let pushed = framer.push(Bytes::copy_from_slice(chunk), &mut out);
        if pushed.is_err() {
            return (out, pushed);
        }
    }
    framer.finish(&mut out);
    (out, Ok(()))
}

/// Any bytes give the same frames under any cutting and any framing, none over the cap.
pub fn framing(mut data: &[u8]) {
    let step = choice(&mut data);
    for framing in [Framing::Sse, Framing::Ndjson, Framing::JsonArray, Framing::AwsEventStream] {
        let whole = frames(framing, data, data.len());
        assert_eq!(frames(framing, data, step), whole, "{framing:?} cut every {step}");
        assert!(whole.0.iter().all(|frame| frame.data.len() <= CAP));
    }
}

/// Edited JSON stays JSON, and says what was asked.
pub fn json_edit(mut data: &[u8]) {
    let remove = choice(&mut data).is_multiple_of(2);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let new = (!remove).then_some("[7]");
    let Ok(edited) = json::edit(text, &[("model", new)]) else { return };
    let members = json::Members::parse(&edited).expect("an edited object is an object");
    assert_eq!(members.get("model").map(RawValue::get), new);
    assert_eq!(json::edit(text, &[]).expect("an object"), text);
    for (_, value) in &members.0 {
        let _text = json::text(value);
        let _half = json::trailing_high_surrogate(value);
    }
}

/// Any bytes through every pair of dialects: no panic, one end, and no clean end to a caller of
/// whom the codec itself says otherwise.
pub fn decode(mut data: &[u8]) {
    let at = choice(&mut data);
    let step = choice(&mut data);
    let upstream = DIALECTS[at % DIALECTS.len()];
    for caller in caller_dialects() {
        let translated = (Mode::Translated, at & 64 == 0);
        transcode(upstream, caller, translated, (data, step));
        if upstream.name() == caller.name() {
            transcode(upstream, caller, (Mode::Verbatim, true), (data, step));
        }
    }
}

/// Any bytes as those of a log, in every format: no panic, one end, and the word for it.
pub fn viewer(mut data: &[u8]) {
    let at = choice(&mut data);
    let step = choice(&mut data);
    let natives: Vec<&'static dyn Dialect> =
        DIALECTS.iter().copied().filter(|dialect| dialect.as_caller().is_some()).collect();
    let native = natives[at % natives.len()];
    let context = call(true, true);
    for format in Format::all() {
        let Some(mut codec) = transcoder(native, format, &context, CAP) else { continue };
        let (mut out, mut snapshot) = (BytesMut::new(), Snapshot::default());
        for chunk in data.chunks(step.max(1)) {
            codec.push(Bytes::copy_from_slice(chunk), &mut out);
        }
        if at.is_multiple_of(2) {
            codec.finish(&mut out);
        } else {
            codec.abort(End::Lost, &mut out);
        }
        let end = codec.end().expect("finish and abort end every answer");
        if format == Format::Snapshot {
            snapshot.push(&out.freeze());
            let state = format!(r#""state":"{}""#, EndState::of(end).name());
            assert!(snapshot.document("", "").contains(&state), "{end:?}");
        }
    }
}

fn call(stream: bool, want_usage: bool) -> ResponseContext {
    ResponseContext {
        id: "0123456789abcdefghijABCD".into(),
        created: 1_700_000_000,
        model: "m".into(),
        stream,
        want_usage,
        form: Form::Chat,
        echo: String::new(),
        tool_forms: ToolForms::default(),
        input_estimate: 0,
        now: Clock::new(|| 7),
    }
}

fn transcode(
    upstream: &dyn Dialect,
    caller: &dyn CallerDialect,
    (mode, stream): (Mode, bool),
    (data, step): (&[u8], usize),
) {
    let call = call(stream, step.is_multiple_of(2));
    for framing in [upstream.framing(""), Framing::Whole] {
        let encoder = caller.encoder(&call, mode);
        let mut codec = Transcoder::new(framing, CAP, upstream.decoder(Form::Chat), encoder, mode);
        let mut out = BytesMut::new();
        for chunk in data.chunks(step.max(1)) {
            codec.push(Bytes::copy_from_slice(chunk), &mut out);
        }
        codec.finish(&mut out);
        let end = codec.end().expect("finish ends every answer");
        assert!(stream || *end == End::Complete || out.is_empty(), "a body of a failed answer");
        let written = out.len();
        let end = end.clone();
        codec.finish(&mut out);
        codec.abort(End::Cancelled, &mut out);
        assert_eq!((codec.end(), out.len()), (Some(&end), written), "it ended twice");
    }
}

/// Any text through every reader of requests, and whatever is read through every writer.
pub fn request(mut data: &[u8]) {
    let legacy = choice(&mut data).is_multiple_of(2);
    let quirks = Quirks { legacy_max_tokens: legacy, ..Quirks::default() };
    let target = Target { model: "up/\"stream", stream: legacy, form: Form::Chat, quirks: &quirks };
    for upstream in DIALECTS {
        let _fault = upstream.decode_error(500, data);
    }
    let Ok(body) = std::str::from_utf8(data) else { return };
    for upstream in DIALECTS {
        let Some(caller) = upstream.as_caller() else { continue };
        let asked = |path| RequestView { form: Form::Chat, path, query: "", body };
        if caller.envelope(&asked(caller.endpoints()[0].path)).is_ok()
            && let Ok(edited) = upstream.edit_request(body, &target)
        {
            let edited = json::Members::parse(&edited).expect("an edited request is an object");
            let model = edited.get("model").and_then(json::text);
            assert_eq!(model.as_deref(), Some(target.model));
        }
        let Ok(request) = caller.decode_request(Form::Chat, body) else { continue };
        for other in DIALECTS {
            if let Ok(written) = adapt::write(&mut request.clone(), *other, &target, false) {
                let read: Value =
                    serde_json::from_str(&written.body).expect("a written request is JSON");
                // Some dialects name it in the path only.
                assert!(read.get("model").is_none_or(|model| model == target.model));
            }
        }
    }
}
