//! Every recorded stream of the implemented dialects, in several cuttings, to every caller dialect,
//! streamed and collected. What the caller reads must be what the recording says, by readers that
//! share no code with the gateway. Recordings stay outside the repository: without them it says so.
mod anthropic;
mod bedrock;
mod cohere;
mod extract;
mod gemini;
mod ollama;
mod openai_chat;
mod openai_responses;

use std::path::{Path, PathBuf};

use serde_json::Value;
use streamgate::wire::chat::End;
use streamgate::wire::dialect::{
    self, CHAT, CallerDialect, DIALECTS, Dialect, Mode, caller_dialects,
};

use extract::{Recorded, recorded_by};

use crate::support::{self, Choice, Ended, Tokens, Tool, View, call, reader, run};

/// Recordings that cannot be held to the general rule, and why.
const EXCEPTIONS: &[(&str, &str)] = &[
    (
        "vercel-duplicate-message-start",
        "a synthetic stream with a second message spliced in: reset or error, both right",
    ),
    ("vercel-parallel-tool-call-wrapper", "its first and last payloads are cut and no JSON"),
    ("vercel-openai-shell-container", "abridged by hand: most fragments of its text are gone"),
    ("vercel-openai-phase", "abridged by hand: most fragments of its text are gone"),
    ("cohere-chat-legacy-with-streaming", "the first version of the API, another language"),
    ("__TestInvokeModelWithStreamResponse", INVOKED),
    ("-invoke-stream", INVOKED),
    ("__invoke-model-with-response-stream", INVOKED),
    ("__guardrail-invoke-stream", INVOKED),
    ("amazon.titan-text-express-v1__should-handle-amazon-titan-streaming", INVOKED),
];

/// Anthropic's present events among them are read by `bedrock::anthropic_events_in_chunks`.
const INVOKED: &str =
    "InvokeModel: a model's own events (Nova, Titan, Cohere, Text Completions) in the same framing";

/// Bodies of this size and more are not fed byte by byte, for the sake of the time it takes: what
/// could break there breaks in the shorter ones and in the fixtures, too.
const LONG: usize = 16 * 1024;

fn recorded() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/recorded");
    let there = root.is_dir();
    if !there {
        println!("skipped: no recordings at ../shared/recorded");
    }
    there.then_some(root)
}

/// The recordings of one dialect: file name and body.
fn streams(root: &Path, recorded: &Recorded) -> Vec<(String, Vec<u8>)> {
    let mut out = Vec::new();
    for path in recorded.folders.iter().flat_map(|folder| files(&root.join(folder))) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let body = std::fs::read(&path).expect("readable");
        if name.ends_with(".chunks.ndjson") {
            let text = std::str::from_utf8(&body).expect("UTF-8");
            let payloads: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
            out.push((name, (recorded.framed)(&payloads)));
        } else if name.ends_with(recorded.suffix) {
            out.push((name, body));
        }
    }
    out
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths
}

