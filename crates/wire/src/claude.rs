//! Parameters of Anthropic's models, which differ between models and are the same on every platform: thinking
//! and sampling.
//!
//! Models are recognised by name. A model with another name, such as an operator's alias, receives the
//! parameters that most models accept.

use serde::Serialize;

use super::chat::{Reasoning, Request, Scheme};

/// The smallest budget that the vendor accepts.
const MIN_BUDGET: u64 = 1024;
/// Tokens reserved for the answer if a budget is set and the caller sets no limit. The budget counts towards
/// the limit on output.
const ANSWER: u64 = 4096;
/// The smallest `top_p` that is accepted while a model thinks.
const LEAST_P: f64 = 0.95;

/// Thinking mode of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum Thinking {
    /// Thinking up to a budget.
    Enabled {
        /// The budget in tokens.
        budget_tokens: u64,
    },
    /// Adaptive thinking: the model chooses the amount.
    Adaptive {
        /// Newer models show no thinking unless this is set.
        #[serde(skip_serializing_if = "Option::is_none")]
        display: Option<&'static str>,
    },
    /// No thinking.
    Disabled,
}

/// Parameters for one model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ClaudeParams<'a> {
    /// The limit on output.
    pub max_tokens: Option<u64>,
    /// Thinking mode, if any is set.
    pub thinking: Option<Thinking>,
    /// Effort, in the vendor's spelling.
    pub effort: Option<&'a str>,
    /// Sampling temperature.
    pub temperature: Option<f64>,
    /// Nucleus sampling mass.
    pub top_p: Option<f64>,
    /// Restricts sampling to the k most likely tokens.
    pub top_k: Option<u64>,
}

/// Thinking capabilities of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Generation {
    /// No thinking.
    Plain,
    /// Thinking up to a budget.
    Budgets,
    /// Thinking up to a budget, or adaptive.
    Either,
    /// Adaptive thinking. Sampling parameters are not accepted.
    Adaptive,
}

/// The version in a model's name: `claude-opus-4-7`, `us.anthropic.claude-3-7-sonnet-20250219-v1:0`.
fn version(model: &str) -> Option<(u32, u32)> {
    let (_, name) = model.split_once("claude-")?;
    let words = name.split(['-', '.', '@', ':', '/']);
    let numbers = words.map(|word| word.parse::<u32>().ok());
    let mut numbers = numbers.skip_while(Option::is_none).map_while(|number| number);
    let major = numbers.next().filter(|major| *major < 100)?;
    // The next number may be a date.
    Some((major, numbers.next().filter(|minor| *minor < 100).unwrap_or(0)))
}

impl Generation {
    fn of(version: Option<(u32, u32)>) -> Self {
        match version {
            None | Some((4, 6)) => Self::Either,
            Some(version) if version < (3, 7) => Self::Plain,
            Some(version) if version < (4, 6) => Self::Budgets,
            Some(_) => Self::Adaptive,
        }
    }
}

/// The parameters of a request, as this model accepts them.
pub(crate) fn ask<'a>(request: &'a Request, model: &str) -> ClaudeParams<'a> {
    let version = version(model);
    let generation = Generation::of(version);
    let (max_tokens, thinking, effort) = reason(request, generation, model);
    let thinks = matches!(thinking, Some(Thinking::Enabled { .. } | Thinking::Adaptive { .. }));
    let steered = generation != Generation::Adaptive;
    let temperature = request.temperature.filter(|_| steered && !thinks);
    // Since version 4.1 only one of temperature and `top_p` is accepted.
    let both = version.is_none_or(|version| version < (4, 1)) || temperature.is_none();
    ClaudeParams {
        max_tokens,
        thinking,
        effort,
        temperature: temperature.map(|value| value.clamp(0.0, 1.0)),
        top_p: request.top_p.filter(|p| steered && both && (!thinks || *p >= LEAST_P)),
        top_k: request.top_k.filter(|_| steered && !thinks),
    }
}

