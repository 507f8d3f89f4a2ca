//! Times of a connection, with paused time: heartbeats, lifetimes, the end of a credential, the drain.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{BACKEND, Hub, READER, Stream, yaml};
use crate::support::tokens::{AUDIENCE, ISSUER, SECRET, Signer, claims};

/// The number of heartbeats and the time until the connection ends.
async fn until_end(stream: &mut Stream, started: Instant) -> (usize, Duration) {
    while stream.any().await.is_some() {}
    let heartbeats = stream.comments.iter().filter(|comment| *comment == "heartbeat").count();
    (heartbeats, started.elapsed())
}

#[tokio::test(start_paused = true)]
async fn heartbeats_fill_silence_and_nothing_else() {
    let hub = Hub::new("stream: { heartbeat: 20s }\nchannels: { lifetime: none }\n");
    let mut stream = hub.subscribe(BACKEND, "channel=a", &[]).await;
    stream.control("caught_up").await;
    assert_eq!(stream.comments, ["ok"]);
    let started = Instant::now();
    for expected in [20, 40] {
        assert_eq!(stream.chunk().await.unwrap(), ": heartbeat\n\n");
        assert_eq!(started.elapsed(), Duration::from_secs(expected));
    }
    // An event puts the next one off.
    sleep(Duration::from_secs(15)).await;
    hub.publish("a", "x").await;
    assert_eq!(stream.data(1).await, ["x"]);
    assert_eq!(stream.chunk().await.unwrap(), ": heartbeat\n\n");
    assert_eq!(started.elapsed(), Duration::from_secs(75));
}

#[tokio::test(start_paused = true)]
async fn lifetimes_are_spread_and_end_with_the_position() {
    let hub = Hub::new("channels: { lifetime: 100s }\n");
    let started = Instant::now();
    let mut streams = Vec::new();
    for _ in 0..50 {
        let mut stream = hub.subscribe(READER, "channel=room", &[]).await;
        stream.control("caught_up").await;
        streams.push(stream);
    }
    let id = hub.publish("room", "x").await;
    let mut ends = Vec::new();
    for stream in &mut streams {
        assert_eq!(stream.data(1).await, ["x"]);
        let end = stream.control("lifetime").await;
        assert_eq!((end.id, stream.any().await), (id.clone(), None));
        ends.push(started.elapsed());
    }
    // Read one after the other: each ends at its own time, at the latest when it is read.
    assert!(ends.iter().all(|end| (80..=101).contains(&end.as_secs())), "{ends:?}");
    assert!(ends.first() < ends.last(), "{ends:?}");
    assert_eq!(hub.app.metrics.channel_subscribers.get(), 0);
}

/// A connection that is never at the tail ends as well.
#[tokio::test(start_paused = true)]
async fn a_busy_connection_has_a_lifetime_too() {
    let hub = Hub::new("channels: { lifetime: 10s }\n");
    let mut stream = hub.subscribe(BACKEND, "channel=a", &[]).await;
    stream.control("caught_up").await;
    let mut found = Vec::new();
    for at in 0..20 {
        hub.publish("a", &at.to_string()).await;
        let Some(event) = stream.any().await.filter(|event| event.event.is_empty()) else { break };
        found.push(event.data);
        sleep(Duration::from_secs(1)).await;
    }
    assert!((8..=11).contains(&found.len()), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_with_its_credential() {
    let issuer = format!(
        "  jwt:\n    - {{ issuer: \"{ISSUER}\", audience: {AUDIENCE}, algorithms: [HS256], secret: \"{SECRET}\", \
         leeway: 0s, max_lifetime: none, channels: {{ subscribe: [a] }} }}\nproviders:"
    );
    let hub = Hub::with(&yaml("channels: { lifetime: 10h }\n").replace("providers:", &issuer));
    let now = crate::support::tokens::now();
    let token = Signer::secret(SECRET.as_bytes()).sign(&claims(&json!({ "exp": now + 600 })));
    let mut stream = hub.subscribe(&token, "channel=a", &[]).await;
    let started = Instant::now();
    stream.control("caught_up").await;
    stream.control("credential_expired").await;
    assert_eq!(stream.any().await, None);
    // The clock of the token's time is not paused.
    assert!((590..=600).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
}

/// Followers are not sent to the next instance all at once.
#[tokio::test(start_paused = true)]
async fn a_drain_ends_subscribers_one_by_one_with_their_positions() {
    let hub = Hub::new("server: { drain: 100s }\nchannels: { lifetime: none }\n");
    let mut streams = Vec::new();
    for at in 0..40 {
        let query =
            ["channel=a", "channel=broadcast", "channel=b*", "channel=a&channel=c*"][at % 4];
        let mut stream = hub.subscribe(BACKEND, query, &[]).await;
        stream.control("caught_up").await;
        streams.push(stream);
    }
    sleep(Duration::from_secs(10)).await;
    let started = Instant::now();
    hub.shutdown.stopping.cancel();
    let ends = streams.iter_mut().map(async |stream| {
        let end = stream.control("draining").await;
        assert!(!end.id.is_empty());
        until_end(stream, started).await.1.as_secs()
    });
    let mut ends = futures_util::future::join_all(ends).await;
    ends.sort_unstable();
    assert!(ends[0] < 25 && *ends.last().unwrap() <= 80, "{ends:?}");
    assert!(ends.windows(2).all(|pair| pair[1] - pair[0] < 30), "{ends:?}");
    let refused = hub.subscribe(BACKEND, "channel=a", &[]).await;
    assert_eq!((refused.status, &refused.headers["retry-after"]), (503, &"1".parse().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn presence_is_announced_with_a_grace_for_reconnects() {
    let hub = Hub::new("channels: { patterns: { room: { presence: true } } }\n");
    let mut watcher = hub.subscribe(BACKEND, "channel=room", &[]).await;
    watcher.control("caught_up").await;
    let reader = hub.subscribe(READER, "channel=room", &[]).await;
    let join = watcher.event().await;
    assert_eq!(
        (join.event.as_str(), join.data.as_str()),
        ("presence.join", r#"{"user":"reader"}"#)
    );
    drop(reader);
    sleep(Duration::from_secs(5)).await;
    let reader = hub.subscribe(READER, "channel=room", &[]).await;
    sleep(Duration::from_mins(1)).await;
    let started = Instant::now();
    drop(reader);
    let leave = watcher.event().await;
    assert_eq!(
        (leave.event.as_str(), leave.data.as_str()),
        ("presence.leave", r#"{"user":"reader"}"#)
    );
    assert!((10..=11).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
}
