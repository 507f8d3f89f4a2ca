//! `streamgate init` without a terminal: the file that it writes is one that `check` accepts, and holds no key.

use super::{Folder, alone, run};
use crate::support::schema::{Validator, yaml_as_json};

const KEYS: [(&str, &str); 2] = [("OPENAI_API_KEY", "sk-canary"), ("GROQ_API_KEY", "gsk-canary")];

/// Every key is set.
fn variable(name: &str) -> Option<String> {
    (name.ends_with("_KEY") || name == "HF_TOKEN").then(|| "x".to_owned())
}

/// `check` finds nothing to remark on, with these variables.
async fn assert_accepted(file: &str, variables: &[(&str, &str)]) {
    let (status, out, err) = run(alone(&["check", "--config", file], variables)).await;
    assert_eq!((status, err.as_str()), (Some(0), ""), "{out}");
}

#[tokio::test]
async fn what_it_writes_passes_check_without_warnings() {
    let folder = Folder::new();
    let file = folder.path("streamgate.yaml");
    let (status, out, err) = run(alone(&["init", "--output", &file], &KEYS)).await;
    assert_eq!(status, Some(0), "{err}");
    let text = std::fs::read_to_string(&file).unwrap();
    // Providers whose keys are in the environment, by reference.
    assert!(text.contains("openai: { preset: openai, api_key: \"${OPENAI_API_KEY}\" }"), "{text}");
    assert!(text.contains("groq: { preset: groq") && !text.contains("mistral"), "{text}");
    let key = out.lines().find_map(|line| line.strip_prefix("  export STREAMGATE_KEY=sg-"));
    let key = key.unwrap().to_owned();
    assert_eq!(out.matches(&key).count(), 1, "shown once: {out}");
    for secret in ["canary", &key] {
        assert!(!text.contains(secret), "{text}");
    }
    assert!(!out.contains("canary") && out.contains("streamgate chat"), "{out}");
    assert_accepted(&file, &KEYS).await;
    let validator = Validator::new(streamgate::config::json_schema());
    assert_eq!(validator.check(&yaml_as_json(&text).unwrap()), Ok(()), "{text}");
    // The printed key is that of the file.
    let config = streamgate::config::load(file.as_ref(), &variable).unwrap();
    assert_eq!(config.auth.keys[0].digest, streamgate::config::digest(&format!("sg-{key}")));
}

#[tokio::test]
async fn every_provider_and_option_passes_check() {
    let folder = Folder::new();
    let all = "openai,anthropic,gemini,mistral,groq,openrouter,deepseek,xai,together,fireworks,cerebras,\
               perplexity,cohere,huggingface,vercel,ollama,lm-studio,vllm,sglang,llama.cpp";
    let file = folder.path("all.yaml");
    let arguments = [
        "init",
        "--yes",
        "--output",
        &file,
        "--provider",
        all,
        "--listen",
        "127.0.0.1:8181",
        "--admin",
        "127.0.0.1:9191",
        "--key-name",
        "web",
        "--origin",
        "https://a.example,https://b.example",
        "--model",
        "fast=groq/llama-3.3-70b",
        "--model",
        "local=ollama/qwen3:8b",
    ];
    let (status, out, err) = run(alone(&arguments, &[])).await;
    assert_eq!(status, Some(0), "{err}");
    assert!(
        out.contains("export GROQ_API_KEY=") && out.contains("http://127.0.0.1:8181 fast"),
        "{out}"
    );
    let exports = out.lines().filter_map(|line| line.strip_prefix("  export "));
    let exports = exports.filter(|line| !line.starts_with("STREAMGATE_KEY"));
    let variables: Vec<(&str, &str)> =
        exports.map(|line| (line.split('=').next().unwrap(), "key")).collect();
    assert_eq!(variables.len(), 15, "{out}");
    assert_accepted(&file, &variables).await;
    let config = streamgate::config::load(file.as_ref(), &variable).unwrap();
    assert_eq!((config.providers.len(), config.models.len()), (20, 2));
    assert_eq!(config.models["local"][0].name().as_ref(), "ollama/qwen3:8b");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("origins: [\"https://a.example\", \"https://b.example\"]"), "{text}");
    assert_eq!(config.auth.keys[0].name, "web");

    // Without any provider, the simulated upstream is one.
    let bare = folder.path("bare.yaml");
    let (status, out, err) = run(alone(&["init", "-y", "-o", &bare], &[])).await;
    assert_eq!(status, Some(0), "{err}");
    assert!(out.contains("streamgate sim"), "{out}");
    assert_accepted(&bare, &[]).await;
}

#[tokio::test]
async fn a_file_is_never_overwritten_unless_forced() {
    let folder = Folder::new();
    let file = folder.write("mine.yaml", "mine");
    let (status, out, err) = run(alone(&["init", "-y", "-o", &file], &[])).await;
    assert_eq!((status, out.as_str()), (Some(2), ""));
    assert!(err.contains(&file) && err.contains("--force"), "{err}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    // Answers that make no valid configuration write nothing, forced or not.
    let wrong = ["init", "-y", "--force", "-o", &file, "--model", "fast=sim/a**b*"];
    let (status, _, err) = run(alone(&wrong, &[])).await;
    assert_eq!(status, Some(2));
    assert!(err.contains("more than one `*`") && err.contains("mine.yaml:"), "{err}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    for (model, words) in [
        ("fast=groq/m", "(chosen: openai); add --provider groq"),
        ("fast=nowhere/m", "`nowhere` is no provider"),
        ("fast=azure/m", "the preset `azure` has settings besides a key"),
    ] {
        let wrong =
            ["init", "-y", "--force", "-o", &file, "--provider", "openai", "--model", model];
        let (status, _, err) = run(alone(&wrong, &[])).await;
        assert_eq!(status, Some(2));
        assert!(err.contains(&format!("--model {model} names")) && err.contains(words), "{err}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    assert_eq!(run(alone(&["init", "-y", "--force", "-o", &file], &[])).await.0, Some(0));
    assert!(std::fs::read_to_string(&file).unwrap().contains("providers:"));
    // Nothing else is left behind.
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1);
}

#[tokio::test]
async fn standard_output_has_the_file_and_standard_error_the_key() {
    let (status, out, err) =
        run(alone(&["init", "-y", "-o", "-", "--provider", "ollama"], &[])).await;
    assert_eq!(status, Some(0), "{err}");
    assert!(out.starts_with("# ") && out.contains("ollama: { preset: ollama }"), "{out}");
    assert!(err.contains("STREAMGATE_KEY=sg-") && !out.contains("sg-"), "{err}");
    let (status, _, err) = run(alone(&["init", "-y", "-o", "-", "--provider", "grok"], &[])).await;
    assert_eq!(status, Some(2));
    assert!(err.contains("`grok`") && err.contains("xai"), "{err}");
}
