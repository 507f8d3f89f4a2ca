//! Hosted tools: which of them the upstream's own vendor runs, which are removed, and which make a request
//! invalid. An answer must never claim a search that was not made.

use std::borrow::Cow;

use super::Dropped;
use super::rules::Rules;
use super::settings::{HostedTools, Settings};
use super::tools::ask;
use crate::body::refuse;
use crate::chat::{ApiError, HostedKind, HostedTool, Request, ToolChoice, WebAccess};
use crate::dialect::{CallerDialect, Target};
use crate::hosted_body;

/// Keeps the hosted tools that the upstream runs, removes those without which the request keeps its meaning,
/// and rejects the others with the name of the field.
pub(super) fn adapt(
    request: &mut Request,
    rules: &Rules,
    settings: &Settings,
    dropped: &mut Dropped,
) -> Result<(), ApiError> {
    if request.hosted.is_empty() {
        return Ok(());
    }
    if request.tool_choice == Some(ToolChoice::None) {
        request.hosted.clear();
        return Ok(());
    }
    let mapped = settings.hosted_tools == HostedTools::Map;
    let alone =
        |tool: &HostedTool| tool.forced && is_run(tool, rules, false) && !is_run(tool, rules, true);
    if mapped && !request.tools.is_empty() && request.hosted.iter().any(alone) {
        // A tool that must be called now and cannot be combined with functions replaces them.
        request.tools.clear();
        dropped.note("tools");
    }
    let functions = !request.tools.is_empty();
    let must_call = request.tool_choice == Some(ToolChoice::Required) && !functions;
    if must_call {
        request.tool_choice = None;
    }
    let mut left = Vec::new();
    for mut tool in std::mem::take(&mut request.hosted) {
        tool.forced |= must_call && !tool.optional;
        if mapped && is_run(&tool, rules, functions) {
            tune(&mut tool, rules, dropped);
            request.hosted.push(tool);
        } else {
            left.push(tool);
        }
    }
    unite(&mut request.hosted, dropped);
    let alone = mapped && !functions && request.hosted.is_empty();
    omit(&left, alone, settings, dropped)?;
    force_in_words(request, rules, dropped);
    Ok(())
}

/// Keeps one tool of each kind. A bounded tool takes precedence over an unbounded one.
fn unite(hosted: &mut Vec<HostedTool>, dropped: &mut Dropped) {
    let mut kept: Vec<HostedTool> = Vec::with_capacity(hosted.len().min(3));
    for tool in std::mem::take(hosted) {
        let same = |other: &&mut HostedTool| other.kind.is_same_tool(&tool.kind);
        let Some(other) = kept.iter_mut().find(same) else {
            kept.push(tool);
            continue;
        };
        other.forced |= tool.forced;
        if other.kind != tool.kind {
            dropped.note(tool.label());
        }
        if !other.kind.is_bounded() && tool.kind.is_bounded() {
            other.kind = tool.kind;
        }
    }
    *hosted = kept;
}

/// Removes tools and records their names. `alone`: the model could call nothing else.
fn omit(
    left: &[HostedTool],
    alone: bool,
    settings: &Settings,
    dropped: &mut Dropped,
) -> Result<(), ApiError> {
    for tool in left {
        let refused = settings.hosted_tools == HostedTools::Refuse || alone && !tool.optional;
        if tool.forced || refused {
            return Err(rejection(tool, settings.hosted_tools));
        }
        dropped.note(tool.label());
    }
    Ok(())
}

fn rejection(tool: &HostedTool, setting: HostedTools) -> ApiError {
    let HostedTool { at, name, .. } = tool;
    let name = if at.ends_with(name) { String::new() } else { format!(" `{name}`") };
    let why = match (setting, tool.forced) {
        (HostedTools::Refuse, _) => "which this model's provider is configured to reject",
        (_, true) => "which this model's provider does not run, and `tool_choice` demands it",
        (_, false) => "which this model's provider does not run",
    };
    let remedy = match (setting, tool.forced) {
        (HostedTools::Map, false) => {
            "leave it out, choose another model, or have `hosted_tools: drop` set on the provider"
        }
        _ => "leave it out or choose another model",
    };
    refuse(at, &format!("is a hosted tool{name}, {why}; {remedy}"))
}

