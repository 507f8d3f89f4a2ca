//! Execution of a program: the steps of one answer, and their pace.
//!
//! `Play` determines the steps and has no clock; `body` is the stream that waits and sends. Dropping the stream
//! cancels the answer.

use std::io;
use std::iter::Peekable;
use std::time::Duration;

use async_stream::stream;
use bytes::Bytes;
use futures_util::Stream;
use tokio::time::{Instant, sleep, sleep_until};

use super::answer::{Answer, Piece};
use super::aws_frames;
use super::encoder::{Encoder, Event, Layout, Totals};
use super::program::{Fault, FaultAction, Framing, Program};
use super::stats::OpenStream;

/// Time for the server to flush sent data before a connection is aborted.
const FLUSH: Duration = Duration::from_millis(5);

/// Step sequence of one streamed answer.
pub(super) struct Play {
    program: Program,
    encoder: Box<dyn Encoder>,
    pieces: Peekable<Box<dyn Iterator<Item = Piece> + Send>>,
    totals: Totals,
    fault: Option<Fault>,
    /// Number of tokens sent so far.
    said: u64,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Opening,
    Tokens,
    Over,
}

/// The next step of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Writes the bytes once `said` tokens of the answer are due. They contain `new` tokens.
    Write {
        bytes: Bytes,
        new: u64,
        said: u64,
    },
    /// Writes the bytes and ends the stream.
    Last(Bytes),
    Abort,
    Silence,
    End,
}

impl Play {
    /// A stream of `answer` in the format of `encoder`.
    pub(super) fn new(program: Program, encoder: Box<dyn Encoder>, answer: Answer) -> Self {
        Self {
            fault: program.fault,
            program,
            encoder,
            pieces: answer.pieces.peekable(),
            totals: Totals { tokens: answer.total, thinking: answer.thinking, stop: answer.stop },
            said: 0,
            stage: Stage::Opening,
        }
    }

    /// The next step.
    pub(super) fn step(&mut self) -> Step {
        match self.stage {
            Stage::Opening => {
                self.stage = Stage::Tokens;
                let events = self.encoder.opening(self.pieces.peek());
                self.write(&events, 0)
            }
            Stage::Tokens => self.tokens(),
            Stage::Over => Step::End,
        }
    }

    /// Writes tokens, or injects a due fault.
    fn tokens(&mut self) -> Step {
        if let Some(blow) = self.due_fault() {
            return self.inject(blow);
        }
        let mut events = Vec::new();
        let mut new = 0;
        while new < self.program.batch && (new == 0 || !self.due()) {
            let Some(piece) = self.pieces.next() else {
                break;
            };
            events.extend(self.encoder.say(&piece));
            self.said = self.said.saturating_add(1);
            new += 1;
        }
        if new > 0 { self.write(&events, new) } else { self.close() }
    }

    /// Whether the fault's token has been reached.
    fn due(&self) -> bool {
        matches!(self.fault, Some(Fault::After(at, _)) if self.said >= at)
    }

    /// The fault, if it is due: at its token, or before the end of a shorter answer.
    fn due_fault(&mut self) -> Option<FaultAction> {
        match self.fault {
            Some(Fault::After(_, blow)) if self.due() || self.pieces.peek().is_none() => {
                self.fault = None;
                Some(blow)
            }
            _ => None,
        }
    }

    fn inject(&mut self, blow: FaultAction) -> Step {
        match blow {
            FaultAction::Reset => Step::Abort,
            FaultAction::Stall => Step::Silence,
            FaultAction::Close => Step::End,
            FaultAction::Error => {
                self.stage = Stage::Over;
                Step::Last(self.layout(&self.encoder.failure()))
            }
            FaultAction::Junk => {
                let junk = self.encoder.junk();
                self.write(&[junk], 0)
            }
        }
    }

    fn close(&mut self) -> Step {
        self.stage = Stage::Over;
        let mut events = self.encoder.closing(self.totals);
        if self.fault == Some(Fault::NoDone) {
            events.truncate(events.len().saturating_sub(self.encoder.terminators()));
        }
        Step::Last(self.layout(&events))
    }

