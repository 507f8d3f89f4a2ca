//! Mercure updates: a form with topics and data, published to the channels of the topics as one event. A field must never
//! reach subscribers that could pass for one of the hub's own events.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use percent_encoding::percent_decode_str;
use url::Url;

use super::{PATH, form, invalid};
use crate::channel_api::ChannelGateway;
use crate::channel_api::{forbidden, publish as channel_publish};
use crate::channels::{ChannelName, Fields, Publication, topic};
use crate::error::{Error, MIN_RETRY_AFTER};
use crate::gateway::own_endpoint::OwnRequest;
use crate::wire::chat::{ApiError, Kind};

/// The most topics of an update.
const MAX_TOPICS: usize = 100;

/// The type of the hub's own updates.
const RESERVED_TYPE: &str = "mercure";

/// An address to resolve topics against: its path is the hub's, and the rest does not matter.
const BASE: &str = "http://hub/.well-known/mercure";

/// `POST /.well-known/mercure`.
pub async fn publish(gateway: &ChannelGateway, request: Request) -> Response {
    let publish = async |mut request: OwnRequest<'_>| {
        let body = request.form().await?;
        let update = Update::parse(&body, gateway.hub.settings().max_event)?;
        let (canonical, alternates) = &update.topics;
        let rights = &request.caller.channels;
        for topic in [canonical].into_iter().chain(alternates) {
            if !rights.may_publish(topic) {
                return Err(forbidden(&format!("publish to topic `{topic}`"), "publish"));
            }
        }
        let names = (canonical, alternates.as_slice());
        let published = gateway.hub.publish_durably(names, vec![update.publication]).await;
        let ids = published.map_err(|error| {
            Error::unavailable(&error.to_string()).because(error).retry_after(MIN_RETRY_AFTER)
        })?;
        let id = ids.first().map(|id| format!("#{id}")).unwrap_or_default();
        let mut response = Response::new(Body::from(id));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    };
    super::answer(gateway, request, publish).await
}

/// An update, checked.
struct Update {
    /// The channels of the canonical topic and of the alternate ones, each once.
    topics: (ChannelName, Vec<ChannelName>),
    publication: Publication,
}

impl Update {
    /// Reads a form. `most`: the most bytes of an event. Fields that are unknown change nothing.
    fn parse(body: &str, most: usize) -> Result<Self, Error> {
        let pairs = form::pairs(body).map_err(|form::EncodingError| {
            invalid("data", "the form is not UTF-8; percent-encode its fields in UTF-8".to_owned())
        })?;
        let field = |name: &str| {
            let found = pairs.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.as_str())
        };
        let topics: Vec<&str> =
            pairs.iter().filter(|(name, _)| name == "topic").map(|(_, it)| it.as_str()).collect();
        let topics = channels(&topics)?;
        if let Some(id) = field("id") {
            check_id(id)?;
        }
        let name = field("type").unwrap_or_default();
        if topic::is_hidden(name) || name == RESERVED_TYPE {
            let message =
                "`type` is `mercure` or has a control or format character; expected another name";
            return Err(invalid("type", message.to_owned()));
        }
        let retry = field("retry").map(|retry| {
            let digits = !retry.is_empty() && retry.bytes().all(|byte| byte.is_ascii_digit());
            retry.parse().ok().filter(|_| digits).ok_or_else(|| {
                invalid("retry", "`retry` must be a number of milliseconds, in digits".to_owned())
            })
        });
        let data = field("data").unwrap_or_default();
        let fields = Fields { name, data, id: None, retry: retry.transpose()? };
        let mut publication = Publication::of("the update", fields, most)
            .map_err(|error| channel_publish::refused(&error))?;
        publication.public = field("private").is_none();
        Ok(Self { topics, publication })
    }
}

