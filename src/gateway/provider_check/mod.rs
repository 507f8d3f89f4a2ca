//! Provider checks, as an operator runs them: name resolution, connection, TLS, clock skew, credential, models. A finding
//! must never hold a credential, an address with one, or an upstream's own words.

mod completion;
mod connection;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::DATE;
use http::{HeaderMap, StatusCode};
use tokio::time::timeout;
use url::Url;

use super::clock::RequestTime;
use super::egress::{self, Clients};
use super::provider_models::list_request;
use crate::config::{Provider, Stream, Target};
use crate::error::Error;
use crate::wire::chat::Kind;
use crate::wire::model_list::ModelInfo;

/// The clock skew from which tokens may be refused: the usual leeway of JWTs.
const SKEW: Duration = Duration::from_secs(30);
/// The clock skew from which AWS refuses signatures.
const SIGNATURE_SKEW: Duration = Duration::from_mins(5);
/// The most bytes of a response that are read.
const MAX_BODY: usize = 8 << 20;

/// A step of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Resolution of the name, by DNS.
    Name,
    /// The TCP connection, to the provider or to its proxy.
    Connection,
    /// The TLS handshake.
    Tls,
    /// The clock of this machine, compared with the provider's `date`.
    Clock,
    /// The credential.
    Credential,
    /// The configured models, by the provider's list.
    Models,
    /// An answer of a few tokens.
    Completion,
}

impl Step {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Name => "dns",
            Self::Connection => "connect",
            Self::Tls => "tls",
            Self::Clock => "clock",
            Self::Credential => "credential",
            Self::Models => "models",
            Self::Completion => "complete",
        }
    }
}

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It works.
    Ok,
    /// It was not checked.
    Skipped,
    /// It works, but probably not as it should.
    Warning,
    /// It does not work.
    Broken,
}

impl State {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Broken => "broken",
        }
    }
}

/// One line of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The step.
    pub step: Step,
    /// Its result.
    pub state: State,
    /// The result in words, and the remedy if there has to be one.
    pub message: String,
}

impl Finding {
    fn new(step: Step, state: State, message: impl Into<String>) -> Self {
        Self { step, state, message: message.into() }
    }
}

/// The checks of one provider.
#[derive(Debug)]
pub struct ProviderCheck<'a> {
    /// The provider.
    pub provider: &'a Arc<Provider>,
    /// Its models in the configuration, with the names that callers use.
    pub targets: Vec<(&'a str, &'a Target)>,
    /// Whether each of them is to answer with a few tokens, which costs money.
    pub complete: bool,
    /// The terms of connections.
    pub terms: Stream,
    /// The timeout of a request.
    pub timeout: Duration,
}

/// A response, of which nothing is shown.
struct Reply {
    status: StatusCode,
    date: Option<SystemTime>,
    body: Bytes,
}

