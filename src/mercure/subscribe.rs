//! Mercure subscriptions: matchers of topics to channels, and the event stream of what the caller may read. The stream
//! must have updates and comments only.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

use super::{form, invalid};
use crate::channel_api::ChannelGateway;
use crate::channel_api::event_stream::{Framing, event_stream};
use crate::channel_api::events::{pace, refused, stream_headers};
use crate::channel_api::own_channel;
use crate::channels::{
    ChannelPattern, Cursor, Selector, Start, SubscribeError, Subscription, SubscriptionRequest,
    topic,
};
use crate::error::Error;
use crate::gateway::auth::Caller;
use crate::gateway::own_endpoint::OwnRequest;

/// The most matchers of one connection. Each costs every look for news a little.
const MAX_MATCHERS: usize = 100;

/// The id of no event, after which all events come.
const EARLIEST: &str = "earliest";

/// The response headers with the id of the event before the first one: that of draft 08, and that of earlier drafts.
const LAST_EVENT_ID: [HeaderName; 2] =
    [HeaderName::from_static("mercure-last-event-id"), HeaderName::from_static("last-event-id")];

/// `GET /.well-known/mercure`.
pub async fn subscribe(gateway: &ChannelGateway, request: Request) -> Response {
    let subscribe = async |request: OwnRequest<'_>| {
        let query = SubscribeQuery::parse(
            request.head.uri.query().unwrap_or_default(),
            &request.head.headers,
        )?;
        let (subscription, last) = match begin(gateway, &query, &request.caller).await {
            Ok(begun) => begun,
            Err(error) => return refused(error),
        };
        let pace = pace(&request.state.config, gateway, &request.caller);
        let body = event_stream(subscription, Framing::Mercure, pace);
        let mut response = Response::new(Body::from_stream(body));
        stream_headers(&mut response);
        if let Ok(value) = HeaderValue::try_from(last) {
            for name in LAST_EVENT_ID {
                response.headers_mut().insert(name, value.clone());
            }
        }
        Ok(response)
    };
    super::answer(gateway, request, subscribe).await
}