/// The channels of topics: the first one's, and those of the others.
fn channels(topics: &[&str]) -> Result<(ChannelName, Vec<ChannelName>), Error> {
    if topics.len() > MAX_TOPICS {
        let message = format!("the update has {} topics; the limit is {MAX_TOPICS}", topics.len());
        return Err(Error::caller(ApiError::new(Kind::TooLarge, message)));
    }
    let mut channels: Vec<ChannelName> = Vec::with_capacity(topics.len());
    for (at, text) in topics.iter().enumerate() {
        let wrong =
            |problem: String| invalid("topic", format!("`topic` number {} {problem}", at + 1));
        let channel = topic::channel(text).map_err(|error| wrong(error.to_string()))?;
        if is_reserved(text) {
            return Err(wrong(format!("is below {PATH}, where the hub alone publishes")));
        }
        if !channels.contains(&channel) {
            channels.push(channel);
        }
    }
    let mut channels = channels.into_iter();
    let first = channels.next();
    let first = first.ok_or_else(|| {
        invalid("topic", "`topic` is missing; expected the topic that is updated".to_owned())
    })?;
    Ok((first, channels.collect()))
}

/// Whether a topic addresses the hub's own resources, in whatever spelling.
fn is_reserved(topic: &str) -> bool {
    let resolved = Url::parse(BASE).and_then(|base| base.join(topic));
    resolved.is_ok_and(|url| {
        let path = percent_decode_str(url.path()).decode_utf8_lossy();
        path.strip_prefix(PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// Checks the publisher's own id, which subscribers do not get: the hub's ids are positions.
fn check_id(id: &str) -> Result<(), Error> {
    if id.starts_with('#') || id == "earliest" || topic::is_hidden(id) {
        let message = "`id` begins with `#`, is `earliest` or has a control or format character; expected another id, or none";
        return Err(invalid("id", message.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(form: &str) -> Result<Update, String> {
        Update::parse(form, 1000).map_err(|error| error.to_string())
    }

    #[test]
    fn the_first_topic_is_the_canonical_one() {
        let update = parse("topic=a&topic=b&topic=a&topic=c&topic=b&data=x&other=1").unwrap();
        let (first, others) = update.topics;
        assert_eq!(first.as_str(), "a");
        assert_eq!(others.iter().map(ChannelName::as_str).collect::<Vec<_>>(), ["b", "c"]);
        assert!(update.publication.public);
        for private in ["private", "private=", "private=off"] {
            assert!(!parse(&format!("topic=a&{private}")).unwrap().publication.public, "{private}");
        }
    }

    #[test]
    fn the_hubs_own_topics_are_reserved_in_every_spelling() {
        for topic in [
            "/.well-known/mercure",
            "/.well-known/mercure/subscriptions/a",
            "https://elsewhere.example/.well-known/mercure/x",
            "/.well-known/%6Dercure/x",
            "/a/../.well-known/mercure",
            "/.well-known/x/%2e%2e/mercure/y",
            "mercure",
            "",
        ] {
            let form = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("topic", topic)
                .finish();
            assert!(parse(&form).is_err(), "{topic}");
        }
        for topic in ["/.well-known/mercure-x", "/.well-known/other", "books", "urn:x:mercure"] {
            assert!(parse(&format!("topic={topic}")).is_ok(), "{topic}");
        }
    }

    #[test]
    fn wrong_fields_are_refused_with_a_remedy() {
        let large = format!("topic=a&data={}", "x".repeat(1000));
        let many = (0..=MAX_TOPICS).fold(String::new(), |all, at| format!("{all}&topic=t{at}"));
        for (form, expected) in [
            ("data=x", "`topic` is missing"),
            ("topic=*", "`topic` number 1 has a `*`"),
            ("topic=a&topic=%0A", "`topic` number 2 has a line end"),
            ("topic=%E2%80%AE", "invisible character"),
            ("topic=a&id=%23x", "`id` begins with `#`"),
            ("topic=a&id=earliest", "`id` begins with `#`, is `earliest`"),
            ("topic=a&id=%00", "`id` begins"),
            ("topic=a&type=mercure", "`type` is `mercure`"),
            ("topic=a&type=a%0Adata:b", "`type` is `mercure` or has a control"),
            ("topic=a&type=control", "only the gateway sends"),
            ("topic=a&retry=", "`retry` must be a number"),
            ("topic=a&retry=%2B700", "`retry` must be a number"),
            ("topic=a&retry=1e3", "`retry` must be a number"),
            ("topic=a&retry=1", "expected 500 to 3600000"),
            ("topic=a&data=%ff", "not UTF-8"),
            (&large, "the limit is 1000"),
            (&many, "has 101 topics; the limit is 100"),
        ] {
            let Err(message) = parse(form) else { panic!("{form} is refused") };
            assert!(message.contains(expected), "{form}: {message}");
        }
    }
}
