//! `streamgate launch` with scripts in the place of the agents: the environment that each gets, and the token.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::{Folder, alone, run};
use crate::support::gateway::{Gateway, KEY, yaml};

const URL: &str = "http://127.0.0.1:8181";

/// A folder with an agent of this name, which prints its arguments and its environment.
fn agent(name: &str) -> Folder {
    let folder = Folder::new();
    let file = folder
        .write(name, "#!/bin/sh\nfor word in \"$@\"; do echo \"arg $word\"; done\nexport -p\n");
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

async fn launch(name: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let folder = agent(name);
    let path = folder.path("");
    let all = [&["launch", name, "--url", URL], arguments].concat();
    let result =
        run(alone(&all, &[("PATH", &path), ("HOME", &path), ("STREAMGATE_KEY", KEY)])).await;
    // An agent that refuses its key without a setting of its own says so beforehand.
    let hint = result.2.contains(".gemini/settings.json");
    assert_eq!(hint, name == "gemini", "{result:?}");
    result
}

#[tokio::test]
async fn each_agent_gets_its_environment() {
    for (name, lines) in [
        (
            "claude",
            &[
                "ANTHROPIC_BASE_URL='http://127.0.0.1:8181'",
                "ANTHROPIC_AUTH_TOKEN='sg-test'",
                "ANTHROPIC_MODEL='fast'",
            ][..],
        ),
        (
            "codex",
            &[
                "STREAMGATE_KEY='sg-test'",
                "arg model_providers.streamgate.base_url=\"http://127.0.0.1:8181/v1\"",
                "arg model=\"fast\"",
            ],
        ),
        (
            "gemini",
            &[
                "GOOGLE_GEMINI_BASE_URL='http://127.0.0.1:8181'",
                "GEMINI_API_KEY='sg-test'",
                "GEMINI_MODEL='fast'",
                "GEMINI_DEFAULT_AUTH_TYPE='gemini-api-key'",
            ],
        ),
        (
            "opencode",
            &["STREAMGATE_KEY='sg-test'", "\"model\":\"streamgate/fast\"", "{env:STREAMGATE_KEY}"],
        ),
        (
            "aider",
            &[
                "OPENAI_API_BASE='http://127.0.0.1:8181/v1'",
                "OPENAI_API_KEY='sg-test'",
                "AIDER_MODEL='openai/fast'",
            ],
        ),
    ] {
        let (status, out, err) = launch(name, &["--model", "fast", "--", "-p", "a b"]).await;
        assert_eq!(status, Some(0), "{name}: {err}");
        for line in lines {
            assert!(out.contains(line), "{name}: {line} is not in {out}");
        }
        assert!(out.contains("arg -p\narg a b\n"), "{name}: {out}");
        let arguments = out.lines().filter(|line| line.starts_with("arg "));
        assert!(!arguments.collect::<String>().contains(KEY), "{name}: {out}");
    }
}

#[tokio::test]
async fn gemini_with_its_setting_gets_no_hint() {
    let folder = agent("gemini");
    std::fs::create_dir(folder.path(".gemini")).unwrap();
    let text = "{ \"security\": { \"auth\": { \"selectedType\": \"gemini-api-key\" } } }";
    folder.write(".gemini/settings.json", text);
    let path = folder.path("");
    let all = ["launch", "gemini", "--url", URL, "--key", "k"];
    let (status, _, err) = run(alone(&all, &[("PATH", &path), ("HOME", &path)])).await;
    assert_eq!((status, err.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn print_gives_lines_for_a_shell() {
    let folder = Folder::new();
    let all = ["launch", "aider", "--url", URL, "--key", "sg-a'b", "--model", "fast", "--print"];
    let (status, out, _) = run(alone(&all, &[])).await;
    assert_eq!(status, Some(0));
    let script = folder.write("script", &format!("{out}\nprintf %s \"$OPENAI_API_KEY\""));
    let mut shell = std::process::Command::new("/bin/sh");
    shell.arg(script);
    assert_eq!(run(shell).await, (Some(0), "sg-a'b".to_owned(), String::new()));
    let all = ["launch", "codex", "--url", URL, "--key", "k", "--print"];
    let (_, out, _) = run(alone(&all, &[])).await;
    assert!(out.starts_with("export STREAMGATE_KEY=k\n# codex --config "), "{out}");
}

/// The claims of the token in the printed environment.
fn claims(out: &str) -> Value {
    let token = out.lines().find_map(|line| line.strip_prefix("export ANTHROPIC_AUTH_TOKEN="));
    let claims = token.unwrap().split('.').nth(1).unwrap();
    let engine = &base64::engine::general_purpose::URL_SAFE_NO_PAD;
    serde_json::from_slice(&base64::Engine::decode(engine, claims).unwrap()).unwrap()
}

#[tokio::test]
async fn a_token_is_minted_if_the_configuration_can() {
    let folder = Folder::new();
    let issuer = "  jwt: [{ issuer: dev, audience: a, algorithms: [HS256], secret: \"0123456789abcdef0123456789abcdef\" }]\nproviders:";
    let text = yaml("http://127.0.0.1:1", "http://127.0.0.1:1", "").replace("providers:", issuer);
    let file = folder.write("config.yaml", &text);
    let print = async |file: &str, more: &[&str]| {
        let all = [&["launch", "claude", "--print", "--config", file], more].concat();
        run(alone(&all, &[("STREAMGATE_KEY", KEY)])).await
    };
    let (status, out, err) = print(&file, &["--ttl", "5m", "--sub", "me"]).await;
    assert_eq!(status, Some(0), "{err}");
    let made = claims(&out);
    assert_eq!(made["sub"], "me");
    assert_eq!(made["exp"].as_u64().unwrap() - made["iat"].as_u64().unwrap(), 300);

    // Without `--ttl`, no longer than the issuer allows.
    let strict = folder
        .write("strict.yaml", &text.replace("audience: a,", "audience: a, max_lifetime: 10m,"));
    for (file, seconds) in [(&strict, 600), (&file, 12 * 3600)] {
        let (status, out, err) = print(file, &[]).await;
        assert_eq!(status, Some(0), "{err}");
        let made = claims(&out);
        assert_eq!(made["exp"].as_u64().unwrap() - made["iat"].as_u64().unwrap(), seconds);
    }

    let plain = folder.write("plain.yaml", &yaml("http://127.0.0.1:1", "http://127.0.0.1:1", ""));
    let (status, out, err) = print(&plain, &[]).await;
    assert_eq!(status, Some(0), "{err}");
    assert!(out.contains("ANTHROPIC_AUTH_TOKEN=sg-test\n"), "{out}");
    let (status, _, err) = print(&plain, &["--issuer", "other"]).await;
    assert_eq!(status, Some(2));
    assert!(err.contains("secret"), "{err}");
}

#[tokio::test]
async fn agents_without_models_of_their_own_get_those_of_the_list() {
    let more = "models: { fast: { targets: [{ provider: oai, model: m }] }, slow: { targets: [{ provider: oai, model: n }] } }\n";
    let gateway = Gateway::new(&yaml("http://127.0.0.1:1", "http://127.0.0.1:1", more)).await;
    let all = ["launch", "opencode", "--url", &gateway.url, "--key", KEY, "--print"];
    let (status, out, err) = run(alone(&all, &[])).await;
    assert_eq!(status, Some(0), "{err}");
    assert!(out.contains("\"model\":\"streamgate/fast\"") && out.contains("\"slow\":"), "{out}");
    let all = ["launch", "aider", "--url", &gateway.url, "--key", "sg-wrong", "--print"];
    let (status, _, err) = run(alone(&all, &[])).await;
    assert_eq!(status, Some(1));
    assert!(err.contains("401") && err.contains("--key"), "{err}");
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let folder = Folder::new();
    let path = folder.path("");
    let (status, _, err) =
        run(alone(&["launch", "claude", "--key", "k"], &[("PATH", &path)])).await;
    assert_eq!(status, Some(1));
    assert!(err.contains("`claude`") && err.contains("PATH") && err.contains("https://"), "{err}");
    let (status, _, err) = run(alone(&["launch", "claude"], &[])).await;
    assert_eq!(status, Some(2));
    assert!(err.contains("STREAMGATE_KEY") && err.contains("--config"), "{err}");
}

/// With `--print`, a gateway that is not there, or has no such model, is a warning.
#[tokio::test]
async fn printing_warns_of_a_gateway_that_could_not_be_used() {
    let models = "models: { fast: { targets: [{ provider: oai, model: m }] } }\n";
    let gateway = Gateway::new(&yaml("http://127.0.0.1:9", "http://127.0.0.1:9", models)).await;
    let https = gateway.url.replace("http://", "https://");
    for (url, model, warning) in [
        (URL, "fast", "start a gateway".to_owned()),
        (&gateway.url, "none-such", "does not list the model `none-such`".to_owned()),
        (&https, "fast", format!("does not speak TLS; use --url {}", gateway.url)),
    ] {
        let arguments = ["launch", "aider", "--print", "--url", url, "--model", model];
        let (status, out, err) = run(alone(&arguments, &[("STREAMGATE_KEY", KEY)])).await;
        assert_eq!(status, Some(0), "{err}");
        assert!(out.contains("export OPENAI_API_BASE="), "{out}");
        assert!(err.starts_with("warning: ") && err.contains(&warning), "{err}");
    }
    let good = ["launch", "aider", "--print", "--url", &gateway.url, "--model", "fast"];
    assert_eq!(run(alone(&good, &[("STREAMGATE_KEY", KEY)])).await.2, "");
}
