//! Values within the bounds that an upstream sets, and removal of hints that it has no field for.

use std::mem;

use super::Dropped;
use super::rules::{Budget, Rules};
use super::settings::Settings;
use crate::chat::{Reasoning, Request};
use crate::claude::effort_of;
use crate::stop_strings::StopStrings;

/// The efforts, weakest first.
const EFFORTS: [&str; 7] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];

/// Bounds the values of a request and removes hints that the upstream has no field for.
pub(super) fn adapt(
    request: &mut Request,
    rules: &Rules,
    settings: &Settings,
    dropped: &mut Dropped,
) {
    if !rules.lacks.is_empty() {
        leave_out(request, rules.lacks, dropped);
    }
    if rules.budget == Some(Budget::Effort) {
        name_effort(request);
    }
    if let Some(efforts) = rules.efforts {
        reason(request, efforts, dropped);
    }
    limit(request, rules, settings);
    bound_budget(request, rules);
    if request.temperature.is_some_and(|value| value > rules.temperature) {
        request.temperature = Some(rules.temperature);
    }
    request.top_logprobs = request.top_logprobs.map(|most| most.min(rules.top_logprobs));
}

/// Removes the stop strings that the upstream does not accept. The gateway searches the answer for them
/// instead.
pub(super) fn split_stop_strings(
    request: &mut Request,
    rules: &Rules,
    dropped: &mut Dropped,
) -> StopStrings {
    let mut others = StopStrings::new(request.n.unwrap_or(1));
    let mut taken = 0;
    request.stop.retain_mut(|stop| {
        if stop.is_empty() {
            return false;
        }
        if taken < rules.stop && !(rules.visible_stop && stop.trim().is_empty()) {
            taken += 1;
            return true;
        }
        if !others.add(mem::take(stop)) {
            dropped.note("stop");
        }
        false
    });
    others
}

/// Removes the fields listed in `lacks` from the request and records those that were set.
fn leave_out(request: &mut Request, lacks: &str, dropped: &mut Dropped) {
    let mut leave = |name: &'static str, said: bool| {
        if said {
            dropped.note(name);
        }
    };
    for word in lacks.split(' ') {
        match word {
            "top_k" => leave("top_k", request.top_k.take().is_some()),
            "temperature" => leave("temperature", request.temperature.take().is_some()),
            "top_p" => leave("top_p", request.top_p.take().is_some()),
            "seed" => leave("seed", request.seed.take().is_some()),
            "presence_penalty" => {
                leave("presence_penalty", request.presence_penalty.take().is_some_and(counts));
            }
            "frequency_penalty" => {
                leave("frequency_penalty", request.frequency_penalty.take().is_some_and(counts));
            }
            "logprobs" => {
                request.top_logprobs = None;
                leave("logprobs", mem::take(&mut request.logprobs));
            }
            "top_logprobs" => leave("top_logprobs", request.top_logprobs.take().is_some()),
            "user" => leave("user", request.user.take().is_some()),
            "parallel_tool_calls" => {
                let one = request.parallel_tool_calls.take() == Some(false);
                leave("parallel_tool_calls", one && !request.tools.is_empty());
            }
            _ => {}
        }
    }
}

/// Whether a penalty has an effect. A penalty of 0 has none.
fn counts(penalty: f64) -> bool {
    penalty != 0.0
}

/// Sets the limit on output: within the model's bounds, and present where the upstream requires one.
fn limit(request: &mut Request, rules: &Rules, settings: &Settings) {
    let reasons = request.reasoning.as_ref().is_some_and(Reasoning::is_wanted);
    let (plain, reasoning) = rules.output_usual;
    let usual = if reasons { reasoning } else { plain };
    let usual = usual.map(|usual| rules.output_most.unwrap_or(usual));
    let most = settings.max_output.or(rules.output_most);
    let limit = request.max_tokens.or(settings.max_output).or(usual);
    request.max_tokens = limit
        .map(|limit| most.map_or(limit, |most| limit.min(most)))
        .map(|limit| limit.max(rules.output_least));
}

/// Replaces a budget by the roughly equivalent effort, so that the model's efforts bound it.
fn name_effort(request: &mut Request) {
    let Some(reasoning) = request.reasoning.as_mut().filter(|said| said.is_wanted()) else {
        return;
    };
    if reasoning.effort.is_none() {
        reasoning.effort = reasoning.budget.map(|budget| effort_of(budget).to_owned());
    }
}

/// Bounds a budget for reasoning by the model's limits. A budget of 0 switches reasoning off and is kept.
fn bound_budget(request: &mut Request, rules: &Rules) {
    let Some(Budget::Tokens { least, most, below_limit }) = rules.budget else { return };
    let limit = request.max_tokens.filter(|_| below_limit);
    let Some(budget) = request.reasoning.as_mut().and_then(|said| said.budget.as_mut()) else {
        return;
    };
    if *budget > 0 {
        let bounded = (*budget).clamp(least, most);
        *budget = limit.map_or(bounded, |limit| bounded.min(limit.saturating_sub(1).max(1)));
    }
}

/// The efforts that enable reasoning, weakest first.
fn levels(efforts: &'static str) -> impl Iterator<Item = &'static str> {
    efforts.split(' ').filter(|effort| EFFORTS.contains(effort) && *effort != "none")
}

/// Expresses the requested reasoning with one of the model's `efforts`.
fn reason(request: &mut Request, efforts: &'static str, dropped: &mut Dropped) {
    let Some(reasoning) = &mut request.reasoning else { return };
    let taken = |effort: &str| efforts.split(' ').any(|taken| taken == effort);
    if efforts == "-" {
        if reasoning.is_wanted() {
            dropped.note("reasoning");
        }
        request.reasoning = None;
        return;
    }
    if !reasoning.is_wanted() {
        if taken("least") {
            reasoning.effort = levels(efforts).next().map(str::to_owned);
            reasoning.enabled = Some(false);
            return;
        }
        // Without a value for it, the model falls back to its default.
        if !taken("none") && *reasoning != Reasoning::default() {
            dropped.note("reasoning");
            request.reasoning = None;
        }
        return;
    }
    if taken("on") {
        *reasoning = Reasoning { enabled: Some(true), ..Reasoning::default() };
        return;
    }
    if let Some(effort) = &reasoning.effort
        && !taken(effort)
        && let Some(wanted) = EFFORTS.iter().position(|known| known == effort)
    {
        let rank = |effort: &str| EFFORTS.iter().position(|known| *known == effort);
        let below = |effort: &&str| rank(effort) <= Some(wanted);
        let nearest = levels(efforts).filter(below).last().or_else(|| levels(efforts).next());
        reasoning.effort = nearest.map(str::to_owned);
    }
}
