//! Parameters of `GET /v1/events`. Pure: it must never decide about a right.

use std::collections::BTreeSet;
use std::time::Duration;

use http::HeaderMap;
use http::header::ACCEPT;
use url::form_urlencoded;

use crate::channels::{ChannelName, Cursor, Selector, Start};

/// The most channels and patterns of one connection. Each costs every look for news a little.
const MAX_CHANNELS: usize = 100;

/// The most types of events that a subscriber may choose.
const MAX_TYPES: usize = 100;

/// The names of the parameters.
const KNOWN: &str = "`channel`, `stream`, `user`, `types`, `rewind`, `live`, `timeout`, `last-event-id`, `offset`, `format`, `ticket` and `es`";

/// The timeout of a long-poll, in seconds.
const TIMEOUT: std::ops::RangeInclusive<u64> = 1..=60;
const DEFAULT_TIMEOUT: u64 = 25;

/// The form of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// An event stream.
    Stream,
    /// JSON, as soon as there is an event, or after this time.
    LongPoll(Duration),
    /// JSON at once.
    Once,
}

/// The parameters, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EventsQuery {
    pub(super) channels: BTreeSet<Selector>,
    /// The ids of durable streams.
    pub(super) streams: BTreeSet<String>,
    pub(super) types: BTreeSet<String>,
    pub(super) start: Start,
    pub(super) form: Form,
    /// Whether each event is wrapped in one that names its channel (`format=events`).
    pub(super) enveloped: bool,
}

/// A wrong parameter: the message, and the parameter's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QueryError {
    pub(super) message: String,
    pub(super) parameter: String,
}

fn wrong(parameter: &str, message: impl Into<String>) -> QueryError {
    QueryError { message: message.into(), parameter: parameter.to_owned() }
}

/// The parameters as they came.
#[derive(Default)]
struct Given {
    channels: BTreeSet<Selector>,
    streams: BTreeSet<String>,
    types: BTreeSet<String>,
    rewind: usize,
    live: Option<String>,
    enveloped: bool,
    timeout: Option<u64>,
    position: Option<String>,
    offset: Option<String>,
}

/// Whether the client is a browser's `EventSource`, which sees neither the status nor the headers of a refusal.
pub(super) fn is_event_source(query: &str) -> bool {
    form_urlencoded::parse(query.as_bytes()).any(|(name, value)| name == "es" && value == "1")
}

impl EventsQuery {
    /// Reads the parameters of a request. `own`: the channel of its caller, if it has one.
    pub(super) fn parse(
        query: &str,
        headers: &HeaderMap,
        own: Option<&ChannelName>,
    ) -> Result<Self, QueryError> {
        let mut given = Given::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            given.read(&name, &value, own)?;
        }
        if given.channels.is_empty() && given.streams.is_empty() {
            let message =
                "names no channel; add `channel=NAME` (again for each), `stream=ID` or `user=1`";
            return Err(wrong("channel", format!("the request {message}")));
        }
        let event_source = is_event_source(query);
        Ok(Self {
            form: given.form(headers, event_source)?,
            start: given.start(headers, event_source)?,
            enveloped: given.enveloped,
            channels: given.channels,
            streams: given.streams,
            types: given.types,
        })
    }
}

impl Given {
    fn read(
        &mut self,
        name: &str,
        value: &str,
        own: Option<&ChannelName>,
    ) -> Result<(), QueryError> {
        match name {
            "channel" => {
                let selector = value.parse().map_err(|error| {
                    wrong(name, format!("`channel` number {} {error}", self.channels.len() + 1))
                })?;
                self.select(selector)?;
            }
            "user" if value == "1" => {
                let none = "your name is no part of a channel's, so that you have none of your own";
                let own = own.ok_or_else(|| wrong(name, none))?;
                self.select(Selector::Name(own.clone()))?;
            }
            "user" => return Err(wrong(name, "`user` must be 1, or left out")),
            "stream" => {
                self.streams.insert(value.to_owned());
                self.check_number()?;
            }
            "format" if matches!(value, "native" | "events") => self.enveloped = value == "events",
            "format" => return Err(wrong(name, "`format` must be `native` or `events`")),
            // Read before, as a credential.
            "ticket" => {}
            "types" => self.types.extend(value.split(',').map(|kind| kind.trim().to_owned())),
            "rewind" => {
                self.rewind = value
                    .parse()
                    .map_err(|_| wrong(name, "`rewind` must be a number of events, such as 10"))?;
            }
            "live" => self.live = Some(value.to_owned()),
            "timeout" => {
                let seconds = value.parse().ok().filter(|seconds| TIMEOUT.contains(seconds));
                let expected = "`timeout` must be 1 to 60 seconds";
                self.timeout = Some(seconds.ok_or_else(|| wrong(name, expected))?);
            }
            "last-event-id" | "last_event_id" | "lastEventId" => {
                self.position = Some(value.to_owned());
            }
            "offset" => self.offset = Some(value.to_owned()),
            "es" if matches!(value, "0" | "1") => {}
            "es" => return Err(wrong(name, "`es` must be 0 or 1")),
            _ => {
                let known: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
                let message = format!("there is no parameter `{known}`; there are {KNOWN}");
                return Err(wrong(&known, message));
            }
        }
        if self.types.len() > MAX_TYPES {
            let message = format!("`types` has more than {MAX_TYPES} types; leave it out for all");
            return Err(wrong("types", message));
        }
        Ok(())
    }

