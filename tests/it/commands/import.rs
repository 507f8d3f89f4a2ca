//! Import from LiteLLM: each part of such a file is converted or listed, and the result is a configuration.

use std::collections::BTreeMap;

use streamgate::config::{self, Config};

use super::{Folder, alone, run};

/// Every part that has an equivalent, and some that have none.
const FILE: &str = r#"
model_list:
  - model_name: gpt-4o
    litellm_params:
      model: azure/gpt-4o-eu
      api_base: https://my-eu.openai.azure.com/
      api_key: os.environ/AZURE_KEY_EU
      api_version: "2024-10-21"
      rpm: 6
      order: 2
  - model_name: gpt-4o
    litellm_params:
      model: azure/gpt-4o-ca
      api_base: os.environ/AZURE_BASE_CA
      api_key: os.environ/AZURE_KEY_CA
      rpm: 10
      order: 1
  - model_name: claude
    litellm_params:
      model: anthropic/claude-sonnet-4-5
      api_base: https://claude.example.com/v1/messages
      api_key: sk-literal
      temperature: 0.2
      extra_headers: { x-team: chat }
      tpm: 100000
    model_info: { max_input_tokens: 200000, input_cost_per_token: 0.1 }
  - model_name: fast
    litellm_params:
      model: groq/llama-3.3-70b
      additional_drop_params: [user]
      max_parallel_requests: 5
  - model_name: fast
    litellm_params: { model: groq/llama-3.1-8b, max_parallel_requests: 5, weight: 3 }
  - model_name: plain
    litellm_params: { model: gpt-4o-mini, organization: org-1 }
  - model_name: local
    litellm_params: { model: openai/facebook/opt-125m, api_base: "http://127.0.0.1:8000/v1", api_key: none }
  - model_name: thinking
    litellm_params: { model: openai/responses/gpt-5 }
  - model_name: bed
    litellm_params: { model: bedrock/converse/us-west-2/anthropic.claude-x, aws_access_key_id: os.environ/ID, aws_secret_access_key: os.environ/SECRET }
  - model_name: vertex
    litellm_params: { model: vertex_ai/gemini-2.5-pro, vertex_project: p-1, vertex_location: europe-west1 }
  - model_name: shared
    litellm_params: { model: deepinfra/meta/llama, litellm_credential_name: infra }
  - model_name: "mistral/*"
    litellm_params: { model: "mistral/*" }
  - model_name: "gpt-*"
    litellm_params: { model: "openai/gpt-*" }
  - model_name: "team-*"
    litellm_params: { model: "openai/gpt-*" }
  - model_name: "*"
    litellm_params: { model: "openrouter/*" }
  - model_name: "bedrock/us.*"
    litellm_params: { model: "bedrock/us.*" }
  - model_name: nothing
    litellm_params: { model: azure/, api_base: "https://my-eu.openai.azure.com" }
  - model_name: whisper
    litellm_params: { model: whisper-1 }
    model_info: { mode: audio_transcription }
  - model_name: art
    litellm_params: { model: replicate/some/model }
credential_list:
  - credential_name: infra
    credential_values: { api_key: os.environ/INFRA_KEY }
litellm_settings:
  drop_params: true
  request_timeout: 600
  callbacks: ["prometheus"]
  fallbacks: [{ "fast": ["claude"] }, { "nowhere": ["claude"] }, { "thinking": ["mistral/mistral-large"] }]
  default_fallbacks: ["local"]
  set_verbose: false
router_settings:
  routing_strategy: simple-shuffle
  stream_timeout: 2.5
  num_retries: 2
  model_group_alias: { "gpt-4": "gpt-4o", "old": { model: "claude", hidden: true } }
general_settings:
  master_key: sk-1234
  database_url: os.environ/DATABASE_URL
guardrails: []
"#;

async fn import(text: &str, variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let folder = Folder::new();
    let file = folder.write("config.yaml", text);
    run(alone(&["import", "litellm", &file], variables)).await
}

