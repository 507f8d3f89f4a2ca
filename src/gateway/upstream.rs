//! Upstream exchange of one attempt: the HTTP request, and its answer up to the first model output. Requests are built
//! from scratch: caller headers pass an allow-list. The caller must never choose an address.

use std::borrow::Cow;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONNECTION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::{Instant, timeout_at};

use super::answer::{Answer, redacted};
use super::continuation;
use super::count::{ESTIMATED, TRUE};
use super::credential::credential;
use super::egress;
use super::quota;
use super::response_headers::passed_on;
use super::retry_after::retry_after;
use super::sigv4::{Unsigned, sign};
use super::source::{ResponseHead, Source};
use super::upstream_body::{digested, echo, own_tool_forms};
use super::upstream_request::UpstreamRequest;
use crate::config::{Provider, Stream, Target};
use crate::error::{Error, Reply};
use crate::wire::adapt::Written;
use crate::wire::chat::{ApiError, Deadline, End, Kind, ToolForms};
use crate::wire::continuation::Seam;
use crate::wire::dialect::{Hosting, Mode, Operation, ResponseContext};
use crate::wire::embeddings::Verified;
use crate::wire::forwarded_headers::AllowList;
use crate::wire::framing::Framing;
use crate::wire::transcode::Transcoder;

/// The response header that names the hints which were left out.
const DROPPED: HeaderName = HeaderName::from_static("x-streamgate-dropped");

/// The bytes of that header after which the rest is summed up: proxies refuse heads of more than 4 KiB.
const MAX_DROPPED: usize = 2048;

/// The most bytes of an error response that are read.
const MAX_ERROR_BODY: usize = 64 * 1024;

/// A stale connection fails at once; an upstream that closes later may have worked on the request.
const STALE_WITHIN: Duration = Duration::from_secs(1);

/// The deadline of an attempt.
#[derive(Debug, Clone, Copy)]
pub struct AttemptDeadline {
    /// For its first output; for all of it if it is passed through whole.
    pub deadline: Instant,
    /// Another target may be tried after it.
    pub followed: bool,
}

/// A failed attempt.
pub struct AttemptError {
    /// The error.
    pub error: Error,
    /// The part of the answer that came before it broke off, of which nothing has been forwarded.
    pub partial: Option<Box<Answer>>,
}

impl From<Error> for Box<AttemptError> {
    fn from(error: Error) -> Self {
        Self::new(AttemptError { error, partial: None })
    }
}

/// One attempt, up to its first model output or its end.
pub async fn attempt(
    request: &UpstreamRequest,
    target: &Target,
    written: Written,
    AttemptDeadline { deadline, followed }: AttemptDeadline,
    traced: HeaderMap,
) -> Result<Box<Answer>, Box<AttemptError>> {
    let passed = if request.is_whole(&target.provider) {
        Deadline::Unstreamed
    } else {
        Deadline::FirstToken
    };
    let late = || Error::from_end(&End::TimedOut(passed));
    let sending = send(request, target, written.body, traced);
    let response = timeout_at(deadline, sending).await.map_err(|_| late())??;
    let (head, source) = Source::open(response);
    if !head.status.is_success() {
        let refused = timeout_at(deadline, refused(request, target, head, source));
        return Err(refused.await.unwrap_or_else(|_| late()).into());
    }
    let spent = quota::spent(&head.headers, request.context.time.now());
    let mut headers = passed_on(&head.headers, None);
    headers.extend(dropped(request, &written.dropped).map(|names| (DROPPED, names)));
    let forms = (written.tool_forms, written.inputs);
    let transcoder = transcoder(request, target, media_type(&head.headers), forms)
        .await?
        .with_names(written.names)
        .with_stop_strings(written.stop_strings, request.context.call.input_estimate);
    // Boxed: it moves from here to the response body, and every future on the way would hold its place.
    let of = (Arc::clone(&target.provider), headers);
    let mut answer = Box::new(Answer::new(of, source, transcoder, request.memory.lease()));
    answer.spent = spent;
    let (max_event, call) = (request.context.stream.max_event, &request.context.call);
    if request.part.is_some() {
        let begun = timeout_at(deadline, answer.read_continuation());
        begun.await.map_err(|_| late())?;
        return continued(answer);
    }
    let begun = timeout_at(deadline, answer.read_first(max_event, call.stream));
    begun.await.map_err(|_| late())??;
    if written.inputs.is_some() && answer.transcoder.tally().usage.input.is_none() {
        answer.headers.insert(ESTIMATED, TRUE);
    }
    // A failure that came along with the first output is found before any of it is forwarded.
    if followed && request.context.call.stream && answer.transcoder.end().is_none() {
        answer.take_arrived().await;
    }
    let error = match answer.transcoder.end() {
        None | Some(End::Complete) => return Ok(answer),
        Some(end) => {
            let asked = asked_in(&answer);
            waiting(answer.failure(end), asked).cooling_for(asked.map(Duration::from_secs))
        }
    };
    let partial = answer.transcoder.tally().outputs > 0 && request.context.call.stream;
    if partial && !followed {
        return Ok(answer);
    }
    Err(Box::new(AttemptError { error, partial: partial.then_some(answer) }))
}

