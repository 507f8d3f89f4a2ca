//! Result of a run as one HTML page without any external resource, readable in light and dark.
//! Text of the server is escaped.

use std::fmt::Write;

use super::fault::FAULTS;
use super::plot::{distribution, timeline};
use super::protocol::PROTOCOLS;
use super::report::{Report, StageReport};
use super::summary::latencies;
use super::text;

/// The page's style.
const STYLE: &str = include_str!("report.css");

/// Writes into a `String`, which cannot fail.
macro_rules! add {
    ($out:expr, $($arguments:tt)*) => {{
        let _infallible = write!($out, $($arguments)*);
    }};
}

/// The page.
pub fn html(report: &Report) -> String {
    let mut out = String::with_capacity(64 << 10);
    let (class, verdict) = match (report.interrupted, report.ok()) {
        (true, _) => ("bad", "interrupted"),
        (false, true) => ("ok", "all checks passed"),
        (false, false) => ("bad", "checks failed"),
    };
    add!(
        out,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <title>Streamgate load test</title><style>{STYLE}</style></head><body>\
         <header><h1>Load test</h1><span class=\"verdict {class}\">{verdict}</span>\
         <p>{} &middot; {} &middot; streamgate {}</p></header>",
        escape(&report.target),
        date(report.started),
        env!("CARGO_PKG_VERSION")
    );
    for note in &report.notes {
        add!(out, "<p class=\"note\">{}</p>", escape(note));
    }
    for stage in &report.stages {
        section(stage, &mut out);
    }
    out.push_str("</body></html>\n");
    out
}

fn section(report: &StageReport, out: &mut String) {
    let (stage, tally) = (&report.stage, &report.tally);
    let protocols: Vec<&str> = stage.protocols.iter().map(|protocol| protocol.name).collect();
    add!(
        out,
        "<section><h2>{}</h2><p class=\"what\">{} callers, answers of {} tokens, one each {}, in {} &middot; {:.1} s</p>",
        stage.scenario.name(),
        text::grouped(stage.streams),
        text::grouped(stage.tokens),
        text::time(stage.interval),
        protocols.join(", "),
        report.elapsed.as_secs_f64()
    );
    tiles(report, out);
    let points = report.timeline.points();
    #[expect(clippy::cast_precision_loss, reason = "a plot needs no more precision")]
    let open = timeline("Open streams", points, |point| point.open as f64);
    add!(
        out,
        "<div class=\"plots\">{}{}{}{}</div>",
        distribution("Time to first token", &tally.ttft),
        distribution("Time between tokens", &tally.inter_token),
        open,
        timeline("Tokens per second", points, |point| point.rate)
    );
    out.push_str("<div class=\"tables\">");
    quantiles(report, out);
    checks(report, out);
    out.push_str("</div>");
    faults(report, out);
    failures(report, out);
    out.push_str("</section>");
}

fn tiles(report: &StageReport, out: &mut String) {
    let tally = &report.tally;
    let rate = text::per_second(tally.tokens, report.elapsed);
    let mut tiles = vec![("complete", text::grouped(tally.complete))];
    for (name, count) in [
        ("hung up", tally.left),
        ("refused (429)", tally.refused),
        ("faults reported", tally.reported),
    ] {
        if count > 0 {
            tiles.push((name, text::grouped(count)));
        }
    }
    tiles.push(("failed", text::grouped(tally.errors() + tally.unfinished())));
    tiles.push(("most open", text::grouped(report.most_open)));
    tiles.push(("tokens / s", rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}"))));
    tiles.push(("TTFT p95, ms", text::millis(tally.ttft.quantile(95))));
    tiles.push(("inter-token p95, ms", text::millis(tally.inter_token.quantile(95))));
    out.push_str("<div class=\"tiles\">");
    for (name, value) in tiles {
        let class = if name == "failed" && value != "0" { " class=\"bad\"" } else { "" };
        add!(out, "<div><b{class}>{value}</b><span>{name}</span></div>");
    }
    out.push_str("</div>");
}

fn quantiles(report: &StageReport, out: &mut String) {
    out.push_str("<table><thead><tr><th>milliseconds</th><th>p50</th><th>p95</th><th>p99</th><th>max</th></tr></thead><tbody>");
    for (name, histogram) in latencies(report) {
        add!(out, "<tr><th>{name}</th>");
        let values = [50, 95, 99].map(|percent| histogram.quantile(percent));
        for value in values.into_iter().chain([histogram.max()]) {
            add!(out, "<td>{}</td>", text::millis(value));
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table>");
}

fn checks(report: &StageReport, out: &mut String) {
    out.push_str("<table class=\"checks\"><thead><tr><th></th><th>check</th><th>found</th></tr></thead><tbody>");
    for check in &report.checks {
        let (class, mark) = if check.ok { ("ok", "&#10003;") } else { ("bad", "&#10007;") };
        add!(
            out,
            "<tr><td class=\"{class}\">{mark}</td><td>{}</td><td>{}</td></tr>",
            escape(&check.name),
            escape(&check.found)
        );
    }
    out.push_str("</tbody></table>");
}

/// Faults by protocol: what was seen.
fn faults(report: &StageReport, out: &mut String) {
    if report.tally.faults.is_empty() {
        return;
    }
    out.push_str("<table class=\"checks\"><thead><tr><th>fault</th><th>expected</th>");
    let asked = |name: &str| report.stage.protocols.iter().any(|protocol| protocol.name == name);
    let protocols = || PROTOCOLS.iter().map(|protocol| protocol.name).filter(|name| asked(name));
    for name in protocols() {
        add!(out, "<th>{name}</th>");
    }
    out.push_str("</tr></thead><tbody>");
    for fault in FAULTS {
        let Some(count) = report.tally.faults.get(fault.word) else { continue };
        let right = count.right == count.seen.values().sum::<u64>();
        let class = if right { "ok" } else { "bad" };
        add!(out, "<tr><th class=\"{class}\">{}</th><td>{}</td>", fault.word, count.expected);
        for name in protocols() {
            let ends = count.seen.iter().filter_map(|(seen, times)| {
                let end = seen.strip_suffix(name)?.strip_suffix(", ")?;
                Some(if *times > 1 { format!("{times} &times; {end}") } else { end.to_owned() })
            });
            add!(out, "<td>{}</td>", ends.collect::<Vec<String>>().join("<br>"));
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table>");
}

fn failures(report: &StageReport, out: &mut String) {
    if report.tally.failures.is_empty() {
        return;
    }
    out.push_str("<table class=\"checks\"><thead><tr><th>failures</th><th></th><th>the first of them</th></tr></thead><tbody>");
    for (kind, count) in &report.tally.failures {
        let example = report.tally.examples.get(kind).map_or("", String::as_str);
        add!(
            out,
            "<tr><td class=\"bad\">{}</td><td>{kind}</td><td>{}</td></tr>",
            text::grouped(*count),
            escape(example)
        );
    }
    out.push_str("</tbody></table>");
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            _ => out.push(c),
        }
    }
    out
}

/// `2026-01-31 12:00 UTC` of seconds since 1970, by the usual arithmetic on the civil calendar.
fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", rest / 3_600, rest % 3_600 / 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_399), "2000-02-28 23:59 UTC");
        assert_eq!(date(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(date(1_767_225_600), "2026-01-01 00:00 UTC");
    }

    #[test]
    fn markup_of_the_other_side_is_text() {
        assert_eq!(escape("<script>\"&"), "&lt;script&gt;&quot;&amp;");
    }
}
