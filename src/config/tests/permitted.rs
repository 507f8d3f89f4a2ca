//! Patterns of model names, the models that keys may use, and callers without a key.

use std::num::NonZeroU32;

use super::super::{Config, Limits};
use super::load_text;

/// A valid `auth` section.
const AUTH: &str = "auth: { keys: [{ name: a, sha256: \"00000000000000000000000000000000000000000000000000000000000000ff\" }] }\n";

fn with_auth(text: &str) -> Config {
    load_text(format!("{AUTH}{text}")).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn patterns_of_models_come_with_the_most_exact_first() {
    let config = with_auth(
        "providers: { p: { dialect: openai-chat } }\nmodels:\n  \
         \"*\": { targets: [{ provider: p, model: \"*\" }], limits: { requests_per_minute: 5 } }\n  \
         \"claude-*\": { targets: [{ provider: p, model: \"anthropic/*\" }] }\n  \
         fast: { targets: [{ provider: p, model: \"x-*\" }] }\n",
    );
    let patterns: Vec<_> = config
        .patterns
        .iter()
        .map(|model| (model.pattern.as_str(), model.targets[0].model.as_str()))
        .collect();
    assert_eq!(patterns, [("claude-*", "anthropic/*"), ("*", "*")]);
    assert_eq!(config.models.len(), 1);
    assert_eq!(config.models["fast"][0].model, "x-fast");
    assert!(config.model_limits.contains_key("*"));
}

#[test]
fn a_permission_that_matches_nothing_is_told() {
    let key = |models: &str| {
        let auth = AUTH.replace(" }] }", &format!(", models: [{models}] }}] }}"));
        let rest = "providers: { p: { dialect: openai-chat } }\n\
            models: { fast: { targets: [{ provider: p, model: x }] }, \"claude-*\": { targets: [{ provider: p, model: y }] } }\n";
        load_text(format!("{auth}{rest}")).unwrap_or_else(|problems| panic!("{problems}"))
    };
    for models in ["\"*\"", "\"f*\"", "fast", "\"claude-opus-*\"", "\"p/*\"", "\"*/x\"", "p/y"] {
        assert_eq!(key(models).warnings.len(), 0, "{models}");
    }
    let warnings = key("fast, \"gtp-*\"").warnings;
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].message.contains("matches no model"), "{:?}", warnings[0]);
}

#[test]
fn anonymous_callers_are_on_this_machine_unless_said() {
    let read = |text: &str| load_text(format!("auth: {{ anonymous: {text} }}\n"));
    let anonymous = |text: &str| read(text).unwrap().auth.anonymous.unwrap();
    let default = anonymous("{}");
    assert_eq!(
        default.from.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["127.0.0.0/8", "::1/128"]
    );
    assert_eq!(default.models, ["*"]);
    assert_eq!(default.limits, Limits::default());
    let said = anonymous("{ from: [10.0.0.0/8, 192.0.2.1], limits: { requests_per_minute: 3 } }");
    assert_eq!((said.from.len(), said.limits.requests_per_minute), (2, NonZeroU32::new(3)));
    let warnings = read("{ from: [0.0.0.0/0] }").unwrap().warnings;
    assert!(warnings[0].message.contains("may call without a key"), "{warnings:?}");
    for (text, expected) in [
        ("{ from: [] }", "`from` is empty"),
        ("{ from: [home] }", "an address or a network"),
        ("{ form: [10.0.0.1] }", "unknown key `form`"),
        ("yes", "expected a table"),
    ] {
        let problems = read(text).unwrap_err();
        assert!(problems.list[0].message.contains(expected), "{}", problems.list[0].message);
    }
    let named = AUTH.replace("name: a", "name: anonymous").replace("}] }", "}], anonymous: {} }");
    let problems = load_text(named).unwrap_err();
    assert!(problems.list[0].message.contains("named `anonymous`"), "{}", problems.list[0].message);
}
