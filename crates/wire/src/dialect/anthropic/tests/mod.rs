//! Tests of the dialect: requests, answers, the grammar of written streams, and real streams.

use bytes::{Bytes, BytesMut};

use super::Anthropic;
use crate::chat::{End, ToolForms};
use crate::dialect::{CallerDialect, Clock, Dialect, Form, Mode, ResponseContext};
use crate::framing::{Framer, Framing};
use crate::transcode::Transcoder;

mod answers;
mod grammar;
mod recorded;
mod requests;

fn call(stream: bool) -> ResponseContext {
    ResponseContext {
        id: "abcdefghijklmnopqrstuvwx".to_owned(),
        created: 1_700_000_000,
        model: "asked".to_owned(),
        stream,
        want_usage: true,
        form: Form::Chat,
        echo: String::new(),
        tool_forms: ToolForms::default(),
        input_estimate: 0,
        now: Clock::new(|| 7),
    }
}

/// Relays a stream in pieces of `step` bytes.
fn relay(stream: &[u8], mode: Mode, step: usize) -> (String, End) {
    let encoder = Anthropic.encoder(&call(true), mode);
    let mut relay =
        Transcoder::new(Framing::Sse, 1 << 24, Anthropic.decoder(Form::Chat), encoder, mode);
    let mut out = BytesMut::new();
    for piece in stream.chunks(step) {
        relay.push(Bytes::copy_from_slice(piece), &mut out);
    }
    relay.finish(&mut out);
    (String::from_utf8(out.to_vec()).unwrap(), relay.end().unwrap().clone())
}

/// The events of a stream: name and payload.
fn events(stream: &[u8]) -> Vec<(Option<String>, String)> {
    let mut frames = Vec::new();
    let mut cutter = Framer::new(Framing::Sse, 1 << 24);
    cutter.push(Bytes::copy_from_slice(stream), &mut frames).unwrap();
    cutter.finish(&mut frames);
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    frames.iter().map(|frame| (frame.event.as_ref().map(text), text(&frame.data))).collect()
}
