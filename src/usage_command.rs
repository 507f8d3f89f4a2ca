//! `streamgate usage`: reports from the usage ledger, also while a gateway writes to it. It must never write to it, nor
//! compute with floating-point numbers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde_json::json;
use streamgate::gateway::clock::unix_seconds;
use streamgate::ledger::{Rollup, Sums, read_rollups};
use streamgate::prices::Cost;

use crate::{CliError, load, print_line};

/// Seconds in a quarter hour.
const QUARTER: i64 = 15 * 60;

/// Options of `streamgate usage`.
#[derive(Debug, Args)]
pub(crate) struct UsageArguments {
    /// The subject of a line.
    #[arg(long, default_value = "caller")]
    by: Grouping,
    /// The first day, such as `2026-11-01`, or a time on a quarter hour, such as `2026-11-01T09:15`; by default the first of this month.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// The first day or time that is not included; by default there is none.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Time zone of days, by its IANA name, such as `Asia/Kolkata`.
    #[arg(long, value_name = "NAME", default_value = "UTC")]
    timezone: String,
    /// Format of the report.
    #[arg(long, default_value = "table")]
    format: ReportFormat,
    /// Directory of the ledger, in place of `store.sqlite` of the configuration.
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
}

/// The subject of a report's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Grouping {
    Caller,
    Model,
    Target,
    Day,
}

/// Format of a report.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ReportFormat {
    /// Columns, for people.
    Table,
    /// An array of objects.
    Json,
    /// Comma-separated values, for spreadsheets.
    Csv,
}

/// The columns of a report after the first one.
const COLUMNS: [&str; 8] = [
    "requests",
    "unpriced",
    "input",
    "cache_read",
    "cache_write",
    "output",
    "reasoning",
    "cost_usd",
];

/// Prints a report.
pub(crate) fn usage(wanted: &UsageArguments, file: Option<&Path>) -> Result<(), CliError> {
    let dir = match &wanted.store {
        Some(dir) => dir.clone(),
        None => load(file, "that names the ledger")?.1.ledger.map(|ledger| ledger.dir).ok_or_else(
            || {
                CliError::configuration(
                    "the configuration has no `store: sqlite`: there is no usage ledger",
                )
            },
        )?,
    };
    let zone = TimeZone::get(&wanted.timezone).map_err(|_| {
        CliError::configuration(&format!(
            "--timezone {}: there is no such time zone; expected an IANA name such as `Europe/Berlin`",
            wanted.timezone
        ))
    })?;
    let now = i64::try_from(unix_seconds()).unwrap_or(i64::MAX);
    let start = match &wanted.since {
        Some(text) => quarter_of(text, "--since", &zone)?,
        None => this_month(now, &zone)?,
    };
    let end = wanted.until.as_deref().map(|text| quarter_of(text, "--until", &zone)).transpose()?;
    let mut lines = BTreeMap::<String, Sums>::new();
    let mut fault = None;
    let read = read_rollups(&dir, start..end.unwrap_or(i64::MAX), |rollup| {
        match group(&rollup, wanted.by, &zone) {
            Ok(name) => lines.entry(name).or_default().add(&rollup.sums),
            Err(error) => fault = Some(error),
        }
    });
    read.map_err(|error| CliError::new(error.to_string()))?;
    if let Some(error) = fault {
        return Err(error);
    }
    let name =
        wanted.by.to_possible_value().map_or_else(String::new, |it| it.get_name().to_owned());
    print_line(&mut std::io::stdout(), &report(&lines, &name, wanted.format));
    Ok(())
}

