//! Web searches as output items: read from an answer, and written for the searches that another vendor ran.
//! It must never make up a query or a result.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};

use super::event::{Item, filled, list};
use crate::chat::{SearchResult, SearchRun};
use crate::json::{self, Members, quoted};

/// The type of the item.
pub(super) const CALL: &str = "web_search_call";

/// The search of an item that is done. `None`: the item is another step, such as opening a page.
pub(super) fn read(item: &Item<'_>) -> Option<SearchRun> {
    let action = Members::parse(item.action?.get()).ok()?;
    let text = |name: &str| action.get(name).and_then(json::text);
    if item.kind.and_then(json::text)? != CALL || text("type")? != "search" {
        return None;
    }
    let mut queries: Vec<String> = list(action.get("queries"));
    if queries.is_empty() {
        queries.extend(filled(action.get("query")).map(Cow::into_owned));
    }
    let result = |source: Members<'_>| {
        let text = |name| filled(source.get(name)).map(Cow::into_owned).unwrap_or_default();
        SearchResult { url: text("url"), title: text("title") }
    };
    let results = list::<Members<'_>>(action.get("sources")).into_iter().map(result);
    let results = results.filter(|found| !found.url.is_empty()).collect();
    Some(SearchRun { queries, results })
}

/// The `action` of an item.
pub(super) fn write(run: &SearchRun, out: &mut BytesMut) {
    let joined = |items: Vec<String>| items.join(",");
    let sources = run.results.iter().map(|found| {
        let url = quoted(&found.url);
        format!(r#"{{"type":"url","url":{url}}}"#)
    });
    let queries = joined(run.queries.iter().map(|query| quoted(query)).collect());
    let query = quoted(run.queries.first().map_or("", String::as_str));
    let sources = joined(sources.collect());
    let action = format!(
        r#"{{"type":"search","query":{query},"queries":[{queries}],"sources":[{sources}]}}"#
    );
    out.put_slice(action.as_bytes());
}
