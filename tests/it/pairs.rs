//! Every caller dialect to every upstream dialect, over HTTP, with the simulated upstream on the
//! other side: text, reasoning, tools over two turns, errors, and the end of it all.

use std::collections::BTreeSet;

use crate::support::gateway::Gateway;
use crate::support::language::{Ask, LANGUAGES, Language};
use crate::support::simulated::gateway;
use crate::support::{Choice, Ended, View, received};
use serde_json::Value;
use streamgate::wire::dialect::DIALECTS;

/// A response: the status and the body.
async fn send(gateway: &Gateway, language: &Language, ask: &Ask) -> (u16, Vec<u8>) {
    let (status, body, cut) = sent(gateway, language, ask).await;
    assert!(!cut, "{} {}", language.name, ask.model);
    (status, body)
}

/// The same, and whether the body was cut.
async fn sent(gateway: &Gateway, language: &Language, ask: &Ask) -> (u16, Vec<u8>, bool) {
    let body = (language.request)(ask).to_string();
    let response = gateway.post(&(language.path)(ask), &body).send().await.unwrap();
    let status = response.status().as_u16();
    let (body, cut) = received(response).await;
    (status, body, cut)
}

/// The caller's view of an answer, streamed or whole.
async fn read(gateway: &Gateway, language: &Language, ask: &Ask) -> View {
    let place = format!("{} asks {} (stream={})", language.name, ask.model, ask.stream);
    let (status, body) = send(gateway, language, ask).await;
    let text = String::from_utf8_lossy(&body);
    assert_eq!(status, 200, "{place}: {text}");
    let read = if ask.stream { (language.stream)(&body, true) } else { (language.answer)(&body) };
    read.unwrap_or_else(|why| panic!("{place}: {why}\n{text}"))
}

fn only(view: &View) -> &Choice {
    assert_eq!(view.choices.len(), 1, "{view:?}");
    &view.choices[&0]
}

/// Calls `check` for every pair, streamed and whole.
async fn every(program: &str, check: impl AsyncFn(&Gateway, &Language, Ask, &str)) {
    let gateway = gateway().await;
    for language in LANGUAGES {
        for upstream in DIALECTS {
            for stream in [true, false] {
                let model = format!("{}/{program}", upstream.name());
                let ask = Ask { model, stream, ..Ask::default() };
                check(&gateway, language, ask, upstream.name()).await;
            }
        }
    }
}

#[tokio::test]
async fn text_and_usage_arrive() {
    every("n5", async |gateway, language, ask, _| {
        let view = read(gateway, language, &ask).await;
        let choice = only(&view);
        assert_eq!(choice.text, "t0 t1 t2 t3 t4 ", "{} {}", language.name, ask.model);
        assert_eq!(choice.stop.as_deref(), Some((language.stop)("end")), "{}", ask.model);
        assert_eq!(view.ended, Ended::Complete);
        let usage = view.usage.unwrap_or_default();
        assert!(usage.output == 5 && usage.input > 0, "{} {}: {usage:?}", language.name, ask.model);
    })
    .await;
}

#[tokio::test]
async fn reasoning_arrives_before_text() {
    every("think3-n2", async |gateway, language, ask, _| {
        let view = read(gateway, language, &ask).await;
        let choice = only(&view);
        let place = format!("{} {}", language.name, ask.model);
        assert_eq!(
            (choice.reasoning.as_str(), choice.text.as_str()),
            ("r0 r1 r2 ", "t0 t1 "),
            "{place}"
        );
    })
    .await;
}

/// Two calls at once, their results in the next turn, and then text.
#[tokio::test]
async fn tools_make_the_round_trip() {
    every("tools2-n3", async |gateway, language, ask, _| {
        let ask = Ask { tools: true, ..ask };
        let place = format!("{} {}", language.name, ask.model);
        let view = read(gateway, language, &ask).await;
        let choice = only(&view);
        assert_eq!(choice.stop.as_deref(), Some((language.stop)("tools")), "{place}");
        let names: Vec<&str> = choice.tools.iter().map(|tool| tool.name.as_str()).collect();
        assert_eq!(names, ["weather", "clock"], "{place}");
        for (number, tool) in choice.tools.iter().enumerate() {
            let expected = serde_json::json!({ "call": number, "note": "simulated" });
            assert_eq!(tool.value(), expected, "{place}");
        }
        let ids: BTreeSet<&str> = choice.tools.iter().map(|tool| tool.id.as_str()).collect();
        assert_eq!(ids.len(), 2, "{place}: the calls have an id each");
        let next = Ask { called: choice.tools.clone(), ..ask };
        assert_eq!(only(&read(gateway, language, &next).await).text, "t0 t1 t2 ", "{place}");
    })
    .await;
}

#[tokio::test]
async fn the_output_limit_reaches_the_upstream() {
    every("n3-length", async |gateway, language, ask, _| {
        let view = read(gateway, language, &ask).await;
        assert_eq!(only(&view).stop.as_deref(), Some((language.stop)("length")), "{}", ask.model);
    })
    .await;
}

