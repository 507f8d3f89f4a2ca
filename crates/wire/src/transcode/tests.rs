//! Tests of the transcoder with a toy dialect: the order of calls, and the end of an answer.

use super::*;
use std::borrow::Cow;

/// `t` is text, `stop` a stop, `end` the terminal event, `bad` a failure. Everything else is ignored.
struct Toy {
    stopped: bool,
}

impl Decode for Toy {
    fn frame<'f>(&mut self, frame: &'f Frame, out: &mut Vec<Delta<'f>>) -> Option<End> {
        match frame.data.as_ref() {
            b"t" => out.push(Delta::Text { choice: 0, text: Cow::Borrowed("tttt") }),
            b"stop" => {
                self.stopped = true;
                out.push(Delta::Stop { choice: 0, reason: Stop::End });
            }
            b"end" => return Some(End::Complete),
            b"t+end" => {
                out.push(Delta::Text { choice: 0, text: Cow::Borrowed("last") });
                return Some(End::Complete);
            }
            b"bad" => return Some(End::Failed(ApiError::new(Kind::Upstream, "bad"))),
            _ => {}
        }
        None
    }
    fn answer<'f>(&mut self, body: &'f Frame, out: &mut Vec<Delta<'f>>) -> End {
        self.frame(body, out).unwrap_or(End::Truncated)
    }
    fn finish(&mut self) -> End {
        if self.stopped { End::Complete } else { End::Truncated }
    }
}

/// Records its calls.
struct Script;

