//! Publications: events as an application publishes them, checked and framed as server-sent events. A field must never
//! begin another line of the event stream, whatever a publisher sends.

use std::borrow::Cow;
use std::fmt;

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The most bytes of an event's name, and of a publisher's id.
const MAX_FIELD: usize = 256;

/// The most events of a batch.
const MAX_BATCH: usize = 1000;

/// The time after which clients reconnect that a publisher may set, in milliseconds. Browsers do not back off: with
/// zero they would reconnect a hundred times a second.
const RETRY: std::ops::RangeInclusive<u64> = 500..=3_600_000;

/// Room for the line with an event's id, which is known last, and the blank line: `id: `, an epoch, `_`, 20 digits.
const ID_ROOM: usize = 4 + 12 + 1 + 20 + 2;

/// Names of events that only the gateway sends.
const RESERVED: [&str; 5] = ["control", "reset", "refused", "presence.join", "presence.leave"];

/// An event that has been checked and framed, save for its position.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The publisher's own id: a publication with the same one is a repetition.
    pub id: Option<Box<str>>,
    /// Every subscriber may read it, also one without a right to its channel.
    pub public: bool,
    /// The frame without its id and its blank line.
    bytes: BytesMut,
    /// The length of the event's name; 0: it has none.
    name: u16,
}

/// The frame of an event: its lines, of which the id is the last, and a blank line. Some clients take an id as received
/// when they have read its line, although the rest of the frame is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    bytes: Bytes,
    /// The length of what precedes the id.
    body: usize,
    name: u16,
}

/// A body that cannot be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicationError {
    /// It is wrong; the message begins with its place.
    Invalid(String),
    /// An event is too large.
    Large {
        /// Its place among the events.
        place: String,
        /// Its bytes, framed.
        bytes: usize,
        /// The most bytes.
        most: usize,
    },
}

impl fmt::Display for PublicationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(message) => f.write_str(message),
            Self::Large { place, bytes, most } => write!(
                f,
                "{place} has {bytes} bytes, framed; the limit is {most} (channels.max_event): send less, or a link \
                 to it"
            ),
        }
    }
}

impl std::error::Error for PublicationError {}

/// An event of so many bytes, framed, which is too large.
#[derive(Debug)]
struct SizeError(usize);

/// The members of a body, which is an event or a batch of them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow)]
    events: Option<Vec<Event<'a>>>,
    #[serde(borrow)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "some")]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    retry: Option<u64>,
}

/// The fields of an event, as text.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    /// Its name; clients dispatch one with an empty name as `message`.
    pub name: &'a str,
    /// Its data.
    pub data: &'a str,
    /// The publisher's own id.
    pub id: Option<&'a str>,
    /// The time after which clients reconnect, in milliseconds.
    pub retry: Option<u64>,
}

/// The members of an event.
#[expect(clippy::struct_field_names, reason = "the names of the API")]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event<'a> {
    #[serde(borrow)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "some")]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    retry: Option<u64>,
}

/// Reads a member as it is: `null` is a value of its own.
fn some<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// The events of a body.
#[derive(Debug, Clone)]
pub struct Publications {
    /// One or more.
    pub events: Vec<Publication>,
    /// The body was a batch, even of one.
    pub batch: bool,
}

impl Publications {
    /// Reads a body: `{"event", "data", "id", "retry"}`, or `{"events": [..]}`. `most`: the most bytes of an event.
    pub fn parse(body: &str, most: usize) -> Result<Self, PublicationError> {
        let body: Body<'_> = serde_json::from_str(body).map_err(|error| {
            PublicationError::Invalid(format!(
                "the body is no event: {error}; expected a JSON object with `data` and, if need be, `event`, `id` \
                 and `retry`, or with `events`, a list of such objects"
            ))
        })?;
        let Body { events, event, data, id, retry } = body;
        let Some(events) = events else {
            let one = publication("the event", &Event { event, data, id, retry }, most)?;
            return Ok(Self { events: vec![one], batch: false });
        };
        let invalid = |message: &str| Err(PublicationError::Invalid(message.to_owned()));
        if event.is_some() || data.is_some() || id.is_some() || retry.is_some() {
            return invalid(
                "`events` stands beside members of a single event; expected one of both",
            );
        }
        if events.is_empty() {
            return invalid("`events` is empty; expected one event or more");
        }
        if events.len() > MAX_BATCH {
            return Err(PublicationError::Invalid(format!(
                "`events` has {} events; expected at most {MAX_BATCH}: send several batches",
                events.len()
            )));
        }
        let read =
            |(at, event): (usize, &Event<'_>)| publication(&format!("`events[{at}]`"), event, most);
        let events: Result<_, _> = events.iter().enumerate().map(read).collect();
        Ok(Self { events: events?, batch: true })
    }
}

