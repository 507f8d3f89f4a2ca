//! From a plan to an [`Answer`]: one attempt, then the next, only before the first model output.
//!
//! Upstream requests are built from nothing: an allow-list decides what of a caller's headers goes
//! along, and the operator alone decides where to.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, ACCEPT_ENCODING, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memmem;
use tokio::time::{Instant, timeout_at};

use super::account;
use super::route::Plan;
use crate::config::{Provider, Stream, Target};
use crate::error::{Attempt, Error, Reply, Side};
use crate::telemetry::Metrics;
use crate::wire::chat::{self, Deadline, End, Fault, Kind};
use crate::wire::dialect::{self, Call, Dialect, Mode};
use crate::wire::framing::Framing;
use crate::wire::transcode::Transcoder;

/// What has already arrived is forwarded in one write up to about this many bytes.
const BATCH: usize = 32 * 1024;

/// The most bytes of an error response that are read.
const ERROR_BODY: usize = 64 * 1024;

/// A shorter key is none, but a word that answers may use.
const SHORTEST_KEY: usize = 8;

/// What is asked of upstreams: everything that the attempts of one request share.
pub struct Order {
    /// One client for all.
    pub client: reqwest::Client,
    /// Where failed attempts are counted.
    pub metrics: Arc<Metrics>,
    /// The caller's dialect.
    pub dialect: &'static dyn Dialect,
    /// The caller's request, as it came.
    pub body: String,
    /// The caller's headers.
    pub headers: HeaderMap,
    /// The identity of the answer.
    pub call: Call,
    /// Where it may go.
    pub plan: Plan,
    /// The deadlines.
    pub stream: Stream,
    /// When the request came in.
    pub started: Instant,
    /// Our id for it.
    pub request_id: String,
}

/// An upstream that has begun to answer, and what its first bytes became.
pub struct Answer {
    /// Who answers.
    pub target: Target,
    /// How many attempts it took.
    pub attempts: u32,
    /// Upstream headers that may be passed on.
    pub headers: HeaderMap,
    /// The rest of it.
    pub response: reqwest::Response,
    /// Turns upstream bytes into the caller's.
    pub transcoder: Transcoder,
    /// The caller's bytes so far: up to the first model output, or to the end.
    pub ready: BytesMut,
    /// When the first model output came.
    pub first_output: Instant,
}

/// Opens an answer at the first target that gives one. Whatever this future holds is closed when
/// it is dropped.
pub async fn open(order: Order) -> Result<Answer, Error> {
    let mut failure = None;
    let mut translated = None;
    for (attempts, target) in (1..).zip(&order.plan.targets) {
        let result = match request_body(&order, target, &mut translated) {
            Ok(body) => attempt(&order, target, body).await,
            // Another target may be able to say what this one's dialect cannot.
            Err(fault) => Err(Error::caller(fault)),
        };
        match result {
            Ok(answer) => return Ok(Answer { attempts, ..answer }),
            Err(error) => {
                let untranslatable = error.side() == Side::Caller;
                if !untranslatable {
                    account::attempt_failed(&order.metrics, &order.request_id, target, &error);
                }
                let hopeless = !untranslatable && !error.is_retryable();
                failure =
                    Some(error.during(Attempt { target: target.to_string(), number: attempts }));
                if hopeless {
                    break;
                }
            }
        }
    }
    Err(failure.unwrap_or_else(|| Error::internal("the plan had no target")))
}

/// The caller's own JSON with surgical edits for an upstream of the same dialect; a translation
/// otherwise.
fn request_body(
    order: &Order,
    target: &Target,
    translated: &mut Option<chat::Request>,
) -> Result<String, Fault> {
    let provider = &target.provider;
    let verbatim = is_verbatim(order, provider);
    let wanted = dialect::Target {
        model: &target.model,
        // A translated answer is always streamed: its deadlines work, and its caller's leaving is
        // noticed. It is collected on our side if need be.
        stream: order.call.stream || !verbatim,
        quirks: &provider.quirks,
    };
    if verbatim {
        return provider.dialect.edit_request(&order.body, &wanted);
    }
    let request = match translated {
        Some(request) => request,
        None => translated.insert(order.dialect.decode_request(&order.body)?),
    };
    provider.dialect.encode_request(request, &wanted)
}

