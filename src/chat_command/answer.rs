//! Streamed answer of a chat: decoded by the codec of the gateway's default dialect, printed as it comes, and measured. It
//! must never send control characters to a terminal.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use http::header::CONTENT_TYPE;
use reqwest::Response;
use streamgate::wire::chat::{ApiError, Delta, End, Kind, Stop};
use streamgate::wire::dialect::{self, Decode, Form};
use streamgate::wire::framing::{Framer, Framing, FramingError};
use tokio::signal::unix::Signal;
use tokio::time::Instant;

use crate::CliError;
use crate::gateway_client::causes;

/// The most bytes of one event.
const MAX_EVENT: usize = 32 << 20;
/// The most bytes of an answer that the conversation keeps.
const MAX_TEXT: usize = 16 << 20;

const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// An answer and its measurements.
#[derive(Default)]
pub(super) struct Answer {
    /// Its text, without reasoning.
    pub(super) text: String,
    /// The error that ended it, if it did not end as it should.
    pub(super) fault: Option<ApiError>,
    /// Whether the user stopped it.
    pub(super) stopped: bool,
    first: Option<Duration>,
    last: Duration,
    /// As the provider counted.
    tokens: Option<u64>,
    /// Pieces of output, where the provider has not counted.
    pieces: u64,
    cut: bool,
}

impl Answer {
    /// An answer that was stopped before it began.
    pub(super) fn stopped() -> Self {
        Self { stopped: true, ..Self::default() }
    }

    /// Reads a response to its end, or until the user stops it, and prints its text.
    pub(super) async fn read(
        mut response: Response,
        begun: Instant,
        interrupt: &mut Signal,
    ) -> Result<Self, CliError> {
        let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if !kind.is_some_and(|kind| kind.starts_with("text/event-stream")) {
            return Err(CliError::new(format!(
                "{} is no gateway: the response is no event stream",
                response.url().origin().ascii_serialization()
            )));
        }
        let mut answer = Self::default();
        let mut screen = Screen::new();
        let mut events = Events::new()?;
        loop {
            let chunk = tokio::select! {
                chunk = response.chunk() => chunk,
                _ = interrupt.recv() => {
                    answer.stopped = true;
                    break;
                }
            };
            let (deltas, end) = match chunk {
                Ok(Some(bytes)) => events.read(bytes),
                Ok(None) => events.finish(),
                Err(error) => {
                    let lost = format!("the connection was lost: {}", causes(&error.without_url()));
                    answer.fault = Some(ApiError::new(Kind::Upstream, lost));
                    break;
                }
            };
            answer.take(&deltas, begun.elapsed(), &mut screen);
            if let Some(end) = end {
                answer.fault = end.fault().or(answer.fault);
                break;
            }
        }
        screen.end();
        Ok(answer)
    }

    fn take(&mut self, deltas: &[Delta<'_>], elapsed: Duration, screen: &mut Screen) {
        for delta in deltas {
            if delta.is_output() {
                self.first.get_or_insert(elapsed);
                self.last = elapsed;
                self.pieces += 1;
            }
            match delta {
                Delta::Text { choice: 0, text } | Delta::Refusal { choice: 0, text } => {
                    screen.show(text, false);
                    if self.text.len() < MAX_TEXT {
                        self.text.push_str(text);
                    }
                }
                Delta::Reasoning { choice: 0, text } => screen.show(text, true),
                Delta::Usage(usage) => self.tokens = usage.output.or(self.tokens),
                Delta::Stop { reason, .. } => {
                    self.cut = matches!(reason, Stop::MaxTokens | Stop::ContextFull);
                    if let Stop::Failed(fault) = reason {
                        self.fault = Some(fault.clone());
                    }
                }
                _ => {}
            }
        }
        Screen::flush();
    }

    /// The line of measurements: TTFT, rate, tokens.
    pub(super) fn measurements(&self) -> String {
        let Some(first) = self.first else {
            return "[no output]".to_owned();
        };
        let (about, tokens) = match self.tokens {
            Some(tokens) => ("", tokens),
            None => ("about ", self.pieces),
        };
        let mut line = format!("[TTFT {} ms", first.as_millis());
        // Between the first token and the last one.
        let seconds = self.last.saturating_sub(first).as_secs_f64();
        if let Some(intervals) = tokens.checked_sub(1).filter(|more| *more > 0 && seconds > 0.0) {
            let rate = Duration::from_secs(intervals).as_secs_f64() / seconds;
            line = format!("{line}, {rate:.1} tokens/s");
        }
        line = format!("{line}, {about}{tokens} tokens");
        if self.cut {
            line.push_str(", cut off at the limit of tokens");
        }
        if self.stopped {
            line.push_str(", stopped");
        }
        line.push(']');
        line
    }
}

/// The events of an answer in the gateway's default dialect.
struct Events {
    framer: Framer,
    decoder: Box<dyn Decode>,
}

impl Events {
    fn new() -> Result<Self, CliError> {
        let dialect = dialect::by_name(dialect::DEFAULT.name());
        let dialect = dialect.ok_or_else(|| CliError::new("no codec for the answer"))?;
        let framer = Framer::new(Framing::Sse, MAX_EVENT);
        Ok(Self { framer, decoder: dialect.decoder(Form::Chat) })
    }

