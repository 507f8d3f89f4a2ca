//! Routing: a model name to an ordered list of targets. Pure. It must never reveal a model that the caller may not use.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::affinity::Session;
use super::auth::Caller;
use super::limit::TokenDemand;
use super::provider_models::{Lists, find};
use crate::config::{
    self, Affinity, Config, Continue, Fallback, Hedge, Identity, Mirror, ModelRouting, Pick, Queue,
    QueueClass, RequestFacts, Retry, Slow, Target, matches_pattern,
};
use crate::error::Error;
use crate::wire::chat::{ApiError, Kind};
use crate::wire::model_list::ModelInfo;

/// The most characters of a name that messages repeat.
const MAX_SHOWN: usize = 100;

/// The ordered attempts for one request.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Never empty.
    pub targets: Arc<[Target]>,
    /// The model for metrics: a configured name, so that labels stay bounded.
    pub label: Arc<str>,
    /// The choice among the targets of one tier.
    pub pick: Pick,
    /// The session whose requests go to the same target of a tier, if they are to.
    pub session: Option<Session>,
    /// The sources of a session.
    pub affinity: Option<Affinity>,
    /// The account that alone can read the encrypted state of the request.
    pub pinned: Option<Identity>,
    /// The tokens that the request may use.
    pub demand: TokenDemand,
    /// The most upstream requests for one request.
    pub attempts: Option<NonZeroU32>,
    /// Retries after failed attempts.
    pub retry: Retry,
    /// Hedged requests, if any are.
    pub hedge: Option<Hedge>,
    /// The limit of slow streams, if there is one.
    pub slow: Option<Slow>,
    /// The queue of requests for which no target has room, if they wait.
    pub queue: Option<Arc<Queue>>,
    /// The class of the request there.
    pub class: Option<QueueClass>,
    /// The copies of requests that another target gets, if it does.
    pub mirror: Option<Arc<Mirror>>,
    /// Fallbacks after errors that the caller causes.
    pub fallback: Option<Arc<Fallback>>,
    /// The policy for an answer that breaks off, if it is continued.
    pub on_break: Option<Arc<Continue>>,
    /// The model's name at the upstream is the caller's choice.
    pub direct: bool,
}

impl Plan {
    fn new(config: &Config, label: &str, targets: Arc<[Target]>, direct: bool) -> Self {
        let routing = config.model_routing.get(label).cloned().unwrap_or_default();
        let ModelRouting { pick, affinity, attempts, retry, hedge, slow, queue } = routing;
        let fallback = config.fallbacks.get(label).map(Arc::clone);
        let mirror = config.mirrors.get(label).map(Arc::clone);
        let on_break = config.on_break.get(label).cloned();
        let (label, session) = (label.into(), None);
        Self {
            targets,
            label,
            pick,
            session,
            affinity,
            pinned: None,
            demand: TokenDemand::default(),
            attempts,
            retry,
            hedge,
            slow,
            queue,
            class: None,
            mirror,
            fallback,
            on_break,
            direct,
        }
    }
}

impl Plan {
    /// Its targets, for a test to change.
    #[cfg(test)]
    pub(super) fn targets_mut(&mut self) -> &mut [Target] {
        Arc::make_mut(&mut self.targets)
    }

    /// Whether there is no other target, so that its one gets requests whatever its state is.
    pub fn is_alone(&self) -> bool {
        self.targets.len() == 1 && self.queue.is_none()
    }

    /// Whether a target, or one of a fallback, has a condition.
    pub fn has_conditions(&self) -> bool {
        self.all_targets().any(|target| target.when.is_some())
    }

    /// Leaves out the targets whose condition does not hold for a request, and returns them. Those whose condition cannot be
    /// evaluated are left out, too, and reported. An error: none is left.
    pub fn leave_out_unmet(
        &mut self,
        facts: &RequestFacts,
        mut report: impl FnMut(&Target, &str),
    ) -> Result<Vec<Target>, Error> {
        let mut holds = |target: &Target| {
            let Some(when) = &target.when else { return true };
            when.holds(facts).unwrap_or_else(|error| {
                report(target, &error);
                false
            })
        };
        if let Some(fallback) = &mut self.fallback {
            let fallback = Arc::make_mut(fallback);
            fallback.context.retain(&mut holds);
            fallback.content_policy.retain(&mut holds);
        }
        let (met, unmet): (Vec<Target>, Vec<Target>) =
            self.targets.iter().cloned().partition(holds);
        if met.is_empty() {
            let message = format!(
                "no target of {} takes such a request; its conditions (`when`) depend on the request",
                shown(&self.label)
            );
            return Err(Error::caller(ApiError::field("model", message)));
        }
        self.targets = met.into();
        Ok(unmet)
    }

