//! Encoders as state machines: whatever order deltas come in, what is written is legal, says all of
//! it once, and ends once. Only the contracts of `chat::Delta` bind the input, no vendor's habits.

use std::borrow::Cow;

use bytes::BytesMut;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use streamgate::wire::chat::{
    ApiError, Citation, Deadline, Delta, End, Kind, Scheme, SearchResult, SearchRun, Stop, Usage,
};
use streamgate::wire::dialect::{CallerDialect, Mode, caller_dialects};
use streamgate::wire::framing::Frame;

use crate::support::{self, Choice, Ended, Tool, View, call, reader};

/// A step of a model; turned into valid deltas by [`script`].
#[derive(Debug, Clone)]
pub(crate) enum Move {
    Text(u32, String),
    Reasoning(u32, String),
    Refusal(u32, String),
    Tool(u32),
    /// A fragment for the call that this number picks.
    Arguments(u32, usize),
    Signature(bool),
    Redacted,
    Citation,
    Search,
    Logprobs(u32),
    Usage(u64),
    Stop(u32, u8),
}

pub(crate) fn moves(choices: u32) -> impl Strategy<Value = Vec<Move>> {
    let choice = 0..choices;
    let one = prop_oneof![
        4 => (choice.clone(), "[a-zé\"\n\\\\]{1,6}").prop_map(|(c, t)| Move::Text(c, t)),
        3 => (choice.clone(), "[a-z\n]{1,6}").prop_map(|(c, t)| Move::Reasoning(c, t)),
        1 => (choice.clone(), "[a-z]{1,6}").prop_map(|(c, t)| Move::Refusal(c, t)),
        3 => choice.clone().prop_map(Move::Tool),
        5 => (choice.clone(), any::<usize>()).prop_map(|(c, n)| Move::Arguments(c, n)),
        1 => any::<bool>().prop_map(Move::Signature),
        1 => Just(Move::Redacted),
        1 => Just(Move::Citation),
        1 => Just(Move::Search),
        1 => choice.clone().prop_map(Move::Logprobs),
        1 => (0_u64..1000).prop_map(Move::Usage),
        1 => (choice, any::<u8>()).prop_map(|(c, r)| Move::Stop(c, r)),
    ];
    proptest::collection::vec(one, 0..30)
}

fn stop(number: u8) -> Stop {
    match number % 9 {
        0 => Stop::End,
        1 => Stop::Sequence(Some("x".into())),
        2 => Stop::MaxTokens,
        3 => Stop::ContextFull,
        4 => Stop::ToolUse,
        5 => Stop::Refusal(None),
        6 => Stop::ContentFilter,
        _ => Stop::Pause,
    }
}

/// Lawful deltas for the moves, and what a reader must find in each choice.
pub(crate) fn script(moves: &[Move]) -> (Vec<Delta<'static>>, Vec<Choice>) {
    let mut deltas = Vec::new();
    let mut said = vec![Choice::default(), Choice::default()];
    for step in moves {
        let delta = match step.clone() {
            Move::Text(choice, text) => {
                said[choice as usize].text.push_str(&text);
                Delta::Text { choice, text: Cow::Owned(text) }
            }
            Move::Reasoning(choice, text) => {
                said[choice as usize].reasoning.push_str(&text);
                Delta::Reasoning { choice, text: Cow::Owned(text) }
            }
            Move::Refusal(choice, text) => {
                said[choice as usize].refusal.push_str(&text);
                Delta::Refusal { choice, text: Cow::Owned(text) }
            }
            Move::Tool(choice) => {
                let tools = &mut said[choice as usize].tools;
                let tool = Tool {
                    id: format!("call_{choice}_{}", tools.len()),
                    name: "f".into(),
                    arguments: String::new(),
                };
                tools.push(tool.clone());
                let call = u32::try_from(tools.len() - 1).expect("few");
                Delta::ToolStart { choice, call, id: tool.id.into(), name: tool.name.into() }
            }
            Move::Arguments(choice, pick) => {
                let tools = &mut said[choice as usize].tools;
                let Some(at) = pick.checked_rem(tools.len()) else { continue };
                tools[at].arguments.push_str("[1,");
                Delta::ToolArguments {
                    choice,
                    call: u32::try_from(at).expect("few"),
                    json: "[1,".into(),
                }
            }
            Move::Signature(own) => {
                let scheme = if own { Scheme::Anthropic } else { Scheme::Gemini };
                Delta::Signature { value: "c2ln".into(), scheme }
            }
            Move::Redacted => {
                Delta::RedactedReasoning { data: "b3A=".into(), scheme: Scheme::Anthropic }
            }
            Move::Search => {
                let queries = vec!["q".to_owned()];
                let found = SearchResult { url: "u".to_owned(), title: String::new() };
                Delta::Search(SearchRun { queries, results: vec![found] })
            }
            Move::Citation => {
                let url = Some("https://example.org".into());
                Delta::Citation(Citation { url, ..Citation::default() })
            }
            Move::Logprobs(choice) => Delta::Logprobs { choice, items: "{\"token\":\"a\"}".into() },
            Move::Usage(output) => Delta::Usage(Usage { output: Some(output), ..Usage::default() }),
            Move::Stop(choice, number) => Delta::Stop { choice, reason: stop(number) },
        };
        deltas.push(delta);
    }
    (deltas, said)
}