/// The quarter hour since 1970 at which a day or a time begins.
fn quarter_of(text: &str, option: &str, zone: &TimeZone) -> Result<i64, CliError> {
    let wrong = |expected: &str| CliError::configuration(&format!("{option} {text}: {expected}"));
    let expected = "expected a day such as `2026-11-01` or a time such as `2026-11-01T09:15`";
    let date = if text.contains('T') {
        text.parse::<jiff::civil::DateTime>().map_err(|_| wrong(expected))?
    } else {
        text.parse::<Date>().map_err(|_| wrong(expected))?.at(0, 0, 0, 0)
    };
    let seconds = zone.to_timestamp(date).map_err(|_| wrong(expected))?.as_second();
    if seconds.rem_euclid(QUARTER) != 0 {
        return Err(wrong("the ledger has sums of quarter hours (:00, :15, :30, :45)"));
    }
    Ok(seconds.div_euclid(QUARTER))
}

/// The quarter hour at which the present month begins.
fn this_month(now: i64, zone: &TimeZone) -> Result<i64, CliError> {
    let day = day_of(now.div_euclid(QUARTER), zone)?;
    let first = day.checked_sub(i32::from(day.day() - 1).days());
    let first = first.map_err(|error| CliError::new(error.to_string()))?;
    quarter_of(&first.to_string(), "--since", zone)
}

/// The day of a quarter hour in a time zone.
fn day_of(quarter: i64, zone: &TimeZone) -> Result<Date, CliError> {
    let time = Timestamp::from_second(quarter.saturating_mul(QUARTER));
    let time = time.map_err(|_| CliError::new("the ledger has a time that is no date"))?;
    Ok(zone.to_datetime(time).date())
}

/// The name of the line that counts a roll-up.
fn group(rollup: &Rollup, by: Grouping, zone: &TimeZone) -> Result<String, CliError> {
    Ok(match by {
        Grouping::Caller => rollup.caller.clone(),
        Grouping::Model => rollup.model.clone(),
        Grouping::Target => rollup.target.clone(),
        Grouping::Day => day_of(rollup.quarter, zone)?.to_string(),
    })
}

/// The columns of a line, as in [`COLUMNS`].
fn cells(sums: &Sums) -> [String; 8] {
    [
        sums.requests.to_string(),
        sums.unpriced.to_string(),
        sums.input.to_string(),
        sums.cache_read.to_string(),
        sums.cache_write.to_string(),
        sums.output.to_string(),
        sums.reasoning.to_string(),
        Cost::from_pico(u128::from(sums.cost_nano) * 1000).to_string(),
    ]
}

fn report(lines: &BTreeMap<String, Sums>, name: &str, format: ReportFormat) -> String {
    match format {
        ReportFormat::Table => table(lines, name),
        ReportFormat::Json => format!("{:#}", json(lines, name)),
        ReportFormat::Csv => csv(lines, name),
    }
}

/// Columns: the first one to the left, numbers to the right, and their total.
fn table(lines: &BTreeMap<String, Sums>, name: &str) -> String {
    let mut total = Sums::default();
    for sums in lines.values() {
        total.add(sums);
    }
    let total = ("total".to_owned(), total);
    let lines = lines.iter().map(|(name, sums)| (name.as_str(), sums));
    let lines: Vec<_> = lines.chain([(total.0.as_str(), &total.1)]).collect();
    let first = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    let first = first.max(name.len());
    let rows: Vec<_> = lines.iter().map(|(name, sums)| (*name, cells(sums))).collect();
    let widths = COLUMNS.iter().enumerate().map(|(column, title)| {
        let cells = rows.iter().filter_map(|(_, cells)| cells.get(column));
        cells.map(String::len).max().unwrap_or_default().max(title.len())
    });
    let widths: Vec<usize> = widths.collect();
    let line = |name: &str, cells: &[String]| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("  {cell:>width$}"));
        format!("{name:<first$}{}", cells.collect::<String>())
    };
    let head = line(name, &COLUMNS.map(str::to_owned));
    let body = rows.iter().map(|(name, cells)| line(name, cells));
    std::iter::once(head).chain(body).collect::<Vec<_>>().join("\n")
}

