//! Text format of the log: one short line per event, and an access log line per request. No text of a caller can begin
//! a line or move the cursor.

use std::fmt::{self, Debug, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime as Clock};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The `tracing` target of access log records.
pub const REQUEST: &str = "streamgate::request";

/// The fields at the start of an access log line, whose names are omitted.
const LEADING: [&str; 3] = ["status", "method", "path"];
/// The fields of an access log record that only the JSON format has.
const JSON_ONLY: [&str; 10] = [
    "message",
    "trace_id",
    "dialect",
    "user_agent",
    "upstream_model",
    "stream",
    "longest_gap_ms",
    "cached_tokens",
    "reasoning_tokens",
    "heartbeats",
];

/// The text format.
#[derive(Debug, Clone, Copy)]
pub(super) struct TextFormat {
    pub(super) colours: bool,
}

impl<S, N> FormatEvent<S, N> for TextFormat
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        Clock.format_time(&mut out)?;
        let (level, colour) = match *metadata.level() {
            Level::ERROR => ("ERROR", 31),
            Level::WARN => (" WARN", 33),
            Level::INFO => (" INFO", 32),
            Level::DEBUG => ("DEBUG", 34),
            Level::TRACE => ("TRACE", 35),
        };
        if self.colours {
            write!(out, " \x1b[{colour}m{level}\x1b[0m")?;
        } else {
            out.write_char(' ')?;
            out.write_str(level)?;
        }
        let request = metadata.target() == REQUEST;
        if !metadata.target().starts_with("streamgate") {
            write!(out, " {}:", metadata.target())?;
        }
        let mut fields = Fields { out, request, result: Ok(()) };
        event.record(&mut fields);
        fields.result?;
        writeln!(fields.out)
    }
}

/// Writes the fields of an event in their order.
struct Fields<'w> {
    out: Writer<'w>,
    request: bool,
    result: fmt::Result,
}

impl Fields<'_> {
    fn write(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>, bool) -> fmt::Result) {
        if self.result.is_ok() {
            self.result = self.field(field.name(), value);
        }
    }

    /// Writes a field. `value`: its argument is whether the name is omitted.
    fn field(
        &mut self,
        name: &str,
        value: impl FnOnce(&mut Writer<'_>, bool) -> fmt::Result,
    ) -> fmt::Result {
        let bare = if self.request { LEADING.contains(&name) } else { name == "message" };
        if !bare && self.request && JSON_ONLY.contains(&name) {
            return Ok(());
        }
        self.out.write_char(' ')?;
        if !bare {
            self.out.write_str(name)?;
            self.out.write_char('=')?;
        }
        value(&mut self.out, bare)
    }

    fn number(&mut self, field: &Field, value: impl fmt::Display) {
        self.write(field, |out, _| write!(out, "{value}"));
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.number(field, format_args!("{value:.1}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.number(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.write(field, |out, bare| {
            if bare { Escaped { out, quoted: false }.write_str(value) } else { text(out, value) }
        });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.write(field, |out, bare| {
            if bare || field.name() == "message" {
                return write!(Escaped { out, quoted: false }, "{value:?}");
            }
            text(out, &format!("{value:?}"))
        });
    }
}

/// Writes a text, in quotes if it is empty or has blanks, control characters, `"` or `=`.
fn text(out: &mut Writer<'_>, text: &str) -> fmt::Result {
    let plain = |c: char| !(c.is_whitespace() || c.is_control() || matches!(c, '"' | '='));
    let ascii = text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'='));
    if !text.is_empty() && (ascii || text.chars().all(plain)) {
        return out.write_str(text);
    }
    out.write_char('"')?;
    Escaped { out, quoted: true }.write_str(text)?;
    out.write_char('"')
}

/// Writes text without control characters, and without quotes inside of quotes.
struct Escaped<'w, W> {
    out: &'w mut W,
    quoted: bool,
}

impl<W: Write> Write for Escaped<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let special = |c: char| c.is_control() || (self.quoted && matches!(c, '"' | '\\'));
        let mut rest = text;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| special(*c)) {
            let (plain, from) = rest.split_at(at);
            self.out.write_str(plain)?;
            match c {
                '"' | '\\' => write!(self.out, "\\{c}")?,
                c => write!(self.out, "{}", c.escape_default())?,
            }
            rest = from.get(c.len_utf8()..).unwrap_or_default();
        }
        self.out.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The line that is written, without its time.
    fn written(colours: bool, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let out = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_writer(move || out.clone())
            .event_format(TextFormat { colours })
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let times: Vec<_> = text.lines().map(|line| line.split_once(' ').unwrap()).collect();
        assert!(times.iter().all(|(time, _)| time.ends_with('Z')), "{text}");
        times.iter().flat_map(|(_, rest)| [rest, "\n"]).collect()
    }

    #[test]
    fn a_request_is_an_access_log_line() {
        let line = written(false, || {
            tracing::info!(
                target: REQUEST,
                status = Some(200),
                method = "POST",
                path = "/v1/chat/completions",
                caller = "dev",
                trace_id = "4bf9",
                model = None::<&str>,
                duration_ms = 4_023.787_9,
                stream = true,
                output_tokens = 3_u64,
                "request"
            );
        });
        let expected =
            " INFO 200 POST /v1/chat/completions caller=dev duration_ms=4023.8 output_tokens=3\n";
        assert_eq!(line, expected);
    }

    #[test]
    fn other_events_begin_with_their_message() {
        let text = written(true, || {
            tracing::warn!(target = "a/b", wait = ?Some(1), "attempt failed");
            tracing::debug!(target: "hyper", "library");
        });
        let warning = "\u{1b}[33m WARN\u{1b}[0m attempt failed target=a/b wait=Some(1)\n";
        assert_eq!(text, format!("{warning}\u{1b}[34mDEBUG\u{1b}[0m hyper: library\n"));
    }

    #[test]
    fn no_text_begins_a_line_or_moves_the_cursor() {
        let line = written(false, || {
            tracing::error!(a = "x\ny", b = "\u{1b}[2J", c = "a \"b\" \\", d = "", "m\n{}", "n\r");
        });
        let expected = r#"ERROR m\nn\r a="x\ny" b="\u{1b}[2J" c="a \"b\" \\" d="""#;
        assert_eq!(line, format!("{expected}\n"));
    }
}