pub(crate) fn end(number: u8) -> End {
    match number % 8 {
        0..=2 => End::Complete,
        3 => End::Truncated,
        4 => End::Failed(ApiError::new(Kind::Upstream, "broken\n\ndata: [DONE]")),
        5 => End::TimedOut(Deadline::Stall),
        6 => End::ShuttingDown,
        _ => End::Failed(ApiError { code: Some("c".into()), ..ApiError::field("messages", "odd") }),
    }
}

/// Writes `deltas` in frames of up to `step`, then the end.
fn encode(
    dialect: &dyn CallerDialect,
    (stream, want_usage): (bool, bool),
    deltas: &[Delta<'_>],
    step: usize,
    end: &End,
) -> Vec<u8> {
    let mut encoder = dialect.encoder(&call(stream, want_usage), Mode::Translated);
    let mut out = BytesMut::new();
    let frame = Frame::default();
    encoder.frame(&frame, &[], &mut out);
    for some in deltas.chunks(step) {
        encoder.frame(&frame, some, &mut out);
    }
    encoder.finish(end, None, &mut out);
    out.to_vec()
}

/// The text is read, in order. Of a stream that failed a part may be missing at its end: what
/// waited behind an open tool call must not be sent as if that call had been finished.
fn compare(
    dialect: &str,
    view: &View,
    said: &[Choice],
    complete: bool,
) -> Result<(), TestCaseError> {
    let same = |got: &str, said: &str| got == said || !complete && said.starts_with(got);
    let (first_only, merged) = (reader(dialect).single, reader(dialect).refusal_is_text);
    for (index, said) in said.iter().enumerate().take(if first_only { 1 } else { 2 }) {
        let nothing = Choice::default();
        let got = view.choices.get(&(index as u64)).unwrap_or(&nothing);
        prop_assert!(same(&got.reasoning, &said.reasoning), "{got:?} {said:?}");
        prop_assert!(got.tools.len() == said.tools.len() || !complete, "{got:?} {said:?}");
        for (got, said) in got.tools.iter().zip(&said.tools) {
            prop_assert_eq!((&got.id, &got.name), (&said.id, &said.name));
            // Nothing and no arguments are the same, and some clients parse what they get.
            let empty = said.arguments.is_empty() && got.arguments == "{}";
            prop_assert!(empty || same(&got.arguments, &said.arguments), "{got:?} {said:?}");
        }
        if merged {
            // A refusal has no place of its own there: it is text, where it was said.
            let length = said.text.len() + said.refusal.len();
            prop_assert!(got.text.len() == length || !complete && got.text.len() < length);
        } else {
            prop_assert!(same(&got.text, &said.text), "{got:?} {said:?}");
            prop_assert!(same(&got.refusal, &said.refusal), "{got:?} {said:?}");
        }
    }
    Ok(())
}

/// The same cases on every machine.
pub(crate) fn config() -> ProptestConfig {
    let rng_seed = RngSeed::Fixed(0x5EED);
    ProptestConfig { cases: 1024, failure_persistence: None, rng_seed, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_order_gives_a_legal_stream(
        moves in moves(2), step in 1_usize..5, number in any::<u8>(), want_usage in any::<bool>(), start in any::<bool>(),
    ) {
        for dialect in caller_dialects() {
            let (mut deltas, said) = script(&moves);
            if start {
                deltas.insert(0, Delta::Start { id: "up_1".into(), model: "up\r\n\r\ndata: x".into() });
            }
            let end = end(number);
            let out = encode(dialect, (true, want_usage), &deltas, step, &end);
            let text = String::from_utf8_lossy(&out);
            let view = (reader(dialect.name()).stream)(&out, want_usage)
                .map_err(|why| TestCaseError::fail(format!("{}: {why}\n{text}", dialect.name())))?;
            match &end {
                End::Complete => prop_assert_eq!(&view.ended, &Ended::Complete),
                other => {
                    // A dialect without a place for the field puts its name before the message.
                    let message = other.fault().expect("a fault").message;
                    let told = matches!(&view.ended, Ended::Error(said) if said.ends_with(&message));
                    prop_assert!(told, "{}: {:?}", dialect.name(), view.ended);
                }
            }
            compare(dialect.name(), &view, &said, end == End::Complete)?;
        }
    }

    #[test]
    fn collected_is_one_body_or_nothing(moves in moves(2), step in 1_usize..5, number in any::<u8>()) {
        for dialect in caller_dialects() {
            let (deltas, mut said) = script(&moves);
            let end = end(number);
            let out = encode(dialect, (false, false), &deltas, step, &end);
            if end != End::Complete {
                prop_assert!(out.is_empty());
                continue;
            }
            let mut view = (reader(dialect.name()).answer)(&out)
                .map_err(|why| TestCaseError::fail(format!("{}: {why}", dialect.name())))?;
            // Arguments of these scripts are not JSON; each dialect handles them in its own way.
            for choice in view.choices.values_mut().chain(&mut said) {
                choice.tools.iter_mut().for_each(|tool| tool.arguments.clear());
            }
            compare(dialect.name(), &view, &said, true)?;
        }
    }
}

/// Verbatim, a failure after frames is reported in the caller's dialect, and nothing follows it.
#[test]
fn verbatim_streams_end_with_one_error() {
    for dialect in caller_dialects() {
        let mut encoder = dialect.encoder(&call(true, true), Mode::Verbatim);
        let mut out = BytesMut::new();
        encoder.finish(&End::Truncated, None, &mut out);
        let payloads = support::payloads(dialect.name(), &out).expect("payloads");
        assert_eq!(payloads.len(), 1, "{}", dialect.name());
        let told = ["\"error\"", "closed the stream"];
        assert!(told.iter().all(|words| payloads[0].1.contains(words)), "{payloads:?}");
    }
}

/// Heartbeats leave no event behind and never open one.
#[test]
fn fm03_heartbeats_are_safe_between_events() {
    for dialect in caller_dialects() {
        let beat = dialect.heartbeat(&call(true, true));
        let beat = std::str::from_utf8(&beat).expect("UTF-8");
        assert!(beat.ends_with('\n') && !beat.contains('\r'), "{}", dialect.name());
        if let Ok(lines) = support::lines(beat.as_bytes())
            && beat.starts_with('{')
        {
            // Where lines are all there is, a line that says nothing.
            let view = (reader(dialect.name()).stream)(beat.as_bytes(), true).expect("a line");
            let nothing = view.choices.values().all(|choice| *choice == Choice::default());
            assert!(lines.len() == 1 && nothing && view.ended == Ended::Cut, "{}", dialect.name());
            continue;
        }
        let silent = beat.lines().all(|line| line.starts_with(':'));
        let nothing =
            r#"{"candidates":[{"content":{"parts":[{"text":""}],"role":"model"},"index":0}]}"#;
        let ping = support::events(beat.as_bytes()).is_ok_and(|events| {
            events.iter().all(|(_, data)| data == r#"{"type":"ping"}"# || data == nothing)
        });
        assert!(silent || ping, "{}", dialect.name());
        assert!(!silent || !beat.contains("\n\n"), "a blank line after an id crashes clients");
    }
}