    /// Whether the targets have several accounts, of which one cannot use the state of another.
    pub fn has_several_accounts(&self) -> bool {
        let mut pairs = self.targets.windows(2);
        pairs.any(|pair| matches!(pair, [a, b] if a.provider.account != b.provider.account))
    }

    /// Puts the targets of an account first, whose state the request has, and leaves out those of the same dialect that cannot
    /// use it. Targets of another dialect never get it.
    pub fn pin(&mut self, account: Identity) {
        let is_pinned = |target: &&Target| target.provider.account == account;
        let Some(pinned) = self.targets.iter().find(is_pinned) else { return };
        let dialect = pinned.provider.dialect.name();
        let (mut own, rest): (Vec<Target>, Vec<Target>) =
            self.targets.iter().cloned().partition(|target| is_pinned(&target));
        for target in &mut own {
            target.tier = 0;
        }
        let others = rest.into_iter().filter(|target| target.provider.dialect.name() != dialect);
        self.targets = own.into_iter().chain(others).collect();
        self.pinned = Some(account);
    }

    /// Leaves out the targets whose context is too small for the request, and returns them. The estimate may be wrong: if
    /// no other one is left, all stay.
    pub fn leave_out_small(&mut self) -> Vec<Target> {
        let TokenDemand { input, max_output, .. } = self.demand;
        let needed = input.saturating_add(input / 10).saturating_add(max_output.unwrap_or(0));
        let fits = |target: &Target| target.context.is_none_or(|room| room >= needed);
        if self.targets.iter().all(fits) || !self.targets.iter().any(fits) {
            return Vec::new();
        }
        let (fitting, small) = self.targets.iter().cloned().partition(fits);
        let fitting: Vec<Target> = fitting;
        self.targets = fitting.into();
        small
    }

    /// Its targets and those of its fallbacks.
    pub fn all_targets(&self) -> impl Iterator<Item = &Target> {
        self.targets.iter().chain(self.fallback.iter().flat_map(|fallback| fallback.targets()))
    }
}

/// Resolves the model that a caller names. The most exact counts: a configured name, `provider/upstream-model`, a
/// pattern. Permission is decided by the requested name.
pub fn plan(config: &Config, caller: &Caller, asked: &str) -> Result<Plan, Error> {
    let model = without_tag(config, asked);
    let permit = || permit(config, caller, (model, asked));
    if let Some(targets) = config.models.get(model) {
        permit()?;
        return Ok(Plan::new(config, model, Arc::clone(targets), false));
    }
    let direct = model.split_once('/').and_then(|(provider, upstream)| {
        config
            .providers
            .get(provider)
            .filter(|_| !upstream.is_empty())
            .map(|found| (found, upstream))
    });
    if let Some((provider, upstream)) = direct {
        permit()?;
        must_be_model(upstream)?;
        let target = Target::new(Arc::clone(provider), upstream.to_owned());
        let label = format!("{}/*", provider.name);
        return Ok(Plan::new(config, &label, target.keyed().into(), true));
    }
    let mut patterns = config.patterns.iter();
    let Some(found) = patterns.find(|known| matches_pattern(&known.pattern, model)) else {
        return Err(Error::caller(unknown(config, caller, asked)));
    };
    permit()?;
    let passes_name = |target: &Target| target.model.contains('*');
    if found.targets.iter().any(passes_name) {
        must_be_model(model)?;
    }
    let targets = found.targets.iter().map(|target| target.named(model)).collect();
    let direct = found.targets.iter().any(passes_name);
    let plan = Plan::new(config, &found.pattern, targets, direct);
    let fallback = plan.fallback.as_ref().map(|fallback| Arc::new(fallback.named(model)));
    let mirror = plan.mirror.as_ref().map(|mirror| Arc::new(mirror.named(model)));
    Ok(Plan { mirror, fallback, ..plan })
}

/// `NAME:latest` is `NAME` to Ollama's clients, who add the tag by themselves.
fn without_tag<'m>(config: &Config, model: &'m str) -> &'m str {
    let bare = model.strip_suffix(":latest").filter(|bare| config.models.contains_key(*bare));
    bare.filter(|_| !config.models.contains_key(model)).unwrap_or(model)
}