/// The fields that a caller set and [`ask`] omits. A temperature of 1 and a mass of 1 are the vendor's
/// defaults, so that their omission has no effect.
pub(crate) fn omitted(request: &Request, model: &str) -> impl Iterator<Item = &'static str> {
    let asked = ask(request, model);
    let steers = |value: Option<f64>| value.is_some_and(|value| value < 1.0);
    let reasons = request.reasoning.as_ref().is_some_and(Reasoning::is_wanted);
    let names = [
        (asked.temperature.is_none() && steers(request.temperature), "temperature"),
        (asked.top_p.is_none() && steers(request.top_p), "top_p"),
        (asked.top_k.is_none() && request.top_k.is_some(), "top_k"),
        (asked.thinking.is_none() && asked.effort.is_none() && reasons, "reasoning"),
    ];
    names.into_iter().filter_map(|(omitted, name)| omitted.then_some(name))
}

fn reason<'a>(
    request: &'a Request,
    generation: Generation,
    model: &str,
) -> (Option<u64>, Option<Thinking>, Option<&'a str>) {
    let limit = request.max_tokens;
    let Some(reasoning) = &request.reasoning else { return (limit, None, None) };
    let Reasoning { enabled, effort, budget } = reasoning;
    let effort = match effort.as_deref() {
        Some("minimal") => Some("low"),
        other => other,
    };
    if *enabled == Some(false) || *budget == Some(0) || effort == Some("none") {
        // These models always think and reject a request that disables it.
        let always = ["fable", "mythos"].iter().any(|name| model.contains(name));
        let can = generation != Generation::Plain && !always;
        return (limit, can.then_some(Thinking::Disabled), None);
    }
    let wanted = effort.is_some() || enabled.is_some() || budget.is_some();
    match generation {
        _ if !wanted => (limit, None, None),
        Generation::Plain => (limit, None, None),
        // Earlier versions reject a forced call while they think.
        Generation::Adaptive | Generation::Either
            if request.forces_a_call()
                && version(model).is_some_and(|version| version < (4, 8)) =>
        {
            (limit, None, effort)
        }
        Generation::Adaptive => {
            let effort = effort.or_else(|| budget.map(effort_of));
            (limit, Some(Thinking::Adaptive { display: Some("summarized") }), effort)
        }
        Generation::Either => match budget {
            Some(budget) => enable(request, *budget, effort),
            None => (limit, Some(Thinking::Adaptive { display: None }), effort),
        },
        // These models have no efforts.
        Generation::Budgets => enable(request, budget.unwrap_or_else(|| budget_of(effort)), None),
    }
}

/// A budget for thinking, where the vendor accepts one: it must leave room below the limit, needs the thoughts
/// before earlier calls, and excludes a forced call.
fn enable<'a>(
    request: &Request,
    budget: u64,
    effort: Option<&'a str>,
) -> (Option<u64>, Option<Thinking>, Option<&'a str>) {
    let limit = request.max_tokens;
    let room = limit.is_none_or(|limit| limit > MIN_BUDGET);
    if !room || request.lacks_reasoning(Scheme::Anthropic) || request.forces_a_call() {
        return (limit, None, effort);
    }
    let budget = budget.max(MIN_BUDGET);
    let (limit, budget_tokens) = match limit {
        Some(limit) => (limit, budget.min(limit.saturating_sub(1))),
        None => (budget.saturating_add(ANSWER), budget),
    };
    (Some(limit), Some(Thinking::Enabled { budget_tokens }), effort)
}

fn budget_of(effort: Option<&str>) -> u64 {
    match effort {
        Some("low") => 2048,
        None | Some("medium") => 8192,
        Some(_) => 16_384,
    }
}