impl ProviderCheck<'_> {
    /// Runs the checks in order. What needs a connection is left out where there is none.
    pub async fn run(&self) -> Vec<Finding> {
        let mut findings = connection::check(self.provider, self.terms.connect).await;
        if findings.iter().any(|finding| finding.state == State::Broken) {
            return findings;
        }
        let clients = Clients::default();
        let client = match clients.get(&self.provider.egress, &self.terms) {
            Ok(client) => client,
            Err(error) => {
                let message = format!("no client can be made: {error}");
                findings.push(Finding::new(Step::Connection, State::Broken, message));
                return findings;
            }
        };
        self.ask(&client, &mut findings).await;
        if self.complete {
            findings.extend(completion::check(self, &client).await);
        }
        findings
    }

    /// Asks for the list of models, by which most of the rest is known.
    async fn ask(&self, client: &reqwest::Client, findings: &mut Vec<Finding>) {
        let name = &self.provider.name;
        let request = match list_request(self.provider) {
            Ok(request) => request,
            Err(error) => {
                findings.push(Finding::new(Step::Credential, State::Broken, described(&error)));
                return;
            }
        };
        let listed = request.is_some();
        // Without a list, the address itself has at least a clock.
        let (url, headers) =
            request.unwrap_or_else(|| (self.provider.base_url.clone(), HeaderMap::new()));
        let reply = match self.get(client, url, headers).await {
            Ok(reply) => reply,
            Err(message) => {
                findings.push(Finding::new(Step::Connection, State::Broken, message));
                return;
            }
        };
        findings.extend(self.clock(&reply));
        if !listed {
            let message = format!(
                "not checked: `{}` has no list of models; --complete asks for an answer",
                self.provider.dialect.name()
            );
            findings.push(Finding::new(Step::Credential, State::Skipped, message));
            return;
        }
        let credential = self.credential(&reply);
        let accepted = credential.state == State::Ok;
        findings.push(credential);
        if !accepted || !self.provider.list_models {
            return;
        }
        if let Ok(list) = self.provider.dialect.read_list(&reply.body) {
            findings.extend(self.models(&list));
        } else {
            let message = format!(
                "the response is no list of models; correct `providers.{name}.base_url`, or set `list_models: false`"
            );
            findings.push(Finding::new(Step::Models, State::Broken, message));
        }
    }

    /// Sends a request. The error is a message.
    async fn get(
        &self,
        client: &reqwest::Client,
        url: Url,
        headers: HeaderMap,
    ) -> Result<Reply, String> {
        let mut request = reqwest::Request::new(http::Method::GET, url);
        *request.headers_mut() = headers;
        let (egress, to) = (&self.provider.egress, &self.provider.base_url);
        let answer = async {
            let (response, _) = egress::execute(client, request).await;
            let response = response.map_err(|error| egress::failure(error, egress, to));
            let response = response.and_then(|response| egress::checked(response, egress));
            read(response.map_err(|error| described(&error))?).await
        };
        let late = |_| format!("no response within {} s", self.timeout.as_secs());
        timeout(self.timeout, answer).await.map_err(late)?
    }

    /// Compares clocks. `None`: the response has no date.
    fn clock(&self, reply: &Reply) -> Option<Finding> {
        let theirs = reply.date?;
        let ours = RequestTime::begin().now();
        let (skew, fast) = match ours.duration_since(theirs) {
            Ok(ahead) => (ahead, true),
            Err(behind) => (behind.duration(), false),
        };
        let (seconds, way) = (skew.as_secs(), if fast { "ahead of" } else { "behind" });
        let signed = self.provider.aws.is_some();
        let found = if signed && skew >= SIGNATURE_SKEW {
            let message = format!(
                "this machine's clock is {seconds} s {way} the provider's, which refuses signatures from 300 s on; set the clock (NTP)"
            );
            Finding::new(Step::Clock, State::Broken, message)
        } else if skew >= SKEW {
            let message = format!(
                "this machine's clock is {seconds} s {way} the provider's: JWTs may be refused (`leeway`), and signatures; set the clock (NTP)"
            );
            Finding::new(Step::Clock, State::Warning, message)
        } else {
            Finding::new(Step::Clock, State::Ok, format!("{seconds} s {way} the provider's"))
        };
        Some(found)
    }

    /// Judges the response to the request for the list.
    fn credential(&self, reply: &Reply) -> Finding {
        let Provider { name, credential, dialect, .. } = &**self.provider;
        let given = self.provider.api_key.is_some() || !self.provider.headers.is_empty();
        let status = reply.status.as_u16();
        if reply.status == StatusCode::OK {
            let message = if given { "accepted" } else { "none is needed" };
            return Finding::new(Step::Credential, State::Ok, message);
        }
        let (state, message) = match dialect.decode_error(status, &reply.body).kind {
            _ if reply.status.is_redirection() => (
                State::Broken,
                format!(
                    "redirected with status {status}, which is never followed; correct `providers.{name}.base_url`"
                ),
            ),
            Kind::Authentication | Kind::Permission if !given => (
                State::Broken,
                format!("one is needed (status {status}); set `providers.{name}.api_key`"),
            ),
            Kind::Authentication | Kind::Permission => {
                (State::Broken, format!("refused with status {status}; correct {credential}"))
            }
            Kind::Billing => (
                State::Broken,
                format!("the account cannot pay (status {status}); look at it at the provider"),
            ),
            Kind::RateLimited => (
                State::Warning,
                format!("not checked: too many requests (status {status}); try again later"),
            ),
            _ if status == 404 && !self.provider.list_models => {
                (State::Skipped, "not checked: there is no list of models".to_owned())
            }
            _ if status == 404 => (
                State::Warning,
                format!(
                    "not checked: there is no list of models (status 404); if answers fail too, correct `providers.{name}.base_url`, else set `list_models: false`"
                ),
            ),
            _ => (State::Broken, format!("the provider answers with status {status}")),
        };
        Finding::new(Step::Credential, state, message)
    }

    /// Looks the configured models up.
    fn models(&self, list: &[ModelInfo]) -> Vec<Finding> {
        let offered = list.len();
        // An answer is the better proof.
        let state = if self.complete { State::Warning } else { State::Broken };
        let mut findings = Vec::new();
        for (name, target) in &self.targets {
            let model = target.model.as_str();
            if model.contains('*') || list.iter().any(|known| is_named(&known.id, model)) {
                continue;
            }
            let near = nearest(list, model);
            let remedy = near
                .map_or_else(|| "correct it".to_owned(), |near| format!("did you mean `{near}`?"));
            let message = format!(
                "`{model}`, a target of `models.{name}`, is not among the {offered} of the provider's list; {remedy}"
            );
            findings.push(Finding::new(Step::Models, state, message));
        }
        if findings.is_empty() {
            let message = match self.targets.len() {
                0 => format!("{offered} in the provider's list; the configuration names none"),
                1 => format!("the configured one exists ({offered} in the provider's list)"),
                all => {
                    format!("all {all} configured ones exist ({offered} in the provider's list)")
                }
            };
            findings.push(Finding::new(Step::Models, State::Ok, message));
        }
        findings
    }
}

