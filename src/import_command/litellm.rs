//! A configuration of LiteLLM's proxy as a whole (<https://docs.litellm.ai/docs/proxy/configs>): its models with their
//! deployments, fallbacks and aliases. It must never add a way to a model that was not there.

use streamgate::config;

use super::balance::{self, Place};
use super::deployment::{Deployment, Draft, Fields};
use super::settings::{self, Settings};
use super::yaml::Node;
use super::{Note, Notes};
use crate::yaml_text::scalar;

/// Sections that are read.
const SECTIONS: [&str; 5] =
    ["model_list", "litellm_settings", "router_settings", "general_settings", "credential_list"];

/// A provider of ours.
#[derive(Debug)]
pub(super) struct Provider {
    pub(super) name: String,
    pub(super) fields: Fields,
}

/// A target of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) provider: String,
    pub(super) model: String,
    pub(super) place: Place,
    pub(super) fields: Fields,
}

impl Target {
    /// Whether another one is the same, but for its place.
    pub(super) fn same(&self, other: &Self) -> bool {
        let of = |it: &Self| (it.provider.clone(), it.model.clone(), it.fields.clone());
        of(self) == of(other)
    }
}

/// A model of ours.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) name: String,
    /// Those of the earliest tier first.
    pub(super) targets: Vec<Target>,
    /// For prompts that are too long for them, and after a content filter.
    pub(super) fallback: [Vec<Target>; 2],
    pub(super) limits: Fields,
}

impl Model {
    /// Whether a tier has several targets.
    pub(super) fn is_balanced(&self) -> bool {
        self.targets
            .windows(2)
            .any(|pair| matches!(pair, [one, other] if one.place.tier == other.place.tier))
    }
}

/// The result.
#[derive(Debug)]
pub(super) struct Imported {
    pub(super) providers: Vec<Provider>,
    pub(super) models: Vec<Model>,
    /// The section `stream`.
    pub(super) stream: Fields,
    /// The section `health`.
    pub(super) health: Fields,
    /// The `pick` of models whose deployments share requests.
    pub(super) pick: &'static str,
    /// The retries at the same target, if they are stated.
    pub(super) retries: Option<u32>,
    /// The names that the caller may ask for. `None`: all.
    pub(super) permitted: Option<Vec<String>>,
    /// The SHA-256 of the caller's key.
    pub(super) digest: [u8; 32],
    /// The caller's key, if it is new.
    pub(super) new_key: Option<String>,
    pub(super) notes: Vec<Note>,
}

/// Limits of a deployment there, of a model here.
const LIMITS: [(&str, &str); 3] = [
    ("rpm", "requests_per_minute"),
    ("tpm", "tokens_per_minute"),
    ("max_parallel_requests", "concurrent_streams"),
];

/// Converts a configuration. The error is a message.
pub(super) fn import(root: &Node) -> Result<Imported, String> {
    let (_, list) = root
        .entries()
        .iter()
        .rfind(|(key, _)| key == "model_list")
        .ok_or("it has no `model_list`, and so it is no configuration of LiteLLM's proxy")?;
    if list.items().is_empty() {
        let line = list.line;
        return Err(format!(
            "line {line}: `model_list` is empty; expected at least one deployment, with a `model_name` and `litellm_params`"
        ));
    }
    let mut notes = Notes::default();
    for (key, node) in root.entries() {
        if SECTIONS.contains(&key.as_str()) || settings::is_off(node) {
            continue;
        }
        let message = match key.as_str() {
            "environment_variables" => {
                "`environment_variables` is not read; set these variables in the environment"
                    .to_owned()
            }
            "include" => {
                "`include` is not followed; import each file, or join them first".to_owned()
            }
            "guardrails" => "`guardrails` have no equivalent here".to_owned(),
            _ => format!("`{key}` has no equivalent here"),
        };
        notes.add(node.line, message);
    }
    let settings = settings::read(root, &mut notes);
    let weighted = settings.pick == "weighted";
    let mut import = Import { providers: Vec::new(), models: Vec::new(), weighted, notes };
    let deployments: Vec<Deployment<'_>> =
        list.items().iter().filter_map(|item| deployment(root, item, &mut import.notes)).collect();
    // Patterns first: a provider of that name is what they ask for.
    let (wild, exact): (Vec<_>, Vec<_>) =
        deployments.iter().partition(|deployment| deployment.name.contains('*'));
    import.add(&wild);
    import.add(&exact);
    let mut permitted: Vec<String> = import.models.iter().map(|it| it.name.clone()).collect();
    import.drop_unreachable_patterns();
    import.follow(&settings);
    let Import { providers, models, notes, .. } = import;
    permitted.extend(models.iter().map(|it| it.name.clone()));
    permitted.sort();
    permitted.dedup();
    let permitted = Some(permitted).filter(|names| !names.iter().any(|name| name == "*"));
    let Settings { stream, health, pick, master, retries, .. } = settings;
    let new_key = if master.is_none() { Some(config::new_key()) } else { None };
    let digest = config::digest(master.as_deref().or(new_key.as_deref()).unwrap_or_default());
    let notes = notes.sorted();
    Ok(Imported {
        providers,
        models,
        stream,
        health,
        pick,
        retries,
        permitted,
        digest,
        new_key,
        notes,
    })
}