/// The configuration that it became, with every variable set to its own name.
fn load(text: &str) -> Config {
    let folder = Folder::new();
    let file = folder.write("streamgate.yaml", text);
    let variable = |name: &str| {
        let value = match name {
            "AZURE_BASE_CA" => "https://ca.example.com",
            "AWS_REGION_NAME" => "us-east-1",
            other => other,
        };
        // Others are those of the file.
        let general = name.to_ascii_lowercase().ends_with("_proxy") || name.starts_with("OTEL_");
        (!general).then(|| value.to_owned())
    };
    config::load(file.as_ref(), &variable).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

/// The names of each model's targets, patterns included.
fn targets<'c>(config: &'c Config) -> BTreeMap<&'c str, Vec<&'c str>> {
    let named = config.models.iter().map(|(name, targets)| (name.as_str(), &**targets));
    let patterns = config.patterns.iter().map(|it| (it.pattern.as_str(), &*it.targets));
    let of = |targets: &'c [config::Target]| targets.iter().map(|it| &**it.name()).collect();
    named.chain(patterns).map(|(name, targets)| (name, of(targets))).collect()
}

#[tokio::test]
async fn a_file_becomes_a_configuration() {
    let (status, out, err) = import(FILE, &[]).await;
    assert_eq!(status, Some(0), "{err}");
    let config = load(&out);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let targets = targets(&config);
    let local = "openai-3/facebook/opt-125m";
    for (name, wanted) in [
        ("gpt-4o", vec!["azure/gpt-4o-ca", "azure-2/gpt-4o-eu", local]),
        ("gpt-4", vec!["azure/gpt-4o-ca", "azure-2/gpt-4o-eu", local]),
        ("claude", vec!["anthropic/claude-sonnet-4-5", local]),
        (
            "fast",
            vec!["groq/llama-3.3-70b", "groq/llama-3.1-8b", "anthropic/claude-sonnet-4-5", local],
        ),
        ("local", vec![local]),
        ("thinking", vec!["openai-responses/gpt-5", "mistral/mistral-large", local]),
        ("shared", vec!["deepinfra/meta/llama", local]),
        ("gpt-*", vec!["openai/*", local]),
        ("*", vec!["openrouter/*", local]),
    ] {
        assert_eq!(targets[name], wanted, "{name}");
    }
    for name in ["mistral/*", "bedrock/us.*", "team-*", "nothing", "whisper", "art"] {
        assert!(!targets.contains_key(name), "{name}: {targets:?}");
    }
}

