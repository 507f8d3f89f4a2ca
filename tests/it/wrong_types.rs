//! Requests in which one value is not what it should be: every value of a request that says all that
//! its language can, replaced by every kind of wrong one, said twice, or nested without end; and the
//! same with what upstreams send.
//!
//! Each is read leniently or refused with the name of a field; nothing panics, and nobody is told that
//! the gateway or the upstream failed.

use std::collections::BTreeSet;

use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use streamgate::wire::chat::{ApiError, End, Kind};
use streamgate::wire::dialect::{
    DIALECTS, Dialect, Form, Mode, Quirks, RequestView, Target, caller_dialects,
};
use streamgate::wire::json::replace_lone_surrogates;
use streamgate::wire::refusal;

use crate::golden::cases;
use crate::support::language::{Ask, LANGUAGES};
use crate::support::simulated::gateway;
use crate::support::{Ended, aws, call, reader, run, written};

/// Stands for the value that is put in as text, since some of it is nothing that a parser would give.
const MARK: &str = "\"@mark@\"";

/// Values to put in the place of another. None is right everywhere, and all are wrong somewhere.
fn wrong() -> Vec<String> {
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    let nested = format!("{}1{}", r#"{"a":"#.repeat(100), "}".repeat(100));
    let plain =
        ["null", "true", "7", "-1", "1.5", "1e400", "18446744073709551616", "[]", "{}", "[7]"];
    let texts =
        [r#""""#, r#""unheard-of""#, r#""\ud83d""#, r#"{"type":7}"#, r#"{"type":"unheard-of"}"#];
    plain.iter().chain(&texts).map(|text| (*text).to_owned()).chain([deep, nested]).collect()
}

/// The largest request of a language.
pub(crate) fn largest(dialect: &str) -> Value {
    let found = cases(dialect, ".request.json").into_iter().find(|(case, _)| case == "maximal");
    let (_, body) = found.unwrap_or_else(|| panic!("no maximal.request.json of {dialect}"));
    serde_json::from_slice(&body).expect("JSON")
}

/// Where every value of a document stands, its inner ones included.
pub(crate) fn places(value: &Value, at: &str, out: &mut Vec<String>) {
    let mut each = |name: &str, value: &Value| {
        let at = format!("{at}/{name}");
        out.push(at.clone());
        places(value, &at, out);
    };
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| each(name, value)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, value)| each(&at.to_string(), value));
        }
        _ => {}
    }
}

/// The document with something else in one place.
pub(crate) fn with(document: &Value, place: &str, text: &str) -> String {
    let mut document = document.clone();
    *document.pointer_mut(place).expect("a place") = Value::from("@mark@");
    document.to_string().replace(MARK, text)
}

/// The document with the member of an object at a place said twice, first as nothing.
fn twice(document: &Value, place: &str) -> Option<String> {
    let (parent, name) = place.rsplit_once('/')?;
    let mut document = document.clone();
    let value = document.pointer_mut(parent)?.as_object_mut()?.get_mut(name)?;
    let said = std::mem::replace(value, Value::from("@mark@"));
    let doubled = format!("{said},{}:{said}", Value::from(name));
    Some(document.to_string().replace(MARK, &doubled))
}

/// Every broken form of a document, each with what was done to it.
fn broken(document: &Value) -> Vec<(String, String)> {
    let mut all = Vec::new();
    places(document, "", &mut all);
    let wrong = wrong();
    let mut out = Vec::new();
    for place in &all {
        for text in &wrong {
            let short: String = text.chars().take(30).collect();
            out.push((format!("{place} = {short}"), with(document, place, text)));
        }
        if let Some(body) = twice(document, place) {
            out.push((format!("{place} twice"), body));
        }
    }
    out
}

/// A refusal is the caller's fault, and says which field it is about and nothing of its value, but for the
/// word of a type.
fn check(fault: &ApiError, place: &str, fields: &BTreeSet<String>, failures: &mut Vec<String>) {
    let param = fault.param.as_deref().unwrap_or_default();
    let root = param.split(['.', '[']).next().unwrap_or_default();
    let clear = fault.kind == Kind::Invalid && fields.contains(root);
    let message = fault.message.replace("of type `unheard-of`", "");
    if !clear || message.is_empty() || message.contains("unheard-of") {
        failures.push(format!("{place}: {fault:?}"));
    }
}

/// The names of a request's fields; the last are those that may be missing from it.
fn fields(request: &Value) -> BTreeSet<String> {
    let members: &Map<String, Value> = request.as_object().expect("an object");
    let more = ["model", "messages", "stop", "prompt"];
    members.keys().map(String::as_str).chain(more).map(ToOwned::to_owned).collect()
}

