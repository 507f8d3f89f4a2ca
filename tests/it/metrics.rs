//! The metrics page: valid OpenMetrics, with histograms that can be queried, callers by configured
//! name, the process, the program and its configuration.

use std::collections::BTreeMap;

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::jwt::{ask, shared, signer};
use crate::support::answers::streamed;
use crate::support::certificate::Certificate;
use crate::support::gateway::{Gateway, KEY, configuration, yaml};
use crate::support::process::{File, Process};
use crate::support::tokens::{claims, with_issuer};
use crate::support::upstream::Upstream;

const ROUTE: &str = r#"{dialect="openai-chat",model="oai/*",target="oai/*"}"#;

/// One line of the page: its name, its labels as text, and its value.
#[derive(Debug)]
struct Series<'p> {
    name: &'p str,
    labels: &'p str,
    value: f64,
}

/// A metric family's metadata and its series.
#[derive(Debug, Default)]
struct Family<'p> {
    kind: &'p str,
    unit: &'p str,
    help: &'p str,
    series: Vec<Series<'p>>,
}

/// Reads a page, and asserts what OpenMetrics 1.0 demands of its lines.
fn families(page: &str) -> BTreeMap<&str, Family<'_>> {
    let mut families = BTreeMap::<&str, Family<'_>>::new();
    let mut current = "";
    let lines = page.strip_suffix("# EOF\n").expect("the page ends with # EOF").lines();
    for line in lines {
        if let Some(metadata) = line.strip_prefix("# ") {
            let mut words = metadata.splitn(3, ' ');
            let (keyword, name, text) =
                (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            assert!(name == current || !families.contains_key(name), "{name} is interleaved");
            current = name;
            let family = families.entry(name).or_default();
            match keyword {
                "HELP" => family.help = text,
                "TYPE" => family.kind = text,
                "UNIT" => family.unit = text,
                _ => panic!("{line}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect(line);
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        assert!(name.starts_with(current), "{line} after {current}");
        let series = Series {
            name,
            labels: labels.strip_suffix('}').expect(line),
            value: value.parse().expect(line),
        };
        assert!(series.value.is_finite(), "{line}");
        families.get_mut(current).expect(line).series.push(series);
    }
    families
}

/// A label's value, and the other labels.
fn without<'l>(labels: &'l str, name: &str) -> (&'l str, String) {
    let (before, after) = labels.split_once(&format!("{name}=\"")).expect(labels);
    let (value, after) = after.split_once('"').expect(labels);
    (value, format!("{before}{after}").trim_matches(',').to_owned())
}

/// Asserts that a histogram's buckets are cumulative, that the last one is `+Inf`, and that it equals
/// `_count`: `histogram_quantile` is NaN otherwise.
fn assert_histogram(name: &str, family: &Family<'_>) {
    let mut buckets = BTreeMap::<String, Vec<(f64, f64)>>::new();
    for series in family.series.iter().filter(|series| series.name.ends_with("_bucket")) {
        let (bound, labels) = without(series.labels, "le");
        let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
        buckets.entry(labels).or_default().push((bound, series.value));
    }
    let counts = family.series.iter().filter(|series| series.name.ends_with("_count"));
    let counts: BTreeMap<_, _> = counts.map(|series| (series.labels, series.value)).collect();
    assert!(!counts.is_empty() && counts.len() == buckets.len(), "{name}");
    for (labels, buckets) in buckets {
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{name} {buckets:?}");
        let (bound, all) = *buckets.last().unwrap();
        assert!(bound == f64::INFINITY, "{name} ends with {bound}");
        assert!((all - counts[labels.as_str()]).abs() < 0.5, "{name}: {all}");
    }
}

#[tokio::test]
async fn the_page_is_valid_openmetrics() {
    let upstream = Upstream::new(streamed("openai-chat", "one two")).await;
    let gateway = Gateway::new(&yaml(&upstream.url, &upstream.url, "")).await;
    gateway.chat("oai/m").send().await.unwrap().text().await.unwrap();
    let page = gateway.client.get(format!("{}/metrics", gateway.url)).send().await.unwrap();
    let page = page.text().await.unwrap();
    let families = families(&page);
    let mut histograms = 0;
    for (name, family) in &families {
        assert!(!family.help.is_empty() && !family.kind.is_empty(), "{name} has no metadata");
        assert!(name.ends_with(family.unit), "{name} does not end with its unit {}", family.unit);
        for series in &family.series {
            let allowed: &[&str] = match family.kind {
                "counter" => &["_total"],
                "gauge" => &[""],
                "histogram" => &["_bucket", "_count", "_sum"],
                kind => panic!("{name} is a {kind}"),
            };
            let suffix = series.name.strip_prefix(name).unwrap();
            assert!(allowed.contains(&suffix), "{} in a {}", series.name, family.kind);
        }
        if family.kind == "histogram" {
            assert_histogram(name, family);
            histograms += 1;
        }
    }
    assert_eq!(histograms, 5, "{page}");
    let counted = format!("gen_ai_server_request_duration_seconds_count{ROUTE} 1\n");
    assert!(page.contains(&counted), "{page}");
}

/// Only configured keys are named. A token's subject is not, even if it is a key's name.
#[tokio::test]
async fn callers_are_configured_keys_and_all_others_together() {
    let upstream = Upstream::new(streamed("openai-chat", "one two")).await;
    let gateway = Gateway::new(&with_issuer(&upstream.url, &shared(""), "")).await;
    for _ in 0..2 {
        ask(&gateway, KEY).await.text().await.unwrap();
    }
    for subject in ["test", "subject-canary", "another-canary"] {
        let token = signer().sign(&claims(&json!({ "sub": subject })));
        let answer = ask(&gateway, &token).await;
        assert_eq!(answer.status(), 200);
        answer.text().await.unwrap();
    }
    assert_eq!(ask(&gateway, "wrong").await.status(), 401);
    let requests = |caller: &str| {
        let prefix = r#"streamgate_requests_total{dialect="openai-chat",caller="#;
        gateway.metric(&format!("{prefix}{caller:?}")).to_string()
    };
    let tokens =
        |caller: &str| gateway.metric(&format!("streamgate_tokens_total{{caller={caller:?}"));
    assert_eq!(["test", "other", ""].map(requests), ["2", "3", "1"]);
    let [key, others, nobody] = ["test", "other", ""].map(tokens);
    assert!(key > 0.0 && (others - key / 2.0 * 3.0).abs() < 0.5, "{key} {others}");
    assert!(nobody.abs() < 0.5, "{nobody}");
    let page = gateway.app.metrics.render();
    assert!(!page.contains("canary\"") && !page.contains("caller=\"wrong"), "{page}");
}

/// The one value of a metric without labels.
fn value(page: &str, name: &str) -> f64 {
    let prefixes = [format!("{name} "), format!("{name}{{}} ")];
    let found = |line| prefixes.iter().find_map(|prefix| str::strip_prefix(line, &**prefix));
    let lines: Vec<_> = page.lines().filter_map(found).collect();
    assert_eq!(lines.len(), 1, "{name} in {page}");
    lines[0].parse().unwrap()
}

/// A configuration of a gateway that is asked for its metrics only.
fn unused(more: &str) -> String {
    let nobody = "http://127.0.0.1:1";
    yaml(nobody, nobody, &format!("server: {{ listen: \"127.0.0.1:0\" }}\n{more}"))
}

async fn page(url: &str) -> String {
    reqwest::get(format!("{url}/metrics")).await.unwrap().text().await.unwrap()
}

#[expect(clippy::disallowed_methods, reason = "compared with the clock of the process under test")]
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Process metrics agree with the kernel.
#[tokio::test]
async fn the_process_is_measured() {
    let began = now();
    let file = File::new(&unused(""));
    let (process, url) = Process::gateway(&file, "warn").await;
    let before = page(&url).await;
    for _ in 0..50 {
        page(&url).await;
    }
    let text = page(&url).await;
    let value = |name| value(&text, name);
    let cpu = "process_cpu_seconds_total";
    assert!(value(cpu) >= self::value(&before, cpu) && value(cpu) < now() - began + 1.0, "{text}");
    let resident = value("process_resident_memory_bytes");
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let peak = process.peak_memory() as f64;
    assert!(resident > peak / 4.0 && resident <= peak, "{resident} of {peak}");
    assert!(value("process_virtual_memory_bytes") > resident);
    let open = process.descriptors().len();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let open = open as f64;
    assert!((value("process_open_fds") - open).abs() < 3.0, "{open} in {text}");
    assert!(value("process_max_fds") >= open);
    let start = value("process_start_time_seconds");
    assert!(start > began - 2.0 && start < now() + 2.0, "{start} from {began}");
    let cores = std::thread::available_parallelism().unwrap().get();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let workers = cores as f64;
    assert!(value("process_threads") > workers, "{text}");
    let version = format!("streamgate_build_info{{version={:?},", env!("CARGO_PKG_VERSION"));
    assert!(text.contains(&version), "{text}");
}

/// The value of the label `digest`.
fn digest(page: &str) -> String {
    let found = page.split("streamgate_config_info{digest=\"").nth(1).expect(page);
    found.split('"').next().unwrap().to_owned()
}

#[tokio::test]
async fn reloads_are_shown() {
    let (good, changed) = (unused(""), unused("stream: { heartbeat: 9s }\n"));
    let (file, same) = (File::new(&good), File::new(&good));
    let (mut process, url) = Process::gateway(&file, "info").await;
    let (_other, other) = Process::gateway(&same, "info").await;
    let first = page(&url).await;
    let successful = "streamgate_config_last_reload_successful";
    let time = "streamgate_config_last_reload_success_timestamp_seconds";
    assert!((value(&first, successful) - 1.0).abs() < 0.1);
    assert!((now() - value(&first, time)).abs() < 60.0, "{first}");
    assert_eq!(digest(&first), digest(&page(&other).await), "the same file in another directory");
    assert!(digest(&first).len() == 16, "{first}");

    file.write("nonsense: true\n");
    process.log("the running one stays in force").await;
    let broken = page(&url).await;
    assert!(value(&broken, successful).abs() < 0.1, "{broken}");
    assert_eq!(digest(&broken), digest(&first), "what is in force");
    assert!((value(&broken, time) - value(&first, time)).abs() < 0.1);

    file.write(&changed);
    process.log("configuration reloaded").await;
    let after = page(&url).await;
    assert!((value(&after, successful) - 1.0).abs() < 0.1, "{after}");
    assert!(value(&after, time) >= value(&first, time));
    assert_ne!(digest(&after), digest(&first));
}

#[tokio::test]
async fn a_certificates_expiry_is_shown() {
    let name = "streamgate_tls_certificate_expiry_timestamp_seconds";
    let plain = yaml("http://127.0.0.1:1", "http://127.0.0.1:1", "");
    let certificate = Certificate::new();
    let with_tls = format!("{plain}{}", certificate.server(""));
    let gateway = Gateway::new(&with_tls).await;
    let expiry = || value(&gateway.app.metrics.render(), name);
    // rcgen's default: the year 4096.
    assert!((expiry() - 67_090_118_400.0).abs() < 0.5, "{}", expiry());
    certificate.add_issuer(2090);
    gateway.app.reload(configuration(&with_tls));
    assert!((expiry() - 3_786_912_000.0).abs() < 0.5, "the chain is valid until {}", expiry());
    certificate.expire();
    gateway.app.reload(configuration(&with_tls));
    assert!((expiry() - 978_307_200.0).abs() < 0.5, "{}", expiry());
    gateway.app.reload(configuration(&plain));
    let series = format!("\n{name}");
    assert!(!gateway.app.metrics.render().contains(&series), "no certificate, no expiry");
}