#[tokio::test]
async fn providers_keys_limits_and_timeouts_are_carried_over() {
    let (_, out, _) = import(FILE, &[]).await;
    let config = load(&out);
    let provider =
        |name: &str| config.providers.get(name).unwrap_or_else(|| panic!("no {name} in {out}"));
    let url = |target: &config::Target| target.provider.base_url.to_string();
    let models = &config.models;
    assert_eq!(url(&models["gpt-4o"][0]), "https://ca.example.com/openai/v1");
    assert_eq!(
        url(&models["gpt-4o"][1]),
        "https://my-eu.openai.azure.com/openai/deployments/gpt-4o-eu"
    );
    assert_eq!(url(&models["claude"][0]), "https://claude.example.com/");
    assert_eq!(url(&models["local"][0]), "http://127.0.0.1:8000/v1");
    assert_eq!(url(&models["bed"][0]), "https://bedrock-runtime.us-west-2.amazonaws.com/");
    assert!(url(&models["vertex"][0]).contains("projects/p-1/locations/europe-west1"));
    let key = |target: &config::Target| {
        target.provider.api_key.as_ref().map(|key| key.expose().to_owned())
    };
    assert_eq!(key(&models["gpt-4o"][0]).as_deref(), Some("AZURE_KEY_CA"));
    assert_eq!(key(&models["claude"][0]).as_deref(), Some("sk-literal"));
    assert_eq!(key(&models["fast"][0]).as_deref(), Some("GROQ_API_KEY"));
    assert_eq!(key(&models["shared"][0]).as_deref(), Some("INFRA_KEY"));
    assert_eq!(key(&models["local"][0]), None);
    // The names of a provider are models of it: `mistral/...`.
    assert_eq!(provider("mistral").dialect.name(), "openai-chat");
    let header = &models["plain"][0].provider.headers[0];
    assert_eq!((header.0.as_str(), header.1.to_str().unwrap()), ("openai-organization", "org-1"));
    assert_eq!(models["claude"][0].context, Some(200_000));
    assert!(models["fast"][0].quirks.settings.drop.contains(&"user".to_owned()));
    let limits = &config.model_limits;
    assert_eq!(limits["gpt-4o"].requests_per_minute.map(u32::from), Some(16));
    assert_eq!(limits["claude"].tokens_per_minute.map(u32::from), Some(100_000));
    assert_eq!(limits["fast"].concurrent_streams, Some(10));
    assert_eq!(
        (config.stream.first_token.as_millis(), config.stream.unstreamed.as_secs()),
        (2_500, 600)
    );
    // Others that would be longer than the first token may take.
    assert_eq!(config.stream.connect.as_millis(), 2_500);
    assert_eq!(config.stream.commit_after.as_millis(), 1_250);
    assert_eq!(config.auth.keys[0].digest, config::digest("sk-1234"));
    assert!(!out.contains("sk-1234"), "{out}");
}

/// The key may ask for the names of the file, and not for others of the same providers, unless the file allows all.
#[tokio::test]
async fn the_master_key_may_ask_for_the_models_of_the_file() {
    let (_, out, _) = import(FILE, &[]).await;
    assert_eq!(load(&out).auth.keys[0].models, ["*"], "it has `*`: {out}");
    let (_, out, _) = import(&FILE.replace("model_name: \"*\"", "model_name: \"o-*\""), &[]).await;
    let models = load(&out).auth.keys[0].models.clone();
    for name in ["gpt-4o", "gpt-4", "old", "mistral/*", "gpt-*", "shared"] {
        assert!(models.iter().any(|known| known == name), "{name}: {models:?}");
    }
    assert!(!models.iter().any(|known| known == "*" || known.contains("azure")), "{models:?}");
}

#[tokio::test]
async fn retries_and_fallbacks_are_carried_over() {
    let text = "model_list:\n  - { model_name: a, litellm_params: { model: ollama/a }, model_info: { max_input_tokens: 8000 } }\n  \
                - { model_name: b, litellm_params: { model: ollama/b }, model_info: { max_input_tokens: 32000 } }\n  \
                - { model_name: c, litellm_params: { model: ollama/c }, model_info: { max_input_tokens: 8000 } }\n\
                litellm_settings:\n  num_retries: 3\n  context_window_fallbacks: [{ a: [c, b] }]\n  content_policy_fallbacks: [{ a: [c] }]\n\
                router_settings: { num_retries: 20, routing_strategy: cost-based-routing, model_group_alias: { d: a } }\n\
                general_settings: { master_key: sk-1 }\n";
    let (_, out, err) = import(text, &[]).await;
    assert!(err.contains("`num_retries` is 20; a target is tried again 10 times at most"), "{err}");
    let config = load(&out);
    for name in ["a", "d"] {
        let fallback = &config.fallbacks[name];
        let of = |targets: &[config::Target]| -> Vec<String> {
            targets.iter().map(|target| target.model.clone()).collect()
        };
        let found = (of(&fallback.context), of(&fallback.content_policy));
        assert_eq!(found, (vec!["b".to_owned()], vec!["c".to_owned()]));
        assert_eq!(config.models[name].len(), 1, "{out}");
        assert_eq!(config.model_routing[name].retry.same_target, Some(10));
    }
}

