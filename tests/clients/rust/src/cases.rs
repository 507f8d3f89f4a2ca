//! Test cases for every adapter in front of every upstream. A case must never pass without an assertion.

use std::future::Future;
use std::sync::Arc;

use futures::{FutureExt, StreamExt};
use genai::Client;
use genai::chat::{Binary, ChatMessage, ChatStreamEvent, ContentPart, StopReason, ToolResponse};
use serde_json::json;

use crate::client::{Adapter, Ask, Place, Way, tokens};
use crate::{Case, CaseError};

type Checked = Result<(), CaseError>;

/// Which client, which way, which upstream.
#[derive(Clone)]
struct Pair {
    place: Arc<Place>,
    adapter: Adapter,
    way: Way,
    upstream: String,
}

impl Pair {
    fn ask(&self, words: &str) -> Ask<'_> {
        Ask::new(&self.place, self.adapter, self.way, format!("{}/{words}", self.upstream))
    }

    fn case<F>(&self, what: &str, body: impl FnOnce(Self) -> F) -> Case
    where
        F: Future<Output = Checked> + Send + 'static,
    {
        let Self { adapter, way, upstream, .. } = self;
        let name = format!("{adapter:?} {way:?} {upstream}: {what}");
        Case { name, body: body(self.clone()).boxed() }
    }
}

fn pairs(place: &Arc<Place>) -> Vec<Pair> {
    let mut all = Vec::new();
    for upstream in &place.upstreams {
        for adapter in Adapter::ALL {
            for way in Way::ALL {
                all.push(Pair { place: place.clone(), adapter, way, upstream: upstream.clone() });
            }
        }
    }
    all
}

/// The cases that do not disturb each other.
pub fn together(place: &Arc<Place>) -> Vec<Case> {
    let mut all = Vec::new();
    for pair in pairs(place) {
        all.push(pair.case("text and usage", text));
        all.push(pair.case("length", length));
        all.push(pair.case("parallel tools, two turns", tools));
        all.push(pair.case("reasoning", reasoning));
        all.push(pair.case("image", image));
        for status in [401, 429, 500, 503] {
            let what = format!("{status} before the stream");
            all.push(pair.case(&what, move |pair| error_before(pair, status)));
        }
        for fault in ["err5", "close5", "reset5", "junk5", "stall5"] {
            let what = format!("{fault} is an error");
            all.push(pair.case(&what, move |pair| error_during(pair, fault)));
        }
        if pair.way == Way::Streamed {
            for words in ["n3-i700000", "n3-f1500", "n20-crlf", "n5-split", "n20-comment"] {
                all.push(pair.case(words, move |pair| odd(pair, words)));
            }
        }
    }
    // Wrong keys are counted, and have nothing to do with an upstream.
    let first = place.upstreams.first();
    for pair in pairs(place).into_iter().filter(|pair| Some(&pair.upstream) == first) {
        all.push(pair.case("wrong key, unknown model", wrong_key_and_model));
    }
    all.push(Case {
        name: "Cohere's first version".to_owned(),
        body: cohere(place.clone()).boxed(),
    });
    all
}

/// The cases that look at what the simulated upstream has counted.
pub fn alone(place: &Arc<Place>) -> Vec<Case> {
    let streamed = pairs(place).into_iter().filter(|pair| pair.way == Way::Streamed);
    streamed.map(|pair| pair.case("leaving reaches the upstream", leaving)).collect()
}

/// The simulated upstream's text as the client shows it: its adapter for OpenAI trims whole answers.
fn said(pair: &Pair, count: usize, letter: char) -> String {
    let tokens = tokens(count, letter);
    match (pair.adapter, pair.way) {
        (Adapter::OpenAi, Way::Whole) => tokens.trim().to_owned(),
        _ => tokens,
    }
}

