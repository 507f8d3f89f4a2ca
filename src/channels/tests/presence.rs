//! Presence: announcements of users, and the list of them.

use std::time::Duration;

use super::*;

fn subscribe(hub: &Arc<Hub>, user: &str, channel: &str) -> Subscription {
    let request = request(&[channel], Start::Live { rewind: 0 });
    Subscription::new(hub, SubscriptionRequest { user: user.into(), ..request }).unwrap()
}

fn users(hub: &Hub, channel: &str) -> Vec<(String, usize)> {
    let users = hub.view(&name(channel)).presence.unwrap().into_iter();
    users.map(|(user, count)| (user.to_string(), count)).collect()
}

#[tokio::test(start_paused = true)]
async fn users_are_announced_once_and_a_renewed_connection_is_not() {
    let room = ChannelSettings { presence: true, last_value: true, ..settings() };
    let patterns = vec![("room.*".parse().unwrap(), room)];
    let hub = hub_with(Channels { patterns, ..Channels::default() });
    let keeping = hub.keep_trimmed();
    let mut keeping = std::pin::pin!(keeping);
    let mut wait = async |seconds| {
        let sleep = tokio::time::sleep(Duration::from_secs(seconds));
        tokio::select! { never = &mut keeping => match never {}, () = sleep => {} }
    };
    let mut watcher = subscribe(&hub, "watcher", "room.1");
    let [first, second] = [(); 2].map(|()| subscribe(&hub, "bob", "room.1"));
    let join = r#"{"user":"bob"}"#;
    assert_eq!(texts(&mut watcher), [join]);
    assert_eq!(users(&hub, "room.1"), [("bob".to_owned(), 2), ("watcher".to_owned(), 1)]);
    drop(first);
    wait(60).await;
    assert_eq!(texts(&mut watcher), [""; 0]);
    drop(second);
    wait(5).await;
    let again = subscribe(&hub, "bob", "room.1");
    wait(60).await;
    assert_eq!(texts(&mut watcher), [""; 0], "bob was back in time");
    drop(again);
    wait(15).await;
    assert_eq!(texts(&mut watcher), [join], "bob has left");
    assert_eq!(users(&hub, "room.1"), [("watcher".to_owned(), 1)]);
    // Neither is a value: a new subscriber begins with nothing.
    assert_eq!(texts(&mut subscribe(&hub, "carol", "room.1")), [""; 0]);
}

#[test]
fn presence_is_for_configured_channels_that_are_named() {
    let patterns =
        vec![("room".parse().unwrap(), ChannelSettings { presence: true, ..settings() })];
    let hub = hub_with(Channels { patterns, ..Channels::default() });
    let _named = subscribe(&hub, "alice", "room");
    let _pattern = subscribe(&hub, "bob", "ro*");
    let _other = subscribe(&hub, "carol", "news");
    assert_eq!(users(&hub, "room"), [("alice".to_owned(), 1)]);
    assert_eq!(hub.view(&name("news")).presence, None);
    assert_eq!(hub.view(&name("news")).events, 0);
}
