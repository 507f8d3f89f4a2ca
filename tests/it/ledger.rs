//! The usage ledger of the real program: kills under load, and reports beside it.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OpenFlags};

use tokio::sync::watch;

use crate::support::answers::{request, streamed};
use crate::support::gateway::{KEY, yaml};
use crate::support::process::{File, Process, program};
use crate::support::spawn;
use crate::support::upstream::{Step, Upstream};

/// Kills, each of a process under load.
const ROUNDS: usize = 6;

/// Requests of one round.
const REQUESTS: usize = 60;

/// A configuration with a ledger beside it.
fn configured(upstream: &str) -> File {
    let more = "server: { listen: 127.0.0.1:0 }\nstore: { sqlite: store }\nledger: { wait_for_append: true }\n";
    File::new(&yaml(upstream, upstream, more))
}

/// Sends the requests of a round, whatever comes of them. `whole` counts the answers that are.
fn send(url: &str, round: usize, whole: &watch::Sender<usize>) -> Vec<tokio::task::JoinHandle<()>> {
    let client = reqwest::Client::builder().build().unwrap();
    let one = |number: usize| {
        let marker = format!("marker-{round}-{number}");
        let post = client
            .post(format!("{url}/v1/chat/completions"))
            .header("authorization", format!("Bearer {KEY}"))
            .header("content-type", "application/json")
            .header("x-request-id", &marker)
            .body(request("oai/m", true, &marker));
        let whole = whole.clone();
        spawn(async move {
            let Ok(response) = post.send().await else { return };
            if response.bytes().await.is_ok() {
                whole.send_modify(|whole| *whole += 1);
            }
        })
    };
    (0..REQUESTS).map(one).collect()
}

/// The rows of each request in the ledger beside a configuration, and the outcomes that there are.
fn rows(file: &File) -> (BTreeMap<String, u64>, BTreeSet<String>) {
    let path = file.0.with_file_name("store").join("ledger.db");
    let ledger = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut select = ledger.prepare("SELECT request_id, outcome FROM request").unwrap();
    let found = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let (mut rows, mut outcomes) = (BTreeMap::new(), BTreeSet::new());
    for row in found {
        let (id, outcome): (String, String) = row.unwrap();
        *rows.entry(id).or_default() += 1;
        outcomes.insert(outcome);
    }
    (rows, outcomes)
}

/// V16: every request that the upstream has seen has exactly one row, whenever the process is killed.
#[tokio::test]
async fn kill9_every_id_has_one_row() {
    let hanging = || vec![Step::Sse, Step::Hang];
    let scripts = (0..ROUNDS * REQUESTS)
        .map(|number| if number % 3 == 0 { hanging() } else { streamed("openai-chat", "hello") });
    let upstream = Upstream::scripted(scripts.collect()).await;
    let file = configured(&upstream.url);
    let mut seen = 0;
    for round in 0..ROUNDS {
        let (process, url) = Process::gateway(&file, "warn").await;
        let (whole, mut answered) = watch::channel(0);
        let sent = send(&url, round, &whole);
        // At another point of the load each time.
        let more = 5 + round * 9;
        upstream.until("requests under way", |requests, _| requests >= seen + more).await;
        answered.wait_for(|whole| *whole >= 5 * round).await.unwrap();
        drop(process);
        for one in sent {
            one.await.unwrap();
        }
        upstream.all_closed().await;
        seen = upstream.requests().await.len();
    }
    let (last, _) = Process::gateway(&file, "warn").await;
    last.signal("TERM");
    assert_eq!(last.ended().await, Some(0));
    let (rows, outcomes) = rows(&file);
    assert!(rows.values().all(|rows| *rows == 1), "{rows:?}");
    assert!(outcomes.contains("lost") && outcomes.contains("complete"), "{outcomes:?}");
    let requests = upstream.requests().await;
    for request in &requests {
        let body = String::from_utf8_lossy(&request.body);
        let marker = body.split('"').find(|text| text.starts_with("marker-")).unwrap();
        assert!(rows.contains_key(marker), "{marker} has no row");
    }
    assert!(requests.len() >= ROUNDS * 5);
}

/// A report beside a running gateway, and the sums of a stopped one.
#[tokio::test]
async fn reports_have_what_was_served() {
    let upstream = Upstream::new(streamed("openai-chat", "hello")).await;
    let file = configured(&upstream.url);
    let (process, url) = Process::gateway(&file, "warn").await;
    for one in send(&url, 0, &watch::Sender::new(0)) {
        one.await.unwrap();
    }
    let report = |format: &'static str, by: &'static str| {
        let arguments = [
            "--config",
            file.path(),
            "usage",
            "--by",
            by,
            "--since",
            "2020-01-01",
            "--format",
            format,
        ];
        let output = program(&arguments).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{errors}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(report("table", "caller").contains("requests"));
    process.signal("TERM");
    assert_eq!(process.ended().await, Some(0));
    let report_json: serde_json::Value = serde_json::from_str(&report("json", "caller")).unwrap();
    assert_eq!(report_json[0]["caller"], "test");
    assert_eq!(report_json[0]["requests"], REQUESTS);
    let csv = report("csv", "model");
    assert!(csv.lines().nth(1).unwrap().starts_with(&format!("oai/*,{REQUESTS},")), "{csv}");
}