async fn text(pair: Pair) -> Checked {
    let answer = pair.ask("n50").answer().await?;
    assert_eq!(answer.text, said(&pair, 50, 't'));
    assert!(matches!(answer.stop, Some(StopReason::Completed(_))), "{:?}", answer.stop);
    let usage = answer.usage;
    assert_eq!(usage.completion_tokens, Some(50));
    let prompt = usage.prompt_tokens.unwrap_or_default();
    assert!(prompt > 0, "{prompt}");
    assert_eq!(usage.total_tokens, Some(prompt + 50));
    Ok(())
}

async fn length(pair: Pair) -> Checked {
    let mut ask = pair.ask("n20");
    ask.options = ask.options.with_max_tokens(17);
    let answer = ask.answer().await?;
    assert_eq!(answer.text, said(&pair, 17, 't'));
    assert_stopped_by_length(&pair, answer.stop);
    assert_stopped_by_length(&pair, pair.ask("n20-length").answer().await?.stop);
    Ok(())
}

/// The adapter for Responses tells the status, `incomplete`, and not the reason beside it.
fn assert_stopped_by_length(pair: &Pair, stop: Option<StopReason>) {
    let stop = stop.expect("a reason");
    let told = stop.is_max_tokens()
        || pair.adapter == Adapter::OpenAiResponses && stop.raw() == "incomplete";
    assert!(told, "{stop:?}");
}

