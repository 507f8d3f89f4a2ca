//! Bodies of upstream requests: edited or translated, and the parts of a caller's body that its answer repeats. Large
//! ones are offloaded. It must never send one.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};

use super::continuation::Part;
use super::offload::{self, BufferedBody, RequestBody, is_large};
use super::sigv4;
use super::upstream_request::{UpstreamRequest, wanted};
use crate::config::Target;
use crate::error::Error;
use crate::wire::adapt::{self, Written};
use crate::wire::chat::{ApiError, Request, ToolForms};
use crate::wire::dialect::{CallerDialect, Form, Operation, ResponseContext};
use crate::wire::json::replace_lone_surrogates;
use crate::wire::{ranges, refusal};

/// The request header by which a caller refuses to have hints left out.
const STRICT: HeaderName = HeaderName::from_static("streamgate-strict");

/// The inputs of an upstream request's body, beside the caller's body and the target.
struct Source<'a> {
    dialect: &'static dyn CallerDialect,
    form: Form,
    stream: bool,
    headers: Cow<'a, HeaderMap>,
    /// The part of the answer that the target is to continue.
    part: Option<Arc<Part>>,
}

impl<'a> Source<'a> {
    fn of(request: &UpstreamRequest, headers: Cow<'a, HeaderMap>) -> Self {
        let ResponseContext { form, stream, .. } = request.context.call;
        let part = request.part.clone();
        Self { dialect: request.context.dialect, form, stream, headers, part }
    }
}

/// The body for a target, from a body that is worked on where it is.
pub(super) fn small_body(
    request: &UpstreamRequest,
    body: &BufferedBody,
    target: &Target,
) -> Result<Written, Error> {
    let source = Source::of(request, Cow::Borrowed(&request.headers));
    write(&source, body, target).map_err(Error::caller)
}

/// The body for a target, from a body that is worked on by another thread.
pub(super) fn large_body(
    request: &UpstreamRequest,
    body: &Arc<BufferedBody>,
    target: Target,
) -> impl Future<Output = Result<Written, Error>> + Send + use<> {
    let source = Source::of(request, Cow::Owned(request.headers.clone()));
    let body = Arc::clone(body);
    async move {
        let written = offload::run(move || write(&source, &body, &target)).await?;
        written.map_err(Error::caller)
    }
}

/// The body that asks for an answer, or for the rest of one.
fn write(source: &Source<'_>, body: &str, target: &Target) -> Result<Written, ApiError> {
    let written = write_whole(source, body, target)?;
    let Some(part) = &source.part else { return Ok(written) };
    let body = part.ask(&written.body, target)?;
    Ok(Written { body, ..written })
}

/// The caller's own JSON with surgical edits for an upstream of the same dialect; a translation
/// otherwise.
fn write_whole(source: &Source<'_>, body: &str, target: &Target) -> Result<Written, ApiError> {
    let dialect = target.provider.dialect;
    let wanted = wanted((source.dialect, source.form, source.stream), target);
    let strict = source.headers.get(STRICT).is_some_and(|value| value == "true");
    if source.dialect.name() == dialect.name() {
        let header = |name: &str| Some(source.headers.get(name)?.to_str().ok()?.to_owned());
        return adapt::pass(body, (source.dialect, dialect), &wanted, strict, &header);
    }
    let operation = source.form.operation();
    if dialect.form_of(operation).is_none() {
        return Err(operation.untranslatable());
    }
    let body = replace_lone_surrogates(body);
    if operation == Operation::Embeddings {
        let request = source.dialect.decode_embeddings(source.form, &body)?;
        ranges::check_embeddings(&request, source.dialect.name(), &body)?;
        return adapt::write_embeddings(request, dialect, &wanted, strict)
            .map_err(|fault| refusal::told(fault, &Request::default(), source.dialect));
    }
    let mut request = source.dialect.decode_request(source.form, &body)?;
    ranges::check(&request, source.dialect.name(), &body)?;
    adapt::write(&mut request, dialect, &wanted, strict)
        .map_err(|fault| refusal::told(fault, &request, source.dialect))
}

/// Reads the request as a translation would, on another thread if it is large.
pub(super) async fn decoded(request: &UpstreamRequest) -> Result<Request, Error> {
    let (dialect, form) = (request.context.dialect, request.context.call.form);
    let read = match &request.body {
        RequestBody::Small(body) => dialect.decode_request(form, &replace_lone_surrogates(body)),
        RequestBody::Large(body) => {
            let body = Arc::clone(body);
            offload::run(move || dialect.decode_request(form, &replace_lone_surrogates(&body)))
                .await?
        }
    };
    read.map_err(Error::caller)
}

/// The tool forms of a request that was not translated, for an answer that has to be written anew.
pub(super) async fn own_tool_forms(request: &UpstreamRequest) -> ToolForms {
    decoded(request).await.map(|request| request.tool_forms).unwrap_or_default()
}

/// The part of the request that its answer repeats.
pub(super) async fn echo(request: &UpstreamRequest) -> Result<String, Error> {
    match &request.body {
        RequestBody::Small(body) => {
            Ok(request.context.dialect.echo(request.context.call.form, body))
        }
        RequestBody::Large(body) => {
            let (dialect, form, body) =
                (request.context.dialect, request.context.call.form, Arc::clone(body));
            offload::run(move || dialect.echo(form, &body)).await
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
