//! Stages between decoder and encoder: steps that rewrite, withhold or end a translated answer delta by delta. They
//! must never see bytes of either side.

use crate::chat::{Delta, End, Usage};
use crate::tally::Tally;

/// One step between decoder and encoder, with the state of one answer.
pub trait Stage: Send {
    /// Takes the deltas of one frame; what it leaves goes on to the encoder, in that order. A delta that
    /// must wait is taken out and kept with [`Delta::into_owned`].
    fn pass(&mut self, deltas: &mut Vec<Delta<'_>>);
    /// Whether the answer ends with the deltas that have just passed, whatever its upstream still writes.
    fn verdict(&self, _tally: &Tally) -> Option<Verdict> {
        None
    }
    /// Adds the deltas that still wait: no others follow.
    fn flush(&mut self, _deltas: &mut Vec<Delta<'_>>) {}
    /// The bytes of what waits.
    fn kept(&self) -> usize {
        0
    }
}

/// The end of an answer by a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// How it ended for its caller.
    pub end: End,
    /// The usage to report, since the upstream's own is not waited for.
    pub usage: Option<Usage>,
}

/// The stages of one answer, in order. Mostly none.
#[derive(Default)]
pub(crate) struct Stages(Vec<Box<dyn Stage>>);

impl Stages {
    pub(crate) fn push(&mut self, stage: Box<dyn Stage>) {
        self.0.push(stage);
    }

    pub(crate) fn pass(&mut self, deltas: &mut Vec<Delta<'_>>) {
        for stage in &mut self.0 {
            stage.pass(deltas);
        }
    }

    /// The verdict of the first stage that has one.
    pub(crate) fn verdict(&self, tally: &Tally) -> Option<Verdict> {
        self.0.iter().find_map(|stage| stage.verdict(tally))
    }

    /// Flushes each stage through those behind it, and returns the verdict on the whole. None is left.
    pub(crate) fn flush(&mut self, deltas: &mut Vec<Delta<'_>>, tally: &Tally) -> Option<Verdict> {
        let mut later = self.0.as_mut_slice();
        while let Some((stage, rest)) = later.split_first_mut() {
            let mut held = Vec::new();
            stage.flush(&mut held);
            for stage in rest.iter_mut() {
                stage.pass(&mut held);
            }
            deltas.append(&mut held);
            later = rest;
        }
        let verdict = self.verdict(tally);
        self.0.clear();
        verdict
    }

    pub(crate) fn kept(&self) -> usize {
        self.0.iter().map(|stage| stage.kept()).sum()
    }
}
