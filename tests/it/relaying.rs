//! The relay, from outside: HTTP in, HTTP out, a scripted upstream.

use crate::support::gateway::{Gateway, yaml};
use crate::support::upstream::{Step, Upstream};

#[tokio::test]
async fn a_stream_arrives_whole() {
    let upstream = Upstream::new(vec![
        Step::Sse,
        Step::chunk("data: {\"id\":\"x\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"hi\"},\"finish_reason\":null}]}\n\n"),
        Step::chunk("data: {\"id\":\"x\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"),
        Step::End,
    ])
    .await;
    let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, "")).await;
    let text = gateway.chat("oai/m").send().await.unwrap().text().await.unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    assert_eq!(gateway.metric("streamgate_requests_total{"), 1.0);
}
