//! Web searches: the queries and results of the vendor's server tool, and the blocks that stand for the
//! search of another vendor. It must never make up a result, nor content that only the vendor can seal.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::event::Content;
use crate::chat::{SearchResult, SearchRun};
use crate::json::{Members, quoted, text};

/// Prefix of the ids of searches that another vendor ran. The vendor's own ids never have it.
pub(super) const FOREIGN: &str = "srvtoolu_streamgate";

/// The most searches whose results are awaited at once.
const MOST: usize = 64;

#[derive(Debug, Deserialize)]
struct Found<'a> {
    #[serde(borrow)]
    url: Option<&'a RawValue>,
    #[serde(borrow)]
    title: Option<&'a RawValue>,
}

/// The searches that are under way, by id, with their input.
#[derive(Debug, Default)]
pub(super) struct Searches(Vec<(String, String)>);

impl Searches {
    /// A server tool is called.
    pub(super) fn begin(&mut self, content: &Content<'_>) {
        let name = content.name.and_then(text).unwrap_or_default();
        if name != "web_search" || self.0.len() >= MOST {
            return;
        }
        let id = content.id.and_then(text).unwrap_or_default().into_owned();
        let input = content.input.map(RawValue::get).filter(|input| *input != "{}");
        self.0.push((id, input.unwrap_or_default().to_owned()));
    }

    /// A fragment of the input of the latest call.
    pub(super) fn input(&mut self, json: &str) {
        if let Some((_, input)) = self.0.last_mut() {
            input.push_str(json);
        }
    }

    /// The results of one. `None`: it is no search, or failed.
    pub(super) fn end(&mut self, content: &Content<'_>) -> Option<SearchRun> {
        let id = content.tool_use_id.and_then(text).unwrap_or_default();
        let at = self.0.iter().position(|(own, _)| *own == id);
        let input = at.map(|at| self.0.remove(at).1);
        let found: Vec<Found<'_>> = serde_json::from_str(content.results?.get()).ok()?;
        let query = input.as_deref().and_then(query);
        let result = |found: Found<'_>| SearchResult {
            url: found.url.and_then(text).unwrap_or_default().into_owned(),
            title: found.title.and_then(text).unwrap_or_default().into_owned(),
        };
        let results = found.into_iter().map(result).filter(|found| !found.url.is_empty());
        Some(SearchRun { queries: query.into_iter().collect(), results: results.collect() })
    }
}

fn query(input: &str) -> Option<String> {
    let members = Members::parse(input).ok()?;
    members.get("query").and_then(text).map(Cow::into_owned).filter(|query| !query.is_empty())
}

/// The input of a search, as JSON.
pub(super) fn input(run: &SearchRun) -> String {
    format!(r#"{{"query":{}}}"#, quoted(&run.queries.join("; ")))
}

/// The results of a search, as JSON. `encrypted_content`, which only the vendor can make, is empty.
pub(super) fn results(run: &SearchRun) -> String {
    let result = |found: &SearchResult| {
        let (url, title) = (quoted(&found.url), quoted(found.name()));
        format!(
            r#"{{"type":"web_search_result","url":{url},"title":{title},"encrypted_content":"","page_age":null}}"#
        )
    };
    format!("[{}]", run.results.iter().map(result).collect::<Vec<_>>().join(","))
}