/// Begins a subscription. Returns the id of the event before its first one as well. Where the wanted one is not known,
/// all events that are kept come, and the id says so.
async fn begin(
    gateway: &ChannelGateway,
    query: &SubscribeQuery,
    caller: &Caller,
) -> Result<(Subscription, String), SubscribeError> {
    let new = |start| gateway.hub.subscribe(request(query, caller, start));
    match &query.last {
        LastId::Absent => {
            let subscription = new(Start::Live { rewind: 0 }).await?;
            let last = format!("#{}", subscription.cursor());
            return Ok((subscription, last));
        }
        LastId::At(cursor) => {
            match new(Start::After { cursor: cursor.clone(), lenient: false }).await {
                Ok(subscription) => return Ok((subscription, format!("#{cursor}"))),
                Err(SubscribeError::Gone { .. } | SubscribeError::Ahead { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        LastId::Earliest => {}
    }
    Ok((new(Start::Live { rewind: usize::MAX }).await?, EARLIEST.to_owned()))
}

/// The subscription of a caller, of whose events only those come that it may read.
fn request(query: &SubscribeQuery, caller: &Caller, start: Start) -> SubscriptionRequest {
    let mut rights = (*caller.channels).clone();
    let own = own_channel(caller);
    rights.subscribe.extend(own.map(|own| ChannelPattern::literal(own.as_str())));
    SubscriptionRequest {
        user: Arc::clone(&caller.name),
        channels: query.channels.clone(),
        sources: Vec::new(),
        types: BTreeSet::new(),
        start,
        rights: Some(rights),
    }
}

/// The parameters of a subscription, checked.
#[derive(Debug, Default)]
struct SubscribeQuery {
    channels: BTreeSet<Selector>,
    last: LastId,
}

/// The last event that a client has.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
enum LastId {
    /// It does not say.
    #[default]
    Absent,
    /// None, or one whose id is none of the hub's: it gets all events.
    Earliest,
    /// The event at a position.
    At(Cursor),
}

impl SubscribeQuery {
    /// Reads the parameters. Others than those of the protocol change nothing, save for names that it reserves.
    fn parse(query: &str, headers: &HeaderMap) -> Result<Self, Error> {
        let pairs = form::pairs(query).map_err(|form::EncodingError| {
            invalid("match", "the query is not UTF-8; percent-encode it in UTF-8".to_owned())
        })?;
        let mut read = Self::default();
        let mut matchers = 0_usize;
        for (name, value) in &pairs {
            let selector = match name.as_str() {
                "match" | "match_exact" => topic::exact(value),
                "match_urlpattern" => topic::url_pattern(value),
                "topic" => topic::template(value),
                "last_event_id" | "lastEventID" | "Last-Event-ID" => {
                    if read.last == LastId::Absent {
                        read.last = LastId::parse(value);
                    }
                    continue;
                }
                name if name.get(..5).is_some_and(|it| it.eq_ignore_ascii_case("match")) => {
                    let known: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
                    let message = format!(
                        "there is no matcher `{known}`; there are `match`, `match_exact`, `match_urlpattern`, and `topic` of \
                         earlier drafts"
                    );
                    return Err(invalid(&known, message));
                }
                _ => continue,
            };
            matchers += 1;
            let selector = selector
                .map_err(|error| invalid(name, format!("`{name}` number {matchers} {error}")))?;
            read.channels.insert(selector);
        }
        if matchers == 0 || matchers > MAX_MATCHERS {
            let message = format!(
                "the request has {matchers} matchers; expected 1 to {MAX_MATCHERS}: `match=TOPIC`, `match_urlpattern=PATTERN`, \
                 or `topic=SELECTOR` of earlier drafts, again for each"
            );
            return Err(invalid("match", message));
        }
        if let Some(header) = headers.get("last-event-id") {
            read.last = LastId::parse(header.to_str().unwrap_or_default());
        }
        Ok(read)
    }
}

impl LastId {
    fn parse(id: &str) -> Self {
        id.strip_prefix('#').unwrap_or(id).parse().map_or(Self::Earliest, Self::At)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "k3v9XbQ0aZ71_0000000042";

    fn parse(query: &str, header: Option<&'static str>) -> Result<SubscribeQuery, String> {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert("last-event-id", HeaderValue::from_static(header));
        }
        SubscribeQuery::parse(query, &headers).map_err(|error| error.to_string())
    }

    #[test]
    fn matchers_of_all_drafts_are_read() {
        let query = "match=a&match_exact=%7Bid%7D&match_urlpattern=%2Fb%2F:id&topic=/c/%7Bid%7D&topic=*&other=1&authorization=x";
        let read = parse(query, None).unwrap();
        let channels: Vec<_> = read.channels.iter().map(ToString::to_string).collect();
        assert_eq!(channels, ["a", "{id}", "*", "/b/{}", "/c/{}"]);
        assert_eq!(read.last, LastId::Absent);
    }

    #[test]
    fn the_last_id_is_the_headers_and_then_the_querys() {
        let id = LastId::At(ID.parse().unwrap());
        for (query, header, expected) in [
            (format!("match=a&last_event_id={ID}"), None, id.clone()),
            (format!("match=a&lastEventID=%23{ID}"), None, id.clone()),
            (format!("match=a&Last-Event-ID={ID}&last_event_id=earliest"), None, id.clone()),
            (format!("match=a&last_event_id={ID}"), Some("earliest"), LastId::Earliest),
            ("match=a&last_event_id=urn:uuid:1".to_owned(), None, LastId::Earliest),
            ("match=a".to_owned(), Some("#k3v9XbQ0aZ71_0000000042"), id),
        ] {
            assert_eq!(parse(&query, header).unwrap().last, expected, "{query} {header:?}");
        }
    }

    #[test]
    fn wrong_parameters_are_refused_with_a_remedy() {
        let many = (0..=MAX_MATCHERS).fold(String::new(), |all, at| format!("{all}&match=t{at}"));
        for (query, expected) in [
            ("", "has 0 matchers; expected 1 to 100"),
            ("authorization=x", "has 0 matchers"),
            (&many, "has 101 matchers"),
            ("Match=a", "there is no matcher `Match`"),
            ("match_regexp=a", "there is no matcher `match_regexp`"),
            ("matches=a", "there is no matcher `matches`"),
            ("match=", "`match` number 1 is empty"),
            ("match=a&match=a%0A", "`match` number 2 has a line end"),
            ("match=a*b", "`match` number 1 has a `*`"),
            ("match=%E2%80%8B", "invisible character"),
            ("match_urlpattern=/(a)", "a URL pattern with `(`"),
            ("topic=/%7Ba,b%7D", "an URI template with `{a,b}`"),
            ("match=%ff", "not UTF-8"),
        ] {
            let message = parse(query, None).unwrap_err();
            assert!(message.contains(expected), "{query}: {message}");
        }
    }
}
