//! Faults of the simulated upstream, and how a gateway has to report each. A fault must never end
//! as a complete response, without an end, or as a bare disconnect.

use super::failure::{Kind, LoadError};
use super::tally::{End, Outcome};

/// A fault of the simulated upstream (`docs/simulator.md`) and the expected response.
#[derive(Debug)]
pub(super) struct Fault {
    /// The keyword in the program, without its number of tokens.
    pub word: &'static str,
    /// The fault occurs after half of the tokens, and its keyword has their number.
    pub strikes_midway: bool,
    expected: Expected,
}

/// The expected response to a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// The tokens before the fault, then an error event.
    InBand,
    /// An error status of 500 or above, or an error event without any token.
    ServerError,
    /// 429 with `retry-after`, or an error event without any token.
    RateLimited,
    /// All tokens; then complete, if the upstream named its stop reason, or an error event.
    Either,
}

/// Every fault.
pub(super) static FAULTS: &[Fault] = &[
    Fault { word: "reset", strikes_midway: true, expected: Expected::InBand },
    Fault { word: "close", strikes_midway: true, expected: Expected::InBand },
    Fault { word: "stall", strikes_midway: true, expected: Expected::InBand },
    Fault { word: "err", strikes_midway: true, expected: Expected::InBand },
    Fault { word: "junk", strikes_midway: true, expected: Expected::InBand },
    Fault { word: "nodone", strikes_midway: false, expected: Expected::Either },
    Fault { word: "hang", strikes_midway: false, expected: Expected::ServerError },
    Fault { word: "e429", strikes_midway: false, expected: Expected::RateLimited },
    Fault { word: "e500", strikes_midway: false, expected: Expected::ServerError },
    Fault { word: "e503", strikes_midway: false, expected: Expected::ServerError },
];

impl Fault {
    /// The program of this fault for an answer of `tokens`, one each `interval_us` microseconds.
    pub(super) fn program(&self, tokens: u64, interval_us: u128) -> String {
        let Self { word, .. } = self;
        if self.strikes_midway {
            format!("n{tokens}-i{interval_us}-{word}{}", tokens / 2)
        } else {
            format!("n{tokens}-i{interval_us}-{word}")
        }
    }

    /// A description of the expected response.
    pub(super) fn expected(&self) -> &'static str {
        match self.expected {
            Expected::InBand => "error event",
            Expected::ServerError => "status 5xx, or error event",
            Expected::RateLimited => "status 429, or error event",
            Expected::Either => "complete, or error event",
        }
    }

    /// A description of the observed response.
    pub(super) fn seen(outcome: &Outcome) -> String {
        match &outcome.end {
            End::Complete => "complete".to_owned(),
            End::Left => "left".to_owned(),
            End::Refused => "status 429".to_owned(),
            End::Reported(seen) => seen.clone(),
            End::Failed(LoadError { kind: Kind::InBand, .. }) => "error event".to_owned(),
            End::Failed(LoadError { kind: Kind::Status(status), .. }) => format!("status {status}"),
            End::Failed(failure) => failure.kind.to_string(),
        }
    }

    /// The outcome as this fault's: an expected error is a report, and a complete answer is a false completion.
    pub(super) fn judge(&self, outcome: &Outcome, tokens: u64) -> Outcome {
        let most = if self.strikes_midway { tokens / 2 } else { tokens };
        let error = match &outcome.end {
            End::Failed(failure) => Some(failure.kind),
            _ => None,
        };
        let right = match (self.expected, error) {
            (Expected::InBand | Expected::Either, Some(Kind::InBand)) => outcome.tokens <= most,
            // If the head was sent before the upstream answered, an error event is enough.
            (Expected::ServerError | Expected::RateLimited, Some(Kind::InBand)) => {
                outcome.tokens == 0
            }
            (Expected::ServerError, Some(Kind::Status(status))) => status >= 500,
            (Expected::RateLimited, None) => outcome.end == End::Refused,
            (Expected::Either, None) => outcome.end == End::Complete,
            _ => false,
        };
        let end = if right {
            End::Reported(Self::seen(outcome))
        } else if outcome.end == End::Complete {
            let detail = format!("{}: complete although the upstream failed", self.word);
            End::Failed(LoadError::new(Kind::FalseCompletion, detail))
        } else {
            self.wrong(outcome)
        };
        Outcome { end, ..outcome.clone() }
    }

    fn wrong(&self, outcome: &Outcome) -> End {
        let (kind, detail) = match &outcome.end {
            End::Failed(failure) => (failure.kind, failure.detail.as_str()),
            _ => (Kind::Junk, "an end that was not expected"),
        };
        let hint = if kind == Kind::Stalled {
            "; --timeout must be longer than the gateway's stream.stall and stream.first_token"
        } else {
            ""
        };
        let seen = format!("{}: expected {}: {detail}{hint}", self.word, self.expected());
        End::Failed(LoadError::new(kind, seen))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn judged(word: &str, end: End, tokens: u64) -> End {
        let fault = FAULTS.iter().find(|fault| fault.word == word).unwrap();
        let outcome = Outcome {
            end,
            longest_gap: None,
            duration: Duration::from_secs(1),
            tokens,
            heartbeats: 0,
        };
        fault.judge(&outcome, 100).end
    }

    fn failed(kind: Kind) -> End {
        End::Failed(LoadError::new(kind, "m"))
    }

    fn kind(end: End) -> Option<Kind> {
        match end {
            End::Failed(failure) => Some(failure.kind),
            _ => None,
        }
    }

    #[test]
    fn honest_ends_are_reports() {
        for (word, end, tokens, seen) in [
            ("reset", failed(Kind::InBand), 40, "error event"),
            ("err", failed(Kind::InBand), 50, "error event"),
            ("nodone", End::Complete, 100, "complete"),
            ("nodone", failed(Kind::InBand), 100, "error event"),
            ("hang", failed(Kind::Status(504)), 0, "status 504"),
            ("hang", failed(Kind::InBand), 0, "error event"),
            ("e429", End::Refused, 0, "status 429"),
            ("e500", failed(Kind::Status(502)), 0, "status 502"),
        ] {
            assert_eq!(judged(word, end, tokens), End::Reported(seen.to_owned()), "{word}");
        }
    }

    #[test]
    fn other_ends_are_failures() {
        for (word, end, tokens, wanted) in [
            ("reset", End::Complete, 50, Kind::FalseCompletion),
            ("hang", End::Complete, 0, Kind::FalseCompletion),
            ("close", failed(Kind::Truncated), 50, Kind::Truncated),
            ("err", failed(Kind::InBand), 51, Kind::InBand),
            ("stall", failed(Kind::Stalled), 50, Kind::Stalled),
            ("e429", failed(Kind::Status(429)), 0, Kind::Status(429)),
            ("e500", failed(Kind::Status(400)), 0, Kind::Status(400)),
            ("e500", End::Refused, 0, Kind::Junk),
        ] {
            assert_eq!(kind(judged(word, end, tokens)), Some(wanted), "{word}");
        }
    }

    #[test]
    fn programs() {
        let programs: Vec<String> = FAULTS.iter().map(|fault| fault.program(100, 5000)).collect();
        assert_eq!(programs[0], "n100-i5000-reset50");
        assert_eq!(programs[7], "n100-i5000-e429");
    }
}
