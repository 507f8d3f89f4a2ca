//! Settings of providers and targets that contradict each other, and the messages for them.

use super::load_text;

const AUTH: &str = "auth: { keys: [{ name: a, sha256: \"00000000000000000000000000000000000000000000000000000000000000ff\" }] }\n";

#[test]
fn settings_that_contradict_each_other_are_told() {
    for (fields, expected) in [
        ("drop: [user], set: { user: u }", "`user` is in `drop` and in `set`"),
        ("drop: [a], set: { a.b: 1 }", "`a.b` is in `set`, and `a` in `drop`"),
        ("drop: [a.b], set: { a: 1 }", "`a` is in `set`, and `a.b` in `drop`"),
        ("set: { a: 1, a.b: 1 }", "`set` has `a.b` and `a`, of which one is a part of the other"),
        ("drop: [model]", "`model` cannot be in `drop`: it is the target's"),
        ("set: { model: m }", "`model` cannot be in `set`: it is the target's"),
        ("drop: [stream]", "`stream` cannot be in `drop`: it is the caller's"),
        ("set: { stream: true }", "`stream` cannot be in `set`: it is the caller's"),
        ("drop: [messages]", "`messages` cannot be in `drop`: nothing is asked without it"),
        ("set: { messages: [] }", "`messages` cannot be in `set`: nothing is asked without it"),
        ("drop: [contents]", "`contents` cannot be in `drop`"),
        ("set: { input: x }", "`input` cannot be in `set`"),
        ("betas: [x-1], drop: [anthropic_beta]", "`anthropic_beta` is in `drop`, and `betas` says"),
        (
            "betas: [x-1], set: { anthropic_beta: [x-1] }",
            "`anthropic_beta` is in `set`, and `betas` says",
        ),
        ("max_output: 0", "a number of tokens above zero"),
        ("system_messages: apart", "one of `anywhere`, `first`"),
        ("drop: [a..b]", "the name of a member"),
        ("prompt_cache: maybe", "one of `auto`, `off`"),
        ("hosted_tools: maybe", "one of `map`, `drop`, `refuse`"),
        ("hosted_tools: map, drop: [tools]", "`drop` removes `tools`"),
        ("hosted_tools: refuse, drop: [web_search_options]", "`drop` removes `web_search_options`"),
        ("keep_alive: 5m", "one of `server`, `callers`"),
    ] {
        let text = format!("{AUTH}providers: {{ p: {{ dialect: openai-chat, {fields} }} }}\n");
        let problems = load_text(text).unwrap_err();
        assert!(problems.list[0].message.contains(expected), "{}", problems.list[0].message);
    }
}

/// Names that only look like others, and members of members, are fine; places are those of the names.
#[test]
fn only_members_that_are_reserved_or_contradict_each_other_are_reported() {
    let provider =
        "dialect: openai-chat, drop: [messages.x, user], set: { users: 1, a.b: 1, a.c: 2 }";
    assert!(load_text(format!("{AUTH}providers: {{ p: {{ {provider} }} }}\n")).is_ok());
    let text = format!(
        "{AUTH}providers:\n  p:\n    dialect: openai-chat\n    drop:\n      - user\n      - model\n    set:\n      user: u\n"
    );
    let problems = load_text(text).unwrap_err().to_string();
    let lines: Vec<_> = problems.lines().filter_map(|line| line.split(':').nth(1)).collect();
    assert_eq!(lines, ["7", "9"], "{problems}");
}

/// The room of a target holds its output.
#[test]
fn an_output_limit_above_the_context_is_reported() {
    let text = |provider: &str, target: &str| {
        format!(
            "{AUTH}providers: {{ p: {{ dialect: openai-chat{provider} }} }}\n\
             models: {{ m: {{ targets: [{{ provider: p, model: x, {target} }}] }} }}\n"
        )
    };
    for (provider, target) in [("", "context: 8, max_output: 9"), (", max_output: 9", "context: 8")]
    {
        let problems = load_text(text(provider, target)).unwrap_err().to_string();
        let expected = "`max_output` of 9 does not fit into the `context` of 8";
        assert!(problems.contains(expected), "{problems}");
    }
    assert!(load_text(text(", max_output: 9", "context: 8, max_output: 8")).is_ok());
}

/// Models of a vendor continue a text or not by their names; a target's own word counts more.
#[test]
fn continuation_is_known_by_the_name_of_the_model() {
    let targets = [
        ("a", "claude-sonnet-4-5-20250929", "", "prefill"),
        ("a", "claude-sonnet-4-5", "", "none"),
        ("a", "claude-opus-4-6", "", "none"),
        ("a", "claude-opus-4-6", ", continuation: instruct", "instruct"),
        ("v", "qwen3", "", "vllm"),
        ("o", "gpt-5.4", "", "none"),
    ];
    let list: Vec<String> = targets
        .iter()
        .map(|(provider, model, own, _)| format!("{{ provider: {provider}, model: {model}{own} }}"))
        .collect();
    let text = format!(
        "{AUTH}providers: {{ a: {{ preset: anthropic, api_key: k }}, v: {{ preset: vllm }}, o: {{ preset: openai, api_key: k }} }}\n\
         models: {{ m: {{ on_break: {{ continue: {{ most: 2 }} }}, targets: [{}] }} }}\n",
        list.join(", ")
    );
    let config = load_text(text).unwrap();
    assert_eq!(config.on_break["m"].most.get(), 2);
    for (target, (_, model, _, expected)) in config.models["m"].iter().zip(targets) {
        let expected = crate::wire::continuation::Method::by_name(expected).unwrap();
        assert_eq!(target.continuation(), expected, "{model}");
    }
}
