//! Explanation of routing: the targets that a request may be sent to, in order, and the reasons. Pure: it knows the
//! configuration, and no health. It must never show a credential.

use std::fmt;
use std::num::NonZeroU32;

use serde::Serialize;

use super::route::Plan;
use crate::config::{Pick, Target};

/// The explanation of a plan, for people (`Display`) and for programs (`Serialize`).
#[derive(Debug, Serialize)]
pub struct RouteExplanation {
    /// The configured model.
    model: String,
    /// The choice within a tier.
    pick: &'static str,
    /// `none`, `session` or `sticky`.
    affinity: &'static str,
    /// The estimated input of the request; 0: there is none.
    input_tokens: u64,
    /// The targets of each tier, the first one first.
    tiers: Vec<Vec<ExplainedTarget>>,
    /// The targets that do not take the request.
    left_out: Vec<LeftOutTarget>,
    /// The most upstream requests.
    attempts: Option<NonZeroU32>,
    /// The most retries at the same target.
    same_target_retries: u32,
    /// A second target is asked while the first one is silent.
    hedged: bool,
    /// The target that gets copies of requests.
    mirrored_to: Option<String>,
    /// The longest wait for a target with room.
    queued_seconds: Option<f64>,
    /// The consequence of a slow stream.
    slow_streams: Option<&'static str>,
    /// The targets for prompts that are too long.
    context_fallback: Vec<String>,
    /// The targets after a content filter.
    content_policy_fallback: Vec<String>,
    /// Statuses after which the next target is tried all the same.
    on_status: Vec<u16>,
    /// The targets that may go on with an answer that breaks off, if that is configured.
    continued_by: Option<Vec<String>>,
}

/// One target.
#[derive(Debug, Serialize)]
struct ExplainedTarget {
    /// `provider/model`, with the name of the key if its provider has several.
    target: String,
    weight: u32,
    /// Its share of the requests, where weights alone decide.
    share: Option<f64>,
    context: Option<u64>,
    first_token_seconds: Option<f64>,
    /// Its condition, if it has one.
    when: Option<String>,
}

/// A target that does not take the request.
#[derive(Debug, Serialize)]
struct LeftOutTarget {
    target: String,
    reason: String,
}

impl RouteExplanation {
    /// Explains a plan, some of whose targets were left out: those whose condition does not hold, and those that are too
    /// small.
    pub fn of(plan: &Plan, (unmet, small): (&[Target], &[Target])) -> Self {
        let tiers = plan.targets.chunk_by(|one, other| one.tier == other.tier);
        let fallback = plan.fallback.as_deref();
        let able =
            |target: &&Target| plan.on_break.as_ref().is_some_and(|policy| policy.may_ask(target));
        Self {
            model: plan.label.to_string(),
            pick: plan.pick.word(),
            affinity: match plan.affinity {
                None => "none",
                Some(affinity) if affinity.slack.is_none() => "sticky",
                Some(_) => "session",
            },
            input_tokens: plan.demand.input,
            tiers: tiers.map(|tier| explained(plan.pick, tier)).collect(),
            left_out: unmet
                .iter()
                .map(unmet_target)
                .chain(small.iter().map(small_target))
                .collect(),
            attempts: plan.attempts,
            same_target_retries: plan
                .retry
                .same_target
                .unwrap_or_else(|| u32::from(plan.targets.len() == 1)),
            hedged: plan.hedge.is_some(),
            mirrored_to: plan.mirror.as_ref().map(|mirror| name(&mirror.to)),
            queued_seconds: plan.queue.as_ref().map(|queue| queue.wait.as_secs_f64()),
            slow_streams: plan.slow.map(|slow| slow.then.word()),
            context_fallback: fallback.map(|it| names(&it.context)).unwrap_or_default(),
            content_policy_fallback: fallback
                .map(|it| names(&it.content_policy))
                .unwrap_or_default(),
            on_status: fallback.map(|it| it.on_status.clone()).unwrap_or_default(),
            continued_by: plan.on_break.as_ref().map(|_| names(plan.targets.iter().filter(able))),
        }
    }
}

