//! Claims of the Mercure protocol as rights to channels: `authorization_details` (draft 08) and `mercure` (earlier drafts).
//! A claim that is wrong in part must grant nothing.

use serde_json::{Map, Value};

use super::auth_error::AuthError;
use super::claims::{Claims, refused, wrong};
use crate::channels::{ChannelPattern, ChannelRights, Selector, TopicError, topic};

/// The type of the authorization details that are Mercure's.
const DETAIL_TYPE: &str = "https://mercure.rocks/authorization-detail";

/// The most topics of a token.
const MAX_TOPICS: usize = 100;

/// Adds the rights of a token's claims.
pub(super) fn add(claims: &Claims, rights: &mut ChannelRights) -> Result<(), AuthError> {
    let before = rights.subscribe.len() + rights.publish.len();
    if let Some(details) = claims.get("authorization_details") {
        let details = details
            .as_array()
            .ok_or_else(|| refused(wrong("authorization_details", "a list of objects")))?;
        for detail in details.iter().filter(|detail| detail["type"] == DETAIL_TYPE) {
            add_detail(detail, rights)?;
        }
    }
    for name in ["mercure", "https://mercure.rocks/"] {
        if let Some(claim) = claims.get(name) {
            let members = claim.as_object().ok_or_else(|| {
                refused(wrong(name, "an object with lists `subscribe` and `publish`"))
            })?;
            add_selectors(
                &format!("{name}.subscribe"),
                members.get("subscribe"),
                &mut rights.subscribe,
            )?;
            add_selectors(&format!("{name}.publish"), members.get("publish"), &mut rights.publish)?;
        }
    }
    if rights.subscribe.len() + rights.publish.len() - before > MAX_TOPICS {
        let words =
            format!("the token's claims name more than {MAX_TOPICS} topics; use a wildcard");
        return Err(refused(words));
    }
    Ok(())
}

/// Adds the rights of an object of `authorization_details`. Actions that are unknown grant nothing.
fn add_detail(detail: &Value, rights: &mut ChannelRights) -> Result<(), AuthError> {
    let list = |name: &str| {
        let items = detail.get(name).and_then(Value::as_array).filter(|items| !items.is_empty());
        items.ok_or_else(|| {
            refused(wrong(&format!("authorization_details.{name}"), "a list of one or more"))
        })
    };
    let (actions, topics) = (list("actions")?, list("topics")?);
    if !actions.iter().all(Value::is_string) {
        return Err(refused(wrong("authorization_details.actions", "a list of texts")));
    }
    for topic in topics {
        let name = "authorization_details.topics";
        let matcher = topic.as_object().ok_or_else(|| {
            refused(wrong(name, "a list of objects with `match` and `match_type`"))
        })?;
        let pattern = object(name, matcher)?;
        for (action, patterns) in
            [("subscribe", &mut rights.subscribe), ("publish", &mut rights.publish)]
        {
            if actions.iter().any(|named| named == action) {
                patterns.push(pattern.clone());
            }
        }
    }
    Ok(())
}

/// Adds the topic selectors of a list, if there is one.
fn add_selectors(
    name: &str,
    list: Option<&Value>,
    patterns: &mut Vec<ChannelPattern>,
) -> Result<(), AuthError> {
    let Some(list) = list.filter(|list| !list.is_null()) else { return Ok(()) };
    let items = list.as_array().ok_or_else(|| refused(wrong(name, "a list of topic selectors")))?;
    for item in items {
        patterns.push(match item {
            Value::String(selector) => named(name, topic::template(selector))?,
            Value::Object(matcher) => object(name, matcher)?,
            _ => return Err(refused(wrong(name, "a list of topic selectors"))),
        });
    }
    Ok(())
}

/// The pattern of an object with `match` and, if need be, `match_type`.
fn object(name: &str, matcher: &Map<String, Value>) -> Result<ChannelPattern, AuthError> {
    let text = matcher.get("match").and_then(Value::as_str);
    let text = text.ok_or_else(|| refused(wrong(name, "a list of objects with a text `match`")))?;
    match matcher.get("match_type").map_or(Some("exact"), Value::as_str) {
        Some("exact") => named(name, topic::exact(text)),
        Some("urlpattern") => named(name, topic::url_pattern(text)),
        _ => Err(refused(wrong(name, "a list in which `match_type` is `exact` or `urlpattern`"))),
    }
}

fn named(name: &str, selector: Result<Selector, TopicError>) -> Result<ChannelPattern, AuthError> {
    let pattern = selector.map(|selector| selector.pattern());
    pattern.map_err(|error| refused(format!("a topic of the token's claim `{name}` {error}")))
}
