//! Requests to endpoints of the gateway's own, which no vendor has: authentication, reading the body, the response's
//! headers and the access log. It must never know of a single endpoint.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::request::Parts;

use super::auth::Caller;
use super::direct_response::{AccountSlot, Identity};
use super::exchange::Exchange;
use super::offload::{self, BufferedBody};
use super::reply::{Reply, conclude};
use super::request_body::{self, BodyLimits};
use super::state::{Gateway, State};
use crate::error::Error;
use crate::wire::chat::End;
use crate::wire::dialect::{CallerDialect, DEFAULT};
use crate::wire::tally::Tally;

/// A request whose caller is known.
pub struct OwnRequest<'a> {
    /// The caller.
    pub caller: Arc<Caller>,
    /// The state in force when it came.
    pub state: &'a State,
    /// Its head.
    pub head: &'a Parts,
    gateway: &'a Gateway,
    body: &'a mut Body,
}

impl OwnRequest<'_> {
    /// Reads its body, which must be a form (`application/x-www-form-urlencoded`), and returns its text.
    pub async fn form(&mut self) -> Result<BufferedBody, Error> {
        request_body::expect_form(&self.head.headers)?;
        let limits = BodyLimits::of(self.gateway, &self.caller);
        request_body::read(self.body, &self.head.headers, &limits).await
    }

    /// Reads its body, which must be JSON. A large one is read by `read` on another thread.
    pub async fn json<T: Send + 'static>(
        &mut self,
        read: impl FnOnce(&str) -> T + Send + 'static,
    ) -> Result<T, Error> {
        request_body::expect_json(&self.head.headers, DEFAULT)?;
        let limits = BodyLimits::of(self.gateway, &self.caller);
        let body = request_body::read_some(self.body, &self.head.headers, &limits).await?;
        if offload::is_large(&body) {
            return offload::run(move || read(&body)).await;
        }
        Ok(read(&body))
    }
}

/// A request whose caller is known, with what its response is made of.
pub(super) struct Identified<'a> {
    pub(super) caller: Arc<Caller>,
    pub(super) state: &'a State,
    pub(super) exchange: &'a mut Exchange,
    pub(super) account: &'a mut AccountSlot,
}

/// Identifies the caller of a request, and answers it. The response is not concluded.
pub(super) async fn answered(
    gateway: &Gateway,
    (dialect, identity): (&'static dyn CallerDialect, Identity),
    request: Request,
    answer: impl AsyncFnOnce(Identified<'_>) -> Result<Response, Error>,
) -> (Exchange, Reply) {
    let (mut exchange, mut account) = Exchange::begin(gateway, dialect, request);
    let state = gateway.state();
    let caller = match identity {
        Identity::Headers => exchange.identify(gateway, &state, &mut account).await,
        Identity::Known(caller) => {
            caller.inspect(|caller| exchange.identified(caller, &mut account))
        }
    };
    let mut account = Some(account);
    let response = match caller {
        Ok(caller) => {
            let (exchange, account) = (&mut exchange, &mut account);
            answer(Identified { caller, state: &state, exchange, account }).await
        }
        Err(error) => Err(error),
    };
    if let Some(account) = account.as_mut().filter(|_| response.is_ok()) {
        account.settle(&Tally::default(), Some(&End::Complete));
    }
    (exchange, Reply { response, account })
}

/// Answers a request. Rate limits of models do not hold for it. `refuse` may write the response to an error in a form of
/// its own.
pub async fn answer(
    gateway: &Gateway,
    request: Request,
    answer: impl AsyncFnOnce(OwnRequest<'_>) -> Result<Response, Error>,
    refuse: impl FnOnce(&Error, &Parts) -> Option<Response>,
) -> Response {
    answer_as(gateway, (Identity::Headers, request), answer, refuse).await
}

/// The same for a caller that may be identified otherwise.
pub async fn answer_as(
    gateway: &Gateway,
    (identity, request): (Identity, Request),
    answer: impl AsyncFnOnce(OwnRequest<'_>) -> Result<Response, Error>,
    refuse: impl FnOnce(&Error, &Parts) -> Option<Response>,
) -> Response {
    let own = async |request: Identified<'_>| {
        let Identified { caller, state, exchange, .. } = request;
        let (head, body) = (&exchange.head, &mut exchange.body);
        answer(OwnRequest { caller, state, head, gateway, body }).await
    };
    let (mut exchange, mut reply) = answered(gateway, (DEFAULT, identity), request, own).await;
    if let Err(error) = &reply.response
        && let Some(refused) = refuse(error, &exchange.head)
    {
        if let Some(account) = &mut reply.account {
            account.failed(error);
        }
        reply.response = Ok(refused);
    }
    // Their rate limits are those of models: not for the response's headers.
    exchange.limiters.clear();
    conclude(gateway, exchange, reply).await
}
