//! Targets: models of providers that requests are sent to. Data only. It must never choose among them.

use std::sync::Arc;
use std::time::Duration;

use super::{Condition, Identity, Provider, Quirks};
use crate::prices::{CATALOG, ModelPrice};
use crate::wire::continuation::Method;

/// A provider's model that a request may be sent to.
#[derive(Debug, Clone)]
pub struct Target {
    /// The upstream account.
    pub provider: Arc<Provider>,
    /// The model's name there.
    pub model: String,
    /// The most tokens of prompt and answer that the model takes, if configured.
    pub context: Option<u64>,
    /// Its price: the configured one, or the list price of a configured model.
    pub price: Option<Arc<ModelPrice>>,
    /// The provider's deviations, overridden by those of this target.
    pub quirks: Arc<Quirks>,
    /// Targets of one tier are balanced; those of the next one serve when no other can.
    pub tier: u32,
    /// The share of the requests among the targets of its tier; 0: only when no other can.
    pub weight: u32,
    /// Timeout of an attempt from its beginning to the first output.
    pub first_token: Option<Duration>,
    /// The way in which it continues a text, if configured.
    pub stated_continuation: Option<Method>,
    /// The requests that it may get. `None`: all.
    pub when: Option<Arc<Condition>>,
    pub(super) name: Arc<str>,
    pub(super) identity: Identity,
}

impl Target {
    /// A model of a provider, with the provider's deviations.
    pub fn new(provider: Arc<Provider>, model: String) -> Self {
        let quirks = Arc::clone(&provider.quirks);
        let name = format!("{}/{model}", provider.name).into();
        let identity = provider.account.of_model(&model);
        Self {
            provider,
            model,
            context: None,
            price: None,
            quirks,
            tier: 1,
            weight: 1,
            first_token: None,
            stated_continuation: None,
            when: None,
            name,
            identity,
        }
    }

    /// The identity of the provider's address and credential, and the model.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The same with each of the provider's keys, whose weight is the target's times the key's.
    pub(crate) fn keyed(self) -> Vec<Self> {
        let keyed = |provider: &Arc<Provider>| Self {
            identity: provider.account.of_model(&self.model),
            weight: self.weight.saturating_mul(provider.weight.get()),
            provider: Arc::clone(provider),
            ..self.clone()
        };
        self.provider.keyed().map(keyed).collect()
    }

    /// `provider/model`.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its list price, if the provider is in the price catalog.
    pub fn list_price(&self) -> Option<Arc<ModelPrice>> {
        CATALOG.price(self.provider.price_catalog.as_deref()?, &self.model)
    }

    /// The same for the model of this name, if it passes names on.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        if self.model.contains('*') {
            return self.with_model(self.model.replacen('*', name, 1));
        }
        self.clone()
    }

    /// The way in which it continues a text of its own.
    pub fn continuation(&self) -> Method {
        self.stated_continuation.unwrap_or_else(|| self.provider.continuation(&self.model))
    }

    /// The same for another model of the provider.
    #[must_use]
    pub fn with_model(&self, model: String) -> Self {
        let renamed = Self::new(Arc::clone(&self.provider), model);
        let stated = self.price.clone().filter(|price| self.list_price().as_ref() != Some(price));
        Self {
            context: self.context,
            price: stated.or_else(|| renamed.list_price()),
            quirks: Arc::clone(&self.quirks),
            tier: self.tier,
            weight: self.weight,
            first_token: self.first_token,
            stated_continuation: self.stated_continuation,
            when: self.when.clone(),
            ..renamed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::load_text;

    /// A stated price is that of all names of a pattern; without one, each name has its list price.
    #[test]
    fn a_name_of_a_pattern_has_the_stated_price() {
        let config = load_text(
            "auth: { keys: [{ name: a, sha256: \"00000000000000000000000000000000000000000000000000000000000000ff\" }] }\n\
             providers: { openai: { preset: openai, api_key: k } }\n\
             models: { \"x-*\": { targets: [{ provider: openai, model: \"*\", price: { input: 1, output: 2 } }, { provider: openai, model: \"*\" }] } }\n",
        );
        let config = config.unwrap();
        let [stated, listed] = &*config.patterns[0].targets else { panic!("two targets") };
        assert_eq!(stated.named("gpt-4o").price, stated.price);
        assert!(stated.price.is_some());
        let list = CATALOG.price("openai", "gpt-4o");
        assert!(list.is_some() && listed.named("gpt-4o").price == list);
        assert_eq!(listed.named("nothing-of-that-name").price, None);
    }
}