async fn tools(pair: Pair) -> Checked {
    let mut ask = pair.ask("tools2-n7").tools();
    let first = ask.answer().await?;
    let names: Vec<_> = first.calls.iter().map(|call| call.fn_name.as_str()).collect();
    assert_eq!(names, ["alpha", "beta"]);
    let arguments: Vec<_> = first.calls.iter().map(|call| call.fn_arguments.clone()).collect();
    assert_eq!(arguments, [0, 1].map(|call| json!({ "call": call, "note": "simulated" })));
    assert_ne!(first.calls[0].call_id, first.calls[1].call_id);
    let mut request = ask.request.append_message(ChatMessage::assistant(first.content));
    for call in &first.calls {
        request = request.append_message(ToolResponse::from_tool_call(call, r#"{"done":true}"#));
    }
    ask.request = request;
    let second = ask.answer().await?;
    assert_eq!(second.text, said(&pair, 7, 't'));
    assert!(matches!(second.stop, Some(StopReason::Completed(_))), "{:?}", second.stop);
    Ok(())
}

async fn reasoning(pair: Pair) -> Checked {
    let answer = pair.ask("think6-n4").thinking().answer().await?;
    // The client joins Anthropic's thinking blocks by a line break; the second one holds only a signature.
    let joined = (pair.adapter == Adapter::Anthropic).then(|| answer.reasoning.strip_suffix('\n'));
    let thoughts = joined.flatten().unwrap_or(&answer.reasoning).to_owned();
    assert_eq!((answer.text, thoughts), (said(&pair, 4, 't'), said(&pair, 6, 'r')));
    assert_eq!(answer.usage.completion_tokens, Some(10));
    Ok(())
}

async fn image(pair: Pair) -> Checked {
    let png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
    let mut ask = pair.ask("n3");
    let image = Binary::from_base64("image/png", png, None);
    let parts = vec![ContentPart::from("see"), ContentPart::Binary(image)];
    ask.request = ask.request.append_message(ChatMessage::user(parts));
    assert_eq!(ask.answer().await?.text, said(&pair, 3, 't'));
    Ok(())
}

/// Where the client keeps the answer to a request that failed: a stream wraps it.
fn answered(error: &genai::Error) -> &genai::Error {
    match error {
        genai::Error::WebStream { error: inner, .. } => inner.downcast_ref().unwrap_or(error),
        _ => error,
    }
}

async fn error_before(pair: Pair, status: u16) -> Checked {
    let error = pair.ask(&format!("e{status}")).answer().await.expect_err("an error");
    let told = answered(&error);
    let code = told.status().expect("a status").as_u16();
    if status == 401 {
        // The upstream refuses the gateway's credential, which is never shown as the caller's.
        assert_eq!(code, 502);
        assert!(error.to_string().contains("gateway's own credential"), "{error}");
        return Ok(());
    }
    assert!(code == status || status >= 500 && code >= 500, "{code} for {status}");
    assert!(error.to_string().contains("simulated upstream"), "{error}");
    if status == 429 {
        let headers = told.headers().expect("headers");
        assert_eq!(headers.get("retry-after").expect("when to retry"), "1");
    }
    Ok(())
}

async fn error_during(pair: Pair, fault: &'static str) -> Checked {
    let ask = pair.ask(&format!("n20-{fault}"));
    if pair.way == Way::Whole {
        let error = ask.answer().await.expect_err("an error");
        assert!(error.status().is_some_and(|status| status.is_server_error()), "{error}");
        return Ok(());
    }
    let mut text = String::new();
    let came = ask.streamed(&mut text).await;
    assert_eq!(text, tokens(5, 't'));
    let error = came.expect_err("an error");
    // Ollama's way of saying it is a line with an `error`, which this client passes over; it notices that
    // the connection is dropped.
    if pair.adapter == Adapter::Ollama {
        assert!(matches!(error, genai::Error::WebStream { .. }), "{error}");
        return Ok(());
    }
    assert!(!matches!(error, genai::Error::WebStream { .. }), "not told in-band: {error}");
    Ok(())
}

async fn wrong_key_and_model(pair: Pair) -> Checked {
    let mut ask = pair.ask("n3");
    ask.key = "sg-wrong".to_owned();
    let error = ask.answer().await.expect_err("an error");
    assert_eq!(answered(&error).status().expect("a status"), 401, "{error}");
    let mut ask = pair.ask("n3");
    ask.model = "nothing".to_owned();
    let error = ask.answer().await.expect_err("an error");
    assert_eq!(answered(&error).status().expect("a status"), 404, "{error}");
    Ok(())
}

async fn odd(pair: Pair, words: &'static str) -> Checked {
    let count = words[1..].split('-').next().and_then(|n| n.parse().ok()).expect("a count");
    let answer = pair.ask(words).answer().await?;
    assert_eq!(answer.text, tokens(count, 't'));
    assert!(matches!(answer.stop, Some(StopReason::Completed(_))), "{:?}", answer.stop);
    Ok(())
}

async fn leaving(pair: Pair) -> Checked {
    let (cancelled, open) = pair.place.stats().await?;
    let mut ask = pair.ask("n100000-i10000");
    ask.options = ask.options.with_max_tokens(100_000);
    let mut stream = ask.stream().await?;
    while let Some(event) = stream.next().await {
        if matches!(event?, ChatStreamEvent::Chunk(_)) {
            break;
        }
    }
    drop(stream);
    // Each look is a request of its own, so the number of looks bounds the time.
    for _ in 0..5000 {
        let (cancelled_now, open_now) = pair.place.stats().await?;
        if cancelled_now > cancelled && open_now <= open {
            return Ok(());
        }
    }
    Err(CaseError::Wrong("the upstream was not cancelled".to_owned()))
}

/// Its adapter for Cohere speaks the first version of Cohere's API, which is not offered here: it
/// must be told so, and not be left with half an answer.
async fn cohere(place: Arc<Place>) -> Checked {
    let model = genai::ModelSpec::Target(genai::ServiceTarget {
        endpoint: genai::resolver::Endpoint::from_owned(format!("{}/v1/", place.gateway)),
        auth: genai::resolver::AuthData::from_single(place.key.as_str()),
        model: genai::ModelIden::new(genai::adapter::AdapterKind::Cohere, "sim-cohere/n3"),
    });
    let request = genai::chat::ChatRequest::from_user("count");
    let error = Client::new()?.exec_chat(model, request, None).await.expect_err("an error");
    assert_eq!(error.status().map(|status| status.as_u16()), Some(404), "{error}");
    Err(CaseError::Cannot("genai speaks version 1 of Cohere's API, which is answered with 404"))
}
