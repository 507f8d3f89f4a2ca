//! Adaptation of a request to its upstream: between what a caller's dialect says and what the model behind
//! an upstream takes, by the table of rules and the operator's settings.
//!
//! No rule of a vendor is code here: code says how a rule is kept, `rules.txt` for whom it holds. What is
//! left out is named, and nothing is refused but by request.

use std::borrow::Cow;

use super::body::refuse;
use super::chat::{Delta, Fault, Request};
use super::dialect::{Dialect, Target};

mod bounds;
mod cache;
mod history;
mod instructions;
mod media;
mod names;
mod rules;
mod schema;
pub mod settings;
mod size;
mod tools;
mod verbatim;

use rules::Rules;
pub use tools::Names;
pub use verbatim::override_members;

/// A request as it is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// The body.
    pub body: String,
    /// The hints that were left out, by the names of [`Request`]'s fields.
    pub dropped: Vec<&'static str>,
    /// Names of tools that were replaced, which answers will say.
    pub names: Names,
}

/// The hints that are left out.
#[derive(Debug, Default)]
struct Dropped(Vec<&'static str>);

impl Dropped {
    fn note(&mut self, name: &'static str) {
        if !self.0.contains(&name) {
            self.0.push(name);
        }
    }
}

/// Adapts a request to its target and writes it. `strict`: a hint that would be left out is refused.
/// `request` is changed, so that a refusal can be told by its turns.
pub fn write(
    request: &mut Request,
    dialect: &dyn Dialect,
    target: &Target<'_>,
    strict: bool,
) -> Result<Written, Fault> {
    size::check(request)?;
    let settings = &target.quirks.settings;
    let mut rules = Rules::of(dialect.name(), target.model);
    rules.instructions = settings.instructions.unwrap_or(rules.instructions);
    let mut dropped = Dropped::default();
    bounds::adapt(request, &rules, settings, &mut dropped);
    history::settle(&mut request.messages);
    instructions::place(&mut request.messages, rules.instructions);
    let (documents, images) = media::leave_out(&mut request.messages, &rules);
    if documents {
        dropped.note("documents");
    }
    if images {
        dropped.note("images");
    }
    let names = tools::adapt(request, &rules, &mut dropped);
    tools::identify(request, &rules);
    history::begin_and_end(&mut request.messages, rules.user_first, rules.user_last);
    cache::mark(request, rules.cache, settings.prompt_cache);
    let dropped = dropped.0;
    if let Some(name) = dropped.first().filter(|_| strict || settings.strict) {
        let what = "would be left out for this model, which a strict request does not allow";
        return Err(refuse(name, what));
    }
    let body = dialect.encode_request(request, target)?;
    let body = override_members(body, settings, &[])?;
    Ok(Written { body, dropped, names })
}

/// Gives tools their own names back in what an upstream says.
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
