//! Exchanges: one request of a caller as it goes through the steps of the pipeline, and the steps that read it. A step
//! must never write a response.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use http::HeaderMap;
use http::request::Parts;
use tokio::time::Instant;

use super::account::Account;
use super::affinity::{Session, needs_body};
use super::auth::{self, Caller};
use super::clock::RequestTime;
use super::ids::request_id;
use super::inspection::{self, InspectedRequest, refuse_other_models};
use super::limit::{Admission, Limiter, TokenDemand};
use super::offload::RequestBody;
use super::request_body::{self, BodyLimits};
use super::route::{self, Plan};
use super::state::{Gateway, State};
use crate::config::{Affinity, RequestFacts};
use crate::error::Error;
use crate::server::request_head::expects_continue;
use crate::wire::dialect::{CallerDialect, Form};
use crate::wire::encrypted_state::digests;
use crate::wire::request_features::RequestFeatures;

/// The header that names a lower class for a request that may have to wait.
const CLASS: &str = "streamgate-class";

/// The part of a limit above which requests are not hedged.
const MOST_USED: f64 = 0.8;

/// One request of a caller.
pub(crate) struct Exchange {
    /// The id that the response carries.
    pub(crate) id: String,
    /// The caller's dialect.
    pub(crate) dialect: &'static dyn CallerDialect,
    /// Its head.
    pub(crate) head: Parts,
    /// Its body, of which some may be unread.
    pub(crate) body: Body,
    /// The time at which it came in.
    pub(super) time: RequestTime,
    /// The limits that hold for it, as far as it has come.
    pub(super) limiters: Vec<Arc<Limiter>>,
    /// The caller waits for `100 Continue` before it sends the body.
    pub(super) expects_continue: bool,
}

impl Exchange {
    /// A request that has just come in, with its account.
    pub(super) fn begin(
        gateway: &Gateway,
        dialect: &'static dyn CallerDialect,
        request: Request,
    ) -> (Self, Box<Account>) {
        Self::begin_as(gateway, (dialect, dialect.name()), request)
    }

    /// A request of a protocol that records name by a `label`; its errors are in a dialect.
    pub(crate) fn begin_as(
        gateway: &Gateway,
        (dialect, label): (&'static dyn CallerDialect, &'static str),
        request: Request,
    ) -> (Self, Box<Account>) {
        let id = request_id(request.headers());
        let time = RequestTime::begin();
        let sinks = (&gateway.sinks, &*gateway.metrics);
        let account = Account::begin(sinks, (&id, time.started), label, &request);
        let expects_continue = expects_continue(request.headers());
        let (head, body) = request.into_parts();
        (Self { id, dialect, head, body, time, limiters: Vec::new(), expects_continue }, account)
    }

    /// Authentication.
    pub(crate) async fn identify(
        &mut self,
        gateway: &Gateway,
        state: &State,
        account: &mut Account,
    ) -> Result<Arc<Caller>, Error> {
        let headers = &self.head.headers;
        let peer = self.head.extensions.get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
        let from = auth::origin(peer, headers, &state.config.server.trusted_proxies);
        account.came_from(from.address);
        let caller = state.callers.identify(&self.head, from, &gateway.metrics).await?;
        self.identified(&caller, account);
        Ok(caller)
    }

    /// Takes a caller whose credential has been verified elsewhere.
    pub(super) fn identified(&mut self, caller: &Arc<Caller>, account: &mut Account) {
        account.identified(caller);
        self.limiters.push(Arc::clone(&caller.limiter));
    }

    /// Reads and inspects the body, which was posted to an endpoint of a form.
    pub(super) async fn read(
        &mut self,
        gateway: &Gateway,
        (state, caller): (&Arc<State>, &Arc<Caller>),
        form: Form,
        account: &mut Account,
    ) -> Result<InspectedRequest, Error> {
        request_body::expect_json(&self.head.headers, self.dialect)?;
        let limits = BodyLimits::of(gateway, caller);
        let body = request_body::read_some(&mut self.body, &self.head.headers, &limits).await?;
        let endpoint = (self.dialect, form);
        let inspected = inspection::inspect((state, caller), endpoint, &self.head, body).await?;
        account.prompted(inspected.prompt.as_deref());
        let request = inspected.request?;
        account.asked(&request.envelope.model, request.envelope.stream, request.prompt_tokens);
        Ok(request)
    }

