//! Every metric against the golden exposition, the operations manual, the dashboard and the alert rules: its
//! name, type, unit and labels. Nothing here samples: all metrics and all queries are compared.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;
use std::path::Path;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;

use super::{Histogram, Metrics};

/// Makes one series, with default labels: a family without series is not on the page.
pub(super) trait MakeSeries {
    fn make_series(&self);
}

impl<L, M, C> MakeSeries for Family<L, M, C>
where
    L: Clone + Default + Hash + Eq,
    M: Clone,
    C: MetricConstructor<M>,
{
    fn make_series(&self) {
        drop(self.get_or_create(&L::default()));
    }
}

impl MakeSeries for Histogram {
    fn make_series(&self) {}
}

impl<N, A> MakeSeries for Counter<N, A> {
    fn make_series(&self) {}
}

impl<N, A> MakeSeries for Gauge<N, A> {
    fn make_series(&self) {}
}

/// A metric as the page declares it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Declared {
    kind: String,
    unit: String,
    help: String,
    labels: BTreeSet<String>,
}

impl Declared {
    /// The names of its series in queries.
    fn series(&self, name: &str) -> Vec<String> {
        let suffixes: &[&str] = match self.kind.as_str() {
            "counter" => &["_total"],
            "gauge" => &[""],
            "histogram" => &["_bucket", "_count", "_sum"],
            kind => panic!("{name} is a {kind}"),
        };
        suffixes.iter().map(|suffix| format!("{name}{suffix}")).collect()
    }

    /// The name that documents give it: a counter's with its suffix.
    fn documented(&self, name: &str) -> String {
        if self.kind == "counter" { format!("{name}_total") } else { name.to_owned() }
    }

    /// Its type and unit, as the manual writes them.
    fn kind_and_unit(&self) -> String {
        if self.unit.is_empty() {
            self.kind.clone()
        } else {
            format!("{}, {}", self.kind, self.unit)
        }
    }
}

/// All metrics, read from the page.
fn declared() -> BTreeMap<String, Declared> {
    let metrics = Metrics::default();
    metrics.make_series();
    let page = metrics.render();
    let mut found = BTreeMap::<String, Declared>::new();
    let mut current = String::new();
    for line in page.lines().filter(|line| *line != "# EOF") {
        if let Some(metadata) = line.strip_prefix("# ") {
            let words: Vec<&str> = metadata.splitn(3, ' ').collect();
            current = words[1].to_owned();
            let metric = found.entry(current.clone()).or_default();
            match words[0] {
                "TYPE" => metric.kind = words[2].to_owned(),
                "UNIT" => metric.unit = words[2].to_owned(),
                "HELP" => metric.help = words[2].to_owned(),
                word => panic!("{word}"),
            }
        } else if let Some((_, rest)) = line.split_once('{') {
            let labels = label_names(rest.rsplit_once('}').expect(line).0);
            found.get_mut(&current).expect(line).labels.extend(labels);
        }
    }
    for metric in found.values_mut().filter(|metric| metric.kind == "histogram") {
        metric.labels.remove("le");
    }
    found
}

/// The names of the labels in a selector's or a series' braces.
fn label_names(inside: &str) -> BTreeSet<String> {
    let outside_quotes: String = inside.split('"').step_by(2).collect();
    let names = outside_quotes.split(',').map(|part| part.trim_end_matches(['=', '!', '~']).trim());
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path)
}

fn is_metric(word: &str) -> bool {
    ["streamgate_", "gen_ai_server_", "process_"].iter().any(|prefix| word.starts_with(prefix))
}

fn is_word(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'
}

/// Monitoring depends on names, types, labels and help. A difference is a change that must be announced to
/// operators; if it is intended, the golden file follows.
#[test]
fn the_exposition_is_the_golden_one() {
    let lines = declared().into_iter().map(|(name, metric)| {
        let labels = metric.labels.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        format!("{name} | {} | {labels} | {}\n", metric.kind_and_unit(), metric.help)
    });
    let now: String = lines.collect();
    assert!(
        now == read("tests/fixtures/metrics.golden"),
        "tests/fixtures/metrics.golden is not\n{now}"
    );
}

/// A row of the manual's table of metrics.
fn documented(row: &str) -> Vec<(String, String, BTreeSet<String>)> {
    let cells: Vec<&str> = row.split('|').map(str::trim).collect();
    let names = cells[1].split('`').skip(1).step_by(2).map(|quoted| {
        let (name, labels) = quoted.split_once('{').unwrap_or((quoted, "}"));
        let labels = label_names(labels.strip_suffix('}').expect(row));
        (name.to_owned(), cells[2].to_owned(), labels)
    });
    names.collect()
}

