//! Tests of the event-stream framer against WHATWG HTML 9.2 and the numbered failure modes of
//! `docs/failure-modes.md` (`fm32_` is number 32). They must never depend on how bytes are cut.

use super::*;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

const CAP: usize = 1 << 16;

/// Feeds the slices of `bytes` between `cuts`. Also returns whether the cap was reached.
fn feed(bytes: &[u8], cuts: &[usize], cap: usize) -> (Vec<Frame>, bool) {
    let mut reader = Framer::new(cap);
    let mut frames = Vec::new();
    let mut from = 0;
    for to in cuts.iter().copied().chain([bytes.len()]) {
        if reader.push(&Bytes::copy_from_slice(&bytes[from..to]), &mut frames).is_err() {
            return (frames, true);
        }
        from = to;
    }
    reader.finish(&mut frames);
    (frames, false)
}

fn frame(event: &str, data: &str) -> Frame {
    let event = (!event.is_empty()).then(|| Bytes::copy_from_slice(event.as_bytes()));
    Frame { event, data: Bytes::copy_from_slice(data.as_bytes()) }
}

/// Checks for `expected` with the input as a whole, cut at every position, and byte by byte with empty chunks.
fn check(input: impl AsRef<[u8]>, expected: &[(&str, &str)]) {
    let input = input.as_ref();
    let expected: Vec<Frame> = expected.iter().map(|(event, data)| frame(event, data)).collect();
    assert_eq!(feed(input, &[], CAP).0, expected, "whole");
    for cut in 0..=input.len() {
        assert_eq!(feed(input, &[cut], CAP).0, expected, "cut at {cut}");
        assert_eq!(feed(input, &[cut, cut], CAP).0, expected, "empty chunk at {cut}");
    }
    let every: Vec<usize> = (0..input.len()).collect();
    assert_eq!(feed(input, &every, CAP).0, expected, "byte by byte");
}

#[test]
fn an_event_has_a_name_and_data() {
    check("event: a\ndata: x\n\ndata: y\n\n", &[("a", "x"), ("", "y")]);
}

/// Failure mode 42: an error outside of all events is returned at the end, and unusual input is no error.
#[test]
fn fm42_raw_json_becomes_an_error_event_at_the_end() {
    let json = "{\n  \"error\": {\n    \"code\": 499\n  }\n}\n";
    for body in [format!("data: x\r\n\r\n{json}"), format!("data: x\n\n{json}\n: ping\nid: 1\n\n")]
    {
        check(&body, &[("", "x"), ("error", json)]);
    }
    check(json, &[("error", json)]);
    check(json.trim_end(), &[("error", json)]);
    check("[{\n}]\n", &[("error", "[{\n}]\n")]);
    check("odd\n\"error\": {\n[DONE]\ndata: x\n\n}\n", &[("", "x")]);
}

/// Failure mode 37: JSON without end is buffered up to the limit of an event.
#[test]
fn fm37_raw_json_is_capped() {
    let body = "{\n".repeat(100);
    for step in [1, 7, body.len()] {
        let cuts: Vec<usize> = (step..body.len()).step_by(step).collect();
        let (frames, over) = feed(body.as_bytes(), &cuts, 10);
        assert!(!over);
        assert_eq!(frames, [frame("error", "{\n{\n{\n{\n{\n")]);
    }
}

/// Failure mode 6: a code point may be cut anywhere.
#[test]
fn fm06_multi_byte_characters_survive_any_cut() {
    check("data: 你好 🦀\n\ndata: é\n\n", &[("", "你好 🦀"), ("", "é")]);
}

/// Failure mode 20: framing is by events, so that no partial event is ever returned.
#[test]
fn fm20_no_frame_before_its_blank_line() {
    let input = b"data: {\"a\":\"long text\"}\n\n";
    for cut in 0..input.len() {
        let mut frames = Vec::new();
        Framer::new(CAP).push(&Bytes::copy_from_slice(&input[..cut]), &mut frames).unwrap();
        assert_eq!(frames, [], "cut at {cut}");
    }
}

/// Failure mode 23: comments before, between and inside blocks; a lone colon.
#[test]
fn fm23_comments_are_dropped_everywhere() {
    check(": PROCESSING\n\ndata: a\n: inside\ndata: b\n:\n\n:\n\n: ping\n", &[("", "a\nb")]);
}

/// Failure mode 26: the last event is whole, wherever it was cut.
#[test]
fn fm26_a_terminal_event_survives_any_cut() {
    check(
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\ndata: [DONE]\n\n",
        &[("message_stop", "{\"type\":\"message_stop\"}"), ("", "[DONE]")],
    );
}

