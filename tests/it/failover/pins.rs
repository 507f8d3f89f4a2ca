//! Encrypted reasoning state, which only the account that has issued it can read: the conversation stays there, and where
//! it is unknown, every account is asked.

use crate::failover::routing::{JSON, gateway, refusal};
use crate::support::gateway::Gateway;
use crate::support::upstream::{Step, Upstream};

/// A streamed answer of the Responses API whose reasoning is this encrypted value.
fn answer(state: &str) -> Vec<Step> {
    let event =
        |kind: &str, rest: &str| format!("event: {kind}\ndata: {{\"type\":\"{kind}\"{rest}}}\n\n");
    let item =
        format!(r#"{{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"{state}"}}"#);
    let message = r#"{"type":"message","id":"msg_1","role":"assistant","status":"completed","content":[{"type":"output_text","text":"Hello","annotations":[]}]}"#;
    let response = |status: &str, output: &str| {
        format!(
            r#","response":{{"id":"resp_1","object":"response","created_at":1,"status":"{status}","model":"m","output":[{output}]}}"#
        )
    };
    let events = [
        event("response.created", &response("in_progress", "")),
        event("response.output_item.added", &format!(r#","output_index":0,"item":{item}"#)),
        event("response.output_item.done", &format!(r#","output_index":0,"item":{item}"#)),
        event("response.output_item.added", &format!(r#","output_index":1,"item":{message}"#)),
        event(
            "response.output_text.delta",
            r#","item_id":"msg_1","output_index":1,"content_index":0,"delta":"Hello""#,
        ),
        event("response.output_item.done", &format!(r#","output_index":1,"item":{message}"#)),
        event("response.completed", &response("completed", &format!("{item},{message}"))),
    ];
    vec![Step::Sse, Step::chunk(&events.concat()), Step::End]
}

/// A body that is answered with encrypted state, and one that sends some back.
fn body(state: Option<&str>) -> String {
    let reasoning = state.map_or_else(String::new, |state| {
        format!(r#"{{"type":"reasoning","summary":[],"encrypted_content":"{state}"}},"#)
    });
    format!(
        r#"{{"model":"m","stream":true,"store":false,"input":[{reasoning}{{"role":"user","content":"hi"}}]}}"#
    )
}

/// The target and the text of an answer.
async fn asked(gateway: &Gateway, path: &str, body: &str) -> (u16, String, String) {
    let response = gateway.post(path, body).send().await.unwrap();
    let target = response.headers().get("x-streamgate-target");
    let target = target.map_or_else(String::new, |target| target.to_str().unwrap().to_owned());
    (response.status().as_u16(), target, response.text().await.unwrap())
}

fn provider(name: &str, dialect: &str, url: &str) -> String {
    format!("  {name}: {{ dialect: {dialect}, base_url: \"{url}\", api_key: key-of-{name} }}\n")
}

/// Two accounts of one vendor, and one of another vendor, in three tiers.
async fn accounts(a: &Upstream, b: &Upstream, chat: &Upstream) -> Gateway {
    let providers = [
        provider("a", "openai-responses", &a.url),
        provider("b", "openai-responses", &b.url),
        provider("c", "openai-chat", &chat.url),
    ];
    let targets = ["a", "b", "c"].map(|name| format!("{{ provider: {name}, model: m }}"));
    gateway(&providers.concat(), &format!("targets: [{}]", targets.join(", "))).await
}

const PATH: &str = "/v1/responses";

/// R16: the next turn goes to the account that has issued the state, though another one is preferred; a turn without state
/// does not.
#[tokio::test]
async fn r16_encrypted_state_goes_back_to_its_account() {
    let busy =
        refusal(429, "content-type: application/json\r\nretry-after: 0\r\n", "rate_limit_exceeded");
    let a = Upstream::scripted(vec![busy, answer("state-of-a")]).await;
    let b = Upstream::new(answer("state-of-b")).await;
    let chat = crate::failover::good().await;
    let gateway = accounts(&a, &b, &chat).await;
    let (status, target, text) = asked(&gateway, PATH, &body(None)).await;
    assert_eq!((status, target.as_str()), (200, "b/m"), "{text}");
    assert!(text.contains("state-of-b"), "{text}");
    for _ in 0..3 {
        let (status, target, _) = asked(&gateway, PATH, &body(Some("state-of-b"))).await;
        assert_eq!((status, target.as_str()), (200, "b/m"));
        assert_eq!(asked(&gateway, PATH, &body(None)).await.1, "a/m");
    }
    assert_eq!(
        gateway.count("streamgate_picks_total{model=\"m\",target=\"b/m\",key=\"\",why=\"pin\"}"),
        3
    );
    let (_, target, _) = asked(&gateway, PATH, &body(Some("state-of-a"))).await;
    assert_eq!(target, "a/m");
}

/// R16: the same for a caller of another dialect, who gets the state with a mark.
#[tokio::test]
async fn r16_state_in_another_dialect_goes_back_to_its_account() {
    let busy =
        refusal(429, "content-type: application/json\r\nretry-after: 0\r\n", "rate_limit_exceeded");
    let a = Upstream::scripted(vec![busy, answer("state-of-a")]).await;
    let b = Upstream::new(answer("state-of-b")).await;
    let gateway = accounts(&a, &b, &crate::failover::good().await).await;
    let body = |state: &str| {
        format!(
            r#"{{"model":"m","stream":true,"max_tokens":9,"messages":[{{"role":"user","content":"hi"}},{{"role":"assistant","content":[{state}{{"type":"text","text":"Hello"}}]}},{{"role":"user","content":"more"}}]}}"#
        )
    };
    let (_, target, text) = asked(&gateway, "/v1/messages", &body("")).await;
    assert_eq!(target, "b/m");
    let state = r#"{"type":"redacted_thinking","data":"streamgate:openai:data:state-of-b"},"#;
    assert!(text.contains("streamgate:openai:data:state-of-b"), "{text}");
    assert_eq!(asked(&gateway, "/v1/messages", &body(state)).await.1, "b/m");
    assert_eq!(asked(&gateway, "/v1/messages", &body("")).await.1, "a/m");
}

/// R16: if its account fails, the state is sent to no other account of the vendor; another vendor, which never gets it,
/// answers.
#[tokio::test]
async fn r16_state_is_not_sent_to_an_account_that_cannot_read_it() {
    let a = Upstream::scripted(vec![answer("state-of-a"), refusal(503, JSON, "overloaded")]).await;
    let b = Upstream::new(answer("state-of-b")).await;
    let chat = crate::failover::good().await;
    let gateway = accounts(&a, &b, &chat).await;
    assert_eq!(asked(&gateway, PATH, &body(None)).await.1, "a/m");
    let (status, target, text) = asked(&gateway, PATH, &body(Some("state-of-a"))).await;
    assert_eq!((status, target.as_str()), (200, "c/m"), "{text}");
    assert_eq!(b.requests().await.len(), 0);
    let sent = chat.requests().await.pop().unwrap();
    let sent = String::from_utf8(sent.body).unwrap();
    assert!(!sent.contains("state-of-a"), "{sent}");
}

/// R16: state that nobody here has issued is refused by the account that cannot read it, and served by the one that can;
/// if none can, the caller gets the error.
#[tokio::test]
async fn r16_unknown_state_is_tried_at_every_account() {
    let refused = || refusal(400, JSON, "invalid_encrypted_content");
    let a = Upstream::new(refused()).await;
    let b = Upstream::scripted(vec![answer("state-of-b"), refused()]).await;
    let providers =
        [provider("a", "openai-responses", &a.url), provider("b", "openai-responses", &b.url)];
    let targets = "targets: [{ provider: a, model: m }, { provider: b, model: m }]";
    let gateway = gateway(&providers.concat(), targets).await;
    let (status, target, text) = asked(&gateway, PATH, &body(Some("of yesterday"))).await;
    assert_eq!((status, target.as_str()), (200, "b/m"), "{text}");
    let (status, _, text) = asked(&gateway, PATH, &body(Some("of nobody"))).await;
    assert_eq!(status, 400);
    assert!(text.contains("invalid_encrypted_content"), "{text}");
    assert_eq!(gateway.count("streamgate_target_ejected{target=\"a/m\"}"), 0);
}

/// R16: items that the gateway has stored itself are the gateway's, whatever account has written them.
#[tokio::test]
async fn r16_a_stored_response_is_read_here_by_every_account() {
    let busy =
        refusal(429, "content-type: application/json\r\nretry-after: 0\r\n", "rate_limit_exceeded");
    let plain = || answer("state-of-a").into_iter().map(without_state).collect();
    let a = Upstream::scripted(vec![plain(), busy]).await;
    let b = Upstream::new(plain()).await;
    let gateway = accounts(&a, &b, &crate::failover::good().await).await;
    let first = r#"{"model":"m","stream":true,"store":true,"input":"first words"}"#;
    let (_, target, text) = asked(&gateway, PATH, first).await;
    assert_eq!(target, "a/m");
    let id = text.split(r#""id":"resp_"#).nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let next = format!(
        r#"{{"model":"m","stream":true,"previous_response_id":"resp_{id}","input":"second words"}}"#
    );
    let (status, target, text) = asked(&gateway, PATH, &next).await;
    assert_eq!((status, target.as_str()), (200, "b/m"), "{text}");
    let sent = b.requests().await.pop().unwrap();
    let sent = String::from_utf8(sent.body).unwrap();
    assert!(sent.contains("first words") && sent.contains("second words"), "{sent}");
}

/// R16: a response that is stored at an upstream is continued at its account, however targets are picked.
#[tokio::test]
async fn r16_a_response_is_continued_where_it_is_stored() {
    let a = Upstream::new(answer("state-of-a")).await;
    let b = Upstream::new(answer("state-of-b").into_iter().map(renamed).collect()).await;
    let providers =
        [provider("a", "openai-responses", &a.url), provider("b", "openai-responses", &b.url)];
    let targets = "pick: weighted, targets: [{ provider: a, model: m }, { provider: b, model: m }]";
    let gateway = gateway(&providers.concat(), targets).await;
    let first = r#"{"model":"m","stream":true,"store":true,"input":"hi"}"#;
    let mut issued = Vec::new();
    for _ in 0..2 {
        let (_, target, text) = asked(&gateway, PATH, first).await;
        issued.push((target, if text.contains("resp_1") { "resp_1" } else { "resp_2" }));
    }
    issued.sort_unstable();
    assert_eq!(issued, [("a/m".to_owned(), "resp_1"), ("b/m".to_owned(), "resp_2")]);
    for (target, id) in issued.iter().cycle().take(8) {
        let next = format!(
            r#"{{"model":"m","stream":true,"previous_response_id":"{id}","input":"more"}}"#
        );
        assert_eq!(asked(&gateway, PATH, &next).await.1, *target);
    }
}

/// The same with another id.
fn renamed(step: Step) -> Step {
    match step {
        Step::Chunk(bytes) => {
            Step::chunk(&String::from_utf8(bytes).unwrap().replace("resp_1", "resp_2"))
        }
        other => other,
    }
}

/// The same without encrypted reasoning.
fn without_state(step: Step) -> Step {
    match step {
        Step::Chunk(bytes) => {
            let text = String::from_utf8(bytes).unwrap();
            Step::chunk(&text.replace(r#","encrypted_content":"state-of-a""#, ""))
        }
        other => other,
    }
}
