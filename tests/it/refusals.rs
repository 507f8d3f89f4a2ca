//! Callers who are turned away before their request was read: they must still hear why, and the
//! connection must stay fit for the next request.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::gateway::{Gateway, yaml};

/// Reads until `mark` has been seen; fails if the connection ends before.
async fn read_until(stream: &mut TcpStream, mark: &str) -> String {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&seen).into_owned();
        if text.contains(mark) {
            return text;
        }
        let length = stream.read(&mut buffer).await.unwrap();
        assert_ne!(length, 0, "closed before {mark:?}: {text}");
        seen.extend_from_slice(&buffer[..length]);
    }
}

/// The body of a rejected request is read, so that its connection can be reused.
#[tokio::test]
async fn a_rejected_caller_may_reuse_its_connection() {
    let gateway = Gateway::new(&yaml("http://127.0.0.1:9", "http://127.0.0.1:9", "")).await;
    for (path, status, last) in [
        ("/v1/chat/completions", "401", "}}"),
        ("/v1/messages", "401", "\"}"),
        ("/v1/nowhere", "404", "}}"),
    ] {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        for _ in 0..2 {
            let request = format!(
                "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer wrong\r\n\
                 content-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}"
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            let answer = read_until(&mut stream, last).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        }
    }
}
