//! The tally of one answer: tokens, output and identity, readable while it streams. It must never keep the
//! answer's text.

use super::chat::{Delta, Stop, Usage};
use super::encrypted_state::StateDigest;

/// The most values of encrypted state of which an answer has digests.
const MAX_STATES: usize = 8;

/// Totals of an answer. They grow with the stream and are readable at any time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// The upstream's own count, cumulative.
    pub usage: Usage,
    /// Stop reason of the first alternative, once received.
    pub stop: Option<Stop>,
    /// Number of deltas of model output.
    pub outputs: u64,
    /// Bytes of model output, in UTF-8.
    pub output_bytes: u64,
    /// The upstream's id of the answer.
    pub id: Option<String>,
    /// The model as the upstream names it.
    pub model: Option<String>,
    /// Digests of its encrypted reasoning state.
    pub states: Vec<StateDigest>,
    /// The answer is complete, so that the upstream's count is final.
    pub complete: bool,
    /// A stop string ended the answer before its upstream did, so that no count of the upstream is final.
    pub stopped_early: bool,
}

impl Tally {
    /// Output tokens, and whether they are an estimate: the upstream's count if it is final, else four bytes
    /// per token but at least one token per delta, since a delta is rarely less.
    pub fn output_tokens(&self) -> (u64, bool) {
        let counted = (self.complete || self.stop.is_some()) && !self.stopped_early;
        match self.usage.output {
            Some(tokens) if counted => (tokens, false),
            said => (self.estimated_output().max(said.unwrap_or(0)), true),
        }
    }

    /// Estimated output tokens from the output so far, regardless of the upstream's count.
    pub fn estimated_output(&self) -> u64 {
        self.outputs.max(self.output_bytes.div_ceil(4))
    }

    /// Records a delta, except stops. Returns whether it is model output.
    pub(super) fn note(&mut self, delta: &Delta<'_>) -> bool {
        match delta {
            Delta::Start { id, model } => {
                for (word, known) in [(id, &mut self.id), (model, &mut self.model)] {
                    if !word.is_empty() {
                        *known = Some(word.to_string());
                    }
                }
            }
            Delta::Usage(usage) => self.usage.replace_with(usage),
            _ if delta.is_output() => {
                self.outputs += 1;
                if self.states.len() < MAX_STATES {
                    self.states.extend(StateDigest::of_delta(delta));
                }
                self.output_bytes += delta.output().len() as u64;
                return true;
            }
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    #[test]
    fn the_tally_counts_output_and_says_when_it_guesses() {
        let mut tally = Tally::default();
        assert_eq!(tally.output_tokens(), (0, true));
        tally.note(&Delta::Text { choice: 0, text: Cow::Borrowed("123456789") });
        assert_eq!(tally.output_tokens(), (3, true));
        tally.note(&Delta::Usage(Usage { output: Some(1), input: Some(7), ..Usage::default() }));
        assert_eq!(tally.output_tokens(), (3, true));
        tally.note(&Delta::Usage(Usage { output: Some(42), ..Usage::default() }));
        assert_eq!(tally.output_tokens(), (42, true));
        tally.complete = true;
        assert_eq!(tally.output_tokens(), (42, false));
        tally.stopped_early = true;
        assert_eq!(tally.output_tokens(), (42, true));
        assert_eq!(tally.usage.input, Some(7));
        tally.note(&Delta::Start { id: Cow::Borrowed("i"), model: Cow::Borrowed("m") });
        tally.note(&Delta::Start { id: Cow::Borrowed("i"), model: Cow::Borrowed("") });
        assert_eq!(tally.model.as_deref(), Some("m"));
    }
}
