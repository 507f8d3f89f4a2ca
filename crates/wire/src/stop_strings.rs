//! Stop strings for an upstream that has no parameter for them: the text of an answer is searched as it
//! streams, and an alternative is ended before the first match. Text that cannot become a stop string must
//! never be withheld, and reasoning and tool calls are never searched.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::mem;

use super::chat::{Delta, End, Stop, Usage};
use super::stage::{Stage, Verdict};
use super::tally::Tally;

/// The most strings of one request. Vendors accept 4 or 5. Each costs a step for every byte of an answer.
const MOST: usize = 16;

/// The most bytes of one string, which bounds the text that is withheld.
const LONGEST: usize = 1024;

/// The stop strings of a request that its upstream does not accept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StopStrings {
    strings: Vec<String>,
    choices: u64,
}

impl StopStrings {
    /// Creates an empty list, for a request with this number of alternatives.
    pub fn new(choices: u64) -> Self {
        Self { strings: Vec::new(), choices }
    }

    /// Adds a string. Returns `false` if it is ignored: beyond 16 strings, or with more than 1,024 bytes.
    pub fn add(&mut self, string: String) -> bool {
        let fits = self.strings.len() < MOST && !string.is_empty() && string.len() <= LONGEST;
        if fits {
            self.strings.push(string);
        }
        fits
    }

    /// The strings, none of them empty.
    pub fn strings(&self) -> &[String] {
        &self.strings
    }
}

/// A string with its failure function (Knuth, Morris and Pratt), so that no byte of an answer is read twice.
#[derive(Debug)]
struct Pattern {
    text: String,
    /// For each prefix of the text, the length of its longest proper prefix that is also a suffix.
    borders: Vec<usize>,
}

impl Pattern {
    fn new(text: String) -> Self {
        let mut pattern = Self { borders: vec![0; text.len()], text };
        let mut matched = 0;
        for at in 1..pattern.text.len() {
            matched = pattern.next(matched, pattern.text.as_bytes().get(at).copied());
            if let Some(border) = pattern.borders.get_mut(at) {
                *border = matched;
            }
        }
        pattern
    }

    /// Length of the match after one more byte. Must not be called after a full match.
    fn next(&self, mut matched: usize, byte: Option<u8>) -> usize {
        loop {
            if self.text.as_bytes().get(matched).copied() == byte {
                return matched + 1;
            }
            let Some(last) = matched.checked_sub(1) else { return 0 };
            matched = self.borders.get(last).copied().unwrap_or_default();
        }
    }
}

/// State of the search in one answer.
#[derive(Debug)]
pub struct StopFilter {
    patterns: Vec<Pattern>,
    choices: BTreeMap<u32, Choice>,
    /// Number of alternatives of the answer.
    expected: usize,
    /// Number of alternatives that have ended.
    ended: usize,
    /// Whether a stop string ended one of them.
    cut: bool,
    /// Withheld bytes.
    held: usize,
    /// Bytes of the patterns in memory.
    tables: usize,
    /// Input tokens, by the gateway's estimate.
    input: u64,
}

impl StopFilter {
    /// Creates a search. `None` if there are no strings. `input` is the estimated number of input tokens.
    pub fn new(strings: StopStrings, input: u64) -> Option<Self> {
        let bytes: usize = strings.strings.iter().map(String::len).sum();
        (bytes > 0).then(|| Self {
            tables: bytes * (1 + size_of::<usize>()),
            patterns: strings.strings.into_iter().map(Pattern::new).collect(),
            choices: BTreeMap::new(),
            expected: usize::try_from(strings.choices).unwrap_or(usize::MAX).max(1),
            ended: 0,
            cut: false,
            held: 0,
            input,
        })
    }

    fn delta<'f>(&mut self, delta: Delta<'f>, out: &mut Vec<Delta<'f>>) {
        let Some(number) = delta.choice() else { return out.push(delta) };
        let patterns = &self.patterns;
        let choice = self.choices.entry(number).or_insert_with(|| Choice::new(number, patterns));
        if choice.cut {
            return;
        }
        let (held, ended) = (choice.held(), choice.ended);
        match delta {
            Delta::Text { text, .. } => choice.text(text, patterns, out),
            Delta::Logprobs { .. } | Delta::Citation(_) => choice.beside(delta, out),
            delta => {
                choice.flush(out);
                choice.ended = matches!(delta, Delta::Stop { .. });
                out.push(delta);
            }
        }
        self.held = self.held + choice.held() - held;
        self.ended = self.ended + usize::from(choice.ended) - usize::from(ended);
        self.cut |= choice.cut;
    }

    /// Whether a stop string completed the answer, regardless of further output of its upstream.
    fn is_complete(&self) -> bool {
        self.cut && self.ended >= self.expected
    }
}

impl Stage for StopFilter {
    /// Removes the text after a stop string, and withholds text that may become one.
    fn pass(&mut self, deltas: &mut Vec<Delta<'_>>) {
        for delta in mem::take(deltas) {
            self.delta(delta, deltas);
        }
    }