/// A file is written as a whole, or not at all.
#[tokio::test]
async fn a_failed_import_writes_no_file() {
    let folder = Folder::new();
    let (good, bad) = (folder.write("good.yaml", FILE), folder.write("bad.yaml", "- a\n"));
    let output = folder.0.join("streamgate.yaml");
    let of = |file: &str, more: &[&str]| {
        let output = output.to_str().unwrap();
        let arguments = [&["import", "litellm", file, "--output", output], more].concat();
        alone(&arguments, &[])
    };
    assert_eq!(run(of(&bad, &[])).await.0, Some(2));
    assert!(!output.exists());
    let (status, out, _) = run(of(&good, &[])).await;
    assert_eq!((status, out.as_str()), (Some(0), ""));
    let first = std::fs::read_to_string(&output).unwrap();
    load(&first);
    let (status, _, err) = run(of(&good, &[])).await;
    assert!(status == Some(2) && err.contains("--force"), "{err}");
    assert_eq!(run(of(&bad, &["--force"])).await.0, Some(2));
    assert_eq!(std::fs::read_to_string(&output).unwrap(), first);
    assert_eq!(run(of(&good, &["--force"])).await.0, Some(0));
}

#[tokio::test]
async fn notes_have_the_line_and_the_reason() {
    let (_, out, err) = import(FILE, &[]).await;
    for (place, words) in [
        ("model_name: whisper", "mode `audio_transcription`"),
        ("model_name: nothing", "names no model"),
        ("model_name: art", "provider is not known"),
        ("model_name: \"team-*\"", "cannot be written"),
        ("temperature: 0.2", "override every caller"),
        ("weight: 3", "first deployment has none"),
        ("api_key: sk-literal", "stands in the file"),
        ("database_url", "streamgate key new"),
        ("callbacks", "server.admin"),
        ("nowhere", "`nowhere`"),
        ("model_name: vertex", "access token"),
        ("/v1/messages", "cut before `/messages`"),
        ("input_cost_per_token", "needs both"),
    ] {
        let line = FILE.lines().position(|line| line.contains(place)).unwrap() + 1;
        let start = format!("config.yaml:{line}: ");
        let found = err.lines().any(|it| it.contains(&start) && it.contains(words));
        assert!(found, "{place}: no {start} {words} in {err}");
        assert!(
            out.lines().any(|it| it.starts_with(&format!("#   {line}: ")) && it.contains(words)),
            "{out}"
        );
    }
    assert!(
        !err.contains("drop_params") && !err.contains("set_verbose") && !err.contains("guardrails"),
        "{err}"
    );
    assert!(!err.contains("sk-literal") && !err.contains("sk-1234"), "{err}");
}

#[tokio::test]
async fn a_master_key_in_the_environment_or_none() {
    let models = "model_list: [{ model_name: a, litellm_params: { model: ollama/a } }]\n";
    let text = format!("{models}general_settings: {{ master_key: os.environ/MASTER }}\n");
    let (_, out, err) = import(&text, &[("MASTER", "sk-env")]).await;
    assert_eq!(load(&out).auth.keys[0].digest, config::digest("sk-env"));
    assert!(!err.contains("sg-") && out.contains("# LiteLLM's master key"), "{err}{out}");
    for text in [text.as_str(), models] {
        let (status, out, err) = import(text, &[]).await;
        assert_eq!(status, Some(0), "{err}");
        let key = err.lines().find_map(|line| line.strip_prefix("  sg-")).unwrap();
        assert_eq!(load(&out).auth.keys[0].digest, config::digest(&format!("sg-{key}")));
        assert!(err.contains("new") && !out.contains(key), "{err}");
        assert!(out.contains("# A new key") && !out.contains("LiteLLM's master key"), "{out}");
    }
}

