//! Large request bodies, which are worked on beside the worker, and bounds on what is translated of any.

use crate::support::answers::{SPOKEN, error_message, path, request, streamed};
use crate::support::gateway::{Gateway, yaml};
use crate::support::upstream::Upstream;

/// More than is worked on by a worker.
const LARGE: usize = 3 << 19;

async fn gateway(more: &str) -> (Gateway, Upstream, Upstream) {
    let (oai, ant) = (streamed("openai-chat", "hi"), streamed("anthropic", "hi"));
    let (oai, ant) = (Upstream::new(oai).await, Upstream::new(ant).await);
    (Gateway::new(&yaml(&oai.url, &ant.url, more)).await, oai, ant)
}

/// The same bytes reach an upstream of the same language, and the same words one of another.
#[tokio::test]
async fn a_large_body_is_passed_on_and_translated_like_a_small_one() {
    let words = "Où est la bibliothèque? ".repeat(LARGE / 24);
    let (gateway, oai, ant) = gateway("").await;
    for (dialect, _) in SPOKEN {
        for (provider, upstream) in [("oai", &oai), ("ant", &ant)] {
            let before = upstream.requests().await.len();
            let body = request(&format!("{provider}/m"), true, &words);
            let response = gateway.post(path(dialect), &body).send().await.unwrap();
            assert_eq!(response.status(), 200, "{dialect} {provider}");
            assert!(response.text().await.unwrap().contains("hi"), "{dialect} {provider}");
            let sent = upstream.requests().await;
            let sent = std::str::from_utf8(&sent[before].body).unwrap();
            assert!(sent.contains(&words), "{dialect} {provider}: {} bytes", sent.len());
            assert!(sent.contains(r#""model":"m""#), "{dialect} {provider}");
        }
    }
}

#[tokio::test]
async fn a_large_body_that_is_wrong_is_refused_like_a_small_one() {
    let (gateway, oai, ant) = gateway("").await;
    let words = "x".repeat(LARGE);
    for (dialect, own) in SPOKEN {
        // That of the other language, so that the whole request is read.
        let other = if own == "oai" { "ant/m" } else { "oai/m" };
        let whole = |model: &str| request(model, true, &words);
        for (body, status, said) in [
            (whole(other).replace(r#""messages""#, r#""massages""#), 400, "messages"),
            (whole("nobody/m"), 404, "/v1/models"),
            (format!(r#"{{"model":"oai/m","x":"{words}""#), 400, "JSON"),
        ] {
            let response = gateway.post(path(dialect), &body).send().await.unwrap();
            assert_eq!(response.status().as_u16(), status, "{dialect} {said}");
            let message = error_message(dialect, &response.text().await.unwrap());
            assert!(message.contains(said), "{dialect}: {message}");
        }
    }
    assert!(oai.requests().await.is_empty() && ant.requests().await.is_empty());
}

/// Translated requests have a maximum number of parts; passthrough has none.
#[tokio::test]
async fn too_many_turns_are_refused_by_name_where_they_would_be_translated() {
    let (gateway, oai, ant) = gateway("").await;
    let turn = r#"{"role":"user","content":"x"}"#;
    let body = |provider: &str, turns: usize| {
        let turns = vec![turn; turns].join(",");
        format!(r#"{{"model":"{provider}/m","max_tokens":5,"stream":true,"messages":[{turns}]}}"#)
    };
    for (dialect, own) in SPOKEN {
        let other = if own == "oai" { "ant" } else { "oai" };
        for (provider, turns, status) in [(own, 8193, 200), (other, 8192, 200), (other, 8193, 400)]
        {
            let sent = gateway.post(path(dialect), &body(provider, turns)).send().await.unwrap();
            let found = sent.status().as_u16();
            let text = sent.text().await.unwrap();
            assert_eq!(found, status, "{dialect} {provider} {turns}: {text}");
            if status == 400 {
                let message = error_message(dialect, &text);
                let said = "`messages` holds 8193 turns; a request that is translated for its model may hold 8192";
                assert!(message.starts_with(said), "{dialect}: {message}");
            }
        }
    }
    assert_eq!(oai.requests().await.len() + ant.requests().await.len(), 2 * SPOKEN.len());
}
