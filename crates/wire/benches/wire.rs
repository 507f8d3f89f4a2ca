//! Benchmarks of the codecs per dialect: framing, decoding, encoding, and decoding plus encoding. They measure
//! and must never assert: `cargo bench -- --test` only checks that they run.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use streamgate_wire::chat::{Delta, ToolForms};
use streamgate_wire::dialect::{
    CallerDialect, Clock, DIALECTS, Form, Mode, ResponseContext, caller_dialects,
};
use streamgate_wire::framing::{Frame, Framer, Framing};
use streamgate_wire::sse;
use streamgate_wire::transcode::Transcoder;

const CHUNKS: usize = 1000;
const CAP: usize = 32 << 20;

fn call() -> ResponseContext {
    ResponseContext {
        id: "0123456789abcdefghijABCD".into(),
        created: 1_700_000_000,
        model: "bench".into(),
        stream: true,
        want_usage: false,
        form: Form::Chat,
        echo: String::new(),
        tool_forms: ToolForms::default(),
        input_estimate: 0,
        now: Clock::new(|| 7),
    }
}

/// A long answer, streamed by the dialect's own encoder. It is close to what the vendor sends.
fn stream(dialect: &dyn CallerDialect) -> Bytes {
    let mut encoder = dialect.encoder(&call(), Mode::Translated);
    let mut out = BytesMut::new();
    let start = Delta::Start { id: "up_0123456789".into(), model: "bench-2026-01-01".into() };
    encoder.frame(&Frame::default(), &[start], &mut out);
    for _ in 0..CHUNKS {
        encoder.frame(&Frame::default(), &[word()], &mut out);
    }
    out.freeze()
}

fn word() -> Delta<'static> {
    Delta::Text { choice: 0, text: " token".into() }
}

fn frames(framing: Framing, bytes: &Bytes) -> Vec<Frame> {
    let mut out = Vec::new();
    let pushed = Framer::new(framing, CAP).push(bytes.clone(), &mut out);
    assert!(pushed.is_ok());
    out
}

/// 300-byte events of every framing.
fn events(framing: Framing) -> Bytes {
    let mut body = BytesMut::new();
    for _ in 0..CHUNKS {
        match framing {
            Framing::Ndjson => {
                body.extend([&b"{\"a\":\""[..], &[b'x'; 291], b"\"}\n"].concat());
            }
            Framing::JsonArray => {
                let lead = if body.is_empty() { &b"["[..] } else { b"," };
                body.extend([lead, b"{\"a\":\"", &[b'x'; 291], b"\"}"].concat());
            }
            Framing::AwsEventStream => {
                let mut message = [300_u32.to_be_bytes(), 0_u32.to_be_bytes()].concat();
                message.extend(crc32fast::hash(&message).to_be_bytes());
                message.resize(296, b'x');
                message.extend(crc32fast::hash(&message).to_be_bytes());
                body.extend(message);
            }
            Framing::Sse | Framing::Whole => sse::write(None, &[b'x'; 292], &mut body),
        }
    }
    body.freeze()
}

fn framing(c: &mut Criterion) {
    let mut group = c.benchmark_group("framing");
    for framing in [Framing::Sse, Framing::Ndjson, Framing::JsonArray, Framing::AwsEventStream] {
        let body = events(framing);
        group.throughput(Throughput::Bytes(body.len() as u64));
        let steps = [("whole", body.len()), ("by_1448", 1448), ("by_300", 300), ("by_64", 64)];
        for (name, step) in steps {
            let mut out = Vec::with_capacity(CHUNKS);
            group.bench_function(format!("{framing:?}/{name}"), |b| {
                b.iter(|| {
                    let mut framer = Framer::new(framing, CAP);
                    let mut rest = body.clone();
                    while !rest.is_empty() {
                        let chunk = rest.split_to(step.min(rest.len()));
                        let pushed = framer.push(chunk, &mut out);
                        assert!(pushed.is_ok());
                        black_box(&out);
                        out.clear();
                    }
                });
            });
        }
    }
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    for dialect in DIALECTS {
        let Some(caller) = dialect.as_caller() else { continue };
        let frames = frames(dialect.framing(""), &stream(caller));
        group.throughput(Throughput::Elements(frames.len() as u64));
        group.bench_function(dialect.name(), |b| {
            b.iter_batched(
                || dialect.decoder(Form::Chat),
                |mut decoder| {
                    let mut deltas = Vec::new();
                    for frame in &frames {
                        deltas.clear();
                        black_box(decoder.frame(frame, &mut deltas));
                    }
                },
                BatchSize::SmallInput,
            );
        });
    }
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    group.throughput(Throughput::Elements(CHUNKS as u64));
    for dialect in caller_dialects() {
        let mut out = BytesMut::with_capacity(1 << 20);
        group.bench_function(dialect.name(), |b| {
            b.iter(|| {
                let mut encoder = dialect.encoder(&call(), Mode::Translated);
                for _ in 0..CHUNKS {
                    encoder.frame(&Frame::default(), &[word()], &mut out);
                }
                black_box(&out);
                out.clear();
            });
        });
    }
}

fn transcode(c: &mut Criterion) {
    let mut group = c.benchmark_group("transcode");
    for upstream in DIALECTS {
        let Some(own) = upstream.as_caller() else { continue };
        let (body, framing) = (stream(own), upstream.framing(""));
        group.throughput(Throughput::Elements(frames(framing, &body).len() as u64));
        for caller in caller_dialects() {
            let same = upstream.name() == caller.name();
            let mode = if same { Mode::Verbatim } else { Mode::Translated };
            let mut out = BytesMut::with_capacity(1 << 20);
            group.bench_function(format!("{}_to_{}", upstream.name(), caller.name()), |b| {
                b.iter(|| {
                    let encoder = caller.encoder(&call(), mode);
                    let decoder = upstream.decoder(Form::Chat);
                    let mut codec = Transcoder::new(framing, CAP, decoder, encoder, mode);
                    let mut rest = body.clone();
                    while !rest.is_empty() {
                        codec.push(rest.split_to(1448.min(rest.len())), &mut out);
                        black_box(&out);
                        out.clear();
                    }
                });
            });
        }
    }
}

criterion_group!(wire, framing, decode, encode, transcode);
criterion_main!(wire);