    fn select(&mut self, selector: Selector) -> Result<(), QueryError> {
        self.channels.insert(selector);
        self.check_number()
    }

    fn check_number(&self) -> Result<(), QueryError> {
        if self.channels.len() + self.streams.len() > MAX_CHANNELS {
            let message = format!(
                "the request names more than {MAX_CHANNELS} channels and streams; use a pattern such as `news.*`, or several \
                 connections"
            );
            return Err(wrong("channel", message));
        }
        Ok(())
    }

    fn form(&self, headers: &HeaderMap, event_source: bool) -> Result<Form, QueryError> {
        let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let stream = accepted.flat_map(|value| value.split(',')).any(|kind| {
            kind.split(';')
                .next()
                .unwrap_or_default()
                .trim()
                .eq_ignore_ascii_case("text/event-stream")
        });
        let timeout = Duration::from_secs(self.timeout.unwrap_or(DEFAULT_TIMEOUT));
        match self.live.as_deref() {
            _ if event_source => Ok(Form::Stream),
            Some("sse") => Ok(Form::Stream),
            Some("long-poll") => Ok(Form::LongPoll(timeout)),
            Some(_) => Err(wrong("live", "`live` must be `sse` or `long-poll`")),
            None => Ok(if stream { Form::Stream } else { Form::Once }),
        }
    }

