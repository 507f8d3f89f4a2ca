//! The cost of requests: in the access log exactly, and in metrics, for the usage of each vendor.

use serde_json::Value;

use crate::support::gateway::{Gateway, Log, yaml};
use crate::support::upstream::{Step, Upstream};

/// Prices as of a long-context model. `free` costs nothing, `other` has no price, and `small` is in the price catalog.
const MODELS: &str = "models:
  priced:
    targets:
      - provider: ant
        model: big
        price: { input: 3, cache_read: 0.30, cache_write: 3.75, output: 15, tiers: [{ over: 200000, input: 6, output: 22.5 }] }
  reasoned: { targets: [{ provider: oai, model: big, price: { input: 3, cache_read: 0.3, output: 15, reasoning: 20 } }] }
  free: { targets: [{ provider: oai, model: big, price: { input: 0, output: 0 } }] }
  other: { targets: [{ provider: oai, model: big }] }
";

fn json(body: &str) -> Vec<Step> {
    vec![Step::Whole(200, "content-type: application/json\r\n", body.as_bytes().to_vec())]
}

fn anthropic(usage: &str) -> Vec<Step> {
    json(&format!(
        r#"{{"id":"msg_1","type":"message","role":"assistant","model":"big","content":[{{"type":"text","text":"hi"}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{usage}}}"#
    ))
}

fn openai(usage: &str) -> Vec<Step> {
    json(&format!(
        r#"{{"id":"c1","object":"chat.completion","created":1,"model":"big","choices":[{{"index":0,"message":{{"role":"assistant","content":"hi"}},"finish_reason":"stop"}}]{usage}}}"#
    ))
}

const CACHED: &str = r#"{"input_tokens":1200,"cache_read_input_tokens":180000,"cache_creation_input_tokens":2000,"output_tokens":900}"#;
const LONG: &str = r#"{"input_tokens":21,"cache_read_input_tokens":199980,"output_tokens":1}"#;
const REASONED: &str = r#","usage":{"prompt_tokens":183200,"prompt_tokens_details":{"cached_tokens":180000},"completion_tokens":900,"completion_tokens_details":{"reasoning_tokens":800}}"#;

/// The record of a request for a model, whose upstreams answer so.
async fn record(model: &str, (oai, ant): (Vec<Step>, Vec<Step>), more: &str) -> (Value, Gateway) {
    let (log, upstreams) = (Log::default(), (Upstream::new(oai).await, Upstream::new(ant).await));
    let _captured = log.capture();
    let yaml = yaml(&upstreams.0.url, &upstreams.1.url, MODELS);
    let gateway = Gateway::new(
        &yaml.replace("dialect: openai-chat,", &format!("dialect: openai-chat, {more}")),
    )
    .await;
    // Long enough for the tokens that the upstreams count.
    let text = "word ".repeat(250_000);
    let body = serde_json::json!({"model": model, "max_tokens": 10_000, "messages": [{"role": "user", "content": text}]});
    let response = gateway.post("/v1/messages", &body.to_string()).send().await.unwrap();
    assert_eq!(response.status(), 200, "{model}");
    response.bytes().await.unwrap();
    // It is written once the connection has let go of the answer.
    loop {
        if let Some(record) = log.records().pop() {
            assert_eq!(record["outcome"], "complete", "{record}");
            return (record, gateway);
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_record_has_the_exact_cost_of_each_class_of_tokens() {
    let cases = [
        ("priced", openai(""), anthropic(CACHED), "0.078600000"),
        // Above the threshold, also because of what was cached.
        ("priced", openai(""), anthropic(LONG), "0.060142500"),
        ("reasoned", openai(REASONED), anthropic(CACHED), "0.081100000"),
        ("free", openai(REASONED), anthropic(CACHED), "0.000000000"),
    ];
    for (model, oai, ant, expected) in cases {
        let (record, gateway) = record(model, (oai, ant), "").await;
        assert_eq!(record["cost"], expected, "{model}: {record}");
        let dollars = gateway.metric("streamgate_cost_dollars_total{");
        assert_eq!(format!("{dollars:.9}"), expected, "{model}");
        assert_eq!(gateway.count("streamgate_unpriced_requests_total{"), 0, "{model}");
    }
}

#[tokio::test]
async fn an_unknown_price_is_never_zero() {
    let (record, gateway) = record("other", (openai(REASONED), anthropic(CACHED)), "").await;
    assert_eq!(record.get("cost"), None, "{record}");
    assert_eq!(gateway.count("streamgate_unpriced_requests_total{target=\"oai/big\"}"), 1);
    assert!(!gateway.app.metrics.render().contains("streamgate_cost_dollars_total{"));
}

#[tokio::test]
async fn list_prices_hold_for_a_provider_in_the_catalog_also_for_models_by_their_own_name() {
    let usage = r#","usage":{"prompt_tokens":1000,"completion_tokens":100}"#;
    let (record, _) =
        record("oai/gpt-4o-mini", (openai(usage), anthropic(CACHED)), "price_catalog: openai,")
            .await;
    assert_eq!(record["cost"], "0.000210000", "{record}");
}

#[tokio::test]
async fn without_usage_the_cost_is_that_of_the_estimate() {
    let (record, _) = record("reasoned", (openai(""), anthropic(CACHED)), "").await;
    assert_eq!(record["estimated"], true, "{record}");
    let tokens = |name: &str| record[name].as_u64().unwrap();
    let nano = tokens("input_tokens") * 3000 + tokens("output_tokens") * 15000;
    let expected = format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000);
    assert_eq!(record["cost"], expected, "{record}");
}
