//! Tests of the AWS event-stream framer: messages written from the layout, the vendor's own vectors where they
//! are available, and every way to cut and to corrupt them.

use super::*;

/// A message with string headers.
fn written(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        block.push(u8::try_from(name.len()).unwrap());
        block.extend(name.bytes());
        block.push(7);
        block.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        block.extend(value.bytes());
    }
    let total = u32::try_from(SMALLEST + block.len() + payload.len()).unwrap();
    let mut out = total.to_be_bytes().to_vec();
    out.extend(u32::try_from(block.len()).unwrap().to_be_bytes());
    out.extend(crc32fast::hash(&out).to_be_bytes());
    out.extend(block);
    out.extend(payload);
    out.extend(crc32fast::hash(&out).to_be_bytes());
    out
}

fn feed(bytes: &[u8], step: usize, cap: usize) -> (Vec<Frame>, Result<(), FramingError>) {
    let mut framer = Framer::new(cap);
    let mut out = Vec::new();
    for chunk in bytes.chunks(step.max(1)) {
        if let Err(broken) = framer.push(Bytes::copy_from_slice(chunk), &mut out) {
            return (out, Err(broken));
        }
    }
    framer.finish(&mut out);
    (out, Ok(()))
}

fn stream() -> Vec<u8> {
    let event = [(":message-type", "event"), (":event-type", "delta"), ("x", "y")];
    let chunk = [(":message-type", "event"), (":event-type", "chunk")];
    let exception = [(":message-type", "exception"), (":exception-type", "throttlingException")];
    let error =
        [(":message-type", "error"), (":error-code", "Oops"), (":error-message", "a \"b\"")];
    [
        written(&event, b"{\"a\":1}"),
        written(&event, b""),
        written(&chunk, br#"{"bytes":"eyJhIjoyfQ==","p":"abc"}"#),
        written(&exception, b"{\"message\":\"m\"}"),
        written(&error, b""),
    ]
    .concat()
}

#[test]
fn messages_are_frames_however_they_are_cut() {
    let input = stream();
    let frame = |event: &'static str, data: &'static str| Frame {
        event: Some(Bytes::from_static(event.as_bytes())),
        data: Bytes::from_static(data.as_bytes()),
    };
    let expected = [
        frame("delta", "{\"a\":1}"),
        frame("delta", ""),
        Frame { event: None, data: Bytes::from_static(b"{\"a\":2}") },
        frame("exception:throttlingException", "{\"message\":\"m\"}"),
        frame("exception:Oops", r#"{"message":"a \"b\""}"#),
    ];
    for step in 1..=input.len() {
        assert_eq!(feed(&input, step, 1024), (expected.to_vec(), Ok(())), "by {step}");
    }
}

#[test]
fn a_chunk_that_wraps_nothing_is_corrupt() {
    let headers = [(":message-type", "event"), (":event-type", "chunk")];
    for payload in [&b""[..], b"{}", b"{\"bytes\":\"?\"}", b"{\"bytes\":7}"] {
        let (frames, result) = feed(&written(&headers, payload), 9, 1024);
        assert_eq!(
            (frames.len(), result),
            (0, Err(FramingError::Corrupt { why: "a chunk holds no base64" }))
        );
    }
}

/// A flipped bit anywhere is detected, and no part of its message is returned.
#[test]
fn every_flipped_bit_is_found() {
    let input = written(&[(":message-type", "event"), (":event-type", "chunk")], b"{\"a\":1}");
    for at in 0..input.len() {
        for bit in 0..8 {
            let mut spoilt = input.clone();
            spoilt[at] ^= 1 << bit;
            let (frames, result) = feed(&spoilt, 7, 1024);
            assert!(frames.is_empty() && result.is_err(), "bit {bit} of byte {at}: {frames:?}");
        }
    }
}

/// A cut message is not returned, and a bad length is reported before the announced bytes arrive.
#[test]
fn cut_messages_are_dropped() {
    let input = written(&[(":message-type", "event")], b"{}");
    for cut in 0..input.len() {
        assert_eq!(feed(&input[..cut], 5, 1024), (Vec::new(), Ok(())), "cut at {cut}");
    }
    let mut long = 1_000_000_u32.to_be_bytes().to_vec();
    long.extend(0_u32.to_be_bytes());
    long.extend(crc32fast::hash(&long).to_be_bytes());
    for step in 1..=12 {
        assert_eq!(feed(&long, step, 1024).1, Err(FramingError::TooLong { cap: 1024 }));
        assert!(matches!(feed(&[0xFF; 12], step, 1024).1, Err(FramingError::Corrupt { .. })));
    }
}

/// Headers with valid checksums and invalid contents.
#[test]
fn wrong_headers_are_told() {
    for block in [
        &[0xFF_u8][..],
        &[1, b'a'],
        &[1, b'a', 77],
        &[1, b'a', 7, 0],
        &[1, b'a', 7, 0, 9, b'x'],
        &[1, b'a', 4, 0],
    ] {
        let total = u32::try_from(SMALLEST + block.len()).unwrap();
        let mut out = total.to_be_bytes().to_vec();
        out.extend(u32::try_from(block.len()).unwrap().to_be_bytes());
        out.extend(crc32fast::hash(&out).to_be_bytes());
        out.extend(block);
        out.extend(crc32fast::hash(&out).to_be_bytes());
        let (frames, result) = feed(&out, 3, 1024);
        assert!(
            frames.is_empty() && matches!(result, Err(FramingError::Corrupt { .. })),
            "{block:?}"
        );
    }
}

/// smithy-rs's own vectors.
#[test]
fn the_vendors_vectors_agree() {
    let vectors = crate::recordings_for_tests::recordings("other/eventstream-vectors");
    assert!(vectors.is_empty() || vectors.len() >= 8);
    for path in vectors {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).unwrap();
        for step in 1..=bytes.len() {
            let (frames, result) = feed(&bytes, step, 1024);
            let valid = name.starts_with("valid_");
            assert_eq!(
                (frames.len(), result.is_ok()),
                (usize::from(valid), valid),
                "{name} by {step}"
            );
        }
    }
}
