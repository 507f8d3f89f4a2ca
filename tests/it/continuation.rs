//! Continuation of answers that break off, over HTTP: exact text or the original error, for every pair of dialects.

use std::fmt::Write as _;

use futures_util::future::join_all;
use serde_json::{Value, json};
use streamgate::wire::dialect::DIALECTS;

use crate::streaming::{read_until, record, settled};
use crate::support::gateway::{Gateway, Log};
use crate::support::language::{Ask, LANGUAGES, Language, language};
use crate::support::simulated::{providers, upstream};
use crate::support::{Ended, View};

/// The tokens of every answer.
const TOKENS: usize = 12;

/// The requests after which a target that never begins an answer is a fault.
const MOST_READS: usize = 20;

/// A gateway with a provider for each dialect of the simulated upstream, and these models: a name, the policy, and the
/// two targets with their members.
async fn gateway(models: &[(String, &str, [String; 2])]) -> (Gateway, std::net::SocketAddr) {
    let address = upstream().await;
    let mut yaml = providers(address, "sim");
    yaml.push_str("health: { least: 100000, consecutive: 100000 }\nmodels:\n");
    for (name, policy, [first, second]) in models {
        writeln!(
            yaml,
            "  {name}: {{ on_break: {policy}, targets: [{{ {first} }}, {{ {second} }}] }}"
        )
        .unwrap();
    }
    (Gateway::new(&yaml).await, address)
}

const CONTINUE: &str = "{ continue: {} }";

/// A target that breaks off. Its tokens come one by one: what breaks off before any of it was forwarded is not continued,
/// but asked for again.
fn breaks(dialect: &str, word: &str) -> String {
    format!("provider: {dialect}, model: n{TOKENS}-i20000-{word}")
}

fn goes_on(dialect: &str, word: &str) -> String {
    format!("provider: {dialect}, model: n{TOKENS}-{word}, continuation: prefill")
}

fn body(language: &Language, model: &str) -> (String, Value) {
    let ask = Ask { model: model.to_owned(), stream: true, ..Ask::default() };
    ((language.path)(&ask), (language.request)(&ask))
}

/// The caller's view of an answer, and whether it has the mark at the seam. Sends the request again while the break came
/// before anything was forwarded, so that the other target had the request from the beginning; after one token it may
/// always.
async fn read(gateway: &Gateway, language: &Language, model: &str) -> (View, bool) {
    let (path, body) = body(language, model);
    for _ in 0..MOST_READS {
        let response = gateway.post(&path, &body.to_string()).send().await.unwrap();
        assert_eq!(response.status(), 200, "{}", language.name);
        let first =
            response.headers()["x-streamgate-target"].to_str().unwrap().contains("-i20000-");
        if first || model.ends_with(".1") {
            return view(language, &response.bytes().await.unwrap());
        }
    }
    panic!("{} {model}: the first target never begins", language.name);
}

fn view(language: &Language, bytes: &[u8]) -> (View, bool) {
    let text = std::str::from_utf8(bytes).unwrap();
    let plain: String = text
        .split_inclusive('\n')
        .filter(|line| !line.starts_with(": streamgate-continued "))
        .collect();
    let view = (language.stream)(plain.as_bytes(), true);
    let view = view.unwrap_or_else(|why| panic!("{}: {why}: {text}", language.name));
    (view, plain.len() < text.len())
}

/// The first tokens.
fn part(tokens: usize) -> String {
    (0..tokens).fold(String::new(), |text, i| text + &format!("t{i} "))
}

fn whole() -> String {
    part(TOKENS)
}

fn text(view: &View) -> &str {
    view.choices.get(&0).map_or("", |choice| choice.text.as_str())
}