    /// The verdict, with an estimate of the usage, since the upstream's count has not arrived.
    fn verdict(&self, tally: &Tally) -> Option<Verdict> {
        let output = Some(tally.estimated_output().max(tally.usage.output.unwrap_or(0)));
        let input = Some(tally.usage.input.unwrap_or(self.input));
        let usage = Some(Usage { input, output, ..Usage::default() });
        self.is_complete().then_some(Verdict { end: End::Complete, usage })
    }

    fn flush(&mut self, out: &mut Vec<Delta<'_>>) {
        self.choices.values_mut().for_each(|choice| choice.flush(out));
        self.held = 0;
    }

    fn kept(&self) -> usize {
        let choice = size_of::<Choice>() + self.patterns.len() * size_of::<usize>();
        self.tables + self.held + self.choices.len() * choice
    }
}

/// State of the search in one alternative.
#[derive(Debug)]
struct Choice {
    number: u32,
    /// Length of the current match of each string.
    matched: Vec<usize>,
    /// The withheld end of the text, as long as the longest match.
    text: String,
    /// Bytes of the text before it.
    released: u64,
    /// Deltas that arrived beside withheld text, each with the length of the text at that time.
    beside: VecDeque<(u64, Delta<'static>)>,
    beside_bytes: usize,
    /// Ended by a stop string or by the upstream.
    ended: bool,
    cut: bool,
}

impl Choice {
    fn new(number: u32, patterns: &[Pattern]) -> Self {
        Self {
            number,
            matched: vec![0; patterns.len()],
            text: String::new(),
            released: 0,
            beside: VecDeque::new(),
            beside_bytes: 0,
            ended: false,
            cut: false,
        }
    }

    fn held(&self) -> usize {
        self.text.len() + self.beside_bytes
    }

    /// Reads up to the end of a stop string. Returns the number of bytes read and the string. If several end
    /// there, the longest counts.
    fn search<'p>(&mut self, text: &str, patterns: &'p [Pattern]) -> Option<(usize, &'p str)> {
        for (at, byte) in text.bytes().enumerate() {
            let mut found: Option<&str> = None;
            for (pattern, matched) in patterns.iter().zip(&mut self.matched) {
                *matched = pattern.next(*matched, Some(byte));
                let whole = *matched == pattern.text.len();
                if whole && found.is_none_or(|found| found.len() < pattern.text.len()) {
                    found = Some(&pattern.text);
                }
            }
            if let Some(found) = found {
                return Some((at + 1, found));
            }
        }
        None
    }

    fn text<'f>(&mut self, text: Cow<'f, str>, patterns: &[Pattern], out: &mut Vec<Delta<'f>>) {
        self.ended = false;
        match self.search(&text, patterns) {
            None => {
                let open = self.matched.iter().copied().max().unwrap_or_default();
                self.release(text, open, out);
            }
            Some((end, found)) => {
                let read = text.get(..end).unwrap_or_default().to_owned();
                self.release(read.into(), found.len(), out);
                let reason = Stop::Sequence(Some(found.to_owned()));
                out.push(Delta::Stop { choice: self.number, reason });
                *self = Self { ended: true, cut: true, ..Self::new(self.number, &[]) };
            }
        }
    }

    /// Appends to the text and writes all but the last bytes. A stop string starts and ends at a character
    /// boundary, and so does the written text.
    fn release<'f>(&mut self, text: Cow<'f, str>, last: usize, out: &mut Vec<Delta<'f>>) {
        let choice = self.number;
        let written = (self.text.len() + text.len()).saturating_sub(last);
        if self.text.is_empty() && last == 0 {
            out.push(Delta::Text { choice, text });
        } else {
            self.text.push_str(&text);
            let held = self.text.split_off(written);
            let text = mem::replace(&mut self.text, held);
            if !text.is_empty() {
                out.push(Delta::Text { choice, text: text.into() });
            }
        }
        self.released += written as u64;
        while let Some((_, delta)) = self.beside.pop_front_if(|(place, _)| *place <= self.released)
        {
            self.beside_bytes -= delta.size();
            push_beside(delta, out);
        }
    }

    /// Keeps a delta in step with the text that it belongs to.
    fn beside<'f>(&mut self, delta: Delta<'f>, out: &mut Vec<Delta<'f>>) {
        if self.text.is_empty() {
            return push_beside(delta, out);
        }
        let delta = delta.into_owned();
        self.beside_bytes += delta.size();
        self.beside.push_back((self.released + self.text.len() as u64, delta));
    }

    /// Writes the withheld text.
    fn flush(&mut self, out: &mut Vec<Delta<'_>>) {
        self.matched.fill(0);
        if !self.text.is_empty() {
            self.release(Cow::Borrowed(""), 0, out);
        }
    }
}

/// Appends a delta. Consecutive log probabilities belong to one text and are merged.
fn push_beside<'f>(delta: Delta<'f>, out: &mut Vec<Delta<'f>>) {
    if let Delta::Logprobs { choice, items } = &delta
        && let Some(Delta::Logprobs { choice: last, items: all }) = out.last_mut()
        && choice == last
        && !all.is_empty()
        && !items.is_empty()
    {
        let all = all.to_mut();
        all.push(',');
        all.push_str(items);
    } else {
        out.push(delta);
    }
}

#[cfg(test)]
#[path = "stop_strings_tests.rs"]
mod tests;
