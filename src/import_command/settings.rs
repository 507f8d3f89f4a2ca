//! Settings of LiteLLM's proxy beside its models: `litellm_settings`, `router_settings`, `general_settings`. It must never
//! print the master key.

use streamgate::config;

use super::Notes;
use super::deployment::{Fields, reference};
use super::yaml::{Node, Value};

/// The settings that have an equivalent.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// The section `stream`.
    pub(super) stream: Fields,
    /// The section `health`.
    pub(super) health: Fields,
    /// The choice among deployments of one name: a `pick`.
    pub(super) pick: &'static str,
    /// The master key, if it can be read.
    pub(super) master: Option<String>,
    /// The models that are tried after others.
    pub(super) fallbacks: Vec<Fallback>,
    /// The retries at the same target, if they are stated.
    pub(super) retries: Option<u32>,
    /// The line, an alias, and the model that it stands for.
    pub(super) aliases: Vec<(usize, String, String)>,
}

/// A model that is tried after another one has failed.
#[derive(Debug)]
pub(super) struct Fallback {
    pub(super) line: usize,
    /// The model that fails, or `*`.
    pub(super) model: String,
    pub(super) kind: FallbackKind,
    /// The model that is tried.
    pub(super) to: String,
}

/// The failures after which a fallback is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FallbackKind {
    /// Any but the caller's.
    Any,
    /// A prompt that is too long.
    Context,
    /// A content filter.
    ContentPolicy,
}

/// The keys of fallbacks by model.
const FALLBACKS: [(&str, FallbackKind); 3] = [
    ("fallbacks", FallbackKind::Any),
    ("context_window_fallbacks", FallbackKind::Context),
    ("content_policy_fallbacks", FallbackKind::ContentPolicy),
];

/// The most retries at the same target.
const MAX_RETRIES: u32 = 10;

/// The default of `stream.connect` and `stream.commit_after`, in milliseconds.
const DEFAULT_CONNECT: u64 = 10_000;

/// Settings that are read, and the only section that they are read from, if not all are.
const READ: [(&str, &str); 17] = [
    ("fallbacks", ""),
    ("default_fallbacks", ""),
    ("context_window_fallbacks", ""),
    ("content_policy_fallbacks", ""),
    ("num_retries", ""),
    ("model_group_alias", ""),
    ("model_alias_map", ""),
    ("request_timeout", "litellm_settings"),
    ("timeout", "router_settings"),
    ("stream_timeout", "router_settings"),
    ("routing_strategy", "router_settings"),
    ("cooldown_time", ""),
    ("allowed_fails", ""),
    ("master_key", "general_settings"),
    ("drop_params", ""),
    ("set_verbose", ""),
    ("infer_model_from_keys", ""),
];

/// Strategies of routing, and the choice among targets that they become.
const STRATEGIES: [(&str, &str); 4] = [
    ("simple-shuffle", "weighted"),
    ("least-busy", "least_loaded"),
    ("latency-based-routing", "fastest"),
    ("cost-based-routing", "cheapest"),
];

/// Settings without an equivalent, and the reason or the remedy.
const LEFT_OUT: [(&str, &str); 17] = [
    (
        "retry_policy",
        "is not read: failures decide by themselves which ones are retried (docs/routing.md)",
    ),
    ("enable_pre_call_checks", "is not needed: `context` of a target does that"),
    ("redis_host", "is not read: `redis:` has the server that several nodes share"),
    ("redis_port", "is not read: `redis:` has the server that several nodes share"),
    ("redis_password", "is not read: `redis:` has the server that several nodes share"),
    ("redis_url", "is not read: `redis:` has the server that several nodes share"),
    (
        "success_callback",
        "has no equivalent; the access log (`--log json`), metrics and traces have each request",
    ),
    (
        "failure_callback",
        "has no equivalent; the access log (`--log json`), metrics and traces have each request",
    ),
    (
        "callbacks",
        "has no equivalent; see `server.admin` for Prometheus, `telemetry.otlp` for OpenTelemetry",
    ),
    ("cache", "has no equivalent: answers are not cached"),
    ("cache_params", "has no equivalent: answers are not cached"),
    ("json_logs", "is an option here: `--log json`"),
    (
        "database_url",
        "is not read: keys, budgets and spend in LiteLLM's database stay there; `streamgate key new --name NAME` makes keys",
    ),
    (
        "max_parallel_requests",
        "is not read: `limits: { concurrent_streams: N }` bounds each caller, or a model",
    ),
    (
        "global_max_parallel_requests",
        "is not read: `limits: { concurrent_streams: N }` bounds each caller, or a model",
    ),
    ("alerting", "has no equivalent; deploy/ has alert rules for Prometheus"),
    ("enable_jwt_auth", "is not read: `auth.jwt` has the issuers of tokens"),
];