/// R28: a cut at every token, for every caller, the first target of the caller's dialect and of another one, and every
/// second target: each token once and in order, in one envelope that ends once.
#[tokio::test]
async fn r28_every_token_once_in_all_pairs() {
    let names: Vec<&str> = DIALECTS.iter().map(|dialect| dialect.name()).collect();
    let mut models = Vec::new();
    for first in &names {
        for second in &names {
            for cut in 1..TOKENS {
                let targets = [breaks(first, &format!("close{cut}")), goes_on(second, "cont")];
                models.push((format!("{first}.{second}.{cut}"), CONTINUE, targets));
            }
        }
    }
    let (gateway, _) = gateway(&models).await;
    for (at, language) in LANGUAGES.iter().enumerate() {
        for first in &names {
            // Each pair with the caller's own dialect at every token, the others at one.
            let is_read = |second: &str, cut: usize| {
                *first == language.name
                    || cut == 1 + (at + first.len() + second.len()) % (TOKENS - 1)
            };
            let asked = names.iter().flat_map(|second| {
                let cuts = (1..TOKENS).filter(|cut| is_read(second, *cut));
                cuts.map(move |cut| format!("{first}.{second}.{cut}"))
            });
            let asked: Vec<String> = asked.collect();
            let views = join_all(asked.iter().map(|model| read(&gateway, language, model))).await;
            for (model, (view, marked)) in asked.iter().zip(views) {
                let what = format!("{} {model}", language.name);
                assert_eq!(text(&view), whole(), "{what}");
                assert_eq!(view.ended, Ended::Complete, "{what}");
                // After one token, the break may have come with it.
                let comments = !["gemini", "ollama"].contains(&language.name);
                assert!(marked == comments || model.ends_with(".1"), "{what}");
            }
        }
    }
    settled(&gateway).await;
}

/// R28: a restart that is repeated whole is cut, an echo too, a lost space is not missed; else the original error.
/// R26: a target that rejects the unfinished turn does not show.
#[tokio::test]
async fn r26_r28_exact_text_or_the_original_error() {
    let words = ["cont", "joined", "restart", "echo", "noprefill", "e503", "think3-cont", "tools1"];
    let ends = ["close", "err"];
    let mut models = Vec::new();
    for word in words {
        for end in ends {
            for cut in [2, 3, 7, 10] {
                let name = format!("{word}.{end}.{cut}");
                let targets =
                    [breaks("openai-chat", &format!("{end}{cut}")), goes_on("anthropic", word)];
                models.push((name, CONTINUE, targets));
            }
        }
    }
    let (gateway, _) = gateway(&models).await;
    for dialect in ["openai-chat", "anthropic"] {
        let language = language(dialect);
        let views = join_all(models.iter().map(|(name, ..)| read(&gateway, language, name))).await;
        for ((name, ..), (view, _)) in models.iter().zip(views) {
            let read: usize = name.rsplit('.').next().unwrap().parse().unwrap();
            let part = part(read);
            let repeats = ["restart", "echo"].iter().any(|word| name.starts_with(word));
            let exact = name.starts_with("cont")
                || name.starts_with("joined")
                || repeats && part.len() > 24;
            if exact {
                assert_eq!(
                    (text(&view), &view.ended),
                    (whole().as_str(), &Ended::Complete),
                    "{name}"
                );
                continue;
            }
            assert_eq!(text(&view), part, "{name}");
            let Ended::Error(why) = &view.ended else { panic!("{name}: {:?}", view.ended) };
            let original = if name.contains("err") { "simulated" } else { "closed the stream" };
            assert!(why.contains(original) && !why.contains("prefill"), "{name}: {why}");
        }
    }
    settled(&gateway).await;
}