fn is_verbatim(order: &Order, provider: &Provider) -> bool {
    order.dialect.name() == provider.dialect.name()
}

/// One attempt, up to its first model output or its end.
async fn attempt(order: &Order, target: &Target, body: String) -> Result<Answer, Error> {
    let sent = Instant::now();
    let verbatim = is_verbatim(order, &target.provider);
    let patience = if order.call.stream || !verbatim {
        order.stream.first_token
    } else {
        // An answer that is not streamed is silent until it is whole.
        order.stream.first_token + order.stream.stall
    };
    let deadline = earlier(sent + patience, order.stream.total.map(|total| order.started + total));
    let late = || Error::from_end(&End::TimedOut(Deadline::FirstToken));
    let mut response =
        timeout_at(deadline, send(order, target, body)).await.map_err(|_| late())??;
    if !response.status().is_success() {
        let refused = timeout_at(deadline, refused(target, response));
        return Err(refused.await.unwrap_or_else(|_| late()));
    }
    let headers = passed_on(response.headers());
    let transcoder = transcoder(order, target, &response)?;
    // They would keep the connection's first read buffer as long as the stream lives.
    *response.headers_mut() = HeaderMap::new();
    let mut answer = Answer {
        target: target.clone(),
        attempts: 1,
        headers,
        response,
        transcoder,
        ready: BytesMut::new(),
        first_output: sent,
    };
    loop {
        let chunk = timeout_at(deadline, answer.response.chunk()).await.map_err(|_| late())?;
        let output = answer.take(chunk);
        if output || answer.transcoder.end().is_some() {
            break;
        }
        if answer.ready.len() > order.stream.max_event {
            let message = "the upstream sent megabytes without any model output";
            return Err(Error::upstream(Fault::new(Kind::Upstream, message)));
        }
    }
    answer.first_output = Instant::now();
    match answer.transcoder.end() {
        None | Some(End::Complete) => Ok(answer),
        // Something was said before it broke: that is forwarded, and the end told in-band.
        Some(_) if answer.transcoder.tally().outputs > 0 && order.call.stream => Ok(answer),
        Some(end) => Err(Error::from_end(end)),
    }
}

impl Answer {
    /// Takes what the upstream's body gave. Returns whether there was model output in it.
    pub fn take(&mut self, chunk: reqwest::Result<Option<Bytes>>) -> bool {
        match chunk {
            Ok(Some(bytes)) => {
                let bytes = redacted(bytes, &self.target.provider);
                self.transcoder.push(bytes, &mut self.ready)
            }
            Ok(None) => {
                self.transcoder.finish(&mut self.ready);
                false
            }
            // Also ends the reading: some bodies repeat their error for ever (failure mode 45).
            Err(error) => {
                tracing::debug!(error = %error.without_url(), "upstream body broke");
                self.transcoder.abort(End::Truncated, &mut self.ready);
                false
            }
        }
    }

    /// Takes a chunk and whatever else has already arrived, so that all of it leaves in one write.
    pub async fn take_all(&mut self, chunk: reqwest::Result<Option<Bytes>>) -> bool {
        let size = |chunk: &reqwest::Result<Option<Bytes>>| {
            chunk.as_ref().ok().and_then(Option::as_ref).map_or(0, Bytes::len)
        };
        // What is taken counts, not what came of it: pings without end must not keep us here.
        let mut taken = size(&chunk);
        let mut output = self.take(chunk);
        while self.transcoder.end().is_none() && taken < BATCH {
            let Some(chunk) = self.arrived().await else { break };
            taken += size(&chunk);
            output |= self.take(chunk);
        }
        output
    }