    fn start(&self, headers: &HeaderMap, event_source: bool) -> Result<Start, QueryError> {
        let header = match headers.get("last-event-id").map(|value| value.to_str()) {
            Some(Ok(text)) => Some(text),
            Some(Err(_)) => Some("?"),
            None => None,
        };
        let filled = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        let query = filled(self.position.as_deref());
        let (name, text) = match (filled(header), query, filled(self.offset.as_deref())) {
            (Some(text), _, _) | (None, Some(text), _) => ("last-event-id", text),
            (None, None, Some(text)) => ("offset", text),
            (None, None, None) => return Ok(Start::Live { rewind: self.rewind }),
        };
        match (name, text.as_str()) {
            ("offset", "now") => return Ok(Start::Live { rewind: 0 }),
            ("offset", "-1") => return Ok(Start::Live { rewind: usize::MAX }),
            _ => {}
        }
        match text.parse::<Cursor>() {
            Ok(cursor) => Ok(Start::After { cursor, lenient: event_source }),
            // A position of no epoch that there ever was: a browser would send it for ever.
            Err(_) if event_source => Ok(Start::After { cursor: Cursor::new([]), lenient: true }),
            Err(error) => Err(wrong(name, format!("`{name}` {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const POSITION: &str = "k3v9XbQ0aZ71_0000000042";

    fn parse(query: &str, headers: &[(&'static str, &'static str)]) -> Result<EventsQuery, String> {
        let headers = headers.iter().map(|(name, value)| {
            (http::HeaderName::from_static(name), HeaderValue::from_static(value))
        });
        let headers: HeaderMap = headers.collect();
        let own = "user:alice".parse().unwrap();
        EventsQuery::parse(query, &headers, Some(&own)).map_err(|error| error.message)
    }

    #[test]
    fn parameters_are_read() {
        let query =
            parse("channel=a&channel=news.*&channel=a&user=1&types=x,%20y&types=z", &[]).unwrap();
        let channels: Vec<_> = query.channels.iter().map(ToString::to_string).collect();
        assert_eq!(channels, ["a", "user:alice", "news.*"]);
        assert_eq!(query.types.iter().collect::<Vec<_>>(), ["x", "y", "z"]);
        assert_eq!((query.start, query.form), (Start::Live { rewind: 0 }, Form::Once));
        let escaped = parse("channel=a%2Fb%20c+d%26", &[]).unwrap();
        assert_eq!(escaped.channels.first().unwrap().to_string(), "a/b c d&");
    }

    #[test]
    fn the_form_follows_from_live_and_accept() {
        let stream = ("accept", "application/json, Text/Event-Stream;q=0.9");
        for (query, headers, expected) in [
            ("channel=a", &[][..], Form::Once),
            ("channel=a", &[stream], Form::Stream),
            ("channel=a&live=sse", &[], Form::Stream),
            ("channel=a&es=1", &[], Form::Stream),
            ("channel=a&live=long-poll", &[stream], Form::LongPoll(Duration::from_secs(25))),
            ("channel=a&live=long-poll&timeout=60", &[], Form::LongPoll(Duration::from_mins(1))),
        ] {
            assert_eq!(parse(query, headers).unwrap().form, expected, "{query}");
        }
    }

    #[test]
    fn the_position_is_the_headers_and_then_the_querys() {
        let header = ("last-event-id", POSITION);
        let after = |lenient| {
            let cursor = POSITION.parse().unwrap();
            Start::After { cursor, lenient }
        };
        let query = format!("channel=a&last-event-id={POSITION}");
        let offset = format!("channel=a&offset={POSITION}");
        for (query, headers, expected) in [
            ("channel=a&last_event_id=x&rewind=3", &[header][..], after(false)),
            (&query, &[], after(false)),
            (&format!("{query}&es=1"), &[], after(true)),
            (&format!("{offset}&last_event_id="), &[], after(false)),
            ("channel=a&rewind=3", &[("last-event-id", "")], Start::Live { rewind: 3 }),
            ("channel=a&rewind=3&offset=now", &[], Start::Live { rewind: 0 }),
            ("channel=a&offset=-1", &[], Start::Live { rewind: usize::MAX }),
        ] {
            assert_eq!(parse(query, headers).unwrap().start, expected, "{query}");
        }
        let Start::After { lenient: true, .. } =
            parse("channel=a&es=1&lastEventId=x", &[]).unwrap().start
        else {
            panic!("an EventSource sends it again and again")
        };
    }

    #[test]
    fn wrong_parameters_are_refused_with_a_remedy() {
        let repeated = |name: &str, most: usize| {
            (0..=most).fold(String::new(), |all, at| all + &format!("&{name}{at}"))
        };
        let many = repeated("channel=c", MAX_CHANNELS);
        let types = repeated("types=t", MAX_TYPES);
        for (query, expected) in [
            ("", "names no channel"),
            ("types=a", "names no channel"),
            ("chanel=a", "there is no parameter `chanel`"),
            ("channel=", "`channel` number 1 is empty"),
            ("channel=a&channel=b%0Ac", "`channel` number 2 has a line end"),
            ("channel=a%00", "control character"),
            (&format!("channel={}", "x".repeat(513)), "at most 512 bytes"),
            (&many, "more than 100 channels and streams; use a pattern"),
            (&format!("channel=a{types}"), "more than 100 types"),
            ("channel=a&user=bob", "`user` must be 1"),
            ("channel=a&rewind=-1", "`rewind` must be a number"),
            ("channel=a&live=websocket", "`live` must be `sse` or `long-poll`"),
            ("channel=a&live=long-poll&timeout=0", "`timeout` must be 1 to 60"),
            ("channel=a&timeout=61", "`timeout` must be 1 to 60"),
            ("channel=a&es=yes", "`es` must be 0 or 1"),
            ("channel=a&last-event-id=7", "`last-event-id` must be the `id`"),
            ("channel=a&offset=7", "`offset` must be the `id`"),
        ] {
            let message = parse(query, &[]).unwrap_err();
            assert!(message.contains(expected), "{query}: {message}");
        }
        let header = [("last-event-id", "7")];
        assert!(parse("channel=a", &header).unwrap_err().contains("`last-event-id`"));
    }
}