impl Encode for Script {
    fn frame(&mut self, frame: &Frame, deltas: &[Delta<'_>], out: &mut BytesMut) {
        let data = String::from_utf8_lossy(&frame.data);
        out.extend_from_slice(format!("[{data}:{}]", deltas.len()).as_bytes());
    }
    fn finish(&mut self, end: &End, last: Option<&Frame>, out: &mut BytesMut) {
        let last = last.map(|frame| String::from_utf8_lossy(&frame.data).into_owned());
        let end = match end {
            End::Failed(fault) => format!("Failed {}", fault.message),
            other => format!("{other:?}"),
        };
        out.extend_from_slice(format!("<{end} {}>", last.unwrap_or_default()).as_bytes());
    }
}

fn transcoder(framing: Framing, cap: usize, mode: Mode) -> Transcoder {
    Transcoder::new(framing, cap, Box::new(Toy { stopped: false }), Box::new(Script), mode)
}

fn run(input: &'static str, mode: Mode) -> String {
    let mut transcoder = transcoder(Framing::Sse, 64, mode);
    let mut out = BytesMut::new();
    transcoder.push(Bytes::from_static(input.as_bytes()), &mut out);
    transcoder.finish(&mut out);
    assert!(transcoder.end().is_some());
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn the_encoder_sees_every_frame_and_one_end() {
    for mode in [Mode::Verbatim, Mode::Translated] {
        assert_eq!(run("data: t\n\ndata: x\n\ndata: end\n\n", mode), "[t:1][x:0]<Complete end>");
        assert_eq!(run("data: bad\n\n", mode), "<Failed bad bad>");
    }
}

#[test]
fn bytes_after_the_end_are_ignored() {
    assert_eq!(run("data: end\n\ndata: t\n\ndata: bad\n\n", Mode::Translated), "<Complete end>");
    let mut transcoder = transcoder(Framing::Sse, 64, Mode::Verbatim);
    let mut out = BytesMut::new();
    transcoder.push(Bytes::from_static(b"data: end\n\n"), &mut out);
    let before = out.len();
    assert!(!transcoder.push(Bytes::from_static(b"data: t\n\n"), &mut out));
    transcoder.finish(&mut out);
    transcoder.abort(End::Cancelled, &mut out);
    assert_eq!(out.len(), before);
    assert_eq!(transcoder.end(), Some(&End::Complete));
}

/// Verbatim, the last frame is written whole through `finish`. Translated, its deltas are written first.
#[test]
fn deltas_of_the_last_frame_count() {
    assert_eq!(run("data: t+end\n\n", Mode::Verbatim), "<Complete t+end>");
    assert_eq!(run("data: t+end\n\n", Mode::Translated), "[t+end:1]<Complete t+end>");
}

#[test]
fn end_of_bytes_is_not_end_of_answer() {
    assert_eq!(run("data: t\n\n", Mode::Translated), "[t:1]<Truncated >");
    assert_eq!(run("data: t\n\ndata: stop\n\n", Mode::Translated), "[t:1][stop:1]<Complete >");
    assert_eq!(run("", Mode::Translated), "<Truncated >");
}

/// A cut payload means a cut stream, even after a stop; a complete one without its blank line is valid.
#[test]
fn a_cut_last_event_truncates() {
    assert_eq!(run("data: stop\n\ndata: {\"a\":", Mode::Translated), "[stop:1]<Truncated >");
    assert_eq!(
        run("data: stop\n\ndata: {\"a\":1}", Mode::Verbatim),
        "[stop:1][{\"a\":1}:0]<Complete >"
    );
    assert_eq!(run("data: t\n\ndata: end", Mode::Verbatim), "[t:1]<Complete end>");
}

/// Failure mode 23: a keep-alive wrapped as data.
#[test]
fn fm23_wrapped_comments_are_dropped() {
    assert_eq!(run("data: : keepalive\n\n: c\n\ndata: end\n\n", Mode::Verbatim), "<Complete end>");
}

#[test]
fn fm37_an_event_over_the_cap_fails_the_stream() {
    let mut transcoder = transcoder(Framing::Sse, 16, Mode::Translated);
    let mut out = BytesMut::new();
    assert!(transcoder.push(Bytes::from_static(b"data: t\n\ndata: 12345678901"), &mut out));
    transcoder.finish(&mut out);
    let said = "[t:1]<Failed the upstream sent an event of more than 16 bytes >";
    assert_eq!(out.as_ref(), said.as_bytes());
}

#[test]
fn whole_bodies_are_read_once_and_only_complete_ones_written() {
    for (body, expected) in
        [("t+end", "[t+end:1]<Complete >"), ("bad", "<Failed bad >"), ("t", "<Truncated >")]
    {
        let mut transcoder = transcoder(Framing::Whole, 64, Mode::Translated);
        let mut out = BytesMut::new();
        for byte in body.as_bytes().chunks(1) {
            assert!(!transcoder.push(Bytes::copy_from_slice(byte), &mut out));
        }
        assert!(out.is_empty());
        transcoder.finish(&mut out);
        assert_eq!(out.as_ref(), expected.as_bytes());
    }
}

/// Bytes that do not determine the framing are not kept, however many arrive.
#[test]
fn blanks_before_an_answer_are_not_kept() {
    let choose: Choose = Box::new(|_| (Box::new(Script), Ok(Mode::Translated)));
    let mut transcoder =
        Transcoder::labelled(Framing::Whole, 64, Box::new(Toy { stopped: false }), choose);
    let mut out = BytesMut::new();
    transcoder.push(Bytes::from_static(b"\xEF\xBB\xBF"), &mut out);
    for _ in 0..1000 {
        transcoder.push(Bytes::from_static(b" \n"), &mut out);
    }
    transcoder.push(Bytes::from_static(b"dat"), &mut out);
    assert_eq!(transcoder.head.as_deref(), Some(&b"dat"[..]));
    transcoder.push(Bytes::from_static(b"a: t\n\ndata: end\n\n"), &mut out);
    assert_eq!(transcoder.end(), Some(&End::Complete));
    assert!(out.starts_with(b"[t:1]"), "{out:?}");
}

/// Sources beyond the limit are removed, and nothing else.
#[test]
fn no_more_citations_are_passed_on_than_the_bound() {
    let mut transcoder = transcoder(Framing::Sse, 64, Mode::Translated);
    let cited = || Delta::Citation(crate::chat::Citation::default());
    let text = || Delta::Text { choice: 0, text: Cow::Borrowed("t") };
    let mut deltas: Vec<_> = (0..MAX_CITATIONS - 1).map(|_| cited()).collect();
    transcoder.read(&mut deltas);
    assert_eq!(deltas.len(), MAX_CITATIONS - 1);
    let mut more = vec![cited(), text(), cited(), text()];
    transcoder.read(&mut more);
    assert_eq!(more, [cited(), text(), text()]);
    let mut beyond = vec![cited(), text()];
    transcoder.read(&mut beyond);
    assert_eq!(beyond, [text()]);
}

/// A stop string ends an answer immediately, regardless of further output of its upstream. Withheld text is
/// written before any other end.
#[test]
fn stop_strings_end_an_answer_that_its_upstream_goes_on_with() {
    let run = |string: &str, input: &'static str, mut end: Option<End>| {
        let mut strings = StopStrings::new(1);
        assert!(strings.add(string.to_owned()));
        let transcoder = transcoder(Framing::Sse, 64, Mode::Translated);
        let mut transcoder = transcoder.with_stop_strings(strings, 7);
        let mut out = BytesMut::new();
        transcoder.push(Bytes::from_static(input.as_bytes()), &mut out);
        match end.take() {
            Some(end) => transcoder.abort(end, &mut out),
            None => transcoder.finish(&mut out),
        }
        (String::from_utf8(out.to_vec()).unwrap(), transcoder.tally().clone())
    };
    let (said, tally) = run("ttt", "data: t\n\ndata: t\n\ndata: bad\n\n", None);
    assert_eq!(said, "[t:2]<Complete >");
    assert_eq!(tally.stop, Some(Stop::Sequence(Some("ttt".to_owned()))));
    assert_eq!((tally.stopped_early, tally.output_tokens()), (true, (1, true)));
    assert_eq!(run("tttttt", "data: t\n\ndata: t\n\n", None).0, "[t:0][t:2]<Complete >");
    for (end, said) in [
        (Some(End::Cancelled), "[t:0][:1]<Cancelled >"),
        (None, "[t:0][:1]<Truncated >"),
        (Some(End::Failed(ApiError::new(Kind::Upstream, "bad"))), "[t:0][:1]<Failed bad >"),
    ] {
        let (written, tally) = run("tttttt", "data: t\n\n", end);
        assert_eq!((written.as_str(), tally.stopped_early, tally.stop), (said, false, None));
    }
    let (said, tally) = run("tttttt", "data: t\n\ndata: stop\n\n", None);
    assert_eq!((said.as_str(), tally.stop), ("[t:0][stop:2]<Complete >", Some(Stop::End)));
}

/// Holds back every delta until a given number has arrived or no more follow.
struct Delay {
    waiting: Vec<Delta<'static>>,
    most: usize,
}

impl Stage for Delay {
    fn pass(&mut self, deltas: &mut Vec<Delta<'_>>) {
        self.waiting.extend(deltas.drain(..).map(Delta::into_owned));
        if self.waiting.len() >= self.most {
            deltas.extend(std::mem::take(&mut self.waiting));
        }
    }
    fn flush(&mut self, deltas: &mut Vec<Delta<'_>>) {
        deltas.extend(std::mem::take(&mut self.waiting));
    }
    fn kept(&self) -> usize {
        self.waiting.iter().map(Delta::size).sum()
    }
}

/// Ends the answer after a given number of texts.
struct Guard {
    texts: usize,
}

impl Stage for Guard {
    fn pass(&mut self, deltas: &mut Vec<Delta<'_>>) {
        deltas.retain(|delta| {
            let text = matches!(delta, Delta::Text { .. });
            self.texts = self.texts.saturating_sub(usize::from(text));
            !text || self.texts > 0
        });
    }
    fn verdict(&self, _tally: &Tally) -> Option<Verdict> {
        let end = End::Failed(ApiError::new(Kind::ContentPolicy, "guarded"));
        (self.texts == 0).then_some(Verdict { end, usage: None })
    }
}

#[test]
fn a_stage_holds_deltas_back_beyond_their_frame() {
    for (most, input, expected) in [
        (2, "data: t\n\ndata: t\n\ndata: stop\n\n", "[t:0][t:2][stop:0][:1]<Complete >"),
        (9, "data: t\n\ndata: t+end\n\n", "[t:0][:2]<Complete t+end>"),
        (9, "data: t\n\ndata: bad\n\n", "[t:0][:1]<Failed bad bad>"),
    ] {
        let stage = Delay { waiting: Vec::new(), most };
        let mut transcoder =
            transcoder(Framing::Sse, 64, Mode::Translated).with_stage(Box::new(stage));
        let (mut out, mut kept) = (BytesMut::new(), 0);
        for event in input.split_inclusive("\n\n") {
            let before = transcoder.kept();
            transcoder.push(Bytes::copy_from_slice(event.as_bytes()), &mut out);
            kept = kept.max(transcoder.kept() - before.min(transcoder.kept()));
        }
        transcoder.finish(&mut out);
        let written = String::from_utf8(out.to_vec()).unwrap();
        assert_eq!(written, expected);
        assert!(kept >= 4, "what waits is counted: {kept}");
    }
}

#[test]
fn a_stage_ends_an_answer_and_later_ones_see_what_earlier_ones_release() {
    let run_to = |last: &'static str, stages: Vec<Box<dyn Stage>>| {
        let mut transcoder = transcoder(Framing::Sse, 64, Mode::Translated);
        for stage in stages {
            transcoder = transcoder.with_stage(stage);
        }
        let mut out = BytesMut::new();
        transcoder.push(Bytes::from_static(b"data: t\n\ndata: t\n\ndata: t\n\n"), &mut out);
        transcoder.push(Bytes::from_static(last.as_bytes()), &mut out);
        transcoder.finish(&mut out);
        (String::from_utf8(out.to_vec()).unwrap(), transcoder.tally().stopped_early)
    };
    let run = |stages| run_to("", stages);
    let delay = |most| Box::new(Delay { waiting: Vec::new(), most });
    let guard = |texts| Box::new(Guard { texts });
    assert_eq!(run(vec![guard(2)]), ("[t:1][t:0]<Failed guarded >".to_owned(), true));
    assert_eq!(run(vec![delay(3), guard(2)]).0, "[t:0][t:0][t:1]<Failed guarded >");
    // Released only by the end of the answer, which came first.
    assert_eq!(
        run(vec![delay(9), guard(2)]),
        ("[t:0][t:0][t:0][:1]<Truncated >".to_owned(), false)
    );
    let late = run_to("data: end\n\n", vec![delay(9), guard(2)]).0;
    assert_eq!(late, "[t:0][t:0][t:0][:1]<Failed guarded >");
    assert_eq!(run(vec![delay(9), guard(4)]).0, "[t:0][t:0][t:0][:3]<Truncated >");
    assert_eq!(run(vec![]), ("[t:1][t:1][t:1]<Truncated >".to_owned(), false));
}

#[test]
fn owned_deltas_say_the_same() {
    let text = String::from("x");
    let word = || Cow::Borrowed(text.as_str());
    let usage = Usage { input: Some(3), ..Default::default() };
    for delta in [
        Delta::Start { id: word(), model: word() },
        Delta::Text { choice: 1, text: word() },
        Delta::Logprobs { choice: 1, items: word() },
        Delta::Refusal { choice: 1, text: word() },
        Delta::Reasoning { choice: 1, text: word() },
        Delta::Signature { value: word(), scheme: crate::chat::Scheme::Gemini },
        Delta::RedactedReasoning { data: word(), scheme: crate::chat::Scheme::XAi },
        Delta::ToolStart { choice: 1, call: 2, id: word(), name: word() },
        Delta::ToolArguments { choice: 1, call: 2, json: word() },
        Delta::Opaque,
        Delta::Embeddings(vec![
            crate::embeddings::Vector::Numbers(word()),
            crate::embeddings::Vector::Base64(word()),
        ]),
        Delta::InputTokens(5),
        Delta::Usage(usage),
        Delta::Stop { choice: 1, reason: Stop::Sequence(Some("x".to_owned())) },
    ] {
        assert_eq!(delta.clone().into_owned(), delta);
    }
}
