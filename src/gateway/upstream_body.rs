//! Bodies of upstream requests: edited or translated, and what of a caller's body its answer repeats. Large
//! ones are worked on beside the worker. It must never send one.

use std::borrow::Cow;
use std::sync::Arc;

use http::HeaderMap;

use super::offload::{self, RequestBody, is_large};
use super::sigv4;
use super::upstream::{Order, wanted_of};
use crate::config::Target;
use crate::error::Error;
use crate::wire::adapt::{self, Written};
use crate::wire::chat::Fault;
use crate::wire::dialect::{Call, CallerDialect};
use crate::wire::json::mended;
use crate::wire::refusal;

/// The request header by which a caller refuses to have hints left out.
const STRICT: &str = "streamgate-strict";

/// What the body of an upstream request depends on, beside the caller's body and the target.
struct Source<'a> {
    dialect: &'static dyn CallerDialect,
    form: &'static str,
    stream: bool,
    headers: Cow<'a, HeaderMap>,
}

impl<'a> Source<'a> {
    fn of(order: &Order, headers: Cow<'a, HeaderMap>) -> Self {
        let Call { form, stream, .. } = order.call;
        Self { dialect: order.dialect, form, stream, headers }
    }
}

/// The body for a target. A large one is written on another thread.
pub(super) async fn request_body(order: &Order, target: &Target) -> Result<Written, Error> {
    let written = match &order.body {
        RequestBody::Small(body) => {
            write(&Source::of(order, Cow::Borrowed(&order.headers)), body, target)
        }
        RequestBody::Large(body) => {
            let source = Source::of(order, Cow::Owned(order.headers.clone()));
            let (body, target) = (Arc::clone(body), target.clone());
            offload::run(move || write(&source, &body, &target)).await?
        }
    };
    written.map_err(Error::caller)
}

/// The caller's own JSON with surgical edits for an upstream of the same dialect; a translation
/// otherwise.
fn write(source: &Source<'_>, body: &str, target: &Target) -> Result<Written, Fault> {
    let dialect = target.provider.dialect;
    let wanted = wanted_of((source.dialect, source.form, source.stream), target);
    if source.dialect.name() == dialect.name() {
        let header = |name: &str| Some(source.headers.get(name)?.to_str().ok()?.to_owned());
        let body = dialect.edit_hosted(body, &wanted, &header)?;
        let body = adapt::override_members(body, &target.quirks.settings, dialect.output_limits())?;
        return Ok(Written { body, ..Written::default() });
    }
    let pair = (source.dialect, dialect);
    let read = source.dialect.decode_request(source.form, &mended(body));
    let mut request = read.map_err(|fault| refusal::told(fault, None, pair))?;
    let strict = source.headers.get(STRICT).is_some_and(|value| value == "true");
    adapt::write(&mut request, dialect, &wanted, strict)
        .map_err(|fault| refusal::told(fault, Some(&request), pair))
}

/// What of the request its answer repeats.
pub(super) async fn echo(order: &Order) -> Result<String, Error> {
    match &order.body {
        RequestBody::Small(body) => Ok(order.dialect.echo(body)),
        RequestBody::Large(body) => {
            let (dialect, body) = (order.dialect, Arc::clone(body));
            offload::run(move || dialect.echo(&body)).await
        }
    }
}

/// A body with the digest that is signed of it, where that is worth another thread.
pub(super) async fn digested(
    body: String,
    target: &Target,
) -> Result<(String, Option<String>), Error> {
    if target.provider.aws.is_none() || !is_large(&body) {
        return Ok((body, None));
    }
    offload::run(move || {
        let digest = sigv4::digest(body.as_bytes());
        (body, Some(digest))
    })
    .await
}
