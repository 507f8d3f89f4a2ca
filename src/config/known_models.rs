//! Lists of models that a caller may use: names and patterns, checked against the configured models and providers.
//! It must never decide about a request; `gateway::route` does.

use std::collections::BTreeMap;

use super::field::Field;
use super::provider::Providers;
use super::reader::{Reader, Table, one_of};
use super::units::TEXT;
use super::{Target, pattern};

/// The `models` of a key, an issuer or `anonymous`.
pub(super) const ALLOWED_MODELS: Field<String> = TEXT
    .list(
        "models",
        "Models that the caller may use: names under `models`, `provider/model`, or patterns with `*`.",
    )
    .otherwise("all")
    .example("[\"fast\", \"anthropic/*\"]");

/// The models that the configuration has.
pub(super) struct KnownModels<'a> {
    /// Names and patterns under `models`.
    pub(super) models: &'a BTreeMap<&'a str, Vec<Target>>,
    /// The configured providers.
    pub(super) providers: &'a Providers<'a>,
}

impl KnownModels<'_> {
    /// Reads the `models` of `holder`: a key, an issuer or `anonymous`.
    pub(super) fn allowed(&self, reader: &mut Reader<'_>, holder: &Table<'_>) -> Vec<String> {
        let Some(items) = reader.list(holder, &ALLOWED_MODELS) else {
            return vec!["*".to_owned()];
        };
        if items.is_empty() {
            let at = holder.location(&ALLOWED_MODELS);
            reader.report(at, "`models` is empty; expected names or patterns such as `*`");
        }
        let mut expected = one_of(self.models.keys().copied());
        expected.push_str(", `provider/model`, or a pattern with `*`");
        if self.models.is_empty() {
            "`provider/model` or a pattern with `*` (there is no name under `models`)"
                .clone_into(&mut expected);
        }
        let known = |name: &str| {
            let head = name.split_once('/').map(|(head, _)| head);
            let direct = head.is_some_and(|head| self.providers.contains_key(head));
            let known = direct || name.contains('*') || self.models.contains_key(name);
            known.then(|| name.to_owned())
        };
        let mut models = Vec::with_capacity(items.len());
        for item in items {
            let Some(model) = reader.parsed(ALLOWED_MODELS.name, item, (expected.as_str(), known))
            else {
                continue;
            };
            if !self.may_match(&model) {
                let message =
                    "this pattern matches no model, no pattern under `models` and no provider";
                reader.warn(item.at, message);
            }
            models.push(model);
        }
        models
    }

    /// Whether there may be a model that an allowed name or pattern matches.
    fn may_match(&self, allowed: &str) -> bool {
        let mut models = self.models.keys();
        models.any(|model| pattern::overlap(allowed, model))
            || self.providers.keys().any(|name| pattern::overlap(allowed, &format!("{name}/*")))
    }
}