/// Reads the sections.
pub(super) fn read(root: &Node, notes: &mut Notes) -> Settings {
    let mut settings = Settings::default();
    for section in ["litellm_settings", "router_settings", "general_settings"] {
        let Some(node) = root.get(section) else { continue };
        for (key, value) in node.entries() {
            let read = READ.iter().find(|(known, _)| known == key);
            if is_off(value) || read.is_some_and(|(_, only)| only.is_empty() || *only == section) {
                continue;
            }
            if let Some((_, only)) = read {
                let message = format!("`{section}.{key}` is not read: its place is `{only}`");
                notes.add(value.line, message);
                continue;
            }
            let reason = LEFT_OUT.iter().find(|(known, _)| known == key);
            let reason = reason.map_or("has no equivalent here", |(_, reason)| reason);
            notes.add(value.line, format!("`{section}.{key}` {reason}"));
        }
        read_fallbacks(node, &mut settings, notes);
        for key in ["model_group_alias", "model_alias_map"] {
            for (alias, node) in node.get(key).map(Node::entries).unwrap_or_default() {
                match node.as_text().or_else(|| node.text("model")) {
                    Some(name) => {
                        settings.aliases.push((node.line, alias.clone(), name.to_owned()));
                    }
                    None => notes.add(node.line, format!("the alias `{alias}` names no model")),
                }
            }
        }
    }
    settings.stream = stream(root, notes);
    settings.health = health(root, notes);
    settings.pick = pick(root, notes);
    settings.retries = retries(root, notes);
    settings.master = master(root, notes);
    settings
}

/// Whether a setting is left out, or switched off.
pub(super) fn is_off(node: &Node) -> bool {
    match &node.value {
        Value::Null => true,
        Value::Text(text) => text.eq_ignore_ascii_case("false"),
        Value::List(items) => items.is_empty(),
        Value::Table(entries) => entries.is_empty(),
    }
}

fn read_fallbacks(section: &Node, settings: &mut Settings, notes: &mut Notes) {
    for (key, kind) in FALLBACKS {
        let tables = section.get(key).map(Node::items).unwrap_or_default();
        for (name, list) in tables.iter().flat_map(Node::entries) {
            for item in list.items() {
                match item.as_text() {
                    Some(fallback) => {
                        let (line, model, to) = (item.line, name.clone(), fallback.to_owned());
                        settings.fallbacks.push(Fallback { line, model, kind, to });
                    }
                    None => notes.add(
                        item.line,
                        format!(
                            "a fallback of `{name}` with parameters of its own has no equivalent"
                        ),
                    ),
                }
            }
        }
    }
    for item in section.get("default_fallbacks").map(Node::items).unwrap_or_default() {
        settings.fallbacks.extend(item.as_text().map(|to| Fallback {
            line: item.line,
            model: "*".to_owned(),
            kind: FallbackKind::Any,
            to: to.to_owned(),
        }));
    }
}

/// Timeouts: one for a whole answer there, and one for the beginning of a stream.
fn stream(root: &Node, notes: &mut Notes) -> Fields {
    let setting = |section: &str, key: &str| root.get(section)?.get(key);
    let [router, general] =
        [("router_settings", "timeout"), ("litellm_settings", "request_timeout")]
            .map(|(section, key)| setting(section, key));
    if let (Some(_), Some(general)) = (router, general) {
        let message = "`litellm_settings.request_timeout` is left out: `router_settings.timeout` comes before it";
        notes.add(general.line, message);
    }
    let whole = router.or(general);
    let first = setting("router_settings", "stream_timeout").or(whole);
    let mut read = |node: Option<&Node>| {
        let most = node?.as_text().and_then(millis);
        if most.is_none() {
            let line = node?.line;
            notes.add(line, "a timeout is no number of seconds, and is left out");
        }
        most
    };
    let (first, whole) = (read(first), read(whole));
    let mut fields = Fields::new();
    // A whole answer has at least the time of its first token, and an attempt that of its connection.
    if let Some(first) = first.map(|first| first.min(whole.unwrap_or(first))) {
        fields.push(("first_token", duration(first)));
        if first < DEFAULT_CONNECT {
            fields.push(("connect", duration(first)));
        }
        if first <= DEFAULT_CONNECT {
            fields.push(("commit_after", duration((first / 2).max(1))));
        }
    }
    fields.extend(whole.map(|whole| ("unstreamed", duration(whole))));
    fields
}

