//! The metrics page: valid OpenMetrics, histograms that PromQL can read, and labels that are bounded.

use std::collections::BTreeMap;

use crate::support::answers::streamed;
use crate::support::gateway::{Gateway, yaml};
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
    assert_eq!(histograms, 4, "{page}");
    let counted = format!("gen_ai_server_request_duration_seconds_count{ROUTE} 1\n");
    assert!(page.contains(&counted), "{page}");
}
