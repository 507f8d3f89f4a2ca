//! Stages between decoder and encoder: steps that rewrite, withhold or end a translated answer delta by delta.
//! They must never see the bytes of either side.

use crate::chat::{Delta, End, Usage};
use crate::tally::Tally;

/// One step between decoder and encoder, with the state of one answer.
pub trait Stage: Send {
    /// Processes the deltas of one frame. The remaining deltas go to the encoder in order. A delta that must
    /// wait is removed and kept with [`Delta::into_owned`].
    fn pass(&mut self, deltas: &mut Vec<Delta<'_>>);
    /// The verdict, if the answer ends with the deltas that have just passed, regardless of further output of
    /// its upstream.
    fn verdict(&self, _tally: &Tally) -> Option<Verdict> {
        None
    }
    /// Appends the deltas that still wait. No others follow.
    fn flush(&mut self, _deltas: &mut Vec<Delta<'_>>) {}
    /// Bytes of the deltas that wait.
    fn kept(&self) -> usize {
        0
    }
}

/// The end of an answer by a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The end as reported to the caller.
    pub end: End,
    /// The usage to report, since the upstream's own count has not arrived.
    pub usage: Option<Usage>,
}

/// The stages of one answer, in order. Usually none.
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

    /// Flushes each stage through those behind it, and returns the verdict on the whole. No stages are left.
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