#[tokio::test]
async fn files_that_are_something_else_are_refused() {
    for (text, words) in [
        ("providers: {}\n", "model_list"),
        ("model_list: [\n", "not YAML"),
        ("- a\n", "model_list"),
        ("", "model_list"),
        ("model_list: []\n", "line 1: `model_list` is empty"),
        ("x: 1\nmodel_list:\n", "`model_list` is empty"),
    ] {
        let (status, out, err) = import(text, &[]).await;
        assert_eq!((status, out.as_str()), (Some(2), ""), "{text}");
        assert!(err.contains(words) && err.contains("config.yaml"), "{err}");
    }
    let (status, _, err) = run(alone(&["import", "litellm", "/nowhere/at/all.yaml"], &[])).await;
    assert_eq!(status, Some(2));
    assert!(err.contains("/nowhere/at/all.yaml"), "{err}");
}

/// LiteLLM's file in the place of ours: the error names the command.
#[tokio::test]
async fn the_error_for_a_litellm_file_names_the_command() {
    let folder = Folder::new();
    let file = folder.write("config.yaml", FILE);
    let (status, _, err) = run(alone(&["check", "--config", &file], &[])).await;
    assert_eq!(status, Some(2));
    assert!(err.contains("`model_list`") && err.contains("streamgate import litellm"), "{err}");
}

/// Deployments of one name with weights, rates or nothing; fallbacks, prices, and what has no equivalent.
const BALANCED: &str = r"
model_list:
  - model_name: chat
    litellm_params: { model: openai/gpt-4o, rpm: 900, stream_timeout: 7.5 }
    model_info: { input_cost_per_token: 2.5e-06, output_cost_per_token: 1.0e-05, cache_read_input_token_cost: 1.25e-06 }
  - model_name: chat
    litellm_params: { model: groq/llama-3.3-70b, rpm: 10, input_cost_per_token: 0.00000059, output_cost_per_token: 1e-13 }
    model_info:
      base_model: llama
      mode: completion
      colour: blue
    tpm: 5
  - { model_name: pair, litellm_params: { model: mistral/a, order: 1, weight: 0.7 } }
  - { model_name: pair, litellm_params: { model: mistral/b, order: 1, weight: 0.3 } }
  - { model_name: pair, litellm_params: { model: mistral/c, order: 2 } }
  - { model_name: ranked, litellm_params: { model: mistral/d, order: 2 } }
  - { model_name: ranked, litellm_params: { model: mistral/e, order: 1 } }
  - { model_name: single, litellm_params: { model: mistral/f } }
  - { model_name: alike, litellm_params: { model: mistral/g } }
  - { model_name: alike, litellm_params: { model: mistral/h } }
  - model_name: own
    litellm_params:
      model: openai/own
      api_key: none
      api_base: http://127.0.0.1:8000/v1/chat/completions
router_settings:
  fallbacks: [{ single: [alike, ranked] }]
  timeout: 60
  cooldown_time: 30
  allowed_fails: 3
litellm_settings:
  request_timeout: 600
general_settings:
  timeout: 5
  master_key: sk-1234
";

/// Targets of a model: name, tier and weight.
fn places<'c>(config: &'c Config, model: &str) -> Vec<(&'c str, u32, u32)> {
    config.models[model].iter().map(|it| (&**it.name(), it.tier, it.weight)).collect()
}