#[test]
fn the_manual_has_every_metric_with_its_type_unit_and_labels() {
    let manual = read("docs/operations.md");
    let (_, table) = manual.split_once("| metric | type |").expect("the table of metrics");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let rows: BTreeSet<_> = rows.flat_map(documented).collect();
    let metrics: BTreeSet<_> = declared()
        .into_iter()
        .map(|(name, metric)| (metric.documented(&name), metric.kind_and_unit(), metric.labels))
        .collect();
    let missing: Vec<_> = metrics.difference(&rows).collect();
    let wrong: Vec<_> = rows.difference(&metrics).collect();
    assert!(
        missing.is_empty() && wrong.is_empty(),
        "not in the manual: {missing:#?}\nnot so: {wrong:#?}"
    );
}

#[test]
fn the_manual_names_no_metric_that_does_not_exist() {
    let known = series();
    let manual = read("docs/operations.md");
    let documented: BTreeSet<_> =
        declared().iter().map(|(name, metric)| metric.documented(name)).collect();
    let quoted = manual.split('`').map(|quote| quote.split('{').next().unwrap_or_default());
    let unknown: Vec<&str> = quoted
        .filter(|name| is_metric(name) && name.chars().all(is_word))
        .filter(|name| !known.contains_key(*name) && !documented.contains(*name))
        .collect();
    assert!(unknown.is_empty(), "docs/operations.md names {unknown:#?}");
}

/// Every series' name, and its metric.
fn series() -> BTreeMap<String, Declared> {
    let named = declared().into_iter().flat_map(|(name, metric)| {
        let names = metric.series(&name);
        names.into_iter().map(move |name| (name, metric.clone()))
    });
    named.collect()
}

/// The series of a query, each with the labels of its selector and what precedes it.
fn uses(query: &str) -> Vec<(String, BTreeSet<String>, String)> {
    let mut found = Vec::new();
    let mut rest = query;
    let mut before = String::new();
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '_') {
        let (skipped, word) = rest.split_at(start);
        let (word, after) = word.split_at(word.find(|c| !is_word(c)).unwrap_or(word.len()).max(1));
        before.push_str(skipped);
        if is_metric(word) {
            let selector = after.strip_prefix('{').and_then(|after| after.split_once('}'));
            let labels = selector.map(|(inside, _)| label_names(inside)).unwrap_or_default();
            found.push((word.to_owned(), labels, before.clone()));
        }
        before.push_str(word);
        rest = after;
    }
    found
}

/// The labels by which a query groups.
fn groups(query: &str) -> BTreeSet<String> {
    let lists = query.split(" by (").skip(1).map(|rest| rest.split(')').next().unwrap_or_default());
    lists.flat_map(label_names).collect()
}

/// The faults of a query: in its series, labels and functions.
fn faults(query: &str) -> Vec<String> {
    let known = series();
    let scraped = ["instance", "job"].map(str::to_owned);
    let mut labels = BTreeSet::from(scraped);
    let mut found = Vec::new();
    for (name, selected, before) in uses(query) {
        let Some(metric) = known.get(&name) else {
            found.push(format!("{name} does not exist: {query}"));
            continue;
        };
        labels.extend(metric.labels.iter().cloned());
        labels.extend(name.ends_with("_bucket").then(|| "le".to_owned()));
        for label in selected.difference(&labels) {
            found.push(format!("{name} has no label {label}: {query}"));
        }
        let is_rate = before.ends_with("rate(") || before.ends_with("increase(");
        if is_rate == (metric.kind == "gauge") {
            found.push(format!("{name} is a {}: {query}", metric.kind));
        }
    }
    for label in groups(query).difference(&labels) {
        found.push(format!("nothing has the label {label}: {query}"));
    }
    found
}

/// A panel's title, its queries with their legends, and its unit.
type Panel = (String, Vec<(String, String)>, String);

fn panels() -> Vec<Panel> {
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("deploy/grafana/streamgate.json")).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let panels = dashboard["panels"].as_array().unwrap().iter().map(|panel| {
        let targets = panel["targets"].as_array().unwrap().iter();
        let queries = targets.map(|target| (text(&target["expr"]), text(&target["legendFormat"])));
        let unit = text(&panel["fieldConfig"]["defaults"]["unit"]);
        (text(&panel["title"]), queries.collect(), unit)
    });
    panels.collect()
}

