//! Forks: their chains, their sources' lives, and reads against a model.

use proptest::prelude::*;
use tokio::time::advance;

use super::{SECOND, Server, TEXT};

#[tokio::test(start_paused = true)]
async fn a_chain_of_forks_has_an_end() {
    let server = Server::plain();
    server.create("f0", "a").await;
    for number in 1..=33 {
        let from = format!("/v1/stream/f{}", number - 1);
        let headers = [TEXT, ("stream-forked-from", from.as_str())];
        let forked = server.send(&format!("PUT f{number}"), &headers, "").await;
        let expected = if number > 32 { 400 } else { 201 };
        assert_eq!(forked.status, expected, "{number}: {}", forked.body);
    }
    assert_eq!(server.send("GET f32", &[], "").await.body, "a");
    // Sources are kept for their forks, and all go with the last one.
    for number in 0..32 {
        assert_eq!(server.status(&format!("DELETE f{number}")).await, 204);
        assert_eq!(server.status(&format!("GET f{number}")).await, 410);
    }
    assert_eq!(server.send("GET f32", &[], "").await.body, "a");
    assert_eq!(server.status("DELETE f32").await, 204);
    assert_eq!((server.status("GET f0").await, server.used()), (404, 0));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_expires_is_kept_for_its_fork() {
    let server = Server::plain();
    server.send("PUT s", &[TEXT, ("stream-ttl", "5")], "a").await;
    let fork = [("stream-forked-from", "/v1/stream/s"), ("stream-ttl", "60")];
    assert_eq!(server.send("PUT f", &fork, "b").await.status, 201);
    advance(5 * SECOND).await;
    server.streams.expire();
    assert_eq!(server.status("GET s").await, 410);
    assert_eq!(server.send("PUT s", &[TEXT], "").await.status, 409);
    assert_eq!(server.send("PUT g", &[fork[0]], "").await.status, 409);
    assert_eq!(server.send("GET f", &[], "").await.body, "ab");
    advance(60 * SECOND).await;
    server.streams.expire();
    assert_eq!((server.status("GET s").await, server.used()), (404, 0));
}

/// A step of the test below; the numbers are reduced to what there is.
#[derive(Debug, Clone)]
enum Step {
    Append(usize, String),
    Fork(usize, usize),
    Delete(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..8, "[a-z]{1,4}").prop_map(|(stream, text)| Step::Append(stream, text)),
        2 => (0usize..8, 0usize..8).prop_map(|(stream, at)| Step::Fork(stream, at)),
        1 => (0usize..8).prop_map(Step::Delete),
    ]
}

/// A stream as a list of appends, and the offsets after each of them.
#[derive(Clone, Default)]
struct Model {
    path: String,
    appends: Vec<String>,
    offsets: Vec<String>,
}

async fn run(steps: Vec<Step>) {
    let server = Server::plain();
    let root = Model { path: "root".into(), offsets: vec!["-1".into()], ..Model::default() };
    server.create("root", "").await;
    let mut all = vec![root];
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Append(stream, text) if !all.is_empty() => {
                let at = stream % all.len();
                let stream = &mut all[at];
                stream.offsets.push(server.append(&stream.path, &text).await.next());
                stream.appends.push(text);
            }
            Step::Fork(stream, at) if !all.is_empty() => {
                let source = all[stream % all.len()].clone();
                let at = at % source.offsets.len();
                let path = format!("f{number}");
                let from = format!("/v1/stream/{}", source.path);
                let fork = [
                    ("stream-forked-from", from.as_str()),
                    ("stream-fork-offset", &source.offsets[at]),
                ];
                assert_eq!(server.send(&format!("PUT {path}"), &fork, "").await.status, 201);
                let (appends, offsets) =
                    (source.appends[..at].into(), source.offsets[..=at].into());
                all.push(Model { path, appends, offsets });
            }
            Step::Delete(stream) if all.len() > 1 => {
                let gone = all.remove(stream % all.len());
                assert_eq!(server.status(&format!("DELETE {}", gone.path)).await, 204);
            }
            _ => {}
        }
    }
    for Model { path, appends, offsets } in &all {
        for (at, offset) in offsets.iter().enumerate() {
            let read = server.send(&format!("GET {path}?offset={offset}"), &[], "").await;
            assert_eq!(read.body, appends[at..].concat(), "{path} after {offset}");
        }
        assert!(offsets[1..].is_sorted(), "{offsets:?}");
    }
    for Model { path, .. } in &all {
        assert_eq!(server.status(&format!("DELETE {path}")).await, 204);
    }
    assert_eq!(server.used(), 0);
}

proptest! {
    /// In any order of forks, appends and deletions: each stream reads as a copy would, from every offset.
    #[test]
    fn forks_read_as_copies_would(steps in proptest::collection::vec(step(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }
}