/// To an upstream of the caller's own language, and to one of the others in turn.
#[test]
fn every_value_of_a_request_may_be_wrong() {
    let quirks = Quirks::default();
    let target = Target { model: "m", stream: true, form: Form::Chat, quirks: &quirks };
    let mut failures = Vec::new();
    for caller in caller_dialects() {
        let request = largest(caller.name());
        let fields = fields(&request);
        let path = format!("{}m:generateContent", caller.endpoints()[0].prefix());
        let (own, others): (Vec<&dyn Dialect>, Vec<&dyn Dialect>) =
            DIALECTS.iter().copied().partition(|upstream| upstream.name() == caller.name());
        for ((place, body), other) in broken(&request).into_iter().zip(others.iter().cycle()) {
            let place = format!("{}{place}", caller.name());
            let mut check = |fault: ApiError| check(&fault, &place, &fields, &mut failures);
            let asked = RequestView { form: Form::Chat, path: &path, query: "", body: &body };
            if let Err(fault) = caller.envelope(&asked) {
                check(fault);
                continue;
            }
            let translated = caller
                .decode_request(Form::Chat, &replace_lone_surrogates(&body))
                .and_then(|mut request| {
                    let written = written(&mut request, *other, &target);
                    written.map_err(|fault| refusal::told(fault, &request, caller))
                });
            for written in [own[0].edit_request(&body, &target), translated] {
                match written {
                    Ok(text) => {
                        let read = serde_json::from_str::<IgnoredAny>(&text);
                        read.unwrap_or_else(|why| panic!("{place} to {}: {why}", other.name()));
                    }
                    Err(fault) => check(fault),
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// From HTTP to HTTP: it is answered, or refused in the caller's language. The simulated upstream
/// refuses what its vendor does, which is no failure either.
#[tokio::test]
async fn every_wrong_value_is_a_caller_error() {
    for (number, language) in LANGUAGES.iter().enumerate() {
        // One each, since a caller may not ask for ever.
        let gateway = gateway().await;
        let mut request = largest(language.name);
        let mut others = DIALECTS.iter().filter(|dialect| dialect.name() != language.name);
        let providers = [language.name, others.nth(number).expect("another").name()];
        for provider in providers {
            let model = format!("{provider}/n1");
            let ask = Ask { model: model.clone(), stream: true, ..Ask::default() };
            if request.get("model").is_some() {
                request["model"] = model.into();
            }
            let few = ["null", "7", r#""\ud83d""#, "{}"];
            let broken = broken(&request).into_iter();
            let some = broken.filter(|(place, _)| few.iter().any(|few| place.ends_with(few)));
            // Every eighth goes to each.
            for (place, body) in some.skip(4 * usize::from(provider == language.name)).step_by(8) {
                let place = format!("{}{place} to {provider}", language.name);
                let response = gateway.post(&(language.path)(&ask), &body).send().await.unwrap();
                let status = response.status().as_u16();
                let text = response.bytes().await.unwrap();
                assert!([200, 400, 404].contains(&status), "{place}: {status} {text:?}");
                if status != 200 {
                    let said: Value = serde_json::from_slice(&text).expect(&place);
                    (language.error)(&said).unwrap_or_else(|| panic!("{place}: {said}"));
                }
            }
        }
    }
}

/// A stream, cut around each JSON text in it.
struct Cut {
    before: Vec<u8>,
    payload: String,
    after: Vec<u8>,
    /// Of a message in AWS's framing.
    event: Option<String>,
}

impl Cut {
    /// The stream with another text in this place.
    fn with(&self, payload: &str) -> Vec<u8> {
        let inner = match &self.event {
            None => payload.as_bytes().to_vec(),
            Some(event) => {
                let kind = (":content-type", "application/json");
                let headers = [(":event-type", event.as_str()), kind, (":message-type", "event")];
                aws::message(&headers, payload)
            }
        };
        [&self.before[..], &inner, &self.after].concat()
    }
}

/// A stream of events or lines, around each of them.
fn cuts(stream: &str) -> Vec<Cut> {
    let mut out = Vec::new();
    let mut at = 0;
    for line in stream.split_inclusive('\n') {
        let text = line.trim_end();
        let data = text.strip_prefix("data:").map_or(text, str::trim_start);
        if data.starts_with('{') {
            let (before, rest) = stream.split_at(at + text.len() - data.len());
            let (before, after) = (before.into(), rest.split_at(data.len()).1.into());
            out.push(Cut { before, payload: data.to_owned(), after, event: None });
        }
        at += line.len();
    }
    out
}

/// A stream in AWS's framing, around each message of it.
fn messages(stream: &[u8]) -> Vec<Cut> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(length) = stream.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()) {
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap();
        let Some(message) = stream.get(at..at + length) else { break };
        let text = String::from_utf8_lossy(message);
        // The payload stands between the headers and the checksum, and so does the event's name.
        let names = [
            "messageStart",
            "contentBlockStart",
            "contentBlockDelta",
            "contentBlockStop",
            "messageStop",
            "metadata",
        ];
        let event = names.iter().find(|name| text.contains(*name)).map(|name| (*name).to_owned());
        let (start, end) = (message.iter().position(|byte| *byte == b'{'), message.len() - 4);
        if let (Some(event), Some(start)) = (event, start)
            && let Ok(payload) = String::from_utf8(message[start..end].to_vec())
        {
            let (before, after) = (stream[..at].to_vec(), stream[at + length..].to_vec());
            out.push(Cut { before, payload, after, event: Some(event) });
        }
        at += length;
    }
    out
}

/// The same with what upstreams send: a legal answer comes of it, or an error in the caller's
/// language.
#[test]
fn every_value_of_an_answer_may_be_wrong() {
    let mut failures = Vec::new();
    let mut callers = caller_dialects().collect::<Vec<_>>().into_iter().cycle();
    for upstream in DIALECTS {
        let texts = [".in.sse", ".in.ndjson"].map(|suffix| cases(upstream.name(), suffix)).concat();
        let texts = texts.into_iter().filter_map(|(case, input)| {
            String::from_utf8(input).ok().map(|stream| (case, cuts(&stream)))
        });
        let framed = cases(upstream.name(), ".in.bin").into_iter();
        let framed = framed.map(|(case, input)| (case, messages(&input)));
        let mut seen = BTreeSet::new();
        for (case, cuts) in texts.chain(framed) {
            for cut in cuts {
                let Ok(document) = serde_json::from_str::<Value>(&cut.payload) else { continue };
                for (place, broken) in broken(&document) {
                    // Passed on as it is within arguments, where this suite's own reader stops.
                    if place.ends_with("1e400") {
                        continue;
                    }
                    // A shape that an earlier fixture had need not be tried again.
                    let shape = (cut.event.clone(), document["type"].to_string(), place.clone());
                    if !seen.insert(shape) {
                        continue;
                    }
                    let caller = callers.next().expect("a caller");
                    let input = cut.with(&broken);
                    let mode = (&call(true, true), Mode::Translated);
                    let run = run(*upstream, caller, mode, &input, []);
                    let read = (reader(caller.name()).stream)(&run.out, true);
                    let (ended, whole) =
                        (read.as_ref().map(|view| view.ended.clone()), run.end == End::Complete);
                    if ended.is_err() || (ended == Ok(Ended::Complete)) != whole {
                        let place =
                            format!("{} {case}{place} to {}", upstream.name(), caller.name());
                        failures.push(format!("{place}: {:?} {ended:?}", run.end));
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// Values that are nested twenty thousand times, in any place of a request or of an answer, are no
/// danger to the stack.
#[test]
fn depth_is_no_danger() {
    let depth = 20_000;
    let arrays = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let objects = format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
    let quirks = Quirks::default();
    let target = Target { model: "m", stream: true, form: Form::Chat, quirks: &quirks };
    let deep = [&arrays, &objects];
    for caller in caller_dialects() {
        let request = largest(caller.name());
        let own = DIALECTS.iter().find(|upstream| upstream.name() == caller.name());
        for (name, deep) in request.as_object().unwrap().keys().zip(deep.iter().cycle()) {
            let body = with(&request, &format!("/{name}"), deep);
            let _edited = own.unwrap().edit_request(&body, &target);
            let Ok(read) = caller.decode_request(Form::Chat, &body) else { continue };
            for upstream in DIALECTS {
                let _written = written(&mut read.clone(), *upstream, &target);
            }
        }
    }
    for upstream in DIALECTS {
        let streams = cases(upstream.name(), ".in.sse").into_iter().take(3);
        for (_, input) in streams.chain(cases(upstream.name(), ".in.ndjson").into_iter().take(3)) {
            for cut in cuts(&String::from_utf8_lossy(&input)).into_iter().take(3) {
                let Ok(Value::Object(document)) = serde_json::from_str(&cut.payload) else {
                    continue;
                };
                let names: Vec<String> = document.keys().cloned().collect();
                let document = Value::Object(document);
                for (name, deep) in names.iter().zip(deep.iter().cycle()) {
                    let input = cut.with(&with(&document, &format!("/{name}"), deep));
                    let caller = caller_dialects().next().expect("a caller");
                    run(*upstream, caller, (&call(true, true), Mode::Translated), &input, []);
                }
            }
        }
    }
}