/// The models that a caller may use: the configured ones by name, then those that the providers' lists have.
pub fn models(config: &Config, caller: &Caller, lists: &Lists) -> Vec<ModelInfo> {
    let configured = config.models.iter().filter(|(name, _)| caller.may_use(name));
    let configured = configured.map(|(name, targets)| {
        let fallback = config.fallbacks.get(name).map(|fallback| &**fallback);
        info(name, (targets, fallback), lists)
    });
    let offered = lists.iter().flat_map(|(provider, models)| {
        models.iter().map(move |model| {
            let id = format!("{provider}/{}", model.id);
            ModelInfo { id, ..model.clone() }
        })
    });
    let offered =
        offered.filter(|model| caller.may_use(&model.id) && !config.models.contains_key(&model.id));
    configured.chain(offered).collect()
}

/// The context and output limits of a model: the largest context of its targets and of its fallbacks for long prompts, since a prompt that one
/// has no room for goes to the next, and the output of the first. The configuration takes precedence over the provider's list.
pub fn info(
    name: &str,
    (targets, fallback): (&[Target], Option<&Fallback>),
    lists: &Lists,
) -> ModelInfo {
    let offered = |target: &Target| find(lists, &target.provider.name, &target.model);
    let context = |target: &Target| target.context.or_else(|| offered(target)?.context);
    let max_output =
        |target: &Target| target.quirks.settings.max_output.or_else(|| offered(target)?.max_output);
    let larger = fallback.into_iter().flat_map(|fallback| &fallback.context);
    ModelInfo {
        id: name.to_owned(),
        context: targets.iter().chain(larger).filter_map(context).max(),
        max_output: targets.iter().find_map(max_output),
    }
}

/// Whether a request may run no other models than the one it names: a target would get it as it is, from a
/// caller who may not use every model.
pub fn is_bound_to_model(plan: &Plan, caller: &Caller, dialect: &str) -> bool {
    let passed = |target: &Target| target.provider.dialect.name() == dialect;
    !caller.may_use_all() && plan.all_targets().any(passed)
}

/// A name that is the caller's own stands in URLs, response headers and records.
fn must_be_model(upstream: &str) -> Result<(), Error> {
    if config::is_model(upstream) {
        return Ok(());
    }
    let message = "`model` names a model that no provider has; at its provider, a model's name is 1 to \
                   256 visible ASCII characters without a segment `..`";
    Err(Error::caller(ApiError::field("model", message)))
}

/// Rejects a model that a caller may not use with the error for an unknown one, so that it does not learn
/// which models and providers there are. The record has the true reason.
fn permit(config: &Config, caller: &Caller, (model, asked): (&str, &str)) -> Result<(), Error> {
    if caller.may_use(model) {
        return Ok(());
    }
    let forbidden = ApiError::new(Kind::Permission, "the key may not use the model");
    Err(Error::caller(forbidden).shown_as(unknown(config, caller, asked)))
}

fn unknown(config: &Config, caller: &Caller, model: &str) -> ApiError {
    let meant = similar(config, caller, model)
        .map_or_else(String::new, |name| format!("did you mean {}? ", shown(name)));
    let provider = model.split_once('/').map(|(provider, _)| provider);
    let absent =
        provider.filter(|name| caller.may_use_all() && !config.providers.contains_key(*name));
    let absent = absent.map_or_else(String::new, |name| {
        let variable = config::key_variable(name);
        let variable = variable.map_or_else(String::new, |it| format!(" (its preset needs {it})"));
        format!(", and no provider {}{variable}", shown(name))
    });
    let (usable, direct) = if caller.may_use_all() {
        (absent.as_str(), ", and provider/model names one directly")
    } else {
        (" that this key may use", " that it may use")
    };
    ApiError {
        kind: Kind::NotFound,
        message: format!(
            "there is no model {}{usable}; {meant}GET /v1/models lists the models{direct}",
            shown(model)
        ),
        code: Some("model_not_found".to_owned()),
        param: Some("model".to_owned()),
    }
}

/// The model that a misspelt name may mean, of those that the caller may use.
fn similar<'c>(config: &'c Config, caller: &Caller, model: &str) -> Option<&'c str> {
    let model: String = model.chars().take(MAX_SHOWN).collect::<String>().to_lowercase();
    let names = config.models.keys().filter(|name| name.len() <= MAX_SHOWN && caller.may_use(name));
    let distance = |name: &str| strsim::osa_distance(&model, &name.to_lowercase());
    let nearest = names.map(|name| (distance(name), name.as_str())).min();
    nearest.filter(|(distance, name)| *distance <= (name.len() / 3).max(1)).map(|(_, name)| name)
}

/// A model name that may be repeated in a message: short, and without control characters.
fn shown(model: &str) -> String {
    let short: String = model.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect();
    format!("`{short}`")
}
