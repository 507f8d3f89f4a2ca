//! Seam of a continued answer: a stage that holds the beginning of the second part until it is known to go on where the
//! first one broke off. It must never let a repeated beginning pass, nor lose a character.

use std::borrow::Cow;

use super::Method;
use crate::chat::{ApiError, Delta, End, Kind};
use crate::stage::{Stage, Verdict};
use crate::tally::Tally;

/// The most characters that are held.
const MAX_HELD: usize = 240;

/// So many characters of the beginning are no coincidence.
const MIN_REPEATED: usize = 24;

/// The characters at the end of the first part that an instructed model repeats.
const ANCHOR: usize = 40;

/// Fewer of them could be anywhere.
const MIN_ANCHOR: usize = 12;

/// The stage.
#[derive(Debug)]
pub struct Seam {
    /// The first part, without its trailing whitespace.
    before: String,
    /// That whitespace, which the caller has.
    blank: String,
    /// The end of the first part, which an instructed model repeats.
    anchor: Option<Vec<char>>,
    held: String,
    /// Usage and stop that came while text was held.
    later: Vec<Delta<'static>>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Undecided,
    Passing,
    Refused,
}

/// The finding about the held text.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    /// It may yet be a repetition.
    Unknown,
    /// It goes on from this byte.
    Continues(usize),
    /// It is not the continuation of the text.
    Foreign,
}

impl Seam {
    /// The seam after a text.
    pub fn new(text: &str, method: Method) -> Self {
        let before = text.trim_end();
        Self {
            blank: text.split_at(before.len()).1.to_owned(),
            before: before.to_owned(),
            anchor: (method == Method::Instruct).then(|| anchor(before)),
            held: String::new(),
            later: Vec::new(),
            state: State::Undecided,
        }
    }

    /// `whole`: no more text will come.
    fn find(&self, whole: bool) -> Finding {
        let full = whole || self.held.chars().nth(MAX_HELD).is_some();
        if let Some(anchor) = &self.anchor {
            return match after_anchor(anchor, &self.held) {
                Some(at) => self.behind(at, whole),
                None if full && !self.held.is_empty() => Finding::Foreign,
                None if full => Finding::Continues(0),
                None => Finding::Unknown,
            };
        }
        let said = self.held.trim_start();
        let lead = self.held.len() - said.len();
        let first = self.before.trim_start();
        let same = common(first, said);
        let repeated = first.split_at(same).0.chars().count();
        if same == first.len() {
            // The answer began again. A short one may be a coincidence, which nothing tells from a repetition.
            return if repeated < MIN_REPEATED {
                Finding::Foreign
            } else if full || said.len() > same {
                self.behind(lead + same, whole)
            } else {
                Finding::Unknown
            };
        }
        if same == said.len() && !full {
            return Finding::Unknown;
        }
        if repeated >= MIN_REPEATED {
            return Finding::Foreign;
        }
        self.behind(0, whole)
    }

    /// The finding that the text goes on from a byte of the held one, behind the whitespace that the caller has. Some of
    /// that may be still to come.
    fn behind(&self, at: usize, whole: bool) -> Finding {
        let rest = self.held.get(at..).unwrap_or_default();
        let blank = common(&self.blank, rest);
        if !whole && blank == rest.len() && blank < self.blank.len() {
            return Finding::Unknown;
        }
        Finding::Continues(at + blank)
    }

    fn decide(&mut self, whole: bool, deltas: &mut Vec<Delta<'_>>) {
        match self.find(whole) {
            Finding::Unknown => return,
            Finding::Foreign => self.state = State::Refused,
            Finding::Continues(from) => {
                self.state = State::Passing;
                let text = self.held.get(from..).unwrap_or_default().to_owned();
                if !text.is_empty() {
                    deltas.push(Delta::Text { choice: 0, text: Cow::Owned(text) });
                }
                deltas.extend(std::mem::take(&mut self.later));
            }
        }
        self.held = String::new();
    }
}

impl Stage for Seam {
    fn pass(&mut self, deltas: &mut Vec<Delta<'_>>) {
        if self.state == State::Passing {
            deltas.retain(|delta| !matches!(delta, Delta::Start { .. }));
            return;
        }
        let mut passed = Vec::new();
        for delta in deltas.drain(..) {
            match (self.state, delta) {
                (State::Refused, _) | (_, Delta::Start { .. }) => {}
                (State::Passing, delta) => passed.push(delta),
                (State::Undecided, Delta::Text { choice: 0, text }) => {
                    self.held.push_str(&text);
                    self.decide(false, &mut passed);
                }
                (State::Undecided, delta @ (Delta::Usage(_) | Delta::Stop { .. })) => {
                    self.later.push(delta.into_owned());
                }
                // Reasoning or a call is no continuation of a text.
                (State::Undecided, _) => self.state = State::Refused,
            }
        }
        *deltas = passed;
    }

    fn verdict(&self, _tally: &Tally) -> Option<Verdict> {
        let fault = || ApiError::new(Kind::Upstream, "the answer was not continued");
        (self.state == State::Refused).then(|| Verdict { end: End::Failed(fault()), usage: None })
    }

    fn flush(&mut self, deltas: &mut Vec<Delta<'_>>) {
        if self.state == State::Undecided {
            self.decide(true, deltas);
        }
    }

    fn kept(&self) -> usize {
        self.before.len() + self.held.len()
    }
}

/// The bytes at the beginning that two texts share.
fn common(one: &str, two: &str) -> usize {
    let mut same = one.chars().zip(two.chars()).take_while(|(a, b)| a == b);
    same.by_ref().map(|(a, _)| a.len_utf8()).sum()
}

/// The last characters of a text, folded.
fn anchor(before: &str) -> Vec<char> {
    let folded = folded(before);
    let from = folded.len().saturating_sub(ANCHOR);
    folded.into_iter().skip(from).map(|(c, _)| c).collect()
}

/// The byte of a text behind the anchor. `None`: the text does not have it, or it is too short to be one.
fn after_anchor(anchor: &[char], held: &str) -> Option<usize> {
    if anchor.len() < MIN_ANCHOR {
        return None;
    }
    let held = folded(held);
    let found = held
        .windows(anchor.len())
        .find(|window| window.iter().map(|(c, _)| c).eq(anchor.iter()))?;
    found.last().map(|(_, end)| *end)
}

/// The characters of a text, each with the byte after it: runs of whitespace as one blank, straight quotes.
fn folded(text: &str) -> Vec<(char, usize)> {
    let mut out: Vec<(char, usize)> = Vec::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        let end = at + c.len_utf8();
        let c = match c {
            '\u{2018}' | '\u{2019}' => '\'',
            '\u{201c}' | '\u{201d}' => '"',
            c if c.is_whitespace() => ' ',
            c => c,
        };
        match out.last_mut() {
            Some((' ', last)) if c == ' ' => *last = end,
            _ => out.push((c, end)),
        }
    }
    out
}

#[cfg(test)]
#[path = "seam_tests.rs"]
mod tests;