/// An array of objects. Amounts are texts: not every reader of JSON has exact decimals.
fn json(lines: &BTreeMap<String, Sums>, name: &str) -> serde_json::Value {
    let object = |(group, sums): (&String, &Sums)| {
        json!({
            name: group, "requests": sums.requests, "unpriced": sums.unpriced, "input": sums.input,
            "cache_read": sums.cache_read, "cache_write": sums.cache_write, "output": sums.output,
            "reasoning": sums.reasoning,
            "cost_usd": Cost::from_pico(u128::from(sums.cost_nano) * 1000).to_string(),
        })
    };
    lines.iter().map(object).collect()
}

fn csv(lines: &BTreeMap<String, Sums>, name: &str) -> String {
    let head = format!("{name},{}", COLUMNS.join(","));
    let line =
        |(group, sums): (&String, &Sums)| format!("{},{}", csv_cell(group), cells(sums).join(","));
    std::iter::once(head).chain(lines.iter().map(line)).collect::<Vec<_>>().join("\r\n")
}

/// A text as a cell. A spreadsheet would compute one that begins as a formula does.
fn csv_cell(text: &str) -> String {
    let prefix = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    if text.contains(['"', ',', '\n', '\r']) {
        return format!("\"{prefix}{}\"", text.replace('"', "\"\""));
    }
    format!("{prefix}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(zone: &str, quarters: impl Iterator<Item = i64>) -> BTreeMap<String, u64> {
        let zone = TimeZone::get(zone).unwrap();
        let mut days = BTreeMap::new();
        for quarter in quarters {
            let Ok(day) = day_of(quarter, &zone) else { panic!("{quarter}") };
            *days.entry(day.to_string()).or_default() += 1;
        }
        days
    }

    fn start(day: &str, zone: &str) -> i64 {
        let Ok(start) = quarter_of(day, "--since", &TimeZone::get(zone).unwrap()) else {
            panic!("{day} in {zone}")
        };
        start
    }

    /// V19: days of a zone are whole quarter hours, whatever its offset, and each belongs to one day.
    #[test]
    fn report_any_zone() {
        for (zone, first, day, next, quarters) in [
            ("Asia/Kolkata", "2026-11-02", "2026-11-02", "2026-11-03", 96),
            ("Asia/Kathmandu", "2026-11-02", "2026-11-02", "2026-11-03", 96),
            ("America/New_York", "2026-03-08", "2026-03-08", "2026-03-09", 92),
            ("America/New_York", "2026-11-01", "2026-11-01", "2026-11-02", 100),
        ] {
            let (start, end) = (start(first, zone), start(next, zone));
            assert_eq!(end - start, quarters, "{zone} {day}");
            let found = days(zone, start - 1..=end);
            assert_eq!(found[day], u64::try_from(quarters).unwrap(), "{zone}");
            assert_eq!(found.values().sum::<u64>(), u64::try_from(quarters).unwrap() + 2);
        }
        // 00:00 in Kathmandu is 18:15 of the day before in UTC.
        assert_eq!(start("2026-11-02", "Asia/Kathmandu") * QUARTER % 86_400, 18 * 3600 + 15 * 60);
    }

    #[test]
    fn times_between_quarter_hours_are_rejected() {
        let Err(error) = quarter_of("2026-11-01T09:10", "--since", &TimeZone::UTC) else {
            panic!()
        };
        assert!(error.message.contains("quarter hours"), "{}", error.message);
        assert!(quarter_of("yesterday", "--since", &TimeZone::UTC).is_err());
    }

    #[test]
    fn formulas_in_cells_are_texts() {
        for text in ["=1+1", "+1", "-1", "@sum"] {
            assert_eq!(csv_cell(text), format!("'{text}"));
        }
        assert_eq!(csv_cell("=a,\"b\""), "\"'=a,\"\"b\"\"\"");
        assert_eq!(csv_cell("web"), "web");
    }
}