    fn read(&mut self, bytes: bytes::Bytes) -> (Vec<Delta<'static>>, Option<End>) {
        let mut frames = Vec::new();
        let pushed = self.framer.push(bytes, &mut frames);
        let (deltas, end) = self.decode(&frames);
        let broken = pushed.err().map(|error| {
            let why = match error {
                FramingError::TooLong { .. } => "an event is too large",
                FramingError::Corrupt { why } => why,
            };
            End::Failed(ApiError::new(Kind::Upstream, why))
        });
        (deltas, end.or(broken))
    }

    fn finish(&mut self) -> (Vec<Delta<'static>>, Option<End>) {
        let mut frames = Vec::new();
        self.framer.finish(&mut frames);
        let (deltas, end) = self.decode(&frames);
        let end = end.unwrap_or_else(|| self.decoder.finish());
        (deltas, Some(end))
    }

    fn decode(
        &mut self,
        frames: &[streamgate::wire::framing::Frame],
    ) -> (Vec<Delta<'static>>, Option<End>) {
        let mut all = Vec::new();
        for frame in frames {
            let mut deltas = Vec::new();
            let end = self.decoder.frame(frame, &mut deltas);
            all.extend(deltas.into_iter().map(Delta::into_owned));
            if end.is_some() {
                return (all, end);
            }
        }
        (all, None)
    }
}

/// Standard output. On a terminal, reasoning is shown dimmed; elsewhere it is left out.
struct Screen {
    terminal: bool,
    dimmed: bool,
    /// Whether the last character was a newline.
    fresh: bool,
}

impl Screen {
    fn new() -> Self {
        Self { terminal: std::io::stdout().is_terminal(), dimmed: false, fresh: true }
    }

    fn show(&mut self, text: &str, reasoning: bool) {
        if reasoning && !self.terminal {
            return;
        }
        let mut out = String::with_capacity(text.len());
        if reasoning != self.dimmed {
            self.dimmed = reasoning;
            if !self.fresh {
                out.push('\n');
            }
            out.push_str(if reasoning { DIM } else { PLAIN });
        }
        if self.terminal {
            out.extend(text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')));
        } else {
            out.push_str(text);
        }
        self.fresh = text.ends_with('\n');
        let _closed = std::io::stdout().write_all(out.as_bytes());
    }

    fn flush() {
        let _closed = std::io::stdout().flush();
    }

    fn end(&mut self) {
        let mut out = String::new();
        if self.dimmed {
            out.push_str(PLAIN);
        }
        if !self.fresh {
            out.push('\n');
        }
        let _closed = std::io::stdout().write_all(out.as_bytes());
        Self::flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_are_between_the_first_token_and_the_last() {
        let answer = Answer {
            first: Some(Duration::from_millis(300)),
            last: Duration::from_millis(2_300),
            tokens: Some(101),
            ..Answer::default()
        };
        assert_eq!(answer.measurements(), "[TTFT 300 ms, 50.0 tokens/s, 101 tokens]");
        let short = Answer { first: Some(Duration::from_millis(300)), pieces: 1, ..answer };
        let short = Answer { tokens: None, cut: true, stopped: true, ..short };
        assert_eq!(
            short.measurements(),
            "[TTFT 300 ms, about 1 tokens, cut off at the limit of tokens, stopped]"
        );
        assert_eq!(Answer::stopped().measurements(), "[no output]");
    }
}
