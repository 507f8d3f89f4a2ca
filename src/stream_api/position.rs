//! Query of a request for a stream, and the position that it asks for. An unknown parameter changes nothing; a wrong
//! value of a known one is rejected.

use http::request::Parts;
use http::{HeaderName, Uri};
use url::form_urlencoded;

use crate::error::Error;
use crate::streams::position::Position;
use crate::wire::chat::ApiError;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The parameters of a query; of several of one name, the first counts.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

/// The place in a stream at which a viewer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// The first event.
    Start,
    /// The next event.
    Now,
    /// After this sequence number.
    Seq(u64),
    /// After this position.
    After(Position),
}

impl Query {
    pub(super) fn of(uri: &Uri) -> Self {
        let query = uri.query().unwrap_or_default();
        Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether the request comes from a browser's `EventSource`, which any status but 200 stops for good.
    pub(super) fn is_event_source(&self) -> bool {
        self.get("es") == Some("1")
    }

    /// The format of the events.
    pub(super) fn format(&self) -> &str {
        self.get("format").unwrap_or("native")
    }

    /// The position that a request asks for: by header, then by query, else the start.
    pub(super) fn position(&self, head: &Parts) -> Result<From, Error> {
        let header = head.headers.get(LAST_EVENT_ID);
        let header = header.map(|value| value.to_str().unwrap_or("?")).filter(|id| !id.is_empty());
        let named = |name: &'static str| self.get(name).map(|value| (name, value));
        let last = header.map(|id| ("last-event-id", id));
        if let Some((name, text)) =
            last.or_else(|| named("last-event-id")).or_else(|| named("last_event_id"))
        {
            return position(name, text).map(From::After);
        }
        match (self.get("offset"), self.get("starting_after")) {
            (Some("-1"), _) | (None, None) => Ok(From::Start),
            (Some("now"), _) => Ok(From::Now),
            (Some(text), _) => position("offset", text).map(From::After),
            (None, Some(text)) => {
                let fault = || {
                    let message = "must be a sequence number, which is a whole number";
                    Error::caller(ApiError::field("starting_after", message))
                };
                text.parse().map(From::Seq).map_err(|_| fault())
            }
        }
    }
}

fn position(name: &str, text: &str) -> Result<Position, Error> {
    text.parse().map_err(|error: crate::streams::position::PositionError| {
        Error::caller(ApiError::field(name, error.to_string()))
    })
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn asked(header: Option<&str>, query: &str) -> Result<From, String> {
        let mut request = Request::builder().uri(format!("/v1/streams/a?{query}"));
        if let Some(id) = header {
            request = request.header(LAST_EVENT_ID, id);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        Query::of(&head.uri).position(&head).map_err(|error| error.to_string())
    }

    #[test]
    fn the_header_counts_before_the_query() {
        let [a, b] = ["aaaaaaaaaaaa_0000000001", "bbbbbbbbbbbb_0000000002"];
        let after = |text: &str| Ok(From::After(text.parse().unwrap()));
        for (header, query, expected) in [
            (None, String::new(), Ok(From::Start)),
            (Some(""), String::new(), Ok(From::Start)),
            (Some(a), format!("last-event-id={b}"), after(a)),
            (None, format!("last-event-id={b}&offset=-1"), after(b)),
            (None, format!("last_event_id={b}"), after(b)),
            (None, "offset=-1".to_owned(), Ok(From::Start)),
            (None, "offset=now&starting_after=7".to_owned(), Ok(From::Now)),
            (None, format!("offset={a}"), after(a)),
            (None, "starting_after=7".to_owned(), Ok(From::Seq(7))),
        ] {
            assert_eq!(asked(header, &query), expected, "{header:?} {query}");
        }
        for (header, query, named) in [
            (Some("7"), "", "`last-event-id`"),
            (None, "last_event_id=7", "`last_event_id`"),
            (None, "offset=7", "`offset`"),
            (None, "starting_after=-1", "`starting_after`"),
            (None, "starting_after=x", "`starting_after`"),
        ] {
            let message = asked(header, query).unwrap_err();
            assert!(message.starts_with(named), "{message}");
        }
    }
}