/// Circuit breakers: cooldowns and failures of the router, whose settings come before the general ones.
fn health(root: &Node, notes: &mut Notes) -> Fields {
    let mut fields = Fields::new();
    for key in ["cooldown_time", "allowed_fails"] {
        let sections = ["router_settings", "litellm_settings", "general_settings"];
        let mut found =
            sections.iter().filter_map(|section| Some((section, root.get(section)?.get(key)?)));
        let Some((_, node)) = found.next() else { continue };
        for (section, other) in found {
            notes.add(other.line, format!("`{section}.{key}` is left out: a setting of that name in another section comes before it"));
        }
        let text = node.as_text().unwrap_or_default();
        if key == "cooldown_time" {
            match millis(text) {
                Some(time) => fields.push(("cooldown", duration(time))),
                None => notes.add(
                    node.line,
                    "`cooldown_time` is no number of seconds above zero, and is left out",
                ),
            }
            continue;
        }
        // There, a cooldown begins with the failure after those that are allowed.
        match text.parse::<u32>().ok().and_then(|allowed| allowed.checked_add(1)) {
            Some(failures) => {
                fields.push(("consecutive", failures.to_string()));
                notes.add(node.line, "`allowed_fails` counts failures of a minute there; `health.consecutive` counts those in a row");
            }
            None => notes.add(node.line, "`allowed_fails` is no whole number, and is left out"),
        }
    }
    fields
}

/// Retries: those of the router come before the general ones.
fn retries(root: &Node, notes: &mut Notes) -> Option<u32> {
    let sections = ["router_settings", "litellm_settings", "general_settings"];
    let mut found = sections.iter().filter_map(|section| root.get(section)?.get("num_retries"));
    let node = found.next()?;
    let retries = node.as_text().and_then(|text| text.parse::<u32>().ok());
    match retries {
        None => notes.add(node.line, "`num_retries` is no whole number, and is left out"),
        Some(retries) if retries > MAX_RETRIES => notes.add(
            node.line,
            format!(
                "`num_retries` is {retries}; a target is tried again {MAX_RETRIES} times at most"
            ),
        ),
        Some(_) => {}
    }
    retries.map(|retries| retries.min(MAX_RETRIES))
}

/// The choice among deployments of one name.
fn pick(root: &Node, notes: &mut Notes) -> &'static str {
    let node = root.get("router_settings").and_then(|section| section.get("routing_strategy"));
    let Some(node) = node else { return "weighted" };
    let named = node.as_text().unwrap_or_default();
    let known = STRATEGIES.iter().find(|(strategy, _)| *strategy == named);
    known.map_or_else(
        || {
            notes.add(node.line, format!("`routing_strategy: {named}` has no equivalent: deployments of one name share requests by their weights (`pick: weighted`)"));
            "weighted"
        },
        |(_, pick)| pick,
    )
}

/// Seconds, perhaps with a fraction, as milliseconds: from one to a day.
pub(super) fn millis(text: &str) -> Option<u64> {
    let seconds: f64 = text.parse().ok()?;
    let duration = std::time::Duration::try_from_secs_f64(seconds).ok()?;
    u64::try_from(duration.as_millis()).ok().filter(|millis| (1..=86_400_000).contains(millis))
}

/// A duration as it is written.
pub(super) fn duration(millis: u64) -> String {
    if millis.is_multiple_of(1_000) {
        format!("{}s", millis / 1_000)
    } else {
        format!("{millis}ms")
    }
}

/// The master key, which becomes the key of a caller.
fn master(root: &Node, notes: &mut Notes) -> Option<String> {
    let Some(node) = root.get("general_settings").and_then(|section| section.get("master_key"))
    else {
        notes.add(1, "without a `master_key` everybody could call; here every caller needs a key, and a new one has been made");
        return None;
    };
    let text = node.as_text().unwrap_or_default();
    let Some(name) = text.strip_prefix("os.environ/") else {
        if text.is_empty() {
            notes.add(node.line, "`master_key` is no text; a new key has been made");
        }
        return Some(text.to_owned()).filter(|key| !key.is_empty());
    };
    let key = reference(text).and_then(|_| config::env(name)).filter(|key| !key.is_empty());
    if key.is_none() {
        notes.add(node.line, format!("`master_key`: only its digest is written, and `{name}` is not set; a new key has been made (set `{name}` and repeat this to keep the old one)"));
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_durations() {
        for (text, written) in
            [("30", Some("30s")), ("0.5", Some("500ms")), ("600.0", Some("600s"))]
        {
            assert_eq!(millis(text).map(duration).as_deref(), written, "{text}");
        }
        for text in ["0", "-1", "NaN", "1e300", "soon", "86401"] {
            assert_eq!(millis(text), None, "{text}");
        }
    }
}
