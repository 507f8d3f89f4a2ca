//! Lifetimes of connections that follow a stream: each must end at a time of its own, and its client must go on at its
//! position.

use super::{Received, expected, gated, gateway, received, stream_id, text};

/// A follower is sent away with a time after which to come back, and the caller that generates is not.
#[tokio::test]
async fn a_follower_resumes_when_its_connection_has_lasted_long_enough() {
    let (upstream, gate) = gated(3, 3).await;
    let gateway = gateway(&upstream, "streams: { lifetime: 400ms }\n").await;
    let viewer = gateway.durable().header("streamgate-chat", "one").send().await.unwrap();
    let id = stream_id(&viewer);
    let chat = gateway.get("/v1/chats/one/stream?format=native").send().await.unwrap();
    let (mut all, mut connections) = (Vec::<Received>::new(), 0);
    while connections < 2 || text(&all) != expected(3) {
        let last = all.last().map_or("", |event| event.id.as_str());
        let body = gateway.follow(&id, last).send().await.unwrap().text().await.unwrap();
        let (_, retry) = body.trim_end().rsplit_once("retry: ").unwrap();
        assert!((2_000..=5_000).contains(&retry.parse::<u32>().unwrap()), "{body}");
        assert!(body.ends_with("\n\n"), "{body}");
        all.extend(received(&body));
        connections += 1;
    }
    gate.notify_one();
    let rest = gateway.follow(&id, &all.last().unwrap().id).send().await.unwrap();
    all.extend(received(&rest.text().await.unwrap()));
    assert_eq!(text(&all), expected(6));
    // Clients of vendors' protocols do not know how to resume: they are followed to the end.
    for response in [viewer, chat] {
        assert_eq!(text(&received(&response.text().await.unwrap())), expected(6));
    }
}