/// Checks an event; `place` begins error messages.
fn publication(
    place: &str,
    event: &Event<'_>,
    most: usize,
) -> Result<Publication, PublicationError> {
    let invalid = |message: String| PublicationError::Invalid(format!("{place}: {message}"));
    let data = match event.data {
        None => None,
        Some(data) if data.get().starts_with('"') => {
            let text = serde_json::from_str::<String>(data.get());
            Some(Cow::Owned(
                text.map_err(|error| invalid(format!("`data` is no valid text: {error}")))?,
            ))
        }
        Some(data) => Some(Cow::Borrowed(data.get())),
    };
    let (name, id) = (event.event.as_deref().unwrap_or_default(), event.id.as_deref());
    let fields = Fields { name, data: data.as_deref().unwrap_or_default(), id, retry: event.retry };
    let publication = Publication::of(place, fields, most)?;
    if data.is_none() {
        return Err(invalid(
            "`data` is missing; expected a text or any other JSON value".to_owned(),
        ));
    }
    Ok(publication)
}

/// Checks a field that has one line. The error completes a message that names the event.
fn check(field: &str, text: &str) -> Result<(), String> {
    if text.len() > MAX_FIELD {
        return Err(format!("`{field}` has {} bytes; expected at most {MAX_FIELD}", text.len()));
    }
    let wrong = [('\r', "a carriage return"), ('\n', "a line end"), ('\0', "a NUL")];
    match wrong.iter().find(|(c, _)| text.contains(*c)) {
        Some((_, what)) => Err(format!("`{field}` has {what}; expected a text on one line")),
        None => Ok(()),
    }
}

/// The lines of a text: CRLF, CR and LF end one, as in an event stream.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = memchr::memchr2(b'\r', b'\n', text.as_bytes());
        let Some((line, tail)) = end.and_then(|end| text.split_at_checked(end)) else {
            rest = None;
            return Some(text);
        };
        let tail = tail.strip_prefix("\r\n").unwrap_or_else(|| tail.get(1..).unwrap_or_default());
        rest = Some(tail);
        Some(line)
    })
}

impl Publication {
    /// Checks and frames an event; `place` begins error messages. `most`: the most bytes of its frame.
    pub fn of(place: &str, fields: Fields<'_>, most: usize) -> Result<Self, PublicationError> {
        let invalid = |message: String| PublicationError::Invalid(format!("{place}: {message}"));
        let Fields { name, data, id, retry } = fields;
        check("event", name).map_err(invalid)?;
        if RESERVED.contains(&name) {
            return Err(invalid(format!(
                "`event` is `{name}`, which only the gateway sends; expected another name"
            )));
        }
        if let Some(id) = id {
            check("id", id).map_err(invalid)?;
            if id.is_empty() {
                return Err(invalid("`id` is empty; expected a text, or none".to_owned()));
            }
        }
        if let Some(retry) = retry.filter(|retry| !RETRY.contains(retry)) {
            return Err(invalid(format!(
                "`retry` is {retry}; expected {} to {} milliseconds",
                RETRY.start(),
                RETRY.end()
            )));
        }
        Self::new(name, data, retry, most)
            .map(|framed| Self { id: id.map(Into::into), ..framed })
            .map_err(|SizeError(bytes)| PublicationError::Large {
                place: place.to_owned(),
                bytes,
                most,
            })
    }