/// Failure mode 32: LF, CRLF, CR and mixtures of them, at every cut.
#[test]
fn fm32_all_line_ends() {
    let expected = [("a", "x\ny"), ("", "z")];
    for end in ["\n", "\r\n", "\r"] {
        check("event: a\ndata: x\ndata: y\n\ndata: z\n\n".replace('\n', end), &expected);
    }
    check("event: a\r\ndata: x\rdata: y\n\r\ndata: z\r\r", &expected);
}

/// Failure mode 32: CR, then LF alone in its chunk, then LF: the second LF is a blank line of its own.
#[test]
fn fm32_only_one_lf_belongs_to_a_cr() {
    check("data: x\r\n\ndata: y\n\n", &[("", "x"), ("", "y")]);
    check("data: x\r\n\n\ndata: y\r\n\n", &[("", "x"), ("", "y")]);
    check("data: x\n\r\ndata: y\r\r\n", &[("", "x"), ("", "y")]);
}

/// Failure mode 33: one byte order mark may lead, whole or split; a later one is content.
#[test]
fn fm33_byte_order_mark() {
    check("\u{feff}data: x\n\n", &[("", "x")]);
    check("\u{feff}\n\ndata: x\n\n", &[("", "x")]);
    check("\u{feff}\u{feff}data: x\n\ndata: y\n\n", &[("", "y")]);
    check("\ndata: x\n\n\u{feff}data: y\n\n", &[("", "x")]);
    check("data: \u{feff}x\n\n", &[("", "\u{feff}x")]);
    check("\u{feff}", &[]);
}

/// Failure mode 34: only CR and LF end lines.
#[test]
fn fm34_unicode_separators_are_content() {
    check(
        "data: a\u{2028}b\u{2029}c\u{85}d\u{b}e\u{c}f\n\n",
        &[("", "a\u{2028}b\u{2029}c\u{85}d\u{b}e\u{c}f")],
    );
}

/// Failure mode 35: several data lines join with LF; one space after the colon is optional, a second one counts.
#[test]
fn fm35_multi_line_data_and_the_optional_space() {
    check("data:a\ndata: b\ndata:  c\ndata:\td\n\n", &[("", "a\nb\n c\n\td")]);
    check("data:{\"a\":\ndata:1}\n\n", &[("", "{\"a\":\n1}")]);
    check("data\n\n", &[("", "")]);
    check("data\ndata\n\n", &[("", "\n")]);
    check("data:\ndata\ndata:\n\n", &[("", "\n\n")]);
    check("data: \n\n", &[("", "")]);
    check("data\ndata: x\n\n", &[("", "\nx")]);
}

#[test]
fn fields_are_exact_and_unknown_ones_ignored() {
    check(
        "Data: no\nDATA: no\n data: no\nid: 7\nretry: 5\nfoo\ndata : no\n\ndata: a:b: c\n\n",
        &[("", "a:b: c")],
    );
}

#[test]
fn an_event_name_is_forgotten_at_each_blank_line() {
    check("event: a\n\ndata: x\n\nevent: b\nevent\ndata: y\n\n", &[("", "x"), ("", "y")]);
    check("event: a\nevent: b\ndata: x\n\n", &[("b", "x")]);
}

#[test]
fn blank_lines_without_data_make_nothing() {
    check("\n\n\r\n\r\rid: 1\n\n", &[]);
    check("", &[]);
}

#[test]
fn nul_and_invalid_utf8_pass_through() {
    let mut frames = Vec::new();
    let mut reader = Framer::new(CAP);
    reader.push(&Bytes::from_static(b"data: a\0\xFF\xC3b\n\n"), &mut frames).unwrap();
    assert_eq!(frames[0].data.as_ref(), b"a\0\xFF\xC3b");
}

/// Older llama.cpp servers: the error is a field.
#[test]
fn an_error_field_becomes_an_error_event() {
    check("data: {}\n\nerror: {\"code\":500}\n\n", &[("", "{}"), ("error", "{\"code\":500}")]);
}

/// Some servers omit the last blank line, or the last line end.
#[test]
fn an_unterminated_event_is_handed_out_at_the_end() {
    check("data: x\n\nevent: e\ndata: y\n", &[("", "x"), ("e", "y")]);
    check("data: x\n\ndata: y", &[("", "x"), ("", "y")]);
    check("data: x\n\nevent: e", &[("", "x")]);
    check("data: x\r", &[("", "x")]);
}

/// Failure mode 36: names are checked and data cannot leave its lines.
#[test]
fn fm36_nothing_injects_events() {
    for bad in ["a\nb", "a\rb", "a b", "a:b", "é", "a\0", "a".repeat(65).as_str()] {
        assert!(!is_name(bad.as_bytes()), "{bad:?}");
    }
    assert!(is_name(b"content_block_delta") && is_name(b"response.output_text.delta"));
    for evil in ["x\n\ndata: forged", "x\rdata: forged", "x\r\n\r\nevent: e", "\n", "\r"] {
        let mut out = BytesMut::new();
        write(Some(b"e"), evil.as_bytes(), &mut out);
        assert!(!out.contains(&b'\r'));
        let normal = evil.replace("\r\n", "\n").replace('\r', "\n");
        check(&out, &[("e", &normal)]);
    }
}

