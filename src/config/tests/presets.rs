//! Providers that are known by name.

use super::super::tree::{self, Value};
use super::{Dir, load, load_text, problems_of};
use crate::wire::dialect::Hosting;

const AUTH: &str = "auth: { keys: [{ name: a, sha256: \"00000000000000000000000000000000000000000000000000000000000000ff\" }] }\n";

/// Every preset with every parameter that there is, so that a mistake in the file cannot hide.
#[test]
fn every_preset_makes_a_provider() {
    let mut problems = Vec::new();
    let file = tree::parse(super::super::preset::FILE, &mut problems).unwrap();
    assert!(problems.is_empty());
    let Value::Table(presets) = file.value else { panic!("not a table") };
    assert!(presets.len() >= 20);
    for (name, _) in presets {
        let name = name.text;
        let text = |parameters: &str| {
            format!("{AUTH}providers: {{ p: {{ preset: {name}, api_key: k{parameters} }} }}\n")
        };
        let mut parameters = String::new();
        // Each parameter that the error names as missing is added.
        while let Err(problems) = load_text(text(&parameters)) {
            let message = problems.list[0].message.clone();
            let (missing, _) =
                message.strip_prefix('`').unwrap().split_once("` is missing").expect(&message);
            parameters.extend([", ", missing, ": a-b.c"]);
        }
        let config = load_text(text(&parameters)).unwrap();
        let url = config.providers["p"].base_url.as_str().to_owned();
        assert!(!url.contains('{') && !url.contains("%7B"), "{name}: {url}");
    }
}

#[test]
fn presets_fill_in_what_is_left_out() {
    let config = load_text(format!(
        "{AUTH}providers:\n  groq: {{ preset: groq, api_key: k }}\n  \
         near: {{ preset: groq, base_url: \"http://127.0.0.1:1/x\" }}\n  \
         mistral: {{ preset: mistral }}\n  \
         azure: {{ preset: azure-deployment, resource: res, deployment: dep, api_version: \"2024-10-21\", api_key: k }}\n"
    ))
    .unwrap();
    let provider = |name: &str| &config.providers[name];
    assert_eq!(provider("groq").dialect.name(), "openai-chat");
    assert_eq!(provider("groq").base_url.as_str(), "https://api.groq.com/openai/v1");
    assert_eq!(provider("near").base_url.as_str(), "http://127.0.0.1:1/x");
    let mistral = &provider("mistral").quirks;
    assert!(!mistral.stream_options && mistral.only_legacy_max_tokens);
    assert_eq!(mistral.call_id_length, Some(9));
    assert!(!provider("groq").quirks.only_legacy_max_tokens);
    let azure = provider("azure");
    assert_eq!(azure.base_url.as_str(), "https://res.openai.azure.com/openai/deployments/dep");
    assert_eq!(azure.query, [("api-version".to_owned(), "2024-10-21".to_owned())]);
    assert_eq!(azure.auth_header.as_ref().unwrap().0, "api-key");
}

#[test]
fn wrong_presets_are_told() {
    let problems = problems_of(format!(
        "{AUTH}providers:\n  a: {{ preset: grok }}\n  b: {{ preset: azure }}\n  \
         c: {{ preset: azure, resource: \"evil.example/x\" }}\n  d: {{ preset: groq, resource: r }}\n  e: {{ api_key: k }}\n"
    ));
    let expected = [
        "f:3:",
        "`preset` is `grok`; expected one of `groq`, `xai`",
        "f:4:",
        "`resource` is missing; this preset needs it",
        "f:5:",
        "`resource` is `evil.example/x`; expected letters, digits",
        "f:6:",
        "`resource` has no use here",
        "f:7:",
        "`dialect` is missing; expected",
        "a `dialect` or a `preset`",
    ];
    let mut rest = problems.as_str();
    for part in expected {
        let at = rest.find(part).unwrap_or_else(|| panic!("{part} in {problems}"));
        rest = rest.split_at(at).1;
    }
}

/// The region of a preset is that of its signatures, and keys may come from the environment.
#[test]
fn aws_credentials_come_from_the_file_or_the_environment() {
    let env = |name: &str| match name {
        "AWS_ACCESS_KEY_ID" => Some("AKIDCANARY".to_owned()),
        "AWS_SECRET_ACCESS_KEY" => Some("canary-secret\n".to_owned()),
        "AWS_SESSION_TOKEN" => Some("canary-token".to_owned()),
        _ => None,
    };
    let dir = Dir::new();
    let path = dir.write(
        "c.yaml",
        format!(
            "{AUTH}providers:\n  a: {{ preset: bedrock, region: eu-west-1, aws: {{}} }}\n  \
             b: {{ preset: bedrock-anthropic, region: eu-west-1, aws: {{ region: us-east-2, service: other, access_key_id: i, secret_access_key: canary-s }} }}\n"
        ),
    );
    let config = load(&path, &env).unwrap();
    let (a, b) = (&config.providers["a"], &config.providers["b"]);
    assert_eq!(a.base_url.as_str(), "https://bedrock-runtime.eu-west-1.amazonaws.com/");
    let aws = a.aws.as_ref().unwrap();
    assert_eq!((aws.region.as_str(), aws.service.as_str()), ("eu-west-1", "bedrock"));
    assert_eq!(aws.access_key_id.expose(), "AKIDCANARY");
    assert_eq!(aws.secret_access_key.expose(), "canary-secret");
    assert_eq!(aws.session_token.as_ref().unwrap().expose(), "canary-token");
    let aws = b.aws.as_ref().unwrap();
    assert_eq!((aws.region.as_str(), aws.service.as_str()), ("us-east-2", "other"));
    assert_eq!(aws.session_token, None, "keys are not mixed");
    assert_eq!(b.quirks.hosting, Some(Hosting::Bedrock));
    assert!(!format!("{aws:?} {b:?}").contains("canary"));
}