/// The effort that roughly matches a budget in tokens.
pub(super) fn effort_of(budget: u64) -> &'static str {
    match budget {
        0..=4096 => "low",
        4097..=16_384 => "medium",
        _ => "high",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Tool, ToolChoice};

    #[test]
    fn models_are_known_by_their_names() {
        for (model, expected) in [
            ("claude-opus-4-7", Some((4, 7))),
            ("claude-opus-4-20250514", Some((4, 0))),
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", Some((4, 5))),
            ("anthropic.claude-3-5-sonnet-20241022-v2:0", Some((3, 5))),
            ("claude-sonnet-4-5@20250929", Some((4, 5))),
            ("anthropic/claude-sonnet-4.6", Some((4, 6))),
            ("claude-sonnet-5", Some((5, 0))),
            ("claude-fable-5-20260801", Some((5, 0))),
            ("claude", None),
            ("claude-latest", None),
            ("my-model", None),
        ] {
            assert_eq!(version(model), expected, "{model}");
        }
    }

    /// A caller's parameters and the resulting ones per model: budget, effort and sampling.
    #[test]
    fn each_is_asked_for_what_it_takes() {
        let asked = |model: &str, effort: Option<&str>, budget, limit| {
            let effort = effort.map(str::to_owned);
            let request = Request {
                max_tokens: limit,
                temperature: Some(1.5),
                top_p: Some(0.9),
                top_k: Some(40),
                reasoning: Some(Reasoning { enabled: None, effort, budget }),
                ..Request::default()
            };
            let ClaudeParams { max_tokens, thinking, effort, temperature, top_p, top_k } =
                ask(&request, model);
            let kind = match thinking {
                None => "-".to_owned(),
                Some(Thinking::Disabled) => "off".to_owned(),
                Some(Thinking::Adaptive { display }) => format!("adaptive{}", display.is_some()),
                Some(Thinking::Enabled { budget_tokens }) => budget_tokens.to_string(),
            };
            let sampled = [temperature.is_some(), top_p.is_some(), top_k.is_some()];
            (max_tokens, kind, effort.map(str::to_owned), sampled)
        };
        let none = [false; 3];
        let word = |word: &str| Some(word.to_owned());
        for (model, effort, budget, limit, expected) in [
            ("x", Some("high"), None, None, (None, "adaptivefalse".into(), word("high"), none)),
            ("x", None, Some(2000), None, (Some(6096), "2000".into(), None, none)),
            ("x", None, Some(2000), Some(1500), (Some(1500), "1499".into(), None, none)),
            ("x", None, Some(2000), Some(200), (Some(200), "-".into(), None, [true; 3])),
            ("x", Some("none"), None, None, (None, "off".into(), None, [true; 3])),
            ("claude-3-5-haiku", Some("high"), None, None, (None, "-".into(), None, [true; 3])),
            ("claude-haiku-4-5", Some("low"), None, None, (Some(6144), "2048".into(), None, none)),
            (
                "claude-haiku-4-5",
                Some("none"),
                None,
                None,
                (None, "off".into(), None, [true, false, true]),
            ),
            (
                "claude-opus-4-7",
                Some("xhigh"),
                None,
                Some(9),
                (Some(9), "adaptivetrue".into(), word("xhigh"), none),
            ),
            (
                "claude-opus-4-7",
                None,
                Some(9000),
                None,
                (None, "adaptivetrue".into(), word("medium"), none),
            ),
            ("claude-sonnet-5", Some("none"), None, None, (None, "off".into(), None, none)),
            ("claude-fable-5", Some("none"), None, None, (None, "-".into(), None, none)),
        ] {
            assert_eq!(
                asked(model, effort, budget, limit),
                expected,
                "{model} {effort:?} {budget:?}"
            );
        }
    }

    /// Versions before 4.8 reject a forced call while they think.
    #[test]
    fn a_forced_call_goes_without_thinking() {
        let tool = Tool { name: "f".to_owned(), ..Tool::default() };
        for (model, thinks) in
            [("claude-opus-4-6", false), ("claude-sonnet-4-7", false), ("claude-opus-4-8", true)]
        {
            let effort = Some("high".to_owned());
            let request = Request {
                tools: vec![tool.clone()],
                tool_choice: Some(ToolChoice::Required),
                reasoning: Some(Reasoning { enabled: None, effort, budget: None }),
                ..Request::default()
            };
            let asked = ask(&request, model);
            assert_eq!(asked.thinking.is_some(), thinks, "{model}");
            assert_eq!(asked.effort, Some("high"), "{model}");
        }
    }
}
