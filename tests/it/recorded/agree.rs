//! Comparison of what a caller reads with the content of a recording. It must never ask the gateway's decoders.

use serde_json::Value;
use streamgate::wire::chat::End;

use super::extract::recorded_by;
use crate::support::{self, Choice, Ended, Tokens, Tool, View, reader};

/// It ended as it was recorded.
pub(super) fn ended(end: &End, recorded: &Ended) -> Result<(), String> {
    let agree = match recorded {
        Ended::Complete => *end == End::Complete,
        Ended::Cut => *end == End::Truncated,
        Ended::Error(_) => matches!(end, End::Failed(_)),
    };
    support::must(agree, || format!("it ended {end:?}, the recording {recorded:?}"))
}

/// Payloads byte for byte, in order, but for what the gateway withholds: pings, and a chunk
/// that holds nothing but usage when the caller did not ask for it.
pub(super) fn verbatim(
    dialect: &str,
    out: &[u8],
    payloads: &[(String, String)],
    want_usage: bool,
) -> Result<(), String> {
    let recorded = recorded_by(dialect);
    let sent = support::payloads(dialect, out)?;
    let mut expected: Vec<&str> = Vec::new();
    for (_, data) in payloads {
        let value: Value = serde_json::from_str(data).unwrap_or_default();
        if !data.starts_with(':') && !(recorded.withheld)(&value, want_usage) {
            expected.push(data);
        }
        if (recorded.terminal)(data) {
            break;
        }
    }
    let is_error = |data: &str| data.contains("\"error\"");
    let mut sent: Vec<&str> = sent.iter().map(|(_, data)| data.as_str()).collect();
    // Our own last word: an error in place of a missing end, or the terminal that a vendor leaves out.
    if expected.last() != Some(&"[DONE]") && sent.last() == Some(&"[DONE]") {
        sent.pop();
    }
    if sent.last().is_some_and(|data| is_error(data)) {
        sent.pop();
        if expected.last().is_some_and(|data| is_error(data)) {
            expected.pop();
        }
        // After an error nothing is said any more.
        if expected.last() == Some(&"[DONE]") {
            expected.pop();
            expected.pop_if(|data| is_error(data));
        }
    }
    let same = sent.iter().zip(&expected).take_while(|(a, b)| a.trim_end() == b.trim_end()).count();
    support::must(same == sent.len() && same == expected.len(), || {
        format!(
            "payload {same} differs: sent {:?}, recorded {:?}",
            sent.get(same),
            expected.get(same)
        )
    })
}

/// A recording as callers of other languages are to see it: a word that nobody documents, as a mock has
/// one, is no end to them.
pub(super) fn to_others(recorded: &View) -> View {
    let unknown = |choice: &Choice| choice.stop.as_deref() == Some("FAKE_ENUM");
    let mut view = recorded.clone();
    if view.choices.values().any(unknown) {
        view.ended = Ended::Error(String::new());
    }
    view
}

/// The caller's view has the content of the recording.
pub(super) fn translated(
    (upstream, caller): (&str, &str),
    out: &[u8],
    view: &View,
    (stream, want_usage): (bool, bool),
) -> Result<(), String> {
    if !stream && view.ended != Ended::Complete {
        return support::must(out.is_empty(), || "a collected body although it failed".into());
    }
    let read = if stream {
        (reader(caller).stream)(out, want_usage)?
    } else {
        (reader(caller).answer)(out)?
    };
    support::must(
        std::mem::discriminant(&read.ended) == std::mem::discriminant(&told(&view.ended)),
        || format!("the caller sees {:?}, recorded {:?}", read.ended, view.ended),
    )?;
    let language = reader(caller);
    let nothing = Choice::default();
    let known = |index: &u64, said: &Choice| view.choices.contains_key(index) || *said == nothing;
    let more = read.choices.iter().find(|(index, said)| !known(index, said));
    support::must(more.is_none(), || format!("an alternative that was not recorded: {more:?}"))?;
    for (index, expected) in
        view.choices.iter().filter(|(index, _)| !language.single || **index == 0)
    {
        let got = read.choices.get(index).unwrap_or(&nothing);
        same_choice((upstream, caller), got, expected, view.ended == Ended::Complete)?;
        for (got, said) in got.tools.iter().zip(&expected.tools) {
            let own = own_id(view, said);
            support::must(own.is_none_or(|id| id == got.id), || {
                format!("the id of {got:?}, recorded {said:?}")
            })?;
        }
    }
    if view.ended == Ended::Complete && (want_usage || !stream || language.usage_always) {
        same_usage(caller, read.usage, view.usage)?;
    }
    Ok(())
}

/// A cut stream is told to the caller as an error.
fn told(ended: &Ended) -> Ended {
    match ended {
        Ended::Complete => Ended::Complete,
        Ended::Cut | Ended::Error(_) => Ended::Error(String::new()),
    }
}

fn same_choice(
    pair: (&str, &str),
    got: &Choice,
    expected: &Choice,
    complete: bool,
) -> Result<(), String> {
    let (upstream, caller) = pair;
    let (mut text, mut said) = (expected.text.clone(), got.text.clone());
    if reader(caller).refusal_is_text && upstream != caller {
        text.push_str(&expected.refusal);
        said.push_str(&got.refusal);
    }
    support::must(said == text, || format!("text {said:?}, recorded {text:?}"))?;
    support::must(got.reasoning == expected.reasoning, || {
        format!("reasoning {:?}, recorded {:?}", got.reasoning, expected.reasoning)
    })?;
    // Where arguments must be an object, cut ones are wrapped in one; the rest is compared.
    let wrapped = |got: &Tool, said: &Tool| got.value()["_truncated"] == said.arguments.as_str();
    let same = |(got, said): (&Tool, &Tool)| {
        got.name == said.name
            && (got.value() == said.value() || said.value().is_string() && wrapped(got, said))
    };
    let agree =
        got.tools.len() == expected.tools.len() && got.tools.iter().zip(&expected.tools).all(same);
    support::must(agree, || format!("tools {:?}, recorded {:?}", got.tools, expected.tools))?;
    let stop = expected.stop.as_deref().filter(|_| complete).map(|stop| word(pair, stop, expected));
    support::must(!complete || got.stop == stop, || {
        format!("stop {:?}, expected {stop:?}", got.stop)
    })
}

/// A call's own id, where every caller is told it: all languages allow it, and no other call has it.
fn own_id<'v>(view: &'v View, tool: &'v Tool) -> Option<&'v str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let all = view.choices.values().flat_map(|choice| &choice.tools);
    let unique = all.filter(|other| other.id == tool.id).count() == 1;
    let plain = !tool.id.is_empty() && tool.id.bytes().all(allowed);
    (unique && plain).then_some(tool.id.as_str())
}

/// Tables 14.1: the caller's word for a recorded stop.
fn word((upstream, caller): (&str, &str), stop: &str, choice: &Choice) -> String {
    let neutral = (recorded_by(upstream).neutral)(stop, choice);
    (reader(caller).stop)(neutral).to_owned()
}

fn same_usage(caller: &str, got: Option<Tokens>, recorded: Option<Tokens>) -> Result<(), String> {
    let mut recorded = recorded.unwrap_or_default();
    // Some gateways count a part with another tokenizer than the whole, or over several requests.
    recorded.cache_read = recorded.cache_read.min(recorded.input);
    recorded.reasoning = recorded.reasoning.min(recorded.output);
    let got = got.unwrap_or_default();
    support::must(got == (reader(caller).told)(recorded), || {
        format!("usage {got:?}, recorded {recorded:?}")
    })
}
