//! End states of generations: the words that records of an end and viewers' formats share. A generation that goes
//! on has none.

use crate::chat::End;

/// The state of a generation that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndState {
    /// The upstream ended it with its terminal event.
    Complete,
    /// It ended early or with an error.
    Error,
    /// It was cancelled on request.
    Cancelled,
    /// The process that made it stopped.
    Lost,
}

impl EndState {
    /// The state that an end results in.
    pub fn of(end: &End) -> Self {
        match end {
            End::Complete => Self::Complete,
            End::Cancelled => Self::Cancelled,
            End::ShuttingDown | End::Lost => Self::Lost,
            End::Truncated
            | End::Failed(_)
            | End::TimedOut(_)
            | End::CutOff(_)
            | End::Unavailable(_) => Self::Error,
        }
    }

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
        }
    }
}