    fn write(&self, events: &[Event], new: u64) -> Step {
        Step::Write { bytes: self.layout(events), new, said: self.said }
    }

    fn layout(&self, events: &[Event]) -> Bytes {
        match self.encoder.layout() {
            Layout::Sse => event_stream(events, self.program.framing),
            Layout::Ndjson => lines(events, self.program.framing),
            Layout::AwsEventStream => events.iter().flat_map(aws_frames::message).collect(),
            Layout::AwsChunks => events.iter().flat_map(aws_frames::chunk).collect(),
            Layout::Crlf => event_stream(events, Framing { crlf: true, ..self.program.framing }),
            Layout::Json => Bytes::from(
                events.iter().map(|event| event.data.as_str()).collect::<Vec<_>>().concat(),
            ),
        }
    }
}

/// Encodes events as server-sent events.
fn event_stream(events: &[Event], framing: Framing) -> Bytes {
    let end = if framing.crlf { "\r\n" } else { "\n" };
    let mut text = String::new();
    for event in events {
        if framing.comment {
            text.extend([": simulated", end, end]);
        }
        if let Some(name) = event.name {
            text.extend(["event: ", name, end]);
        }
        text.extend(["data: ", &event.data, end, end]);
    }
    Bytes::from(text)
}

/// Encodes events as lines. This format has no comments.
fn lines(events: &[Event], framing: Framing) -> Bytes {
    let end = if framing.crlf { "\r\n" } else { "\n" };
    let text: String = events.iter().flat_map(|event| [event.data.as_str(), end]).collect();
    Bytes::from(text)
}

/// Time until the first `said` tokens of a program are due.
pub(super) fn lasts(program: &Program, said: u64) -> Duration {
    let Some(gaps) = said.checked_sub(1) else {
        return Duration::ZERO;
    };
    let micros = u64::try_from(program.interval.as_micros()).unwrap_or(u64::MAX);
    program.first.saturating_add(Duration::from_micros(micros.saturating_mul(gaps)))
}

/// The body of a streamed answer. `choices` is the factor by which sent tokens are counted.
pub(super) fn body(
    mut play: Play,
    choices: u64,
    mut under_way: OpenStream,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let split = play.program.framing.split;
    let steps = stream! {
        let start = Instant::now();
        loop {
            match play.step() {
                Step::Write { bytes, new, said } => {
                    let due = start + lasts(&play.program, said);
                    // Relative to the start and not to the last token, so that delays do not accumulate.
                    if new > 0 && due > Instant::now() {
                        sleep_until(due).await;
                    }
                    under_way.sent(new.saturating_mul(choices));
                    yield Ok(bytes);
                }
                Step::Last(bytes) => {
                    // Before the bytes are sent, since a client may disconnect after the terminator.
                    under_way.end();
                    yield Ok(bytes);
                }
                Step::Abort => {
                    under_way.end();
                    sleep(FLUSH).await;
                    yield Err(aborted());
                    break;
                }
                Step::Silence => std::future::pending().await,
                Step::End => {
                    under_way.end();
                    break;
                }
            }
        }
    };
    bytewise(steps, split)
}

/// The body of an answer that is not streamed. A fault cuts it in half.
pub(super) fn cut(
    bytes: Bytes,
    blow: FaultAction,
    mut under_way: OpenStream,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream! {
        yield Ok(bytes.slice(..bytes.len() / 2));
        match blow {
            FaultAction::Stall => std::future::pending().await,
            FaultAction::Reset => {
                under_way.end();
                sleep(FLUSH).await;
                yield Err(aborted());
            }
            FaultAction::Close | FaultAction::Junk | FaultAction::Error => under_way.end(),
        }
    }
}

fn aborted() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the program aborts the connection here")
}

/// Sends each byte separately if `split` is set.
fn bytewise(
    steps: impl Stream<Item = io::Result<Bytes>> + Send,
    split: bool,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream! {
        for await step in steps {
            match step {
                Ok(bytes) if split => {
                    for at in 0..bytes.len() {
                        yield Ok(bytes.slice(at..=at));
                        // A pending body makes the server flush.
                        tokio::task::yield_now().await;
                    }
                }
                step => yield step,
            }
        }
    }
}
