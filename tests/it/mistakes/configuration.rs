//! Mistakes in a configuration: files that are wrong, and valid ones that cannot work.

use crate::support::gateway::hex;
use crate::support::process::{File, program, run};
use streamgate::config;

/// A file with one key, and more YAML from line 2.
fn file(more: &str) -> File {
    let digest = hex(&config::digest("sg-test"));
    File::new(&format!("auth: {{ keys: [{{ name: a, sha256: {digest} }}] }}\n{more}\n"))
}

/// The warnings of `check`, which finds nothing worse, without the file's name.
fn warnings(more: &str) -> Vec<String> {
    let file = file(more);
    let (status, out, err) = run(&["check", file.path()]);
    assert_eq!(status, Some(0), "{err}");
    assert!(out.contains(": ok ("), "{out}");
    let lines = err.lines().map(|line| line.replacen(file.path(), "", 1));
    lines.map(|line| line.trim_start_matches(':').to_owned()).collect()
}

/// The errors of `check`, in the same way.
fn errors(more: &str) -> String {
    let file = file(more);
    let (status, out, err) = run(&["check", file.path()]);
    assert_eq!((status, out.as_str()), (Some(2), ""), "{err}");
    err.replace(&format!("{}:", file.path()), "")
}

fn provider(fields: &str) -> String {
    format!("providers: {{ p: {{ {fields} }} }}")
}

fn model(fields: &str) -> String {
    let provider = provider("dialect: ollama, base_url: \"http://127.0.0.1:9\"");
    format!("{provider}\nmodels: {{ chat: {{ {fields} }} }}")
}

/// Each with the line and the column of its value, and a remedy.
#[test]
fn m27_what_cannot_work_is_warned_of() {
    let chat = "dialect: openai-chat, api_key: k";
    let vendor = provider("preset: openai, api_key: k");
    for (yaml, place, words) in [
        (
            provider(&format!("{chat}, base_url: \"https://h.example/v1/chat/completions\"")),
            "2:63",
            "ends in `/chat/completions`",
        ),
        (
            provider(&format!("{chat}, base_url: \"https://h.example/v1/responses\"")),
            "2:63",
            "ends in `/responses`",
        ),
        (provider(&format!("{chat}, base_url: \"https://h.example\"")), "2:63", "has no path"),
        (
            provider("dialect: anthropic, api_key: k, base_url: \"https://h.example/v1\""),
            "2:61",
            "ends in `/v1`",
        ),
        (
            provider("dialect: anthropic, api_key: k, base_url: \"https://h.example/v1/messages\""),
            "2:61",
            "ends in `/v1/messages`",
        ),
        (
            provider("dialect: ollama, base_url: \"https://h.example/api\""),
            "2:46",
            "ends in `/api`",
        ),
        (
            provider(&format!("{chat}, base_url: \"http://llm.example.com/v1\"")),
            "2:63",
            "plain HTTP",
        ),
        (provider("preset: openai"), "2:27", "add `api_key: \"${OPENAI_API_KEY}\"`"),
        (String::new(), "", "there are no `providers`"),
        (format!("{vendor}\nserver: {{ body_limit: 32 }}"), "3:23", "`body_limit` is 32 bytes"),
        (format!("{vendor}\nstream: {{ max_event: 32 }}"), "3:22", "`max_event` is 32 bytes"),
        (
            format!("{vendor}\nstream: {{ stall: 10s, heartbeat: 200s }}"),
            "3:34",
            "`stall` (10s) is below `heartbeat` (200s)",
        ),
        (
            format!("{vendor}\nstream: {{ total: 500ms }}"),
            "3:18",
            "`total` (500ms) is below `first_token` (120s)",
        ),
    ] {
        assert_warned(&yaml, place, words);
    }
}

fn assert_warned(yaml: &str, place: &str, words: &str) {
    let found = warnings(yaml);
    let [warning] = &found[..] else { panic!("{yaml}: {found:?}") };
    let colon = if place.is_empty() { "" } else { ":" };
    let place = format!("{place}{colon} warning: ");
    assert!(warning.starts_with(&place) && warning.contains(words), "{yaml}: {warning}");
    assert!(!warning.contains("h.example"), "{warning}");
}

/// Routing: a choice without a choice, prices that are missing, and an attempt that ends after its deadline.
#[test]
fn m27_routing_that_cannot_work_is_warned_of() {
    for (yaml, place, words) in [
        (
            model("pick: fastest, targets: [{ provider: p, model: a }]"),
            "3:25",
            "`pick` has no choice",
        ),
        (
            model(
                "pick: cheapest, targets: [{ provider: p, model: a, price: { input: 1, output: 2 } }, { provider: p, model: b }]",
            ),
            "3:25",
            "`cheapest` knows no price of p/b",
        ),
        (
            model("affinity: session, sticky: { by: [key] }, targets: [{ provider: p, model: a }]"),
            "3:29",
            "`affinity` has no effect beside `sticky`",
        ),
        (
            model("hedge: {}, targets: [{ provider: p, model: a }, { provider: p, model: b }]"),
            "3:26",
            "`hedge` does nothing",
        ),
        (
            model("targets: [{ provider: p, model: a, first_token: 10m }]"),
            "3:28",
            "`first_token` of p/a (600s) is above `stream.first_token` (120s)",
        ),
        (
            model("queue: { wait: 2m }, targets: [{ provider: p, model: a }]"),
            "3:34",
            "`wait` (120s) leaves no time for an attempt",
        ),
    ] {
        assert_warned(&yaml, place, words);
    }
}

