//! Process metrics, under the names that all Prometheus client libraries use. Read from `/proc` on Linux at each scrape
//! and absent elsewhere. They never fail a scrape.

use std::fs::{read_dir, read_to_string};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// Clock ticks per second in `/proc`: `USER_HZ`, which is part of Linux's interface to programs.
const TICKS: f64 = 100.0;

/// The collector for this process.
#[derive(Debug)]
pub(super) struct Process;

/// A metric's name without its unit, its help, its unit, and its value if known.
type Measured = (&'static str, &'static str, Option<Unit>, Option<f64>);

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let stat = read_to_string("/proc/self/stat").unwrap_or_default();
        let cpu = Some([11, 12].map(|index| field(&stat, index)))
            .and_then(|[user, system]| Some((user? + system?) / TICKS));
        if let Some(cpu) = cpu {
            let help = "Processor time of the process, in user and in system mode.";
            let kind = MetricType::Counter;
            encoder
                .encode_descriptor("process_cpu", help, Some(&Unit::Seconds), kind)?
                .encode_counter::<NoLabelSet, f64, f64>(&cpu, None)?;
        }
        for (name, help, unit, value) in gauges(&stat) {
            let Some(value) = value else { continue };
            let kind = MetricType::Gauge;
            encoder.encode_descriptor(name, help, unit.as_ref(), kind)?.encode_gauge(&value)?;
        }
        Ok(())
    }
}

fn gauges(stat: &str) -> [Measured; 6] {
    let status = read_to_string("/proc/self/status").unwrap_or_default();
    let memory = |name| Some(line(&status, name)? * 1024.0);
    let booted = read_to_string("/proc/stat").ok().and_then(|text| line(&text, "btime"));
    let started = booted.zip(field(stat, 19)).map(|(booted, ticks)| booted + ticks / TICKS);
    let limits = read_to_string("/proc/self/limits").unwrap_or_default();
    let (bytes, seconds) = (|| Some(Unit::Bytes), || Some(Unit::Seconds));
    [
        ("process_resident_memory", "Resident memory.", bytes(), memory("VmRSS:")),
        ("process_virtual_memory", "Virtual memory.", bytes(), memory("VmSize:")),
        ("process_open_fds", "Open file descriptors.", None, open_files()),
        (
            "process_max_fds",
            "The most file descriptors that may be open.",
            None,
            line(&limits, "Max open files"),
        ),
        ("process_start_time", "When the process started, since 1970.", seconds(), started),
        ("process_threads", "Threads of the process.", None, line(&status, "Threads:")),
    ]
}

/// A field of `/proc/self/stat`, counted from the one after the program's name, which may contain spaces
/// and parentheses.
fn field(stat: &str, index: usize) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(index)?.trim().parse().ok()
}

/// The number after a name at the start of a line. `None`: it is not a number, as in `unlimited`.
fn line(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The number of open descriptors, without the one that lists them.
#[expect(clippy::cast_precision_loss, reason = "descriptors are far fewer than 2^52")]
fn open_files() -> Option<f64> {
    Some(read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_name() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 3 0 4200 1000 5\n";
        assert_eq!(
            [11, 12, 17, 19].map(|index| field(stat, index)),
            [250.0, 50.0, 3.0, 4200.0].map(Some)
        );
        assert_eq!(field("", 0), None);
    }

    #[test]
    fn no_limit_is_no_number() {
        let text = "Max cpu time              unlimited            unlimited            seconds\n\
                    Max open files            1024                 524288               files\n";
        assert_eq!(line(text, "Max open files"), Some(1024.0));
        assert_eq!(line(text, "Max cpu time"), None);
        assert_eq!(line(text, "Max processes"), None);
    }
}