fn explained(pick: Pick, targets: &[Target]) -> Vec<ExplainedTarget> {
    let total: f64 = targets.iter().map(|target| f64::from(target.weight)).sum();
    let explained = |target: &Target| ExplainedTarget {
        target: name(target),
        weight: target.weight,
        share: (pick == Pick::Weighted && total > 0.0).then(|| f64::from(target.weight) / total),
        context: target.context,
        first_token_seconds: target.first_token.map(|time| time.as_secs_f64()),
        when: target.when.as_ref().map(ToString::to_string),
    };
    targets.iter().map(explained).collect()
}

fn unmet_target(target: &Target) -> LeftOutTarget {
    let when = target.when.as_ref().map_or_else(String::new, ToString::to_string);
    let reason = format!("its condition does not hold: {when}");
    LeftOutTarget { target: name(target), reason }
}

fn small_target(target: &Target) -> LeftOutTarget {
    let context = target.context.unwrap_or_default();
    let reason = format!("its context of {context} is too small for the request");
    LeftOutTarget { target: name(target), reason }
}

fn names<'t>(targets: impl IntoIterator<Item = &'t Target>) -> Vec<String> {
    targets.into_iter().map(name).collect()
}

fn name(target: &Target) -> String {
    let key = target.provider.key.as_ref();
    let key = key.map_or_else(String::new, |key| format!("[{key}]"));
    format!("{}{key}", target.name())
}

impl fmt::Display for ExplainedTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.target)?;
        match self.share {
            Some(share) => write!(f, ", {:.0} % of the requests", share * 100.0)?,
            None if self.weight != 1 => write!(f, ", weight {}", self.weight)?,
            None => {}
        }
        if let Some(context) = self.context {
            write!(f, ", context {context}")?;
        }
        if let Some(seconds) = self.first_token_seconds {
            write!(f, ", first token within {seconds} s")?;
        }
        if let Some(when) = &self.when {
            write!(f, ", when {when}")?;
        }
        Ok(())
    }
}

impl RouteExplanation {
    fn write_targets(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, targets) in (1..).zip(&self.tiers) {
            let after = if place == 1 { "" } else { ", when no target before it can serve" };
            writeln!(f, "  tier {place}{after}")?;
            for target in targets {
                writeln!(f, "    {target}")?;
            }
        }
        for LeftOutTarget { target, reason } in &self.left_out {
            writeln!(f, "  left out: {target}: {reason}")?;
        }
        Ok(())
    }

    fn write_failures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let retries = self.same_target_retries;
        match self.attempts {
            Some(attempts) => writeln!(
                f,
                "  at most {attempts} upstream requests, {retries} of them retries at the same target"
            )?,
            None => writeln!(
                f,
                "  each target once, then at most {retries} retries at the same target"
            )?,
        }
        if self.hedged {
            writeln!(f, "  hedged: a second target is asked while the first one is silent")?;
        }
        if let Some(seconds) = self.queued_seconds {
            writeln!(f, "  queued: a request waits up to {seconds} s while all targets are full")?;
        }
        if let Some(target) = &self.mirrored_to {
            writeln!(f, "  mirrored: some requests are copied to {target}")?;
        }
        if let Some(then) = self.slow_streams {
            writeln!(f, "  slow streams: {then}")?;
        }
        let statuses: Vec<String> = self.on_status.iter().map(u16::to_string).collect();
        for (after, targets) in [
            ("after a prompt that is too long", &self.context_fallback),
            ("after a content filter", &self.content_policy_fallback),
            ("the next target also after status", &statuses),
        ] {
            if !targets.is_empty() {
                writeln!(f, "  {after}: {}", targets.join(", "))?;
            }
        }
        match self.continued_by.as_deref() {
            None => Ok(()),
            Some([]) => writeln!(f, "  an answer that breaks off is continued by no target"),
            Some(names) => {
                writeln!(f, "  an answer that breaks off is continued by: {}", names.join(", "))
            }
        }
    }
}

impl fmt::Display for RouteExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: pick {}", self.model, self.pick)?;
        if self.affinity != "none" {
            write!(f, ", affinity {}", self.affinity)?;
        }
        if self.input_tokens > 0 {
            write!(f, ", about {} tokens of input", self.input_tokens)?;
        }
        writeln!(f)?;
        self.write_targets(f)?;
        self.write_failures(f)?;
        f.write_str(
            "health, load and cooldowns: GET /status/targets of a running gateway (server.admin)",
        )
    }
}
