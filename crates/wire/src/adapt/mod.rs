//! Adaptation of a request to its upstream, by the table of rules and the operator's settings.
//!
//! Vendor rules are not hard-coded: the code implements the kinds of rules, and `rules.txt` lists where each
//! one holds. Every removed field is reported, and a request is rejected for one only in strict mode.

use std::borrow::Cow;
use std::collections::HashSet;

use super::body::refuse;
use super::chat::{ApiError, Delta, Request, ToolForms};
use super::claude;
use super::dialect::{CallerDialect, Dialect, Target};
use super::stop_strings::StopStrings;

mod blanks;
mod bounds;
mod cache;
mod compaction;
mod embeddings;
mod enforceable;
mod history;
mod hosted;
mod instructions;
mod local;
mod media;
mod names;
mod recursion;
mod rules;
mod schema;
pub mod settings;
mod size;
mod tools;
mod verbatim;

pub use embeddings::write_embeddings;
use rules::Rules;
pub use tools::Names;
use verbatim::override_members;

/// A request as it is sent to the upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// The request body.
    pub body: String,
    /// Everything that was removed: hints by the names of [`Request`]'s fields, hosted tools by their places in
    /// the caller's request.
    pub dropped: Vec<Cow<'static, str>>,
    /// Replaced tool names. The upstream's answers use the new ones.
    pub names: Names,
    /// Stop strings that the upstream does not accept. The gateway ends the answer at them.
    pub stop_strings: StopStrings,
    /// Forms of the request's tools in the caller's dialect.
    pub tool_forms: ToolForms,
    /// Number of texts, if the request is for embeddings.
    pub inputs: Option<usize>,
}

/// Names of everything that was removed, without duplicates.
#[derive(Debug, Default)]
struct Dropped {
    names: Vec<Cow<'static, str>>,
    noted: HashSet<Cow<'static, str>>,
}

impl Dropped {
    fn note(&mut self, name: impl Into<Cow<'static, str>>) {
        let name = name.into();
        if self.noted.insert(name.clone()) {
            self.names.push(name);
        }
    }

    /// Rejects the request if it is `strict` and anything was removed.
    fn checked(self, strict: bool) -> Result<Vec<Cow<'static, str>>, ApiError> {
        match self.names.first().filter(|_| strict) {
            None => Ok(self.names),
            Some(name) => {
                let place = name.split(' ').next().unwrap_or(name);
                let what =
                    "would be left out for this model, which a strict request does not allow";
                Err(refuse(place, what))
            }
        }
    }
}

/// Adapts a request to its target and writes it. With `strict`, a hint that would be removed is rejected
/// instead. `request` keeps its changes, so that a later rejection can name the caller's turns.
pub fn write(
    request: &mut Request,
    dialect: &dyn Dialect,
    target: &Target<'_>,
    strict: bool,
) -> Result<Written, ApiError> {
    size::check(request)?;
    let settings = &target.quirks.settings;
    let mut rules = Rules::of(dialect.name(), target.quirks.hosting, target.model);
    rules.instructions = settings.instructions.unwrap_or(rules.instructions);
    let mut dropped = Dropped::default();
    request.untranslatable.iter().for_each(|name| dropped.note(*name));
    hosted::adapt(request, &rules, settings, &mut dropped)?;
    bounds::adapt(request, &rules, settings, &mut dropped);
    let stop_strings = bounds::split_stop_strings(request, &rules, &mut dropped);
    compaction::apply(&mut request.messages, &mut dropped);
    history::settle(&mut request.messages);
    instructions::place(&mut request.messages, rules.instructions);
    media::name(&mut request.messages);
    media::leave_out(&mut request.messages, &rules, &mut dropped)?;
    blanks::leave_out(&mut request.messages, rules.blanks);
    if rules.answer_after_results {
        history::answer_results(&mut request.messages);
    }
    let names = tools::adapt(request, &rules, &mut dropped);
    tools::identify(request, &rules);
    history::begin_and_end(&mut request.messages, rules.user_first, rules.user_last);
    history::check(&request.messages)?;
    cache::mark(request, rules.cache, settings.prompt_cache);
    if rules.claude {
        claude::omitted(request, target.model).for_each(|name| dropped.note(name));
    }
    let dropped = dropped.checked(strict || settings.strict)?;
    let body = dialect.encode_request(request, target)?;
    let body = override_members(body, settings, &[])?;
    let tool_forms = std::mem::take(&mut request.tool_forms);
    Ok(Written { body, dropped, names, stop_strings, tool_forms, inputs: None })
}

/// Writes the caller's own JSON for an upstream of the same dialect, with targeted edits and the operator's
/// settings for hosted tools and members. `header` returns the value of a caller's header that would be
/// forwarded.
pub fn pass(
    body: &str,
    (caller, dialect): (&dyn CallerDialect, &dyn Dialect),
    target: &Target<'_>,
    strict: bool,
    header: &dyn Fn(&str) -> Option<String>,
) -> Result<Written, ApiError> {
    let settings = &target.quirks.settings;
    let (body, dropped) = hosted::without(body, caller, target)?;
    let dropped = dropped.checked(strict || settings.strict)?;
    let body = dialect.edit_hosted(&body, target, header)?;
    let body = override_members(body, settings, dialect.output_limits())?;
    Ok(Written { body, dropped, ..Written::default() })
}

/// Restores the caller's tool names in an upstream's deltas.
pub fn restore_names(deltas: &mut [Delta<'_>], names: &Names) {
    for delta in deltas {
        if let Delta::ToolStart { name, .. } = delta
            && let Some(own) = names.get(&**name)
        {
            *name = Cow::Owned(own.clone());
        }
    }
}

#[cfg(test)]
mod tests;