/// R26, R27: no capability, an opt-out, tools, JSON, reasoning, log probabilities: the original error, and the other
/// target is not asked.
#[tokio::test]
async fn r26_r27_what_is_not_continued() {
    let able = goes_on("openai-chat", "cont");
    let models = [
        ("able".to_owned(), CONTINUE, [breaks("openai-chat", "close5"), able.clone()]),
        ("off".to_owned(), "error", [breaks("openai-chat", "close5"), able.clone()]),
        (
            "none".to_owned(),
            CONTINUE,
            [breaks("openai-chat", "close5"), breaks("openai-chat", "cont")],
        ),
        ("thinks".to_owned(), CONTINUE, [breaks("openai-chat", "think2-close5"), able.clone()]),
        ("calls".to_owned(), CONTINUE, [breaks("openai-chat", "tools2-close5"), able.clone()]),
        ("cut".to_owned(), CONTINUE, [breaks("openai-chat", "e503"), able]),
    ];
    let (gateway, _) = gateway(&models).await;
    let chat = language("openai-chat");
    let (path, plain) = body(chat, "able");
    let send = async |name: &str, value: Value, opt_out: bool| {
        let mut body = plain.clone();
        body[name] = value;
        let mut request = gateway.post(&path, &body.to_string());
        if opt_out {
            request = request.header("streamgate-continue", "no");
        }
        request.send().await.unwrap().text().await.unwrap()
    };
    let tools =
        json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
    let json_mode = json!({"type": "json_object"});
    for (name, value, opt_out, continued) in [
        ("model", json!("able"), false, true),
        ("model", json!("able"), true, false),
        ("model", json!("off"), false, false),
        ("model", json!("none"), false, false),
        ("model", json!("thinks"), false, false),
        ("model", json!("calls"), false, false),
        ("tools", tools, false, false),
        ("response_format", json_mode, false, false),
        ("n", json!(2), false, false),
        ("logprobs", json!(true), false, false),
        ("reasoning_effort", json!("high"), false, false),
        ("max_tokens", json!(5), false, false),
    ] {
        let shown = format!("{name}: {value}, {opt_out}");
        let text = send(name, value, opt_out).await;
        assert_eq!(text.contains("[DONE]"), continued, "{shown}: {text}");
        assert_eq!(text.contains("closed the stream"), !continued, "{shown}: {text}");
        assert_eq!(text.contains("streamgate-continued openai-chat/"), continued, "{shown}");
    }
    settled(&gateway).await;
}

/// The caller's usage is one prompt and all output; the record has both targets.
#[tokio::test]
async fn the_usage_and_the_record_of_a_continued_answer() {
    let targets = [breaks("openai-chat", "close5"), goes_on("anthropic", "cont")];
    let (gateway, _) = gateway(&[("m".to_owned(), CONTINUE, targets)]).await;
    let log = Log::default();
    let _capture = log.capture();
    let (view, _) = read(&gateway, language("openai-chat"), "m").await;
    let usage = view.usage.unwrap();
    assert_eq!(usage.output, 12, "{usage:?}");
    assert!(usage.input > 0, "{usage:?}");
    let record = record(&gateway, &log).await;
    assert_eq!(record["outcome"], "complete");
    assert_eq!(record["output_tokens"], 12);
    assert_eq!(record["continued"], "openai-chat/n12-i20000-close5 -> anthropic/n12-cont");
    assert_eq!(
        gateway.count("streamgate_continuations_total{model=\"m\",result=\"continued\"}"),
        1
    );
}