#[tokio::test]
async fn deployments_of_one_name_share_requests_as_in_simple_shuffle() {
    let (status, out, err) = import(BALANCED, &[]).await;
    assert_eq!(status, Some(0), "{err}");
    let config = load(&out);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    for (model, wanted) in [
        ("chat", vec![("openai/gpt-4o", 1, 90), ("groq/llama-3.3-70b", 1, 1)]),
        ("pair", vec![("mistral/a", 1, 7), ("mistral/b", 1, 3), ("mistral/c", 2, 1)]),
        ("ranked", vec![("mistral/e", 1, 1), ("mistral/d", 2, 1)]),
        (
            "single",
            vec![
                ("mistral/f", 1, 1),
                ("mistral/g", 2, 1),
                ("mistral/h", 2, 1),
                ("mistral/e", 3, 1),
                ("mistral/d", 4, 1),
            ],
        ),
        ("alike", vec![("mistral/g", 1, 1), ("mistral/h", 1, 1)]),
    ] {
        assert_eq!(places(&config, model), wanted, "{model}: {out}");
    }
    for (strategy, pick) in [
        ("simple-shuffle", "weighted"),
        ("least-busy", "least_loaded"),
        ("latency-based-routing", "fastest"),
        ("usage-based-routing-v2", "weighted"),
    ] {
        let setting = format!("router_settings:\n  routing_strategy: {strategy}\n");
        let (_, out, err) = import(&BALANCED.replace("router_settings:\n", &setting), &[]).await;
        let config = load(&out);
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        // `ranked` alone, and models with one target, have no choice within a tier.
        assert_eq!(out.matches(&format!("pick: {pick}\n")).count(), 4, "{out}");
        assert_eq!(out.matches("\n    pick: ").count(), 4, "{out}");
        assert_eq!(err.contains("`routing_strategy: "), strategy.starts_with("usage"), "{err}");
        assert_eq!(out.contains("weight: 90"), pick == "weighted", "{out}");
    }
}

/// Of the comments above `models`, the one that is true is written.
#[tokio::test]
async fn the_comment_on_the_order_of_targets_is_true() {
    let (_, out, _) = import(BALANCED, &[]).await;
    assert!(
        out.contains("# Targets of one tier share") && !out.contains("# Targets are tried"),
        "{out}"
    );
    let ranked: Vec<&str> = BALANCED
        .lines()
        .filter(|line| line.contains("ranked, litellm") || *line == "model_list:")
        .collect();
    let (status, out, err) = import(&ranked.join("\n"), &[]).await;
    assert_eq!(status, Some(0), "{err}");
    assert!(out.contains("# Targets are tried in order") && !out.contains("pick:"), "{out}");
}

#[tokio::test]
async fn prices_timeouts_and_cooldowns_are_carried_over() {
    let (_, out, err) = import(BALANCED, &[]).await;
    let config = load(&out);
    assert!(out.contains("price: { input: 2.5, cache_read: 1.25, output: 10 }"), "{out}");
    assert_eq!(out.matches("price: {").count(), 1, "{out}");
    let own = &config.models["chat"][0];
    assert_eq!(own.first_token.map(|it| it.as_millis()), Some(7_500));
    assert_eq!((config.stream.first_token.as_secs(), config.stream.unstreamed.as_secs()), (60, 60));
    assert_eq!(config.models["own"][0].provider.base_url.as_str(), "http://127.0.0.1:8000/v1");
    assert!(out.contains("\nhealth:\n  cooldown: 30s\n  consecutive: 4\n"), "{out}");
    for (place, words) in [
        ("model: openai/gpt-4o", "`rpm` of the deployments of `chat` became their sum"),
        ("1e-13", "`output_cost_per_token`"),
        ("base_model", "`model_info.base_model` of `chat`"),
        ("mode: completion", "`model_info.mode` of `chat`"),
        ("colour", "`model_info.colour` of `chat`"),
        ("tpm: 5", "`tpm` of `chat`"),
        ("/chat/completions", "cut before `/chat/completions`"),
        ("request_timeout", "`router_settings.timeout` comes before it"),
        ("timeout: 5", "`general_settings.timeout` is not read"),
        ("allowed_fails", "in a row"),
    ] {
        // That of the deployments as a whole stands on the line where the first one begins.
        let place = BALANCED
            .lines()
            .collect::<Vec<_>>()
            .iter()
            .rposition(|line| line.contains(place))
            .unwrap();
        let lines = [place + 1, place];
        let found = |line: &usize| {
            let start = format!("config.yaml:{line}: ");
            err.lines().any(|it| it.contains(&start) && it.contains(words))
        };
        assert!(lines.iter().any(found), "{words}: not on {lines:?} in {err}");
    }
}