fn deployment<'n>(root: &'n Node, item: &'n Node, notes: &mut Notes) -> Option<Deployment<'n>> {
    let (Some(name), Some(params)) = (item.text("model_name"), item.get("litellm_params")) else {
        notes.add(item.line, "an entry of `model_list` has no `model_name` or no `litellm_params`");
        return None;
    };
    if !config::is_model(name) {
        notes.add(
            item.line,
            format!("`{name}` cannot name a model here; expected visible characters"),
        );
        return None;
    }
    let named = params.text("litellm_credential_name");
    let credential = named.and_then(|named| {
        let list = root.get("credential_list").map(Node::items).unwrap_or_default();
        let found = list.iter().find(|item| item.text("credential_name") == Some(named));
        found.and_then(|found| found.get("credential_values"))
    });
    if let Some(named) = named.filter(|_| credential.is_none()) {
        notes.add(
            params.line,
            format!("`{name}` names the credential `{named}`, which is not in the file"),
        );
    }
    let known = ["model_name", "litellm_params", "model_info"];
    for (key, node) in item.entries().iter().filter(|(key, _)| !known.contains(&key.as_str())) {
        notes.add(node.line, format!("`{key}` of `{name}` has no equivalent here"));
    }
    Some(Deployment { name, line: item.line, params, credential, info: item.get("model_info") })
}

/// The result so far.
pub(super) struct Import {
    pub(super) providers: Vec<Provider>,
    pub(super) models: Vec<Model>,
    /// Whether weights decide among deployments of one name.
    weighted: bool,
    pub(super) notes: Notes,
}

