//! The formats as state machines: whatever order deltas come in, what is written is legal, has all of the first
//! alternative once, and ends once, with the word for its end.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use streamgate::wire::chat::{Delta, End, Stop};
use streamgate::wire::dialect::caller_dialects;
use streamgate::wire::format::{EndState, Format};
use streamgate::wire::framing::Frame;

use bytes::BytesMut;

use super::read::Seen;
use super::{STREAMS, lines, native, read, seen, summed};
use crate::encoders::{config, moves, script};
use crate::support::{Choice, Ended, call};

/// Ends with their words.
fn end(number: u8) -> (End, &'static str) {
    match number % 10 {
        8 => (End::Cancelled, "cancelled"),
        9 => (End::Lost, "lost"),
        number => match crate::encoders::end(number) {
            End::Complete => (End::Complete, "complete"),
            End::ShuttingDown => (End::ShuttingDown, "lost"),
            end => (end, "error"),
        },
    }
}

/// Writes `deltas` in frames of up to `step`, then the end.
fn encode(format: Format, deltas: &[Delta<'_>], step: usize, end: &End) -> Vec<u8> {
    let native = native(caller_dialects().next().expect("a dialect"));
    let mut encoder = format.encoder(native, &call(true, true)).expect("another format");
    let mut out = BytesMut::new();
    let frame = Frame::default();
    encoder.frame(&frame, &[], &mut out);
    for some in deltas.chunks(step) {
        encoder.frame(&frame, some, &mut out);
    }
    encoder.finish(end, None, &mut out);
    out.to_vec()
}

/// Text and refusal of the first alternative, in order, as the readers find it.
fn said(deltas: &[Delta<'_>], choices: &[Choice]) -> Choice {
    let words = deltas.iter().filter_map(|delta| match delta {
        Delta::Text { choice: 0, text } | Delta::Refusal { choice: 0, text } => Some(&**text),
        _ => None,
    });
    Choice { text: words.collect(), refusal: String::new(), ..choices[0].clone() }
}

fn compare(
    format: Format,
    seen: &Seen,
    said: &Choice,
    (end, state): (&End, &str),
) -> Result<(), TestCaseError> {
    let got = seen.choice();
    let only_text = Choice { text: lines(&said.text), ..Choice::default() };
    let expected = if format == Format::Text { &only_text } else { said };
    prop_assert_eq!(&got.text, &expected.text);
    prop_assert_eq!(&got.reasoning, &expected.reasoning);
    prop_assert_eq!(&got.tools, &expected.tools);
    let broken = if state == "cancelled" { "cancelled" } else { "error" };
    let state = if format == Format::Ui && state != "complete" { broken } else { state };
    prop_assert_eq!(&seen.state, state);
    if let (Some(fault), Ended::Error(message)) = (end.fault(), &seen.view.ended)
        && state != "cancelled"
        && format != Format::Text
    {
        prop_assert_eq!(message, &fault.message);
    }
    Ok(())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_order_gives_a_legal_stream(
        moves in moves(2), step in 1_usize..5, number in any::<u8>(), start in any::<bool>(),
    ) {
        let (mut deltas, choices) = script(&moves);
        if start {
            deltas.insert(0, Delta::Start { id: "up_1".into(), model: "up\r\n\r\ndata: x".into() });
        }
        let (said, (end, state)) = (said(&deltas, &choices), end(number));
        prop_assert_eq!(EndState::of(&end).name(), state);
        for format in STREAMS {
            let out = encode(format, &deltas, step, &end);
            let text = String::from_utf8_lossy(&out);
            let seen = seen(format, &out)
                .map_err(|why| TestCaseError::fail(format!("{format:?}: {why}\n{text}")))?;
            compare(format, &seen, &said, (&end, state))?;
            if format == Format::Events {
                let sum = read::snapshot(&summed(&out)).map_err(TestCaseError::fail)?;
                prop_assert_eq!(sum, seen);
            }
        }
    }

    /// Line ends within and between fragments. Only those of event streams are left, each of them once.
    #[test]
    fn text_has_every_line_once(fragments in proptest::collection::vec("[a\r\n ]{1,3}", 0..12)) {
        let delta = |text: &String| Delta::Text { choice: 0, text: text.clone().into() };
        let deltas: Vec<_> = fragments.iter().map(delta).collect();
        for end in [End::Complete, End::Truncated] {
            let out = encode(Format::Text, &deltas, 2, &end);
            let seen = read::text(&out).map_err(TestCaseError::fail)?;
            prop_assert_eq!(&seen.choice().text, &lines(&fragments.concat()));
        }
    }
}

/// An explanation of a refusal is a part of the answer, where it is said and nowhere else.
#[test]
fn an_explained_refusal_is_text() {
    let reason = Stop::Refusal(Some("I may not.\r".to_owned()));
    let deltas =
        [Delta::Text { choice: 0, text: "No. ".into() }, Delta::Stop { choice: 0, reason }];
    for format in STREAMS {
        let whole = seen(format, &encode(format, &deltas, 1, &End::Complete)).expect("legal");
        assert_eq!(lines(&whole.choice().text), "No. I may not.\n", "{format:?}");
        let cut = seen(format, &encode(format, &deltas, 1, &End::Truncated)).expect("legal");
        assert_eq!(cut.choice().text, "No. ", "{format:?}");
        let word = whole.choice().stop.as_deref().unwrap_or_default();
        assert_eq!(
            word,
            ["content-filter", "", "refusal"]
                [STREAMS.iter().position(|it| *it == format).expect("it is there")]
        );
    }
}

/// A generation that ends at once has its end and nothing else.
#[test]
fn a_failure_before_any_content_is_told_alone() {
    for format in STREAMS {
        let out = encode(format, &[], 1, &End::Truncated);
        let seen = seen(format, &out).expect("legal");
        assert_eq!((seen.choice(), seen.state.as_str()), (&Choice::default(), "error"));
        assert!(!String::from_utf8_lossy(&out).contains("start"), "{format:?}");
    }
}