/// Failure mode 37: a picture of 2 MB on one line, and 40 MB under a cap that allows it.
#[test]
fn fm37_huge_events_pass() {
    for (size, cap, step) in [(2 << 20, 4 << 20, 1448), (40 << 20, 64 << 20, 65536)] {
        let mut input = b"data: ".to_vec();
        input.resize(size, b'x');
        input.extend_from_slice(b"\n\n");
        let cuts: Vec<usize> = (step..input.len()).step_by(step).collect();
        let (frames, over) = feed(&input, &cuts, cap);
        assert!(!over);
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0].data.len(), size - 6);
    }
}

/// Failure modes 37 and 38: the cap covers a line, the lines of one event, and the event's name. The result
/// does not depend on the cuts.
#[test]
fn fm38_the_cap_does_not_depend_on_cuts() {
    let at_cap = format!("data: {}\n\n", "x".repeat(26));
    let inputs = [
        at_cap.clone(),
        format!("data: a\n\n{at_cap}data: b\n\n"),
        format!("data: {}\n\n", "x".repeat(27)),
        "data: xxx\n".repeat(9),
        "data\n".repeat(40),
        format!(": {}\n\n", "c".repeat(31)),
        format!("event: {}\ndata: yyyyyyyyyyyyy\n\n", "n".repeat(20)),
        ": fine\n".repeat(40),
    ];
    let over = [false, false, true, true, true, true, true, false];
    for (input, over) in inputs.iter().zip(over) {
        let whole = feed(input.as_bytes(), &[], 32);
        assert_eq!(whole.1, over, "{input}");
        for cut in 0..=input.len() {
            assert_eq!(feed(input.as_bytes(), &[cut], 32), whole, "{input} cut at {cut}");
        }
        let every: Vec<usize> = (0..input.len()).collect();
        assert_eq!(feed(input.as_bytes(), &every, 32), whole, "{input} byte by byte");
    }
}

/// Failure mode 38: a gigabyte without a line end costs one pass up to the cap and no memory beyond it.
#[test]
fn fm38_an_endless_line_stops_at_the_cap() {
    let mut reader = Framer::new(32 << 20);
    let chunk = Bytes::from(vec![b'x'; 1 << 16]);
    let mut frames = Vec::new();
    let mut taken = 0_usize;
    while reader.push(&chunk, &mut frames).is_ok() {
        taken += chunk.len();
        assert!(taken <= 32 << 20);
        assert!(reader.partial.capacity() <= 64 << 20);
    }
    assert_eq!((taken, frames.len()), (32 << 20, 0));
}

/// A frame that arrives whole is a slice of its chunk, not a copy.
#[test]
fn frames_borrow_their_chunk() {
    let chunk = Bytes::from_static(b"data: abc\n\n");
    let mut frames = Vec::new();
    Framer::new(CAP).push(&chunk, &mut frames).unwrap();
    assert_eq!(frames[0].data.as_ptr(), chunk[6..].as_ptr());
}

/// A fixed seed, so that every machine runs the same cases.
fn config() -> ProptestConfig {
    let rng_seed = RngSeed::Fixed(0x5EED);
    ProptestConfig { cases: 1024, failure_persistence: None, rng_seed, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    /// Output of `write` is read back with any cutting and with any comments in between.
    #[test]
    fn what_is_written_is_read_back(
        events in proptest::collection::vec(
            (proptest::option::of("[a-z_.]{1,12}"), "[^\r]{0,40}", any::<bool>()), 0..8),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
    ) {
        let mut bytes = BytesMut::new();
        let mut expected = Vec::new();
        for (event, data, comment) in &events {
            if *comment {
                bytes.extend_from_slice(b": ping\n\n");
            }
            write(event.as_deref().map(str::as_bytes), data.as_bytes(), &mut bytes);
            expected.push(frame(event.as_deref().unwrap_or_default(), data));
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(feed(&bytes, &cuts, CAP), (expected, false));
    }

    /// Any bytes with any cutting yield the same frames and the same result.
    #[test]
    fn cutting_never_matters(
        pieces in proptest::collection::vec(
            proptest::sample::select(vec![
                "data", "event", "error", ":", " ", "\n", "\r", "\r\n", "x", "\u{feff}", "é", "\n\n", "data: ",
            ]), 0..40),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
        cap in 1_usize..64,
    ) {
        let input = pieces.concat();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(feed(input.as_bytes(), &cuts, cap), feed(input.as_bytes(), &[], cap));
    }
}
