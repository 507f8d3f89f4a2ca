//! Scripted response bodies for tests: chunks, pauses by the runtime's clock, and failures.

use std::collections::VecDeque;
use std::future::pending;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::yield_now;
use tokio::time::{Sleep, advance, sleep};

use super::source::{Chunk, SourceError};

/// One step of a script.
#[derive(Debug, Clone)]
pub enum Step {
    /// Bytes arrive.
    Chunk(Bytes),
    /// Nothing arrives for so long.
    Wait(Duration),
    /// The worker needs so long for other streams before it polls this one again.
    Busy(Duration),
    /// The rest arrives when the body is polled once more, as from the task of an HTTP connection.
    Turn,
    /// The body breaks off.
    Break,
    /// Nothing more arrives.
    Hang,
}

/// A body that ends after its last step.
#[derive(Debug)]
pub struct Script {
    steps: VecDeque<Step>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Script {
    /// A body of these steps.
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect(), pause: None }
    }

    /// The next chunk. Cancel-safe: a pause that was left goes on.
    pub async fn chunk(&mut self) -> Chunk {
        loop {
            if let Some(pause) = &mut self.pause {
                pause.await;
                self.pause = None;
            }
            match self.steps.pop_front() {
                Some(Step::Chunk(bytes)) => return Ok(Some(bytes)),
                Some(Step::Wait(time)) => self.pause = Some(Box::pin(sleep(time))),
                Some(Step::Busy(time)) => advance(time).await,
                Some(Step::Turn) => yield_now().await,
                Some(Step::Break) => return Err(SourceError::Script),
                Some(Step::Hang) => {
                    self.steps.push_front(Step::Hang);
                    pending::<()>().await;
                }
                None => return Ok(None),
            }
        }
    }
}
