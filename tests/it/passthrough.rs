//! Endpoints beside chat at upstreams of the same dialect: passed on byte for byte, with the same
//! authentication, limits, records and cancellation.

use serde_json::{Value, json};

use crate::support::gateway::{Gateway, Log};
use crate::support::simulated::gateway;

async fn post(gateway: &Gateway, path: &str, body: &Value) -> (u16, String) {
    let response = gateway.post(path, &body.to_string()).send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.text().await.unwrap())
}

#[tokio::test]
async fn completions_stream_and_come_whole() {
    let gateway = gateway().await;
    let log = Log::default();
    let _capture = log.capture();
    let ask = json!({ "model": "openai-chat/n3", "prompt": "hi", "stream": true });
    let (status, text) = post(&gateway, "/v1/completions", &ask).await;
    assert_eq!(status, 200);
    let said: String = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .filter_map(|chunk| Some(chunk["choices"][0]["text"].as_str()?.to_owned()))
        .collect();
    assert_eq!(said, "t0 t1 t2 ");
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    assert!(!text.contains("\"usage\":{"), "usage nobody asked for: {text}");

    let ask = json!({ "model": "openai-chat/n3", "prompt": ["a", "b"] });
    let (status, text) = post(&gateway, "/v1/completions", &ask).await;
    let whole: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, whole["choices"].as_array().unwrap().len()), (200, 2));
    let records = log.records();
    assert_eq!(records.len(), 2);
    for record in records {
        assert_eq!(record["outcome"], "complete", "{record}");
        assert_eq!(record["estimated"], false, "{record}");
    }
}

#[tokio::test]
async fn embeddings_and_counts_come_as_they_are() {
    let gateway = gateway().await;
    let log = Log::default();
    let _capture = log.capture();
    let ask = json!({ "model": "openai-chat/n1-i0", "input": ["a", "b"], "dimensions": 8 });
    let (status, text) = post(&gateway, "/v1/embeddings", &ask).await;
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, value["data"][1]["embedding"].as_array().unwrap().len()), (200, 8));
    assert_eq!(log.records()[0]["output_tokens"], 0);

    let ask =
        json!({ "model": "anthropic/n1-i0", "messages": [{ "role": "user", "content": "hi" }] });
    let (status, text) = post(&gateway, "/v1/messages/count_tokens", &ask).await;
    let value: Value = serde_json::from_str(&text).unwrap();
    assert!(status == 200 && value["input_tokens"].as_u64().unwrap() > 0, "{text}");
    assert_eq!(log.records()[1]["input_tokens"], 0, "counted, not used");

    let ask = json!({ "model": "openai-responses/n3", "input": "hi", "stream": true });
    let (status, text) = post(&gateway, "/v1/responses/input_tokens", &ask).await;
    let value: Value = serde_json::from_str(&text).unwrap();
    assert!(status == 200 && value["input_tokens"].as_u64().unwrap() > 0, "{text}");
    assert_eq!(log.records()[2]["input_tokens"], 0, "counted, not used");
    let (status, text) = post(&gateway, "/v1/responses/compact", &ask).await;
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &value["output"][0]["type"]), (200, &json!("compaction")), "{text}");
    assert_eq!(log.records()[3]["output_tokens"], 3);
}

#[tokio::test]
async fn completions_and_compaction_are_never_translated() {
    let gateway = gateway().await;
    for (path, body) in [
        ("/v1/completions", json!({ "model": "anthropic/n1-i0", "prompt": "hi", "stream": true })),
        ("/v1/responses/compact", json!({ "model": "anthropic/n1-i0", "input": "hi" })),
    ] {
        let (status, text) = post(&gateway, path, &body).await;
        assert_eq!(status, 400, "{path}: {text}");
        assert!(text.contains("never translated"), "{path}: {text}");
    }
}

#[tokio::test]
async fn truncated_completions_never_look_complete() {
    let gateway = gateway().await;
    for program in ["n5-close3", "n5-reset3", "n5-err3", "n5-junk3"] {
        let model = format!("openai-chat/{program}");
        let ask = json!({ "model": model, "prompt": "hi", "stream": true });
        let (_, text) = post(&gateway, "/v1/completions", &ask).await;
        assert!(text.contains("t2 ") && text.contains("\"error\""), "{program}: {text}");
        assert!(!text.contains("[DONE]"), "{program}: {text}");
    }
}
