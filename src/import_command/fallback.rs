//! Fallbacks and aliases of LiteLLM's router (<https://docs.litellm.ai/docs/proxy/reliability>). They must never lead to a
//! model that is not in the result.

use streamgate::config;

use super::balance::Place;
use super::deployment::Fields;
use super::litellm::{Import, Model, Target};
use super::settings::{Fallback, FallbackKind, Settings};

impl Model {
    /// Adds the targets of another model behind its own, tier by tier.
    fn fall_back_to(&mut self, more: &[Target]) {
        let last = self.targets.last().map_or(0, |target| target.place.tier);
        let new = more.iter().filter(|new| !self.targets.iter().any(|target| target.same(new)));
        let new: Vec<Target> = new.cloned().collect();
        let tiers = new.chunk_by(|one, other| one.place.tier == other.place.tier);
        for (tier, of) in (last.saturating_add(1)..).zip(tiers) {
            let placed = of.iter().cloned().map(|target| {
                let place = Place { tier, ..target.place };
                Target { place, ..target }
            });
            self.targets.extend(placed);
        }
    }

    /// Whether a target may hold prompts that none of its own can.
    fn is_smaller_than(&self, target: &Target) -> bool {
        let own = self.targets.iter().map(context);
        let largest = own.reduce(|a, b| Some(a?.max(b?))).flatten();
        !matches!((largest, context(target)), (Some(own), Some(other)) if other <= own)
    }

    /// Adds the targets of another model for one kind of failure.
    fn fall_back_for(&mut self, kind: FallbackKind, more: &[Target]) {
        let fits: Vec<Target> = more
            .iter()
            .filter(|target| kind != FallbackKind::Context || self.is_smaller_than(target))
            .cloned()
            .collect();
        let [context, content_policy] = &mut self.fallback;
        match kind {
            FallbackKind::Any => self.fall_back_to(more),
            FallbackKind::Context => context.extend(fits),
            FallbackKind::ContentPolicy => content_policy.extend(fits),
        }
    }
}

/// The tokens that a target takes, if they are known.
fn context(target: &Target) -> Option<u64> {
    let (_, value) = target.fields.iter().find(|(key, _)| *key == "context")?;
    value.parse().ok()
}

impl Import {
    /// Adds the targets of fallbacks, and models for aliases.
    pub(super) fn follow(&mut self, settings: &Settings) {
        let before: Vec<(String, Vec<Target>)> =
            self.models.iter().map(|it| (it.name.clone(), it.targets.clone())).collect();
        for Fallback { line, model: name, kind, to } in &settings.fallbacks {
            let Some(more) = self.targets(&before, to) else {
                self.notes.add(*line, format!("the fallback `{to}` is no model of the result"));
                continue;
            };
            let all = name == "*";
            if !all && !before.iter().any(|(known, _)| known == name) {
                self.notes.add(
                    *line,
                    format!("fallbacks of `{name}`, which is no model of the result, are left out"),
                );
            }
            let chosen = self
                .models
                .iter_mut()
                .filter(|it| if all { it.name != *to } else { it.name == *name });
            chosen.for_each(|model| model.fall_back_for(*kind, &more));
        }
        for (line, alias, name) in &settings.aliases {
            self.alias(*line, alias, name);
        }
    }

    /// The targets of a model, or of a name that a pattern of the provider's own has covered.
    fn targets(&self, models: &[(String, Vec<Target>)], name: &str) -> Option<Vec<Target>> {
        let known = models.iter().find(|(known, _)| known == name).map(|(_, it)| it.clone());
        known.or_else(|| {
            let (provider, model) =
                name.split_once('/').filter(|(_, model)| config::is_model(model))?;
            let provider = self.providers.iter().find(|known| known.name == provider)?.name.clone();
            let (model, place) = (model.to_owned(), Place::ALONE);
            Some(vec![Target { provider, model, place, fields: Fields::new() }])
        })
    }

    fn alias(&mut self, line: usize, alias: &str, name: &str) {
        let found = self.models.iter().find(|it| it.name == *name);
        let found = found.map(|it| (it.targets.clone(), it.fallback.clone()));
        let message = match found {
            Some((targets, fallback)) if !self.models.iter().any(|it| it.name == *alias) => {
                let (name, limits) = (alias.to_owned(), Fields::new());
                self.models.push(Model { name, targets, fallback, limits });
                return;
            }
            Some(_) => format!("the alias `{alias}` is left out: a model has that name"),
            None => format!("the alias `{alias}` is left out: `{name}` is no model of the result"),
        };
        self.notes.add(line, message);
    }
}