    /// Routing.
    pub(super) async fn plan(
        &mut self,
        (state, caller): (&State, &Caller),
        request: &InspectedRequest,
        account: &mut Account,
    ) -> Result<Plan, Error> {
        let mut plan = route::plan(&state.config, caller, &request.envelope.model)?;
        if let Some(affinity) = plan.affinity {
            let of = (&self.head.headers, &caller.name);
            plan.session = session(affinity, of, &request.body).await?;
        }
        if let Some(queue) = &plan.queue {
            let asked = self.head.headers.get(CLASS).and_then(|class| class.to_str().ok());
            plan.class = queue.class(caller.class.as_deref(), asked).cloned();
        }
        let envelope = &request.envelope;
        let generates = envelope.form.operation().generates();
        let max_output = if generates { envelope.max_output } else { Some(0) };
        let (input, choices) = (request.prompt_tokens, envelope.choices);
        plan.demand = TokenDemand { input, max_output, choices };
        if plan.has_conditions() {
            let facts = facts((caller, self.dialect), request).await?;
            plan.leave_out_unmet(&facts, |target, error| {
                let target = &**target.name();
                tracing::warn!(target, error, "the condition of a target cannot be evaluated");
            })?;
        }
        if generates {
            plan.leave_out_small();
        }
        let dialect = self.dialect.name();
        if route::is_bound_to_model(&plan, caller, dialect) {
            refuse_other_models(dialect, &request.body).await?;
        }
        account.planned(&plan);
        Ok(plan)
    }

    /// Reserves the request's share of the limits of its model, and the tokens of all its limits.
    pub(super) fn reserve(
        &mut self,
        (state, plan): (&State, &Plan),
        request: &InspectedRequest,
        mut admission: Admission,
        account: &mut Account,
    ) -> Result<(), Error> {
        if let Some(limiter) = state.models.get(&*plan.label) {
            self.limiters.push(Arc::clone(limiter));
            admission.acquire(limiter)?;
        }
        let InspectedRequest { envelope, .. } = request;
        if envelope.form.operation().uses_tokens() {
            admission.reserve(&plan.demand)?;
        }
        account.admitted(admission, &plan.demand, envelope.background);
        Ok(())
    }
}

/// Puts the account first that alone has the state to which a request refers.
pub(super) async fn pin(
    gateway: &Gateway,
    request: &InspectedRequest,
    plan: &mut Plan,
) -> Result<(), Error> {
    if plan.has_several_accounts() {
        let states = request.body.read(digests).await?;
        if let Some(account) = gateway.health.pins.account(&states, Instant::now()) {
            plan.pin(account);
        }
    }
    Ok(())
}

/// Leaves nothing to hedge to a caller, or a model, that has used most of a limit.
pub(super) fn spare_limits(limiters: &[Arc<Limiter>], plan: &mut Plan) {
    let now = Instant::now();
    let is_near =
        |limiter: &Arc<Limiter>| limiter.used(now).iter().any(|(_, used)| *used > MOST_USED);
    if plan.hedge.is_some() && limiters.iter().any(is_near) {
        plan.hedge = None;
    }
}

/// The session that a request belongs to.
async fn session(
    affinity: Affinity,
    (headers, caller): (&HeaderMap, &Arc<str>),
    body: &RequestBody,
) -> Result<Option<Session>, Error> {
    if !needs_body(&affinity) {
        return Ok(Session::of(&affinity, (headers, caller), ""));
    }
    let (headers, caller) = (headers.clone(), Arc::clone(caller));
    body.read(move |body| Session::of(&affinity, (&headers, &caller), body)).await
}

/// The facts that conditions of targets may depend on.
async fn facts(
    (caller, dialect): (&Caller, &'static dyn CallerDialect),
    request: &InspectedRequest,
) -> Result<RequestFacts, Error> {
    let features = request.body.read(RequestFeatures::of).await?;
    let envelope = &request.envelope;
    Ok(RequestFacts {
        caller: Arc::clone(&caller.name),
        model: envelope.model.clone(),
        dialect: dialect.name(),
        stream: envelope.stream,
        features,
        input_tokens: request.prompt_tokens,
        max_output: envelope.max_output,
    })
}
