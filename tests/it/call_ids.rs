//! Ids of tool calls that the upstream leaves out: the same bytes twice are two calls, since an agent
//! takes a repeated id for a call that it has answered already.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::support::gateway::{Gateway, yaml};
use crate::support::upstream::{Step, Upstream};

#[tokio::test]
async fn tool_calls_without_ids_get_distinct_ids_across_answers() {
    let ollama = "{\"model\":\"m\",\"created_at\":\"2026-01-01T00:00:00Z\",\"message\":{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{}}}]},\"done\":false}\n{\"model\":\"m\",\"created_at\":\"2026-01-01T00:00:00Z\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\"}\n";
    let gemini = "data: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"functionCall\":{\"name\":\"f\",\"args\":{}}}]},\"finishReason\":\"STOP\"}]}\n\n";
    let cohere = "data: {\"type\":\"message-start\",\"delta\":{\"message\":{\"role\":\"assistant\"}}}\n\ndata: {\"type\":\"tool-call-start\",\"index\":0,\"delta\":{\"message\":{\"tool_calls\":{\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}}}}\n\ndata: {\"type\":\"tool-call-end\",\"index\":0}\n\ndata: {\"type\":\"message-end\",\"delta\":{\"finish_reason\":\"TOOL_CALL\"}}\n\n";
    let ndjson = "content-type: application/x-ndjson\r\n";
    let sse = "content-type: text/event-stream\r\n";
    for (dialect, kind, answer) in
        [("ollama", ndjson, ollama), ("gemini", sse, gemini), ("cohere", sse, cohere)]
    {
        let upstream = Upstream::new(vec![Step::Whole(200, kind, answer.into())]).await;
        let config = yaml(&upstream.url, &upstream.url, "")
            .replace("dialect: openai-chat", &format!("dialect: {dialect}"));
        let gateway = Gateway::new(&config).await;
        let tool = json!({ "type": "function", "function": { "name": "f", "parameters": { "type": "object", "properties": {} } } });
        let ask = json!({ "model": "oai/m", "tools": [tool], "messages": [{ "role": "user", "content": "go" }] });
        let mut ids = HashSet::new();
        for _ in 0..3 {
            let response =
                gateway.post("/v1/chat/completions", &ask.to_string()).send().await.unwrap();
            let answer: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
            let id = &answer["choices"][0]["message"]["tool_calls"][0]["id"];
            assert!(ids.insert(id.as_str().unwrap_or_default().to_owned()), "{dialect}: {answer}");
        }
        assert!(!ids.contains(""), "{dialect}: {ids:?}");
    }
}