/// Whether a model of a list has a name: lists leave out tags (`:latest`) and names without the date of a version.
fn is_named(listed: &str, name: &str) -> bool {
    let listed = listed.strip_prefix("models/").unwrap_or(listed);
    let rest = listed.strip_prefix(name);
    let dated = |rest: &str| {
        let date = rest.strip_prefix(['-', '@']).unwrap_or_default();
        !date.is_empty() && date.chars().all(|c| c.is_ascii_digit() || c == '-')
    };
    rest.is_some_and(|rest| rest.is_empty() || rest == ":latest" || dated(rest))
}

fn nearest<'l>(list: &'l [ModelInfo], name: &str) -> Option<&'l str> {
    let distances = list.iter().map(|model| (strsim::osa_distance(&model.id, name), &*model.id));
    let (distance, near) = distances.min()?;
    (distance <= name.len() / 3).then_some(near)
}

/// Reads a response.
async fn read(mut response: reqwest::Response) -> Result<Reply, String> {
    let status = response.status();
    let date = response.headers().get(DATE).and_then(|value| value.to_str().ok());
    let date = date.and_then(|text| httpdate::parse_http_date(text).ok());
    let mut body = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_BODY => {
                body.extend_from_slice(&chunk);
            }
            Ok(Some(_)) => return Err("the response is larger than 8 MiB".to_owned()),
            Ok(None) => return Ok(Reply { status, date, body: body.freeze() }),
            Err(_) => return Err("the response broke off".to_owned()),
        }
    }
}

/// An error of ours, with its causes.
fn described(error: &Error) -> String {
    let mut text = error.fault().message.clone();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_lists() {
        assert!(
            is_named("gpt-4o", "gpt-4o") && is_named("models/gemini-2.5-pro", "gemini-2.5-pro")
        );
        assert!(is_named("qwen3:latest", "qwen3") && is_named("claude-x-20250929", "claude-x"));
        assert!(!is_named("gpt-4o-mini", "gpt-4o") && !is_named("gpt-4", "gpt-4o"));
        let list = [ModelInfo::named("gpt-4o"), ModelInfo::named("o3")];
        assert_eq!(nearest(&list, "gtp-4o"), Some("gpt-4o"));
        assert_eq!(nearest(&list, "claude"), None);
    }
}
