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
    /// The master key, if it can be read.
    pub(super) master: Option<String>,
    /// The line, a model's name or `*`, and a model that is tried after it.
    pub(super) fallbacks: Vec<(usize, String, String)>,
    /// The line, an alias, and the model that it stands for.
    pub(super) aliases: Vec<(usize, String, String)>,
}

/// The default of `stream.connect` and `stream.commit_after`, in milliseconds.
const DEFAULT_CONNECT: u64 = 10_000;

/// Settings that are read.
const READ: [&str; 12] = [
    "fallbacks",
    "default_fallbacks",
    "context_window_fallbacks",
    "model_group_alias",
    "model_alias_map",
    "request_timeout",
    "timeout",
    "stream_timeout",
    "master_key",
    "drop_params",
    "set_verbose",
    "infer_model_from_keys",
];

/// Settings without an equivalent, and the reason or the remedy.
const LEFT_OUT: [(&str, &str); 22] = [
    (
        "content_policy_fallbacks",
        "has no equivalent; fallbacks here are for failures of a provider",
    ),
    (
        "num_retries",
        "has no equivalent: a request is tried once at each target; add a second target",
    ),
    ("retry_policy", "has no equivalent: a request is tried once at each target"),
    (
        "routing_strategy",
        "has no equivalent: targets are tried in their order, those that have just failed last",
    ),
    ("allowed_fails", "is not needed: a target that has just failed is tried last"),
    (
        "cooldown_time",
        "is not needed: a target that has just failed is tried last until it works again",
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
            if !READ.contains(&key.as_str()) && !is_off(value) {
                let reason = LEFT_OUT.iter().find(|(known, _)| known == key);
                let reason = reason.map_or("has no equivalent here", |(_, reason)| reason);
                notes.add(value.line, format!("`{section}.{key}` {reason}"));
            }
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
    for key in ["fallbacks", "context_window_fallbacks"] {
        let tables = section.get(key).map(Node::items).unwrap_or_default();
        for (name, list) in tables.iter().flat_map(Node::entries) {
            for item in list.items() {
                match item.as_text() {
                    Some(fallback) => {
                        settings.fallbacks.push((item.line, name.clone(), fallback.to_owned()));
                    }
                    None => notes.add(
                        item.line,
                        format!(
                            "a fallback of `{name}` with parameters of its own has no equivalent"
                        ),
                    ),
                }
            }
            if key == "context_window_fallbacks" {
                notes.add(list.line, format!("the fallbacks of `{name}` for long prompts are tried after any failure; set `context` of its targets so that long prompts skip them"));
            }
        }
    }
    for item in section.get("default_fallbacks").map(Node::items).unwrap_or_default() {
        let name = item.as_text().map(str::to_owned);
        settings.fallbacks.extend(name.map(|name| (item.line, "*".to_owned(), name)));
    }
}

/// Timeouts: one for a whole answer there, and one for the beginning of a stream.
fn stream(root: &Node, notes: &mut Notes) -> Fields {
    let setting = |section: &str, key: &str| root.get(section)?.get(key);
    let whole = setting("router_settings", "timeout")
        .or_else(|| setting("litellm_settings", "request_timeout"));
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

/// Seconds, perhaps with a fraction, as milliseconds: from one to a day.
fn millis(text: &str) -> Option<u64> {
    let seconds: f64 = text.parse().ok()?;
    let duration = std::time::Duration::try_from_secs_f64(seconds).ok()?;
    u64::try_from(duration.as_millis()).ok().filter(|millis| (1..=86_400_000).contains(millis))
}

fn duration(millis: u64) -> String {
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