#[test]
fn m27_what_works_is_not_warned_of() {
    for yaml in [
        provider("dialect: openai-chat, api_key: k, base_url: \"https://h.example/v1\""),
        provider("dialect: openai-chat, api_key: k, base_url: \"https://api.deepseek.com\""),
        provider("dialect: openai-chat, api_key: k, base_url: \"http://127.0.0.1:8000/v1\""),
        provider("dialect: openai-chat, api_key: k, base_url: \"http://vllm:8000/v1\""),
        provider("dialect: openai-chat, api_key: k, base_url: \"http://10.1.2.3/v1\""),
        provider("dialect: openai-chat, api_key: k, base_url: \"http://a.b.svc.cluster.local/v1\""),
        provider("dialect: anthropic, api_key: k, base_url: \"https://h.example/anthropic\""),
        provider("dialect: gemini, api_key: k, base_url: \"https://h.example/v1beta\""),
        provider("preset: vllm"),
        provider("preset: azure, resource: r, headers: { x: y }"),
        "channels: {}".to_owned(),
    ] {
        assert_eq!(warnings(&yaml), [""; 0], "{yaml}");
    }
}

#[test]
fn m28_a_variable_may_have_a_default() {
    let yaml = provider(
        "dialect: openai-chat, base_url: \"${M28_URL:-http://127.0.0.1:1/v1}\", api_key: \"${M28_KEY}\"",
    );
    let file = file(&yaml);
    let (status, _, err) = run(&["check", file.path()]);
    assert_eq!(status, Some(2));
    assert!(
        err.contains("`M28_KEY`, which is not set") && err.contains("`${M28_KEY:-DEFAULT}`"),
        "{err}"
    );
    assert!(!err.contains("M28_URL"), "{err}");
    let mut command = program(&["check", file.path()]);
    let output = command.env("M28_KEY", "k").env("M28_URL", "").output().unwrap();
    assert!(output.status.success(), "an empty variable takes the default");
    let output = command.env("M28_URL", "canary").output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.contains("`base_url` is not valid") && !err.contains("canary"), "{err}");
}

#[test]
fn m29_each_mistake_of_yaml_is_located() {
    for (yaml, expected) in [
        ("server:\n\tlisten: 1", "3:2: not YAML: tabs disallowed"),
        ("server: { listen: 8080", "2:9: not YAML: this `{` has no end; expected `}`"),
        ("models: { m: { targets: [", "2:25: not YAML: this `[` has no end; expected `]`"),
        ("server: {}\nserver: {}", "3:1: `server` is given again (first on line 2)"),
        ("server: { listne: 1 }", "2:11: unknown key `listne`; expected `listen`"),
        (
            "server: { listen: here }",
            "2:19: `listen` is `here`; expected an address and port such as",
        ),
        (
            "providers: { p: { preset: grok } }",
            "2:27: `preset` is `grok`; expected one of `groq`, `xai`",
        ),
        (
            "providers: { p: { preset: claude } }",
            "2:27: `preset` is `claude`; expected `anthropic`",
        ),
    ] {
        let found = errors(yaml);
        assert!(found.starts_with(expected), "{yaml}: {found}");
        // Excerpts are for terminals: a log could show them to others.
        assert!(!found.contains(" | "), "{found}");
    }
    for yaml in ["providers:\r\n  p: { preset: vllm }\r\n", "{}"] {
        let text = if yaml == "{}" { "providers: { p: { preset: vllm } }" } else { yaml };
        assert_eq!(warnings(text), [""; 0], "{yaml:?}");
    }
}

#[test]
fn m30_a_file_of_litellm_is_recognized() {
    let file =
        File::new("model_list:\n  - model_name: a\n    litellm_params: { model: openai/a }\n");
    let (status, _, err) = run(&["check", file.path()]);
    assert_eq!(status, Some(2));
    assert!(err.contains(":1:1: unknown key `model_list`"), "{err}");
    assert!(err.contains("streamgate import litellm") && err.lines().count() == 1, "{err}");
}

/// An empty file, as a failed command behind `>` leaves it.
#[test]
fn m27_an_empty_file_is_answered_with_init() {
    for text in ["", "\n", "# nothing\n"] {
        let file = File::new(text);
        let (status, _, err) = run(&["check", file.path()]);
        assert!(status == Some(2) && err.contains("the file is empty; `streamgate init"), "{err}");
    }
}