/// The rest of an answer, unless it has ended badly: nothing of it was forwarded.
fn continued(answer: Box<Answer>) -> Result<Box<Answer>, Box<AttemptError>> {
    match answer.transcoder.end() {
        None | Some(End::Complete) => Ok(answer),
        Some(end) => Err(answer.failure(end).into()),
    }
}

/// The seconds to wait that are in the error which ended an upstream's answer.
fn asked_in(answer: &Answer) -> Option<u64> {
    answer.provider.dialect.retry_after(answer.transcoder.failure()?)
}

async fn send(
    request: &UpstreamRequest,
    target: &Target,
    body: String,
    traced: HeaderMap,
) -> Result<reqwest::Response, Error> {
    let Provider { egress, base_url, .. } = &*target.provider;
    let client = request.clients.get(egress, &request.context.stream);
    let client = client.map_err(|error| Error::internal("no upstream client").because(error))?;
    let (body, digest) = digested(body, target).await?;
    let outgoing = http_request(request, target, (body, digest), traced)?;
    let retry = outgoing.try_clone();
    let sent = Instant::now();
    let (mut result, pooled) = egress::execute(&client, outgoing).await;
    if let (Err(error), Some(again)) = (&result, retry)
        && pooled
        && is_stale(error)
        && sent.elapsed() < STALE_WITHIN
    {
        (result, _) = egress::execute(&client, again).await;
    }
    let response = result.map_err(|error| egress::failure(error, egress, base_url))?;
    egress::checked(response, egress)
}

/// Whether a connection was closed before a byte of answer, as pooled ones are that their server
/// gives up just as they are used again: the one case in which a request is sent to the same target twice
/// (failure mode 46). A new connection that is closed is an upstream that failed. The close arrives as an
/// end or, past our unread request, as a reset.
fn is_stale(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error
            .downcast_ref::<hyper::Error>()
            .is_some_and(|hyper| hyper.is_incomplete_message() || hyper.is_canceled())
        {
            return true;
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return matches!(io.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
        }
        cause = error.source();
    }
    false
}