/// Whether the upstream's vendor has the same tool with every bound that the caller sets.
fn is_run(tool: &HostedTool, rules: &Rules, functions: bool) -> bool {
    let bounded = |access: &WebAccess| {
        (access.allowed_domains.is_empty() || rules.runs("allowed_domains"))
            && (access.blocked_domains.is_empty() || rules.runs("blocked_domains"))
            && (!access.cached_only || rules.runs("cached_only"))
    };
    let run = match &tool.kind {
        HostedKind::WebSearch(access) => rules.runs("web_search") && bounded(access),
        HostedKind::WebFetch(access) => rules.runs("web_fetch") && bounded(access),
        HostedKind::CodeExecution => rules.runs("code_execution"),
        HostedKind::Other => false,
    };
    run && (!functions || rules.runs("functions"))
}

/// Removes a tool's settings that have no equivalent.
fn tune(tool: &mut HostedTool, rules: &Rules, dropped: &mut Dropped) {
    let at = &tool.at;
    let (HostedKind::WebSearch(access) | HostedKind::WebFetch(access)) = &mut tool.kind else {
        return;
    };
    let mut leave = |name: &str, said: bool| {
        if said {
            dropped.note(format!("{at}.{name}"));
        }
    };
    if !rules.runs("user_location") {
        leave("user_location", access.location.take().is_some());
    }
    if !rules.runs("max_uses") {
        leave("max_uses", access.max_uses.take().is_some());
    }
    if !rules.runs("search_context_size") {
        let size = access.context_size.take();
        leave("search_context_size", size.is_some_and(|size| size != "medium"));
    }
}

/// Requests the call of a hosted tool in the prompt if the upstream has no parameter to force it.
fn force_in_words(request: &mut Request, rules: &Rules, dropped: &mut Dropped) {
    if rules.runs("forced") {
        return;
    }
    let mut words = Vec::new();
    for tool in &mut request.hosted {
        if std::mem::take(&mut tool.forced) {
            words.push(match &tool.kind {
                HostedKind::WebSearch(_) => "Search the web before you answer.",
                HostedKind::WebFetch(_) => "Read the pages before you answer.",
                HostedKind::CodeExecution | HostedKind::Other => "Run code before you answer.",
            });
        }
    }
    if !words.is_empty() {
        dropped.note("tool_choice");
        ask(request, words.join(" "));
    }
}

/// The same for an upstream of the caller's own dialect, where hosted tools stay unless the operator disables
/// them or the platform does not run them. Returns the body without them, and their names.
pub(super) fn without<'b>(
    body: &'b str,
    caller: &dyn CallerDialect,
    target: &Target<'_>,
) -> Result<(Cow<'b, str>, Dropped), ApiError> {
    let mut dropped = Dropped::default();
    let settings = &target.quirks.settings;
    let mapped = settings.hosted_tools == HostedTools::Map;
    if mapped && target.quirks.hosting.is_none() {
        return Ok((Cow::Borrowed(body), dropped));
    }
    let Some((tools, rest)) = caller.split_hosted_tools(body)? else {
        return Ok((Cow::Borrowed(body), dropped));
    };
    if !mapped {
        omit(&tools, false, settings, &mut dropped)?;
        return Ok((Cow::Owned(rest), dropped));
    }
    let rules = Rules::of(caller.name(), target.quirks.hosting, target.model);
    let functions = hosted_body::has_tools(&rest);
    let (run, left): (Vec<_>, Vec<_>) = tools.into_iter().partition(|tool| {
        is_run(tool, &rules, functions) || tool.optional || rules.runs_type(&tool.name)
    });
    omit(&left, !functions && run.is_empty(), settings, &mut dropped)?;
    if run.is_empty() {
        return Ok((Cow::Owned(rest), dropped));
    }
    let places: Vec<&str> = left.iter().map(|tool| tool.at.as_str()).collect();
    Ok((hosted_body::remove(body, &places)?, dropped))
}
