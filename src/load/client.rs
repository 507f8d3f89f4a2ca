//! HTTP client of the load test: sends one request, reads its answer as it arrives, and returns what
//! was measured. It must never retry, follow a redirect or use a proxy: each would hide what is measured.

use std::pin::pin;
use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::Response;
use serde_json::Value;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use url::Url;

use super::answer::Answer;
use super::failure::{Kind, LoadError};
use super::payload::PayloadReader;
use super::protocol::{Event, Protocol};
use super::tally::{End, Meter, Outcome, Wait};

/// The timeout of a connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of a page of counts.
const MAX_PAGE_BYTES: usize = 16 << 20;
/// The most bytes that are read of an error body.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// One worker's connections to the target.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    /// The longest silence: until the first output, and between outputs.
    silence: Duration,
}

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Ask<'a> {
    /// The protocol of the request.
    pub protocol: &'static Protocol,
    /// The model: a program of the simulated upstream behind the gateway.
    pub model: String,
    /// The caller's key.
    pub key: &'a str,
    /// Tokens of the answer.
    pub tokens: u64,
    /// The time that the answer takes by its program.
    pub planned: Duration,
    /// The number of tokens after which the caller hangs up.
    pub leave_after: Option<u64>,
}

/// An answer as its bytes arrive.
struct Reading<'a> {
    ask: &'a Ask<'a>,
    meter: &'a Meter,
    start: Instant,
    answer: Answer,
    payloads: PayloadReader,
    longest_gap: Option<Duration>,
    last_token: Option<Instant>,
    /// The terminal event has arrived.
    ended: bool,
    /// The payload that may still follow.
    trailer: Option<&'static str>,
}

impl Client {
    /// A client of the gateway at `base`; `silence` is the longest time without output.
    pub(super) fn new(base: &Url, silence: Duration) -> Result<Self, String> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_gzip()
            .no_brotli()
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .pool_idle_timeout(Duration::from_secs(5))
            .build()
            .map_err(|error| format!("cannot make an HTTP client: {}", causes(&error)))?;
        Ok(Self { http, base: base.as_str().trim_end_matches('/').to_owned(), silence })
    }

    /// Reads a small page, such as `/metrics`.
    pub(super) async fn page(&self, url: &Url) -> Result<String, String> {
        let read = async {
            let mut response = self.http.get(url.clone()).send().await?.error_for_status()?;
            let mut page = Vec::new();
            while let Some(chunk) = response.chunk().await? {
                page.extend_from_slice(&chunk);
                if page.len() > MAX_PAGE_BYTES {
                    return Ok(Err(format!(
                        "the page is larger than {} MiB",
                        MAX_PAGE_BYTES >> 20
                    )));
                }
            }
            Ok(String::from_utf8(page).map_err(|_| "the page is not UTF-8".to_owned()))
        };
        match timeout(CONNECT_TIMEOUT, read).await {
            Ok(read) => read.map_err(|error: reqwest::Error| causes(&error))?,
            Err(_) => Err(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs())),
        }
    }

    /// Sends the request and reads the answer to its end.
    pub(super) async fn ask(&self, ask: &Ask<'_>, meter: &Meter) -> Outcome {
        meter.tally().started += 1;
        let start = Instant::now();
        let response = match self.send(ask).await {
            Ok(response) => response,
            Err(failure) => return Outcome::failed(failure, start),
        };
        if response.status() != http::StatusCode::OK {
            let end = self.refusal(ask, response).await;
            return Outcome { end, ..Outcome::empty(start) };
        }
        if let Some(failure) = wrong_type(ask, &response) {
            return Outcome::failed(failure, start);
        }
        let _open = meter.gauge().open();
        let reading = Reading {
            ask,
            meter,
            start,
            answer: Answer::default(),
            payloads: PayloadReader::new(ask.protocol.framing),
            longest_gap: None,
            last_token: None,
            ended: false,
            trailer: ask.protocol.trailer,
        };
        reading.run(response, self.silence).await
    }

    async fn send(&self, ask: &Ask<'_>) -> Result<Response, LoadError> {
        let body = (ask.protocol.request)(&ask.model, ask.tokens.saturating_add(16));
        let request = self
            .http
            .post(format!("{}{}", self.base, (ask.protocol.path)(&ask.model)))
            .bearer_auth(ask.key)
            .header(CONTENT_TYPE, "application/json")
            .body(body.to_string());
        match timeout(self.silence, request.send()).await {
            Err(_) => Err(LoadError::new(Kind::Stalled, self.silent("no response head"))),
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(LoadError::new(kind(&error), causes(&error))),
        }
    }

    /// The failure of a response with an error status.
    async fn refusal(&self, ask: &Ask<'_>, mut response: Response) -> End {
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|it| it.to_str().ok());
        let retry_after = retry_after.and_then(|text| text.parse::<u64>().ok());
        let mut body = Vec::new();
        let read = async {
            while let Ok(Some(chunk)) = response.chunk().await {
                body.extend_from_slice(&chunk);
                if body.len() > MAX_ERROR_BYTES {
                    break;
                }
            }
        };
        let silent = timeout(self.silence, read).await.is_err();
        let parsed: Option<Value> = serde_json::from_slice(&body).ok();
        let Some(message) = parsed.as_ref().and_then(|body| (ask.protocol.error)(body)) else {
            let text = String::from_utf8_lossy(&body);
            let silent = if silent { " (the body never ended)" } else { "" };
            let detail = format!(
                "status {status} whose body is no {} error{silent}: {text}",
                ask.protocol.name
            );
            return End::Failed(LoadError::new(Kind::Status(status), detail));
        };
        if status == 429 && retry_after.is_some_and(|seconds| seconds > 0) {
            return End::Refused;
        }
        End::Failed(LoadError::new(Kind::Status(status), message))
    }

    fn silent(&self, what: &str) -> String {
        format!("{what} within {} s (--timeout)", self.silence.as_secs_f64())
    }
}