    /// Frames an event. `name` has one line; without one, clients dispatch the event as `message`.
    fn new(name: &str, data: &str, retry: Option<u64>, most: usize) -> Result<Self, SizeError> {
        let retry = retry.map(|retry| format!("retry: {retry}\n")).unwrap_or_default();
        let named = if name.is_empty() { 0 } else { "event: \n".len() + name.len() };
        // An upper bound: an end of a line may have two bytes in the text, and has one in the frame.
        let size = named + retry.len() + data.len() + lines(data).count() * "data: \n".len() + 1;
        if size > most { Err(SizeError(size)) } else { Ok(Self::build((name, data), &retry, size)) }
    }

    /// An event of the gateway's own. Its name has one line.
    pub(super) fn own(name: &str, data: &str) -> Self {
        Self::build((name, data), "", name.len() + data.len())
    }

    fn build((name, data): (&str, &str), retry: &str, size: usize) -> Self {
        let mut bytes = BytesMut::with_capacity(ID_ROOM + size);
        let mut write = |parts: [&str; 3]| {
            for part in parts {
                bytes.extend_from_slice(part.as_bytes());
            }
        };
        if !name.is_empty() {
            write(["event: ", name, "\n"]);
        }
        write([retry, "", ""]);
        for line in lines(data) {
            write(["data: ", line, "\n"]);
        }
        Self { id: None, public: false, bytes, name: u16::try_from(name.len()).unwrap_or_default() }
    }

    /// The lines of its frame, without those that follow when its position is known.
    pub(super) fn body(&self) -> &[u8] {
        &self.bytes
    }

    /// The event of such lines. `None`: they are none.
    pub(super) fn of_body(id: Option<Box<str>>, body: &[u8]) -> Option<Self> {
        if !body.is_empty() && !body.ends_with(b"\n") || body.windows(2).any(|two| two == b"\n\n") {
            return None;
        }
        let name = body.strip_prefix(b"event: ").and_then(|rest| memchr::memchr(b'\n', rest));
        let mut bytes = BytesMut::with_capacity(ID_ROOM + body.len());
        bytes.extend_from_slice(body);
        let name = u16::try_from(name.unwrap_or_default()).ok()?;
        Some(Self { id, public: false, bytes, name })
    }

    /// The frame at a position, of which `id` is the text.
    pub(super) fn frame(mut self, id: &str) -> Frame {
        let body = self.bytes.len();
        for part in ["id: ", id, "\n\n"] {
            self.bytes.extend_from_slice(part.as_bytes());
        }
        Frame { bytes: self.bytes.freeze(), body, name: self.name }
    }
}

impl Frame {
    /// The frame of bytes that end with an id. `None`: they do not.
    pub(super) fn parse(bytes: Bytes, id: &str) -> Option<Self> {
        let end = format!("id: {id}\n\n");
        let body = bytes.strip_suffix(end.as_bytes())?.len();
        let name = bytes.strip_prefix(b"event: ").and_then(|rest| memchr::memchr(b'\n', rest));
        let name = u16::try_from(name.unwrap_or_default()).ok()?;
        Some(Self { bytes, body, name })
    }

    /// All of it.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// All but the line with its id, and the blank line.
    pub fn without_id(&self) -> Bytes {
        self.bytes.slice(..self.body.min(self.bytes.len()))
    }

    /// The event's name, if it has one.
    pub fn name(&self) -> Option<&str> {
        let start = "event: ".len();
        let name = self.bytes.get(start..start + usize::from(self.name))?;
        std::str::from_utf8(name).ok().filter(|name| !name.is_empty())
    }

    /// The data, its lines joined by LF, as clients dispatch it.
    pub fn data(&self) -> String {
        let text = std::str::from_utf8(&self.bytes).unwrap_or_default();
        let lines = text.split('\n').filter_map(|line| line.strip_prefix("data: "));
        lines.collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
#[path = "publication_tests.rs"]
mod tests;