/// R28: silence ends an answer as a break does, and a durable stream is continued in its log: a reader who comes late has
/// each token once as well.
#[tokio::test]
async fn r28_silence_and_durable_streams_are_continued() {
    let address = upstream().await;
    let mut yaml = providers(address, "sim");
    yaml.push_str("stream: { stall: 1s }\nmodels:\n");
    let targets = |word: &str| {
        let (first, second) = (breaks("openai-chat", word), goes_on("anthropic", "cont"));
        format!("on_break: {CONTINUE}, targets: [{{ {first} }}, {{ {second} }}]")
    };
    writeln!(yaml, "  silent: {{ {} }}", targets("stall5")).unwrap();
    writeln!(yaml, "  durable: {{ stream: {{ resumable: true }}, {} }}", targets("close5"))
        .unwrap();
    let gateway = Gateway::new(&yaml).await;
    let chat = language("openai-chat");
    let (view, marked) = read(&gateway, chat, "silent").await;
    assert_eq!((text(&view), &view.ended, marked), (whole().as_str(), &Ended::Complete, true));
    let (path, body) = body(chat, "durable");
    let first = gateway.post(&path, &body.to_string()).send().await.unwrap();
    let place = first.headers()["content-location"].to_str().unwrap().to_owned();
    let live = first.text().await.unwrap();
    let late = gateway.get(&place).header("accept", "text/event-stream").send().await.unwrap();
    let late = late.text().await.unwrap();
    for seen in [live, late] {
        let data = seen.lines().filter_map(|line| line.strip_prefix("data: "));
        let chunks = data.filter_map(|data| serde_json::from_str::<Value>(data).ok());
        let said: String = chunks
            .filter_map(|chunk| Some(chunk["choices"][0]["delta"]["content"].as_str()?.to_owned()))
            .collect();
        assert_eq!(said, whole(), "{seen}");
    }
    for (format, mark) in [
        ("events", "event: continued\ndata: {\"target\":\"anthropic/n12-cont\"}"),
        (
            "ui",
            r#"{"type":"data-continued","data":{"target":"anthropic/n12-cont"},"transient":true}"#,
        ),
        ("snapshot", r#""continued":["anthropic/n12-cont"]"#),
    ] {
        let accept = if format == "snapshot" { "application/json" } else { "text/event-stream" };
        let asked = gateway.get(&format!("{place}?format={format}")).header("accept", accept);
        let seen = asked.send().await.unwrap();
        let seen = seen.text().await.unwrap();
        assert_eq!(seen.matches(mark).count(), 1, "{format}: {seen}");
    }
    settled(&gateway).await;
}

/// R28: with `most: 2`, a continuation that breaks off is continued once more; with one, the caller gets the original error.
#[tokio::test]
async fn r28_a_continuation_that_breaks_is_continued_within_most() {
    for (most, complete) in [(1, false), (2, true)] {
        let address = upstream().await;
        let mut yaml = providers(address, "sim");
        let targets = [
            breaks("openai-chat", "close4"),
            format!(
                "provider: anthropic, model: n{TOKENS}-i20000-cont-close3, continuation: prefill"
            ),
            goes_on("openai-chat", "cont"),
        ];
        let [first, second, third] = targets;
        writeln!(
            yaml,
            "health: {{ least: 100000, consecutive: 100000 }}\nmodels:\n  m: {{ on_break: {{ continue: {{ most: {most} }} }}, targets: [{{ {first} }}, {{ {second} }}, {{ {third} }}] }}"
        )
        .unwrap();
        let gateway = Gateway::new(&yaml).await;
        let (view, _) = read(&gateway, language("openai-chat"), "m").await;
        let said = text(&view);
        assert!(whole().starts_with(said), "each token once: {said}");
        assert_eq!(said == whole(), complete, "{most}: {said}");
        assert_eq!(view.ended == Ended::Complete, complete, "{most}: {:?}", view.ended);
        settled(&gateway).await;
    }
}

/// A caller that leaves while another target is asked: that request is cancelled, and nothing stays open.
#[tokio::test]
async fn the_caller_leaves_at_the_seam() {
    let targets = [breaks("openai-chat", "close5"), goes_on("openai-chat", "f600000-cont")];
    let (gateway, address) = gateway(&[("m".to_owned(), CONTINUE, targets)]).await;
    let (path, body) = body(language("openai-chat"), "m");
    let mut response = gateway.post(&path, &body.to_string()).send().await.unwrap();
    read_until(&mut response, "t4 ").await;
    let stats = async || -> Value {
        let text = reqwest::get(format!("http://{address}/_sim/stats")).await.unwrap().text().await;
        serde_json::from_str(&text.unwrap()).unwrap()
    };
    while stats().await["requests"] != 2 {
        tokio::task::yield_now().await;
    }
    drop(response);
    while stats().await["open_streams"] != 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(stats().await["cancelled_streams"], 1);
    settled(&gateway).await;
}