impl Outcome {
    fn empty(start: Instant) -> Self {
        Self {
            end: End::Complete,
            longest_gap: None,
            duration: start.elapsed(),
            tokens: 0,
            heartbeats: 0,
        }
    }

    fn failed(failure: LoadError, start: Instant) -> Self {
        Self { end: End::Failed(failure), ..Self::empty(start) }
    }
}

impl Reading<'_> {
    async fn run(mut self, mut response: Response, silence: Duration) -> Outcome {
        let end = self.read(&mut response, silence).await;
        // After an early end, dropping the response closes the connection: the caller hangs up.
        drop(response);
        Outcome {
            end,
            longest_gap: self.longest_gap,
            duration: self.start.elapsed(),
            tokens: self.answer.tokens(),
            heartbeats: self.payloads.comments(),
        }
    }

    async fn read(&mut self, response: &mut Response, silence: Duration) -> End {
        // Slower than that is no load test any more, and must end.
        let limit = self.start + self.ask.planned * 2 + silence * 2;
        let mut alarm = pin!(sleep_until((self.start + silence).min(limit)));
        loop {
            let chunk = tokio::select! {
                chunk = response.chunk() => chunk,
                () = alarm.as_mut() => match self.overdue(alarm.as_mut(), silence, limit) {
                    Some(failure) => return End::Failed(failure),
                    None => continue,
                },
            };
            let taken = match chunk {
                Ok(Some(chunk)) => self.take(&chunk),
                Ok(None) => return self.finish("the body ended"),
                Err(error) => return self.finish(&format!("the body broke: {}", causes(&error))),
            };
            match taken {
                Ok(None) => {}
                Ok(Some(end)) => return end,
                Err(failure) => return End::Failed(failure),
            }
        }
    }

    /// The failure if the answer is overdue; else sets the alarm anew. One alarm for many chunks is
    /// cheaper than one for each.
    fn overdue(
        &self,
        mut alarm: std::pin::Pin<&mut Sleep>,
        silence: Duration,
        limit: Instant,
    ) -> Option<LoadError> {
        let (now, due) =
            (Instant::now(), (self.last_token.unwrap_or(self.start) + silence).min(limit));
        if now < due {
            alarm.as_mut().reset(due);
            return None;
        }
        let tokens = self.answer.tokens();
        let detail = if now >= limit {
            format!("not complete after {} s, with {tokens} tokens", (now - self.start).as_secs())
        } else {
            format!("no output for {} s (--timeout) after {tokens} tokens", silence.as_secs_f64())
        };
        Some(LoadError::new(Kind::Stalled, detail))
    }

    /// Reads a chunk of the body. An end: the caller disconnects, or an error event has arrived.
    fn take(&mut self, chunk: &[u8]) -> Result<Option<End>, LoadError> {
        self.payloads.push(chunk);
        let now = Instant::now();
        let mut arrived = 0_u64;
        let junk = |detail: String| LoadError::new(Kind::Junk, detail);
        let end = loop {
            let payload = self.payloads.next().map_err(|error| junk(error.0.to_owned()))?;
            let Some(payload) = payload else { break None };
            if self.ended {
                if self.trailer.take_if(|trailer| *trailer == payload).is_some() {
                    continue;
                }
                return Err(junk(format!("after the terminal event: {payload}")));
            }
            let event = (self.ask.protocol.read)(&payload);
            let event = event.map_err(|error| junk(format!("{error} in: {payload}")))?;
            arrived = arrived.saturating_add(self.event(&event)?);
            self.ended = event.end;
            if let Some(message) = event.error {
                let in_band = || LoadError::new(Kind::InBand, message);
                break Some(End::Failed(self.answer.flaw().unwrap_or_else(in_band)));
            }
        };
        if arrived > 0 {
            self.note(arrived, now);
        }
        let enough = self.ask.leave_after.is_some_and(|after| self.answer.tokens() >= after);
        if end.is_none() && enough && !self.ended {
            let flaw = self.answer.flaw();
            return Ok(Some(flaw.map_or(End::Left, End::Failed)));
        }
        Ok(end)
    }

    fn event(&mut self, event: &Event) -> Result<u64, LoadError> {
        if event.text.is_empty() { Ok(0) } else { self.answer.text(&event.text) }
    }

    fn note(&mut self, arrived: u64, now: Instant) {
        let (wait, gap) = match self.last_token {
            None => (Wait::First(now - self.start), None),
            Some(last) => (Wait::Next(now - last), Some(now - last)),
        };
        // The longest gap of a stream of one token is not known, of any other it is at least 0.
        let longest = gap.or_else(|| (arrived > 1).then_some(Duration::ZERO));
        self.longest_gap = self.longest_gap.max(longest);
        self.last_token = Some(now);
        self.meter.arrived(arrived, wait);
    }

    fn finish(&self, what: &str) -> End {
        if self.ended {
            let verdict = self.answer.verdict(self.ask.tokens);
            return verdict.map_or(End::Complete, End::Failed);
        }
        let inside = if self.payloads.is_inside_payload() { ", inside an event" } else { "" };
        let detail = format!(
            "{what} after {} tokens{inside}, without a terminal or an error event",
            self.answer.tokens()
        );
        End::Failed(LoadError::new(Kind::Truncated, detail))
    }
}

/// A media type that is not the protocol's, such as the page of a proxy.
fn wrong_type(ask: &Ask<'_>, response: &Response) -> Option<LoadError> {
    let wanted = ask.protocol.media_type;
    let found = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let found = found.unwrap_or("nothing");
    if found.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case(wanted)) {
        return None;
    }
    let detail =
        format!("status 200 with content type {found}, not {wanted}: is this the gateway?");
    Some(LoadError::new(Kind::Junk, detail))
}

/// The kind of a request without a response.
fn kind(error: &reqwest::Error) -> Kind {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
            return Kind::Junk;
        }
        source = cause.source();
    }
    if error.is_connect() || error.is_builder() { Kind::Connect } else { Kind::Truncated }
}

/// An error with its causes, without the address, which is the same for all.
fn causes(error: &reqwest::Error) -> String {
    let mut parts = Vec::new();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        parts.push(cause.to_string());
        source = cause.source();
    }
    parts.dedup();
    if parts.is_empty() { error.to_string() } else { parts.join(": ") }
}
