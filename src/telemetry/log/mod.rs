//! Logging: the format of lines, and the writer that takes them from the threads that serve.
//!
//! It never blocks a thread that logs, and never fails one: lines that the reader does not take in time
//! are lost, and counted.

mod text;
mod writer;

use std::io::IsTerminal;

use prometheus_client::metrics::counter::Counter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

pub use text::REQUEST;
use text::TextFormat;
use writer::LogWriter;
pub use writer::{LOG_FLUSH_TIMEOUT, LogGuard};

/// The form of the log's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: one short line per event.
    Text,
    /// For programs: a JSON object per line.
    Json,
}

/// Starts logging to standard error, with the levels of `filter` (`RUST_LOG`'s syntax; `info` unless
/// given). The lines are written until the guard is dropped. Errors: no thread for the writer.
pub fn start(format: LogFormat, filter: Option<&str>) -> std::io::Result<LogGuard> {
    let (levels, wrong) = levels(filter);
    let guard = LogWriter::start(std::io::stderr())?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(levels)
        .with_writer(guard.writer())
        .log_internal_errors(false);
    match format {
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal();
            builder.event_format(TextFormat { colours }).init();
        }
        // A record has a `target` of its own, which the module's name would hide.
        LogFormat::Json => {
            builder.with_ansi(false).json().flatten_event(true).with_target(false).init();
        }
    }
    report_panics();
    if let Some(error) = wrong {
        tracing::warn!(%error, "RUST_LOG is not a filter; the level is info");
    }
    Ok(guard)
}

fn levels(filter: Option<&str>) -> (EnvFilter, Option<ParseError>) {
    let default = || EnvFilter::new("info");
    match filter.filter(|filter| !filter.is_empty()).map(EnvFilter::try_new) {
        None => (default(), None),
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (default(), Some(error)),
    }
}

/// Logs panics like everything else: the standard hook writes to standard error itself, and waits for
/// its reader. The message stays out, since it may quote what was being read.
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let thread = std::thread::current();
        tracing::error!(place, thread = thread.name(), "panic: please report it");
    }));
}

/// Lines that were lost, counted by the writer: the metric of the same name.
pub type LinesLost = Counter;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_is_none_is_reported_and_replaced() {
        let (filter, wrong) = levels(Some("streamgate=loud=1"));
        assert_eq!(filter.to_string(), "info");
        assert!(wrong.is_some());
        for given in [None, Some(""), Some("info")] {
            let (filter, wrong) = levels(given);
            assert_eq!((filter.to_string(), wrong.is_none()), ("info".to_owned(), true));
        }
        assert_eq!(levels(Some("debug")).0.to_string(), "debug");
    }
}