#[test]
fn every_recording_to_every_caller() {
    let Some(root) = recorded() else { return };
    let mut failures = Vec::new();
    let mut counts = (0, 0);
    for upstream in DIALECTS {
        let recorded = recorded_by(upstream.name());
        for (name, body) in streams(&root, recorded) {
            if let Some((_, why)) = EXCEPTIONS.iter().find(|(part, _)| name.contains(part)) {
                println!("{name} left out: {why}");
                continue;
            }
            let payloads = (recorded.payloads)(&body);
            let view = (recorded.view)(&payloads);
            let mut row = format!("{name:<110} {:<40}", features(&view));
            for caller in caller_dialects() {
                let results = all_ways(*upstream, caller, &body, &view, &payloads);
                row.push_str(if results.is_empty() { " ok" } else { " FAILED" });
                counts.0 += 1;
                counts.1 += usize::from(results.is_empty());
                let pair = format!("{name} -> {}", caller.name());
                failures.extend(results.into_iter().map(|why| format!("{pair}: {why}")));
            }
            println!("{row}");
        }
    }
    println!("{} of {} pairs of recording and caller dialect agree", counts.1, counts.0);
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

fn features(view: &View) -> String {
    let mut said = Vec::new();
    let any = |what: fn(&Choice) -> bool| view.choices.values().any(what);
    for (name, there) in [
        ("text", any(|choice| !choice.text.is_empty())),
        ("reasoning", any(|choice| !choice.reasoning.is_empty())),
        ("tools", any(|choice| !choice.tools.is_empty())),
        ("refusal", any(|choice| !choice.refusal.is_empty())),
        ("usage", view.usage.is_some()),
        ("n>1", view.choices.len() > 1),
        ("error", matches!(view.ended, Ended::Error(_))),
        ("cut", view.ended == Ended::Cut),
    ] {
        if there {
            said.push(name);
        }
    }
    said.join(",")
}

/// One recording to one caller: verbatim where it is natural, translated always, streamed and
/// collected. Returns what is wrong.
fn all_ways(
    upstream: &dyn Dialect,
    caller: &dyn CallerDialect,
    body: &[u8],
    view: &View,
    payloads: &[(String, String)],
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut ways = vec![(Mode::Translated, true), (Mode::Translated, false)];
    if upstream.name() == caller.name() {
        ways.insert(0, (Mode::Verbatim, true));
    }
    for (mode, stream) in ways {
        for want_usage in [true, false] {
            let way = (&call(stream, want_usage), mode);
            let whole = run(upstream, caller, way, body, []);
            // The thorough cuttings once for each way; whether usage was asked for cuts nothing.
            let steps: &[usize] = match (want_usage, body.len()) {
                (false, _) => &[],
                (true, ..LONG) => &[1, 7, 1448],
                (true, _) => &[7, 1448],
            };
            for step in steps.iter().copied() {
                if run(upstream, caller, way, body, (step..body.len()).step_by(step)) != whole {
                    wrong.push(format!(
                        "{mode:?} stream={stream}: cutting every {step} bytes changes it"
                    ));
                }
            }
            let result = if mode == Mode::Verbatim {
                verbatim(upstream.name(), &whole.out, payloads, want_usage)
            } else {
                translated((upstream.name(), caller.name()), &whole.out, view, (stream, want_usage))
            };
            let result = result.and_then(|()| ended(&whole.end, &view.ended));
            if let Err(why) = result {
                wrong.push(format!("{mode:?} stream={stream} usage={want_usage}: {why}"));
            }
        }
    }
    wrong
}

fn ended(end: &End, recorded: &Ended) -> Result<(), String> {
    let agree = match recorded {
        Ended::Complete => *end == End::Complete,
        Ended::Cut => *end == End::Truncated,
        Ended::Error(_) => matches!(end, End::Failed(_)),
    };
    support::must(agree, || format!("it ended {end:?}, the recording {recorded:?}"))
}

/// Payloads byte for byte, in order, but for what DESIGN.md section 4 withholds: pings, and a chunk
/// that holds nothing but usage when nobody asked for it.
fn verbatim(
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

/// What the caller reads is what the recording says.
fn translated(
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
    for (index, expected) in
        view.choices.iter().filter(|(index, _)| !language.single || **index == 0)
    {
        let nothing = Choice::default();
        let got = read.choices.get(index).unwrap_or(&nothing);
        same_choice((upstream, caller), got, expected, view.ended == Ended::Complete)?;
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

/// Tables 14.1: the caller's word for a recorded stop.
fn word((upstream, caller): (&str, &str), stop: &str, choice: &Choice) -> String {
    let neutral = (recorded_by(upstream).neutral)(stop, choice);
    (reader(caller).stop)(neutral).to_owned()
}

fn same_usage(caller: &str, got: Option<Tokens>, recorded: Option<Tokens>) -> Result<(), String> {
    let mut recorded = recorded.unwrap_or_default();
    (reader(caller).counts)(&mut recorded);
    let mut got = got.unwrap_or_default();
    if caller == "anthropic" {
        // Its input is what the caches leave, never below zero.
        let floor = recorded.input.max(recorded.cache_read + recorded.cache_write);
        support::must(got.input == floor, || format!("input {got:?}, recorded {recorded:?}"))?;
        got.input = recorded.input;
    }
    support::must(got == recorded, || format!("usage {got:?}, recorded {recorded:?}"))
}

/// Every recorded error body becomes a fault with the vendor's message, and is told in both dialects.
#[test]
fn every_recorded_error_is_told() {
    let Some(root) = recorded() else { return };
    let mut count = 0;
    let mut failures = Vec::new();
    for (path, status) in error_files(&root) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let body = std::fs::read(&path).expect("readable");
        for upstream in DIALECTS {
            let own = path.parent().is_some_and(|folder| folder.ends_with(upstream.name()))
                || upstream.name() == "anthropic" && name.starts_with("anthropic")
                || upstream.name() == "bedrock" && name.starts_with("aws-bedrock__");
            let fault = upstream.decode_error(status, &body);
            count += 1;
            let message = extract_message(&body).filter(|_| own);
            if fault.message.is_empty()
                || message.is_some_and(|said| !fault.message.contains(&said))
            {
                failures.push(format!("{name} by {}: {fault:?}", upstream.name()));
            }
            for caller in caller_dialects() {
                let told = caller.error_body(&fault, "req_1");
                let value: Value = serde_json::from_str(&told).expect("an error body is JSON");
                // A dialect without a place for the field puts its name before the message.
                let message = (reader(caller.name()).error)(&value).expect("a message");
                assert!(message.ends_with(&fault.message), "{name}: {message}");
                assert!((400..=599).contains(&caller.status(fault.kind)), "{name}");
            }
        }
    }
    println!("{count} pairs of error body and dialect");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn extract_message(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let message = value.pointer("/error/message").or_else(|| value.get("message"))?;
    message.as_str().map(ToOwned::to_owned)
}

fn error_files(root: &Path) -> Vec<(PathBuf, u16)> {
    let mut out = Vec::new();
    let of = |dialect: &&'static dyn Dialect| recorded_by(dialect.name()).folders;
    let folders = ["errors"].iter().chain(DIALECTS.iter().flat_map(of));
    for path in folders.flat_map(|folder| files(&root.join(folder))) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let json = path.extension().is_some_and(|extension| extension == "json");
        if !json || name.ends_with(".request.json") {
            continue;
        }
        let digits = name.split("__").find_map(|part| {
            let part = part.strip_prefix("http").unwrap_or(part).trim_end_matches(".json");
            part.parse::<u16>().ok().filter(|status| (400..600).contains(status))
        });
        out.push((path, digits.expect("a status in the name")));
    }
    out
}

/// Recorded requests are read by their own dialect, and those without vendor extensions by all.
#[test]
fn recorded_requests_are_read() {
    let Some(root) = recorded() else { return };
    let (mut whole, mut read, mut translated) = (0, 0, 0);
    for upstream in DIALECTS {
        let Some(caller) = upstream.as_caller() else { continue };
        let folders = recorded_by(upstream.name()).folders.iter();
        for path in folders.flat_map(|folder| files(&root.join(folder))) {
            if !path.to_string_lossy().ends_with(".request.json") {
                continue;
            }
            let file: Value =
                serde_json::from_slice(&std::fs::read(&path).expect("readable")).expect("JSON");
            let value = &file["body"];
            if !value.is_object() {
                continue;
            }
            let body = value.to_string();
            whole += 1;
            let quirks = dialect::Quirks::default();
            let target =
                dialect::Target { model: "other", stream: true, form: CHAT, quirks: &quirks };
            if value["model"].is_string() {
                let edited = upstream.edit_request(&body, &target).expect("an object is edited");
                let edited: Value = serde_json::from_str(&edited).expect("JSON");
                assert_eq!(edited["model"], "other");
                assert_eq!(edited["messages"], value["messages"], "{}", path.display());
            }
            let Ok(request) = caller.decode_request(CHAT, &body) else { continue };
            read += 1;
            for other in DIALECTS {
                if let Ok(out) = other.encode_request(&request, &target) {
                    serde_json::from_str::<Value>(&out).expect("a request is JSON");
                    translated += 1;
                }
            }
        }
    }
    println!("{whole} recorded requests, {read} read whole, {translated} written to some dialect");
    assert!(read * 10 >= whole * 8, "only {read} of {whole} recorded requests could be read");
}
