//! Appends and their reading: refusals, JSON, pages.

use super::{JSON, Server, TEXT};

#[tokio::test(start_paused = true)]
async fn a_refused_append_leaves_nothing() {
    let server = Server::plain();
    server.create("s", "a").await;
    let producer =
        |seq| [TEXT, ("producer-id", "p"), ("producer-epoch", "0"), ("producer-seq", seq)];
    let before = server.used();
    for (headers, status) in [
        (&[JSON][..], 409),
        (&[("content-type", "")], 400),
        (&[TEXT, ("stream-seq", "")], 204),
        (&[TEXT, ("stream-seq", "")], 409),
        (&producer("1"), 409),
        (&producer("x"), 400),
        (&[TEXT, ("producer-id", "p")], 400),
    ] {
        let reply = server.send("POST s", headers, "b").await;
        assert_eq!(reply.status, status, "{headers:?}: {}", reply.body);
    }
    assert_eq!(server.send("GET s", &[], "").await.body, "ab");
    assert_eq!(server.used(), before + 65);
    assert_eq!(server.send("POST s", &producer("0"), "c").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn json_is_kept_as_it_was_sent() {
    let server = Server::plain();
    server.send("PUT s", &[JSON], r#" [ {"a": 1.0} , "\u00e9" ] "#).await;
    for body in ["[]", "{", "", "[1] 2"] {
        assert_eq!(server.send("POST s", &[JSON], body).await.status, 400, "{body}");
    }
    assert_eq!(server.send("POST s", &[JSON], " [[12345678901234567890]] ").await.status, 204);
    let read = server.send("GET s", &[], "").await;
    assert_eq!(read.body, r#"[{"a": 1.0} , "\u00e9",[12345678901234567890]]"#);
    assert_eq!(read.header("content-type"), "application/json");
}

#[tokio::test(start_paused = true)]
async fn a_read_is_cut_into_pages() {
    let server = Server::plain();
    server.create("s", "").await;
    let part = "x".repeat(700 << 10);
    for _ in 0..3 {
        server.append("s", &part).await;
    }
    let (mut offset, mut read) = ("-1".to_owned(), Vec::new());
    loop {
        let page = server.send(&format!("GET s?offset={offset}"), &[], "").await;
        read.push((page.body.len() >> 10, page.header("stream-up-to-date").to_owned()));
        offset = page.next();
        if page.header("stream-up-to-date") == "true" {
            break;
        }
    }
    assert_eq!(read, [(700, String::new()), (700, String::new()), (700, "true".to_owned())]);
}
