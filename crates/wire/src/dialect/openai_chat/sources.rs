//! Sources that stand beside the alternatives and not in `annotations`: those of servers that search for
//! every answer. They are repeated with every chunk, and must be written once, when the text is whole.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::event::Chunk;
use crate::chat::{Citation, Delta};
use crate::json;

type Raw<'a> = Option<&'a RawValue>;

/// The most sources of one answer.
const MOST: usize = 1024;

/// The sources of one answer, in the order in which marks like `[1]` in its text count them.
#[derive(Debug, Default)]
pub(super) struct Sources {
    list: Vec<Source>,
    /// The place of each address in it.
    places: HashMap<String, usize>,
    /// Addresses that an annotation names, with their places.
    annotated: HashSet<String>,
    /// Number of sources that have been written.
    told: usize,
    /// The last value read, by member, so that a repetition is not read again.
    read: [String; 3],
}

#[derive(Debug)]
struct Source {
    /// The number that marks in the text have for it.
    mark: u32,
    url: String,
    title: Option<String>,
    words: Option<String>,
}

/// An entry where it is an object.
#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    url: Raw<'a>,
    /// Z.AI.
    #[serde(borrow)]
    link: Raw<'a>,
    #[serde(borrow)]
    title: Raw<'a>,
    #[serde(borrow)]
    snippet: Raw<'a>,
}

impl Sources {
    /// Adds the sources of a chunk: `citations` (Perplexity, xAI), `search_results` (Perplexity) and
    /// `web_search` (Z.AI).
    pub(super) fn read(&mut self, chunk: &Chunk<'_>) {
        let members = [chunk.citations, chunk.search_results, chunk.web_search];
        for (member, raw) in members.into_iter().enumerate() {
            let Some(raw) = raw else { continue };
            let Some(before) = self.read.get_mut(member) else { continue };
            if before != raw.get() {
                raw.get().clone_into(before);
                self.list_of(raw);
            }
        }
    }

    fn list_of(&mut self, raw: &RawValue) {
        let entries: Vec<&RawValue> = serde_json::from_str(raw.get()).unwrap_or_default();
        for (mark, entry) in (1..).zip(entries) {
            if let Some(url) = json::text(entry) {
                self.add(mark, &url, (None, None));
            } else if let Ok(entry) = serde_json::from_str::<Entry<'_>>(entry.get()) {
                let words = |raw: Raw<'_>| raw.and_then(json::text).map(Cow::into_owned);
                let url = words(entry.url).or_else(|| words(entry.link)).unwrap_or_default();
                self.add(mark, &url, (words(entry.title), words(entry.snippet)));
            }
        }
    }

    fn add(&mut self, mark: u32, url: &str, (title, words): (Option<String>, Option<String>)) {
        if url.is_empty() {
            return;
        }
        let known = self.places.get(url).and_then(|at| self.list.get_mut(*at));
        if let Some(known) = known {
            known.title = known.title.take().or(title);
            known.words = known.words.take().or(words);
        } else if self.list.len() < MOST {
            let url = url.to_owned();
            self.places.insert(url.clone(), self.list.len());
            self.list.push(Source { mark, url, title, words });
        }
    }

    /// An annotation has named this address.
    pub(super) fn annotated(&mut self, url: &str) {
        if self.annotated.len() < MOST {
            self.annotated.insert(url.to_owned());
        }
    }

    /// Writes those that were not written yet.
    pub(super) fn tell(&mut self, out: &mut Vec<Delta<'_>>) {
        for source in self.list.iter().skip(self.told) {
            if !self.annotated.contains(&source.url) {
                out.push(Delta::Citation(Citation {
                    url: Some(source.url.clone()),
                    title: source.title.clone(),
                    cited_text: source.words.clone().filter(|words| !words.is_empty()),
                    mark: Some(source.mark),
                    ..Citation::default()
                }));
            }
        }
        self.told = self.list.len();
    }
}
