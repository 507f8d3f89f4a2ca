//! Bodies that are small on the wire and huge when decoded (failure mode 68). Those of callers are
//! never decoded; those of upstreams end at `max_event`, whatever they claim to be.

use crate::support::answers::{SPOKEN, error_message, opening, path, request};
use crate::support::gateway::{Gateway, KEY, yaml};
use crate::support::process::{File, Process};
use crate::support::upstream::{Step, Upstream};
use crate::support::{Ended, reader};

/// The decoded size of the bomb.
const HUGE: usize = 64 << 20;
/// The maximum size of an event.
const LIMIT: &str = "stream: { max_event: 1MiB }\n";

/// `head`, then one letter for ever, as gzip: one block with fixed codes, in which each match of 258
/// letters is 13 bits. Nobody reads as far as the end, so there is none.
fn bomb(head: &str) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.push(0b011, 3);
    for letter in head.bytes().chain([b'x']) {
        // Letters below 144 are eight bits, from 0x30 on, highest bit first.
        bits.push(u32::from((0x30 + letter).reverse_bits()), 8);
    }
    for _ in 0..HUGE / 258 {
        // Length 258, then distance 1.
        bits.push(u32::from(0b1100_0101_u8.reverse_bits()), 13);
    }
    [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255][..], &bits.bytes].concat()
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    kept: u32,
    count: u32,
}

impl Bits {
    /// The lowest bit first.
    fn push(&mut self, bits: u32, count: u32) {
        self.kept |= bits << self.count;
        self.count += count;
        while self.count >= 8 {
            self.bytes.push(u8::try_from(self.kept & 0xff).unwrap());
            self.kept >>= 8;
            self.count -= 8;
        }
    }
}

const SSE: &str = "content-type: text/event-stream\r\ncontent-encoding: gzip\r\n";
const JSON: &str = "content-type: application/json\r\ncontent-encoding: gzip\r\n";

/// An event that does not end, a line without end, and whole bodies: good and bad.
fn bombs(dialect: &str) -> Vec<(u16, &'static str, Vec<u8>)> {
    vec![
        (200, SSE, bomb(&format!("{}data: {{\"x\":\"", opening(dialect, "hi")))),
        (200, SSE, bomb(": ")),
        (200, JSON, bomb("{\"x\":\"")),
        (400, JSON, bomb("{\"error\":{\"message\":\"")),
        (500, SSE, bomb("")),
    ]
}

#[tokio::test]
async fn fm68_endless_inflation_is_an_error() {
    for (caller, _) in SPOKEN {
        for (dialect, provider) in SPOKEN {
            for (status, headers, body) in bombs(dialect) {
                let upstream = Upstream::new(vec![Step::Whole(status, headers, body)]).await;
                let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, LIMIT)).await;
                let body = request(&format!("{provider}/m"), true, "hi");
                let answer = gateway.post(path(caller), &body).send().await.unwrap();
                let status = answer.status();
                let text = answer.text().await.unwrap();
                assert!(text.len() < 2 << 20, "{} bytes of a bomb", text.len());
                if status == 200 {
                    let view = (reader(caller).stream)(text.as_bytes(), false).unwrap();
                    assert!(matches!(view.ended, Ended::Error(_)), "{caller} from {dialect}");
                } else {
                    error_message(caller, &text);
                }
                upstream.all_closed().await;
            }
        }
    }
}

/// All of them at once, and the program's memory at its peak.
#[tokio::test]
async fn fm68_memory_is_bounded() {
    let mut callers = Vec::new();
    let mut upstreams = Vec::new();
    for (dialect, provider) in SPOKEN {
        for (status, headers, body) in bombs(dialect) {
            let upstream = Upstream::new(vec![Step::Whole(status, headers, body)]).await;
            upstreams.push((provider, upstream));
        }
    }
    let mut yaml = yaml("http://127.0.0.1:1", "http://127.0.0.1:1", "");
    for (number, (provider, upstream)) in upstreams.iter().enumerate() {
        let (dialect, path) =
            if *provider == "oai" { ("openai-chat", "/v1") } else { ("anthropic", "") };
        let url = format!("{}{path}", upstream.url);
        let provider = format!("  b{number}: {{ dialect: {dialect}, base_url: \"{url}\" }}\n");
        yaml.push_str(&provider);
    }
    let file = File::new(&format!("{yaml}{LIMIT}server: {{ listen: 127.0.0.1:0 }}\n"));
    let (process, url) = Process::gateway(&file, "warn").await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let before = process.peak_memory();
    for (number, _) in upstreams.iter().enumerate() {
        for (caller, _) in SPOKEN {
            let asked = client
                .post(format!("{url}{}", path(caller)))
                .header("authorization", format!("Bearer {KEY}"))
                .header("content-type", "application/json")
                .body(request(&format!("b{number}/m"), true, "hi"));
            callers.push(crate::support::spawn(async { asked.send().await?.bytes().await }));
        }
    }
    for caller in callers {
        assert!(caller.await.unwrap().unwrap().len() < 2 << 20);
    }
    let peak = process.peak_memory();
    println!("{} MiB at its peak, {} before", peak >> 20, before >> 20);
    assert!(peak - before < 100 << 20, "{} MiB more", (peak - before) >> 20);
}

/// Callers' bodies are decoded within bounds, and nobody's without a key.
#[tokio::test]
async fn fm68_bombs_of_callers_are_not_unpacked() {
    let upstream = Upstream::new(vec![Step::Hang]).await;
    let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, "")).await;
    let bomb = bomb(r#"{"model":"oai/m","messages":[{"role":"user","content":""#);
    for (caller, _) in SPOKEN {
        for (encoding, status) in [(Some("gzip"), 413), (Some("zstd"), 400), (None, 400)] {
            let mut sent = gateway.post(path(caller), "").body(bomb.clone());
            if let Some(encoding) = encoding {
                sent = sent.header("content-encoding", encoding);
            }
            let answer = sent.send().await.unwrap();
            assert_eq!(answer.status(), status);
            error_message(caller, &answer.text().await.unwrap());
        }
        let stranger = gateway.client.post(format!("{}{}", gateway.url, path(caller)));
        let stranger = stranger.header("content-encoding", "gzip").body(bomb.clone());
        assert_eq!(stranger.send().await.unwrap().status(), 401);
    }
    assert!(upstream.requests().await.is_empty());
}