/// A truncated answer never looks complete, whatever truncated it.
#[tokio::test]
async fn truncated_answers_never_look_complete() {
    for program in ["n5-err3", "n5-close3", "n5-reset3", "n5-junk3", "n5-nodone"] {
        every(program, async |gateway, language, ask, upstream| {
            let place = format!("{} {} {}", language.name, ask.model, ask.stream);
            let (status, body, cut) = sent(gateway, language, &ask).await;
            if !ask.stream {
                assert!(!cut, "{place}");
                // The effect of this program on an unstreamed answer depends on the vendor's form.
                let whole = status == 200 && (language.answer)(&body).is_ok();
                assert!(!whole || program == "n5-nodone", "{place}");
                return;
            }
            let text = String::from_utf8_lossy(&body);
            let view = (language.stream)(&body, true)
                .unwrap_or_else(|why| panic!("{place}: {why}\n{text}"));
            assert!(only(&view).text.starts_with("t0 t1 t2 "), "{place}: {text}");
            // After a finish reason `[DONE]` says nothing new, so it is whole without that.
            let finished = program == "n5-nodone" && ["openai-chat", "cohere"].contains(&upstream);
            let failed = matches!(view.ended, Ended::Error(_));
            assert!(failed || finished, "{place}: {view:?}");
            let overlooked = ["gemini", "ollama"].contains(&language.name);
            assert_eq!(cut, failed && overlooked, "{place}");
        })
        .await;
    }
}

/// An error instead of an answer keeps its status and is told in the caller's words.
#[tokio::test]
async fn errors_keep_their_status() {
    for status in [400_u16, 401, 404, 429, 500, 503] {
        every(&format!("e{status}"), async |gateway, language, ask, upstream| {
            let place = format!("{} {} {}", language.name, ask.model, ask.stream);
            let (told, body) = send(gateway, language, &ask).await;
            let value: Value = serde_json::from_slice(&body).expect(&place);
            let message = (language.error)(&value).unwrap_or_else(|| panic!("{place}: {value}"));
            if status == 401 {
                // It is the gateway's credential that is refused, not the caller's.
                assert!(message.ends_with("(upstream_credentials)"), "{place}: {message}");
                assert_eq!(told, 502, "{place}");
                return;
            }
            assert!(message.contains("simulated upstream"), "{place}: {message}");
            // Some vendors have statuses of their own for it; a caller of theirs gets them as they are.
            if upstream == language.name || status < 500 {
                assert_eq!(told, status, "{place}");
            } else {
                assert!((500..=599).contains(&told), "{place}: {told}");
            }
        })
        .await;
    }
}

/// Untranslatable members are rejected by the caller's name for them, with the pair.
#[tokio::test]
async fn refusals_name_the_field_and_the_pair() {
    let gateway = gateway().await;
    let hi = serde_json::json!([{ "role": "user", "content": "hi" }]);
    for (caller, upstream, path, mut body, field) in [
        (
            "gemini",
            "cohere",
            "/v1beta/models/cohere/n1:generateContent",
            serde_json::json!({ "contents": [{ "parts": [{ "text": "hi" }] }], "generationConfig": { "candidateCount": 2 } }),
            "generationConfig.candidateCount",
        ),
        (
            "openai-responses",
            "ollama",
            "/v1/responses",
            serde_json::json!({ "instructions": "x", "input": [hi[0], { "role": "user", "content": [{ "type": "input_image", "image_url": "https://example.org/a.png" }] }] }),
            "input[1]",
        ),
        (
            "openai-responses",
            "openai-chat",
            "/v1/responses",
            serde_json::json!({ "input": [] }),
            "input",
        ),
        (
            "anthropic",
            "gemini",
            "/v1/messages",
            serde_json::json!({ "max_tokens": 9, "messages": [] }),
            "messages",
        ),
        (
            "openai-chat",
            "bedrock",
            "/v1/chat/completions",
            serde_json::json!({ "messages": hi, "logit_bias": { "5": 1 } }),
            "logit_bias",
        ),
        (
            "openai-chat",
            "openai-responses",
            "/v1/chat/completions",
            serde_json::json!({ "messages": hi, "n": 2 }),
            "n",
        ),
    ] {
        body["model"] = format!("{upstream}/n1").into();
        let response = gateway.post(path, &body.to_string()).send().await.unwrap();
        let status = response.status().as_u16();
        let said: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        let language = LANGUAGES.iter().find(|language| language.name == caller).unwrap();
        let message = (language.error)(&said).unwrap_or_else(|| panic!("{caller}: {said}"));
        assert_eq!(status, 400, "{said}");
        let whole = said.to_string();
        assert!(whole.contains(field), "{field}: {whole}");
        assert!(message.contains(&format!("`{field}")), "{message}");
        assert!(!message.contains("translating"), "{message}");
    }
}