/// The queries of the alert rules, of the manual, and of the dashboard.
fn queries() -> Vec<String> {
    let rules = read("deploy/alerts.yml");
    let rules = rules.split("expr:").skip(1).map(|rule| {
        let ends = ["\n        for:", "\n        labels:", "\n        annotations:"];
        let end = ends.iter().filter_map(|end| rule.find(end)).min().unwrap_or(rule.len());
        rule.split_at(end).0.to_owned()
    });
    let manual = read("docs/operations.md");
    let examples = manual.split("```promql\n").skip(1);
    let examples = examples.flat_map(|rest| rest.split("```").next().unwrap_or_default().lines());
    let examples = examples.map(str::to_owned);
    let shown = panels().into_iter().flat_map(|(_, queries, _)| queries).map(|(query, _)| query);
    rules.chain(examples).chain(shown).collect()
}

#[test]
fn every_query_names_series_labels_and_functions_that_fit() {
    let queries = queries();
    assert!(queries.len() > 60, "{queries:#?}");
    // `up` is Prometheus' own.
    let without =
        queries.iter().filter(|query| uses(query).is_empty() && !query.contains("up{job="));
    assert_eq!(without.collect::<Vec<_>>(), [""; 0]);
    let found: Vec<String> = queries.iter().flat_map(|query| faults(query)).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_metric_is_on_the_dashboard_or_in_an_alert_rule() {
    let used = queries().into_iter().flat_map(|query| uses(&query)).map(|(name, ..)| name);
    let used: BTreeSet<String> = used.collect();
    // A panel of its own would add nothing: an operator looks these up when memory or CPU is odd, or when
    // the log reports that a provider's models cannot be listed.
    let exempt =
        ["process_virtual_memory_bytes", "process_threads", "streamgate_model_list_fetches"];
    for (name, metric) in declared() {
        let is_used = metric.series(&name).iter().any(|series| used.contains(series));
        assert!(is_used != exempt.contains(&name.as_str()), "{name}");
    }
}

/// The unit in which Grafana has to show a query. `None`: it counts something.
fn unit_of(query: &str, known: &BTreeMap<String, Declared>) -> Option<&'static str> {
    let used = uses(query);
    let (first, _, _) = used.first()?;
    let unit = known[first].unit.as_str();
    if used.len() > 1 && query.contains(" / ") || first.ends_with("_ratio") {
        return Some("percentunit");
    }
    match unit {
        // Seconds of processor time per second are cores.
        "seconds" if query.contains("rate(") && !first.ends_with("_bucket") => None,
        "seconds" => Some("s"),
        "bytes" => Some("bytes"),
        "dollars" => Some("currencyUSD"),
        _ => None,
    }
}

#[test]
fn panels_show_units_and_labels_that_their_metrics_have() {
    let known = series();
    let counts = ["short", "reqps", "cps"];
    for (title, queries, unit) in panels() {
        assert!(!queries.is_empty(), "{title}");
        for (query, legend) in queries {
            let expected = unit_of(&query, &known);
            assert!(
                expected
                    .map_or_else(|| counts.contains(&unit.as_str()), |expected| expected == unit),
                "{title}: {unit}, not {expected:?}: {query}"
            );
            let shown = legend.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap());
            let mut grouped = groups(&query);
            if grouped.is_empty() {
                grouped.insert("instance".to_owned());
            }
            for label in shown {
                assert!(grouped.contains(label), "{title}: {query} has no {label}");
            }
        }
    }
}

/// The checks above reject each kind of faulty query.
#[test]
fn faults_of_queries_are_found() {
    for query in [
        "rate(streamgate_requests[5m])",
        "streamgate_requests_total",
        "rate(streamgate_open_requests[5m])",
        "streamgate_open_requests{target=\"x\"}",
        "sum by (provider) (rate(streamgate_requests_total[5m]))",
        "streamgate_no_such_thing",
        "rate(gen_ai_server_request_duration_seconds[5m])",
    ] {
        assert_eq!(faults(query).len(), 1, "{query}: {:?}", faults(query));
    }
    let right = "sum by (dialect) (streamgate_open_requests{dialect!=\"x,y\", instance=~\".+\"})";
    assert_eq!(faults(right), [""; 0]);
    assert_eq!(documented("| `a{x,y}`, `b` | gauge, bytes | c | d |").len(), 2);
}