impl Import {
    /// Adds deployments: those of one name are targets of one model, in their `order`.
    fn add(&mut self, deployments: &[&Deployment<'_>]) {
        let mut names: Vec<&str> = Vec::new();
        for deployment in deployments {
            if !names.contains(&deployment.name) {
                names.push(deployment.name);
            }
        }
        for name in names {
            let of = deployments.iter().filter(|deployment| deployment.name == name);
            let mut of: Vec<_> = of.copied().collect();
            of.sort_by_key(|deployment| deployment.number("order").unwrap_or(u64::MAX));
            let mut found = Vec::new();
            for deployment in &of {
                let Some(draft) = deployment.draft(&mut self.notes) else { continue };
                found.extend(self.target(deployment, draft).map(|target| (*deployment, target)));
            }
            if found.is_empty() {
                continue;
            }
            let (served, found): (Vec<_>, Vec<_>) = found.into_iter().unzip();
            let places = balance::places(&served, self.weighted, &mut self.notes);
            let mut targets: Vec<Target> = Vec::new();
            for (target, place) in found.into_iter().zip(places) {
                let target = Target { place, ..target };
                match targets.iter_mut().find(|known| known.same(&target)) {
                    // Equal deployments of one tier share as one what each would get.
                    Some(known) if known.place.tier == place.tier => {
                        let sum = known.place.weight.saturating_add(place.weight);
                        known.place.weight = sum.min(balance::MAX_WEIGHT);
                    }
                    Some(_) => {}
                    None => targets.push(target),
                }
            }
            let limits = self.limits(&of);
            self.models.push(Model {
                name: name.to_owned(),
                targets,
                fallback: Default::default(),
                limits,
            });
        }
    }

    /// The target of a deployment, and its provider if that is new.
    fn target(&mut self, deployment: &Deployment<'_>, draft: Draft) -> Option<Target> {
        let Draft { provider, fields, model, target } = draft;
        if !config::is_model(&model) {
            let message = format!(
                "a deployment of `{}` is left out: it names no model that could be asked for",
                deployment.name
            );
            self.notes.add(deployment.line, message);
            return None;
        }
        // `HEAD/*` for `*`: the models of a provider called HEAD can be asked for like this anyway.
        let head = deployment.name.split_once('/').filter(|(head, rest)| {
            *rest == model && model.contains('*') && !head.contains('*') && scalar(head) == *head
        });
        let head = head.map(|(head, _)| head);
        let provider = self.provider((head.unwrap_or(provider), head.is_some()), fields);
        let written = match head {
            Some(head) => (head == provider).then_some(model.clone()),
            None => pattern(deployment.name, &model),
        };
        let Some(model) = written else {
            let message = format!(
                "a deployment of `{}` is left out: a `*` in a target stands for the whole name here, so that `{model}` cannot be written",
                deployment.name
            );
            self.notes.add(deployment.line, message);
            return None;
        };
        Some(Target { provider, model, place: Place::ALONE, fields: target })
    }

    /// The name of the provider with these settings, which is added if there is none. `exact`: it should have the wanted
    /// name.
    fn provider(&mut self, (wanted, exact): (&str, bool), fields: Fields) -> String {
        let same = |known: &&Provider| known.fields == fields && (!exact || known.name == wanted);
        if let Some(known) = self.providers.iter().find(same) {
            return known.name.clone();
        }
        let taken = |name: &str| self.providers.iter().any(|known| known.name == name);
        let mut name = wanted.to_owned();
        let mut number = 2;
        while taken(&name) {
            name = format!("{wanted}-{number}");
            number += 1;
        }
        self.providers.push(Provider { name: name.clone(), fields });
        name
    }

    /// Limits: those of a model are those of all its deployments, if each has one.
    fn limits(&mut self, deployments: &[&Deployment<'_>]) -> Fields {
        let mut limits = Fields::new();
        for (theirs, ours) in LIMITS {
            let given: Vec<u64> = deployments.iter().filter_map(|one| one.number(theirs)).collect();
            for one in deployments
                .iter()
                .filter(|one| one.params.get(theirs).is_some() && one.number(theirs).is_none())
            {
                self.notes.add(
                    one.line,
                    format!(
                        "`{theirs}` of `{}` is no whole number above zero, and is left out",
                        one.name
                    ),
                );
            }
            let Some(first) = deployments.first().filter(|_| !given.is_empty()) else { continue };
            let (name, line) = (first.name, first.line);
            if given.len() < deployments.len() {
                self.notes.add(line, format!("`{theirs}` is a limit of some deployments of `{name}` only; limits here are those of a model"));
                continue;
            }
            let sum = given.iter().fold(0_u64, |sum, limit| sum.saturating_add(*limit));
            limits.push((ours, sum.min(u32::MAX.into()).to_string()));
            if given.len() > 1 {
                self.notes.add(line, format!("`{theirs}` of the deployments of `{name}` became their sum, as a limit of the model: none of them has a limit of its own here, and one may exceed its share when others cannot serve"));
            }
        }
        limits
    }

    /// Drops patterns that begin with a provider's name: such names are models of that provider already.
    fn drop_unreachable_patterns(&mut self) {
        let providers = &self.providers;
        let notes = &mut self.notes;
        self.models.retain(|model| {
            let head = model.name.split('*').next().and_then(|head| head.split_once('/'));
            let Some((head, _)) = head.filter(|_| model.name.contains('*')) else { return true };
            if !providers.iter().any(|provider| provider.name == head) {
                return true;
            }
            let named = |it: &Target| format!("{head}/{}", it.model) == model.name;
            let own = model.targets.iter().all(|it| it.provider == head && named(it));
            if !own {
                notes.add(1, format!("`{}` is left out: names that begin with `{head}/` are models of the provider of that name", model.name));
            }
            false
        });
    }
}

/// A target's model for a pattern of names. There, `*` in it is what the pattern's `*` stands for; here it is the whole
/// name that is asked for. `None`: it cannot be written.
fn pattern(name: &str, model: &str) -> Option<String> {
    let Some((before, after)) = model.split_once('*') else {
        return Some(model.to_owned());
    };
    let (name_before, name_after) = name.split_once('*')?;
    let before = before.strip_suffix(name_before)?;
    let after = after.strip_prefix(name_after)?;
    (!after.contains('*') && !name_after.contains('*')).then(|| format!("{before}*{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cut or with a line less, a file is another file or none; whatever it is, there is an answer.
    #[test]
    fn every_part_of_a_file_is_answered() {
        let text = "model_list:\n  - &d\n    model_name: a/*\n    litellm_params: { model: 'azure/*', rpm: x, api_base: os.environ/B }\n    \
                    model_info: { mode: chat }\n  - { <<: *d, model_name: b, litellm_params: { model: vertex_ai/claude-x } }\n\
                    router_settings:\n  fallbacks: [{ b: [c, { model: d }] }]\n  model_group_alias: { e: b, f: [] }\n  timeout: soon\n\
                    general_settings: { master_key: [] }\n";
        let whole = import(&super::super::yaml::parse(text).unwrap()).unwrap();
        let notes: Vec<usize> = whole.notes.iter().map(|note| note.line).collect();
        assert!(notes.is_sorted() && notes.len() > 5, "{:?}", whole.notes);
        let lines: Vec<&str> = text.lines().collect();
        let shorter =
            (0..lines.len()).map(|at| [&lines[..at], &lines[at + 1..]].concat().join("\n"));
        let cut = (0..text.len()).filter_map(|end| text.get(..end).map(str::to_owned));
        let mut read = 0;
        for part in shorter.chain(cut) {
            let imported = super::super::yaml::parse(&part).and_then(|root| import(&root));
            read += usize::from(imported.is_ok());
        }
        assert!(read > 50, "only {read} parts were read");
    }

    #[test]
    fn a_star_is_the_whole_name() {
        assert_eq!(pattern("gpt-*", "gpt-*").as_deref(), Some("*"));
        assert_eq!(pattern("*", "*").as_deref(), Some("*"));
        assert_eq!(pattern("gpt-*", "team-gpt-*").as_deref(), Some("team-*"));
        assert_eq!(pattern("my-*", "gpt-*"), None);
        assert_eq!(pattern("team/*", "*"), None);
        assert_eq!(pattern("x", "y").as_deref(), Some("y"));
    }
}
