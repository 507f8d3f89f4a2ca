//! Resumption at every event: what is read in pieces equals what is read at once, each event once and in order.

use super::{Received, expected, gateway, read_events, received, stream_id, text, whole};

/// Failure mode 59: a viewer that reconnects after any event, with its id, gets exactly the rest.
#[tokio::test]
async fn fm59_a_viewer_that_is_cut_after_every_event_gets_each_event_once() {
    let upstream = whole(40).await;
    let gateway = gateway(&upstream, "streams: { coalesce: 0ms }\n").await;
    let response = gateway.durable().send().await.unwrap();
    assert_eq!(response.status(), 200);
    let id = stream_id(&response);
    let all = received(&response.text().await.unwrap());
    assert_eq!(text(&all), expected(40));
    assert_eq!(all.last().unwrap().data, "[DONE]");
    for cut in 0..all.len() {
        let last = cut.checked_sub(1).map_or("", |last| all[last].id.as_str());
        let rest = gateway.follow(&id, last).send().await.unwrap();
        assert_eq!(received(&rest.text().await.unwrap()), all[cut..], "after {cut}");
    }
    // At the end there is nothing more, and a browser stops.
    let nothing = gateway.follow(&id, &all.last().unwrap().id).send().await.unwrap();
    assert_eq!(nothing.status(), 204);
    assert_eq!(nothing.headers()["stream-closed"], "true");
    assert_eq!(upstream.requests().await.len(), 1);
}

/// The same while the answer is being produced, hanging up after every event, twice in a row at each.
#[tokio::test]
async fn a_viewer_that_hangs_up_after_each_event_of_a_running_stream_gets_each_event_once() {
    let upstream = whole(30).await;
    let gateway = gateway(&upstream, "streams: { coalesce: 0ms }\n").await;
    let response = gateway.durable().send().await.unwrap();
    let id = stream_id(&response);
    let mut all: Vec<Received> = read_events(response, 1).await;
    for step in 1.. {
        let last = all.last().unwrap().id.clone();
        // It leaves before the first byte.
        drop(gateway.follow(&id, &last).send().await.unwrap());
        let response = gateway.follow(&id, &last).send().await.unwrap();
        if response.status() == 204 {
            break;
        }
        let more = read_events(response, 1 + step % 3).await;
        all.extend(more);
    }
    assert_eq!(text(&all), expected(30));
    let mut ids: Vec<_> = all.iter().map(|event| event.id.clone()).collect();
    ids.dedup();
    assert_eq!(ids.len(), all.len());
    assert!(ids.is_sorted(), "{ids:?}");
    assert_eq!(all.last().unwrap().data, "[DONE]");
}

/// Two viewers and a slow one: the slow one gets everything when it reads at last.
#[tokio::test]
async fn a_viewer_that_reads_late_delays_no_other_and_gets_everything() {
    let upstream = whole(50).await;
    let gateway = gateway(&upstream, "streams: { coalesce: 0ms }\n").await;
    let slow = gateway.durable().send().await.unwrap();
    let id = stream_id(&slow);
    let (first, second) =
        tokio::join!(gateway.follow(&id, "").send(), gateway.follow(&id, "").send());
    let first = received(&first.unwrap().text().await.unwrap());
    let second = received(&second.unwrap().text().await.unwrap());
    assert_eq!(text(&first), expected(50));
    assert_eq!(first, second);
    assert_eq!(received(&slow.text().await.unwrap()), first);
}
