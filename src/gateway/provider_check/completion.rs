//! Completion checks: an answer of a few tokens from each configured model. It must never show an upstream's own words.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE};
use http::{HeaderValue, Method};
use tokio::time::{Instant, timeout};

use super::{Finding, ProviderCheck, State, Step, described};
use crate::config::{Provider, Target};
use crate::error::{Error, code};
use crate::gateway::clock::RequestTime;
use crate::gateway::egress;
use crate::gateway::provider_models::provider_headers;
use crate::gateway::sigv4::{Unsigned, sign};
use crate::wire::adapt;
use crate::wire::chat::{ApiError, Delta, Kind, Message, Part, Request, Role};
use crate::wire::dialect::{self, Form, Operation};
use crate::wire::framing::Framer;

/// The most tokens of an answer: some models take no fewer.
const MAX_TOKENS: u64 = 16;
/// The most bytes of an answer that are read.
const MAX_ANSWER: usize = 1 << 20;

/// Asks each configured model.
pub(super) async fn check(check: &ProviderCheck<'_>, client: &reqwest::Client) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut asked = Vec::new();
    for (_, target) in &check.targets {
        let model = target.model.as_str();
        if model.contains('*') || asked.contains(&model) {
            continue;
        }
        asked.push(model);
        let begun = Instant::now();
        let answered = timeout(check.timeout, answer(target, client)).await;
        let late = |_| Err(format!("no answer within {} s", check.timeout.as_secs()));
        let finding = match answered.unwrap_or_else(late) {
            Ok(()) => {
                let elapsed = begun.elapsed();
                Finding::new(Step::Completion, State::Ok, answered_after(model, elapsed))
            }
            Err(why) => {
                let message = format!("`{model}` does not answer: {why}");
                Finding::new(Step::Completion, State::Broken, message)
            }
        };
        findings.push(finding);
    }
    if findings.is_empty() {
        let message = "not checked: the configuration names none of its models";
        findings.push(Finding::new(Step::Completion, State::Skipped, message));
    }
    findings
}

fn answered_after(model: &str, elapsed: Duration) -> String {
    format!("`{model}` began to answer after {} ms", elapsed.as_millis())
}

/// Waits for the first output of an answer. The error is a message.
async fn answer(target: &Target, client: &reqwest::Client) -> Result<(), String> {
    let provider = &*target.provider;
    let request = request(target).map_err(|error| described(&error))?;
    let (result, _) = egress::execute(client, request).await;
    let response = result.map_err(|error| {
        described(&egress::failure(error, &provider.egress, &provider.base_url))
    })?;
    let response =
        egress::checked(response, &provider.egress).map_err(|error| described(&error))?;
    let status = response.status();
    if !status.is_success() {
        let body = beginning(response).await;
        let fault = provider.dialect.decode_error(status.as_u16(), &body);
        return Err(format!("status {status} ({}){}", code(fault.kind), remedy(&fault, provider)));
    }
    first_output(response, provider).await
}

fn remedy(fault: &ApiError, provider: &Provider) -> String {
    match fault.kind {
        Kind::Authentication | Kind::Permission => format!("; correct {}", provider.credential),
        Kind::NotFound => "; correct the model's name".to_owned(),
        Kind::Billing => "; the account cannot pay".to_owned(),
        _ => String::new(),
    }
}

/// The beginning of a body.
async fn beginning(mut response: reqwest::Response) -> Bytes {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            break;
        }
    }
    body.into()
}

/// Reads a streamed answer up to its first output.
async fn first_output(mut response: reqwest::Response, provider: &Provider) -> Result<(), String> {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let framing = provider.dialect.framing(kind.unwrap_or_default());
    let mut framer = Framer::new(framing, MAX_ANSWER);
    let mut decoder = provider.dialect.decoder(Form::Chat);
    loop {
        let mut frames = Vec::new();
        let chunk = response.chunk().await.map_err(|_| "the answer broke off".to_owned())?;
        let ended = chunk.is_none();
        match chunk {
            Some(bytes) => framer.push(bytes, &mut frames).map_err(|_| unreadable())?,
            None => framer.finish(&mut frames),
        }
        for frame in &frames {
            let mut deltas = Vec::new();
            let end = decoder.frame(frame, &mut deltas);
            if deltas.iter().any(Delta::is_output) {
                return Ok(());
            }
            match end.map(|end| end.fault()) {
                // A complete answer without output, such as one that the limit of tokens cut.
                Some(None) => return Ok(()),
                Some(Some(fault)) => {
                    return Err(format!(
                        "an error within the answer ({}){}",
                        code(fault.kind),
                        remedy(&fault, provider)
                    ));
                }
                None => {}
            }
        }
        if ended {
            return Err(unreadable());
        }
    }
}

fn unreadable() -> String {
    "the response is no answer in the provider's dialect; correct its `dialect` or `base_url`"
        .into()
}

/// A request for a few tokens, as the gateway would send it.
fn request(target: &Target) -> Result<reqwest::Request, Error> {
    let provider = &*target.provider;
    let dialect = provider.dialect;
    let mut chat = Request {
        messages: vec![Message {
            at: "messages[0]".to_owned(),
            role: Role::User,
            parts: vec![Part::Text("Answer with the word OK.".to_owned())],
        }],
        max_tokens: Some(MAX_TOKENS),
        ..Request::default()
    };
    let wanted = dialect::Target {
        model: &target.model,
        stream: true,
        form: dialect.form_of(Operation::Chat).unwrap_or(Form::Chat),
        quirks: &target.quirks,
    };
    let body = adapt::write(&mut chat, dialect, &wanted, false).map_err(Error::caller)?.body;
    let path = dialect.path(&wanted);
    let (path, query) =
        path.split_once('?').map_or((path.as_str(), None), |(path, query)| (path, Some(query)));
    let mut url = provider.base_url.clone();
    url.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
    url.set_query(query);
    if !provider.query.is_empty() {
        url.query_pairs_mut().extend_pairs(&provider.query);
    }
    let mut headers = provider_headers(provider)?;
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(ACCEPT, HeaderValue::from_static(dialect.accept(&wanted)));
    if let Some(aws) = &provider.aws {
        let unsigned =
            Unsigned { method: &Method::POST, url: &url, body: body.as_bytes(), digest: None };
        sign(unsigned, &mut headers, aws, RequestTime::begin().now())?;
    }
    let mut request = reqwest::Request::new(Method::POST, url);
    *request.headers_mut() = headers;
    *request.body_mut() = Some(body.into());
    Ok(request)
}