fn http_request(
    request: &UpstreamRequest,
    target: &Target,
    (body, digest): (String, Option<String>),
    traced: HeaderMap,
) -> Result<reqwest::Request, Error> {
    let provider = &target.provider;
    let verbatim = request.is_verbatim(provider);
    let wanted = request.wanted(target);
    let mut url = provider.base_url.clone();
    let path = provider.dialect.path(&wanted);
    let (path, query) =
        path.split_once('?').map_or((path.as_str(), None), |(path, query)| (path, Some(query)));
    url.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
    url.set_query(query);
    if !provider.query.is_empty() {
        url.query_pairs_mut().extend_pairs(&provider.query);
    }
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Compression would only delay tokens; what comes compressed all the same is decoded.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(ACCEPT, HeaderValue::from_static(provider.dialect.accept(&wanted)));
    for (name, value) in provider.dialect.fixed_headers() {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if let Some(list) = AllowList::of(provider.dialect.name()).filter(|_| verbatim) {
        let named = |name: &&HeaderName| {
            list.has(name.as_str()) && !is_hop(&request.headers, name.as_str())
        };
        for name in request.headers.keys().filter(named) {
            let values = request.headers.get_all(name).iter();
            // Hosting platforms reject beta features of the vendor that they do not know.
            let mut taken = values.filter_map(|value| taken(value, name.as_str(), target));
            if let Some(first) = taken.next() {
                // In place of a fixed header of the same name.
                headers.insert(name.clone(), first);
                headers.extend(taken.map(|value| (name.clone(), value)));
            }
        }
    }
    headers.extend(traced);
    for (name, value) in &provider.headers {
        headers.insert(name.clone(), value.clone());
    }
    if let Some((name, value)) = credential(provider)? {
        headers.insert(name, value);
    }
    if let Some(aws) = &provider.aws {
        let (method, body) = (&http::Method::POST, body.as_bytes());
        let unsigned = Unsigned { method, url: &url, body, digest };
        sign(unsigned, &mut headers, aws, request.context.time.now())?;
    }
    let mut outgoing = reqwest::Request::new(http::Method::POST, url);
    *outgoing.headers_mut() = headers;
    *outgoing.body_mut() = Some(body.into());
    Ok(outgoing)
}

/// The names of what a request had to leave out, as its caller knows them.
fn dropped(request: &UpstreamRequest, names: &[Cow<'static, str>]) -> Option<HeaderValue> {
    let mut all = String::new();
    for (at, name) in names.iter().enumerate() {
        if all.len() > MAX_DROPPED {
            let rest = format!(", and {} more", names.len() - at);
            all.push_str(&rest);
            break;
        }
        let separator = if at == 0 { "" } else { ", " };
        all.extend([separator, request.context.dialect.own_name(name).unwrap_or(name)]);
    }
    HeaderValue::from_str(&all).ok().filter(|names| !names.is_empty())
}

/// A caller's header without the beta features that the target does not take.
fn taken(value: &HeaderValue, name: &str, target: &Target) -> Option<HeaderValue> {
    let betas = target.quirks.settings.betas.as_ref();
    let betas = betas.filter(|_| target.provider.dialect.beta_header() == Some(name));
    let Some(betas) = betas else { return Some(value.clone()) };
    let named = value.to_str().unwrap_or_default().split(',').map(str::trim);
    let known: Vec<&str> = named.filter(|beta| betas.iter().any(|known| known == beta)).collect();
    HeaderValue::from_str(&known.join(",")).ok().filter(|_| !known.is_empty())
}

/// Whether the caller meant a header for its connection to us only.
fn is_hop(headers: &HeaderMap, name: &str) -> bool {
    let listed = headers.get_all(CONNECTION).into_iter().filter_map(|value| value.to_str().ok());
    listed.flat_map(|names| names.split(',')).any(|hop| hop.trim().eq_ignore_ascii_case(name))
}

/// The codec for an answer whose head has come.
async fn transcoder(
    request: &UpstreamRequest,
    target: &Target,
    media_type: &str,
    (tool_forms, inputs): (ToolForms, Option<usize>),
) -> Result<Transcoder, Error> {
    let dialect = target.provider.dialect;
    let verbatim = request.is_verbatim(&target.provider);
    let wanted = request.wanted(target);
    let framing = if wanted.stream { dialect.framing(media_type) } else { Framing::Whole };
    let streams = request.context.call.stream;
    if let Some(part) = &request.part {
        let mut decoder = dialect.decoder(wanted.form);
        decoder.name(&request.context.call.id);
        let Stream { max_event, max_answer, .. } = request.context.stream;
        let transcoder = Transcoder::detached(framing, max_event, decoder, part.usage);
        let seam = Seam::new(&part.text, target.continuation());
        return Ok(transcoder.keeping_at_most(max_answer).with_stage(Box::new(seam)));
    }
    // A whole answer to a request for a stream has no frames to pass through.
    let passes = move |framing| verbatim && (framing == Framing::Whole) != streams;
    let echo = if passes(framing) { String::new() } else { echo(request).await? };
    let rewritten = verbatim && !passes(framing);
    let tool_forms = if rewritten { own_tool_forms(request).await } else { tool_forms };
    let (caller, form) = (request.context.dialect, wanted.form);
    let translated = !verbatim || request.context.operation() == Operation::Chat;
    let call = ResponseContext { echo, tool_forms, ..request.context.call.clone() };
    let choose = Box::new(move |framing| {
        if passes(framing) {
            return (caller.encoder(&call, Mode::Verbatim), Ok(Mode::Verbatim));
        }
        if translated {
            return (caller.encoder(&call, Mode::Translated), Ok(Mode::Translated));
        }
        let message = "the upstream answered a request for a stream with a whole body, or the other way round";
        let fault = ApiError::new(Kind::Upstream, message);
        (caller.encoder(&call, Mode::Verbatim), Err(fault))
    });
    let mut decoder = dialect.decoder(form);
    decoder.name(&request.context.call.id);
    if let Some(inputs) = inputs {
        decoder = Box::new(Verified { inner: decoder, inputs });
    }
    let Stream { max_event, max_answer, .. } = request.context.stream;
    let transcoder = Transcoder::labelled(framing, max_event, decoder, choose);
    let transcoder = transcoder.keeping_at_most(max_answer);
    let may_continue = continuation::policy(request).is_some();
    Ok(if may_continue { transcoder.holding_breaks() } else { transcoder })
}

fn media_type(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("")
}

/// Reads an error response.
async fn refused(
    request: &UpstreamRequest,
    target: &Target,
    ResponseHead { status, headers }: ResponseHead,
    mut source: Source,
) -> Error {
    let redirected = status.is_redirection();
    let status = status.as_u16();
    let provider = &target.provider;
    let mut body = BytesMut::new();
    loop {
        let bytes = match source.chunk().await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => break,
            Err(_) => {
                body.clear();
                break;
            }
        };
        if bytes.len() > MAX_ERROR_BODY.saturating_sub(body.len()) {
            // A part of it would be broken JSON.
            body.clear();
            break;
        }
        body.extend_from_slice(&bytes);
    }
    if status >= 600 {
        let message =
            format!("the upstream answered with status {status}, which HTTP does not have");
        return Error::upstream(ApiError::new(Kind::Upstream, message));
    }
    if redirected {
        let message = "the upstream answered with a redirect, which is never followed; correct the provider's base_url";
        return Error::upstream(ApiError::new(Kind::Upstream, message));
    }
    let body = redacted(body.freeze(), provider);
    let mut fault = provider.dialect.decode_error(status, &body);
    let page = media_type(&headers).starts_with("text/html");
    if page && fault.kind == Kind::Invalid {
        // A web server's page: the request has not reached the API.
        fault.kind = Kind::Upstream;
    }
    if fault.message.is_empty() {
        fault.message = format!("the upstream answered with status {status}");
    }
    let now = request.context.time.now();
    let wait = retry_after(&headers, now).or_else(|| provider.dialect.retry_after(&body));
    let reply = Reply {
        // A platform has an error format of its own, which is not that of its models' vendor.
        dialect: provider.quirks.hosting.map_or_else(|| provider.dialect.name(), Hosting::name),
        status,
        body,
        headers: passed_on(&headers, wait),
    };
    let asked = wait.map(Duration::from_secs).filter(|wait| !wait.is_zero());
    let error = Error::upstream(fault).reply(reply);
    waiting(error, wait).cooling_for(asked.max(quota::spent(&headers, now)))
}

/// An error with the upstream's `retry-after`. Waiting does not help where only the operator can act.
fn waiting(error: Error, seconds: Option<u64>) -> Error {
    match seconds {
        Some(seconds) if !error.is_operators() => error.retry_after(Duration::from_secs(seconds)),
        _ => error,
    }
}