    /// The next chunk if it is there already. The connection's task hands out one at a time, and
    /// only when asked, so it gets a turn to do so. Hyper polls a pending body twice in a row: the
    /// turn is over at the third time.
    async fn arrived(&mut self) -> Option<reqwest::Result<Option<Bytes>>> {
        let mut asked = 0;
        let mut chunk = pin!(self.response.chunk());
        poll_fn(|cx| match chunk.as_mut().poll(cx) {
            Poll::Ready(chunk) => Poll::Ready(Some(chunk)),
            Poll::Pending if asked == 2 => Poll::Ready(None),
            Poll::Pending => {
                asked += 1;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        })
        .await
    }
}

async fn send(order: &Order, target: &Target, body: String) -> Result<reqwest::Response, Error> {
    let request = request(order, target, body)?;
    let retry = request.try_clone();
    let mut result = order.client.execute(request).await;
    if let (Err(error), Some(again)) = (&result, retry)
        && is_stale(error)
    {
        result = order.client.execute(again).await;
    }
    result.map_err(|error| {
        let fault = if error.is_connect() && error.is_timeout() {
            return Error::from_end(&End::TimedOut(Deadline::Connect));
        } else if error.is_connect() {
            Fault::new(Kind::Upstream, "the upstream could not be reached")
        } else {
            Fault::new(Kind::Upstream, "the upstream closed the connection without an answer")
        };
        Error::upstream(fault).because(error.without_url())
    })
}

/// Whether a connection was closed before a byte of answer, as pooled ones are that their server
/// gives up just as they are used again: the one case in which the same target is asked twice
/// (failure mode 46). The close arrives as an end or, past our unread request, as a reset.
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

fn request(order: &Order, target: &Target, body: String) -> Result<reqwest::Request, Error> {
    let provider = &target.provider;
    let verbatim = is_verbatim(order, provider);
    let stream = order.call.stream || !verbatim;
    let mut url = provider.base_url.clone();
    let path = provider.dialect.path(&target.model, stream);
    url.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
    if !provider.query.is_empty() {
        url.query_pairs_mut().extend_pairs(&provider.query);
    }
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Compression would only delay tokens; what comes compressed all the same is decoded.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let accept = if stream { "text/event-stream" } else { "application/json" };
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    for (name, value) in provider.dialect.fixed_headers() {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if verbatim {
        for name in provider.dialect.forwarded_headers() {
            if let Some(value) = order.headers.get(*name).filter(|_| !is_hop(&order.headers, name))
            {
                headers.insert(HeaderName::from_static(name), value.clone());
            }
        }
    }
    for (name, value) in &provider.headers {
        headers.insert(name.clone(), value.clone());
    }
    if let Some((name, value)) = credential(provider)? {
        headers.insert(name, value);
    }
    let mut request = reqwest::Request::new(http::Method::POST, url);
    *request.headers_mut() = headers;
    *request.body_mut() = Some(body.into());
    Ok(request)
}

/// Whether the caller meant a header for its connection to us only.
fn is_hop(headers: &HeaderMap, name: &str) -> bool {
    let listed = headers.get_all(CONNECTION).into_iter().filter_map(|value| value.to_str().ok());
    listed.flat_map(|names| names.split(',')).any(|hop| hop.trim().eq_ignore_ascii_case(name))
}

fn credential(provider: &Provider) -> Result<Option<(HeaderName, HeaderValue)>, Error> {
    let Some(key) = &provider.api_key else {
        return Ok(None);
    };
    let (name, prefix) = provider.auth_header.as_ref().map_or_else(
        || {
            let (name, prefix) = provider.dialect.credential();
            (HeaderName::from_static(name), prefix)
        },
        |(name, prefix)| (name.clone(), prefix.as_str()),
    );
    let mut value = HeaderValue::from_str(&format!("{prefix}{}", key.expose()))
        .map_err(|_| Error::internal("a provider's api_key holds characters that no header may"))?;
    value.set_sensitive(true);
    Ok(Some((name, value)))
}

/// The codec for an answer whose head has come.
fn transcoder(
    order: &Order,
    target: &Target,
    response: &reqwest::Response,
) -> Result<Transcoder, Error> {
    let dialect = target.provider.dialect;
    let kind =
        response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let whole = kind.starts_with("application/json");
    if kind.starts_with("text/html") {
        let message = "the upstream answered with an HTML page; check the provider's base_url";
        return Err(Error::upstream(Fault::new(Kind::Upstream, message)));
    }
    let verbatim = is_verbatim(order, &target.provider);
    let framing =
        if whole || (verbatim && !order.call.stream) { Framing::Whole } else { dialect.framing() };
    // A whole answer to a caller who wants a stream has no frames to forward as they are.
    let mode = if verbatim && (framing == Framing::Whole) != order.call.stream {
        Mode::Verbatim
    } else {
        Mode::Translated
    };
    let encoder = order.dialect.encoder(&order.call, mode);
    Ok(Transcoder::new(framing, order.stream.max_event, dialect.decoder(), encoder, mode))
}

/// Reads an error response.
async fn refused(target: &Target, mut response: reqwest::Response) -> Error {
    let status = response.status().as_u16();
    let provider = &target.provider;
    let mut body = BytesMut::new();
    while let Ok(Some(bytes)) = response.chunk().await {
        if bytes.len() > ERROR_BODY.saturating_sub(body.len()) {
            // A part of it would be broken JSON to whoever gets it.
            body.clear();
            break;
        }
        body.extend_from_slice(&bytes);
    }
    if response.status().is_redirection() {
        let message = "the upstream answered with a redirect, which is never followed; correct the provider's base_url";
        return Error::upstream(Fault::new(Kind::Upstream, message));
    }
    let body = redacted(body.freeze(), provider);
    let mut fault = provider.dialect.decode_error(status, &body);
    if fault.message.is_empty() {
        fault.message = format!("the upstream answered with status {status}");
    }
    let retry_after =
        response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let reply = Reply {
        dialect: provider.dialect.name(),
        status,
        body,
        headers: passed_on(response.headers()),
    };
    let error = Error::upstream(fault).reply(reply);
    match retry_after {
        Some(seconds) => error.retry_after(Duration::from_secs(seconds)),
        None => error,
    }
}

/// An upstream's words without our credential in them, should it repeat it. One that is cut between
/// two chunks of a stream is not found; vendors write an error at once.
fn redacted(words: Bytes, provider: &Provider) -> Bytes {
    let key = provider.api_key.as_ref().map_or(&[][..], |key| key.expose().as_bytes());
    if key.len() < SHORTEST_KEY || memmem::find(&words, key).is_none() {
        return words;
    }
    let mut clean = BytesMut::with_capacity(words.len());
    let mut rest = &words[..];
    while let Some((before, after)) =
        memmem::find(rest, key).and_then(|at| Some((rest.get(..at)?, rest.get(at + key.len()..)?)))
    {
        clean.extend_from_slice(before);
        clean.extend_from_slice(b"[redacted]");
        rest = after;
    }
    clean.extend_from_slice(rest);
    clean.freeze()
}

/// Upstream response headers that callers' SDKs act on. Everything else stays behind.
fn passed_on(upstream: &HeaderMap) -> HeaderMap {
    const NAMES: [&str; 6] = [
        "retry-after",
        "retry-after-ms",
        "x-should-retry",
        "request-id",
        "openai-processing-ms",
        "x-request-id",
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in upstream {
        let text = name.as_str();
        let wanted = NAMES.contains(&text)
            || text.starts_with("x-ratelimit-")
            || text.starts_with("anthropic-ratelimit-");
        if !wanted {
            continue;
        }
        // Ours is called the same, and every response carries it.
        let name = if text == "x-request-id" {
            HeaderName::from_static("x-upstream-request-id")
        } else {
            name.clone()
        };
        headers.append(name, value.clone());
    }
    headers
}

fn earlier(deadline: Instant, other: Option<Instant>) -> Instant {
    other.map_or(deadline, |other| deadline.min(other))
}
