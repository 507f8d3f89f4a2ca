//! Updates and matchers: which subscribers get which update, and how often.

use super::{BACKEND, Hub, READER, hub, only, published, subscribe};

#[tokio::test]
async fn matchers_of_every_type_select_topics() {
    let hub = hub();
    let topics = [
        "https://e.com/books/1",
        "https://e.com/books/1/reviews",
        "https://e.com/books/",
        "https://e.com/users/42/a/b",
        "plain",
        "{id}",
    ];
    for (matchers, expected) in [
        (&[("match", topics[0])][..], &topics[..1]),
        (&[("match_exact", "{id}")], &topics[5..]),
        (&[("match_urlpattern", "https://e.com/books/:id")], &topics[..1]),
        (&[("match_urlpattern", "https://e.com/users/42/*")], &topics[3..4]),
        (&[("match_urlpattern", "*")], &topics[..]),
        (&[("match", "*")], &topics),
        (&[("topic", "*")], &topics),
        (&[("topic", "https://e.com/books/{id}")], &topics[..1]),
        (&[("topic", "https://e.com/books{+path}")], &topics[..3]),
        (&[("topic", "plain"), ("match", topics[0]), ("match", topics[0])], &[topics[0], "plain"]),
        (&[("match", "https://e.com/books/{id}")], &[]),
        (&[("match", "Plain"), ("match", "plai")], &[]),
    ] {
        let mut fields = matchers.to_vec();
        fields.push(("match", "end"));
        let mut stream = subscribe(&hub, BACKEND, &fields).await;
        for topic in topics {
            published(&hub, &[("topic", topic), ("data", topic)]).await;
        }
        only(&hub, &mut stream, "end", expected).await;
    }
}

/// By its canonical topic, by another one, by several, by patterns.
#[tokio::test]
async fn an_update_of_several_topics_comes_once() {
    let hub = hub();
    let matchers = [
        &[("match", "/a")][..],
        &[("match", "/b")],
        &[("match", "/a"), ("match", "/b")],
        &[("match_urlpattern", "/:any")],
        &[("match", "*")],
        &[("match", "/b"), ("match_urlpattern", "/:any"), ("topic", "*"), ("match", "/a")],
    ];
    let mut streams = Vec::new();
    for matchers in matchers {
        streams.push(subscribe(&hub, BACKEND, matchers).await);
    }
    let mut kept = Vec::new();
    for data in ["1", "2", "3"] {
        let fields = [("topic", "/a"), ("topic", "/b"), ("topic", "/a"), ("data", data)];
        kept.push(published(&hub, &fields).await);
    }
    for stream in &mut streams {
        for (id, data) in kept.iter().zip(["1", "2", "3"]) {
            let event = stream.any().await.unwrap();
            assert_eq!((&event.id, event.data.as_str()), (id, data));
        }
    }
    // Also from the history, with patterns that nobody has followed before.
    for matchers in matchers.iter().chain([&&[("match_urlpattern", "/:other")][..]]) {
        let mut fields = matchers.to_vec();
        fields.push(("last_event_id", &kept[0]));
        let mut stream = subscribe(&hub, BACKEND, &fields).await;
        for (id, data) in kept.iter().zip(["1", "2", "3"]).skip(1) {
            let event = stream.any().await.unwrap();
            assert_eq!((&event.id, event.data.as_str()), (id, data), "{fields:?}");
        }
    }
}

#[tokio::test]
async fn channels_count_each_event_of_several_topics_once() {
    let hub = hub();
    published(&hub, &[("topic", "/a"), ("topic", "/b"), ("data", "x")]).await;
    for channel in ["%2Fa", "%2Fb"] {
        let (_, view) = hub.get(BACKEND, &format!("/v1/channels/{channel}")).await;
        assert_eq!(view["events"], 1, "{channel}");
    }
    assert_eq!(hub.app.metrics.channel_events_published.get(), 1);
}

/// A channel for which there is no room: no topic of the update gets it.
#[tokio::test]
async fn an_update_is_published_whole_or_not_at_all() {
    let hub = super::hub_with("channels: { mercure: true, max_channels: 2 }\n");
    let mut stream = subscribe(&hub, BACKEND, &[("match", "a"), ("match", "b")]).await;
    for topics in [["a", "c"], ["c", "a"]] {
        let fields = topics.map(|topic| ("topic", topic));
        let (status, _, body) = super::publish(&hub, BACKEND, &fields).await;
        assert_eq!(status, 503, "{body}");
    }
    only(&hub, &mut stream, "a", &[]).await;
}

#[tokio::test]
async fn broadcasts_reach_everybody_and_presence_nobody() {
    let hub: Hub =
        super::hub_with("channels: { mercure: true, patterns: { room: { presence: true } } }\n");
    let mut stream = subscribe(&hub, READER, &[("match", "a"), ("match", "room")]).await;
    let listed = hub.subscribe(BACKEND, "channel=room", &[]).await;
    let (_, view) = hub.get(BACKEND, "/v1/channels/room").await;
    assert_eq!(view["presence"].as_array().unwrap().len(), 1, "{view}");
    hub.post(BACKEND, "/v1/broadcast", r#"{"data":"to all"}"#).await;
    // A reader of `room` gets its events of presence, which are private.
    assert_eq!(stream.any().await.unwrap().event, "presence.join");
    assert_eq!(stream.any().await.unwrap().data, "to all");
    drop(stream);
    assert_eq!(listed.status, 200);
    let (_, view) = hub.get(BACKEND, "/v1/channels/room").await;
    assert_eq!(view["presence"][0]["connections"], 1, "{view}");
}
