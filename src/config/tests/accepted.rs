//! Valid files, and the configurations that they give.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use http::HeaderValue;

use super::super::{Config, Limits, Otlp, digest, key_line, new_key, units, without_file};
use super::{Dir, env, load, load_text};
use crate::wire::adapt::settings::{HostedTools, Instructions};

/// A valid `auth` section.
const AUTH: &str = "auth: { keys: [{ name: a, sha256: \"00000000000000000000000000000000000000000000000000000000000000ff\" }] }\n";

fn with_auth(text: &str) -> Config {
    load_text(format!("{AUTH}{text}")).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn the_example_file_is_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("streamgate.example.yaml");
    let config = load(&path, &env).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.providers.len(), 3);
    assert_eq!(config.auth.keys[0].limits.concurrent_streams, None);
}

#[test]
fn requests_are_adjusted_by_provider_and_by_target() {
    let config = with_auth(
        "providers:\n  p: { dialect: openai-chat, drop: [user], set: { a: 1, b: x, c: { d: [true] } }, strict: true, prompt_cache: \"off\", hosted_tools: drop, keep_alive: callers }\n  \
         v: { preset: vllm }\n  b: { dialect: anthropic, hosting: bedrock }\n  \
         o: { dialect: anthropic, hosting: bedrock, betas: [x-1] }\n\
         models:\n  m: { targets: [{ provider: p, model: y, max_output: 9, drop: [a], set: { user: u }, hosted_tools: refuse }, { provider: p, model: z }] }\n",
    );
    let settings = |name: &str| &config.providers[name].quirks.settings;
    let set = |name: &str, json: &str| (name.to_owned(), json.to_owned());
    let own = [set("a", "1"), set("b", "\"x\""), set("c", r#"{"d":[true]}"#)];
    assert_eq!(
        (settings("p").drop.as_slice(), settings("p").set.as_slice()),
        (&["user".to_owned()][..], &own[..])
    );
    assert!(settings("p").strict && !settings("p").prompt_cache);
    assert!(settings("p").keep_alive && !settings("v").keep_alive);
    let targets = &config.models["m"];
    let aimed = &targets[0].quirks.settings;
    assert_eq!(aimed.max_output, Some(9));
    assert_eq!(aimed.drop, ["a"]);
    assert_eq!(settings("p").hosted_tools, HostedTools::Drop);
    assert_eq!(aimed.hosted_tools, HostedTools::Refuse);
    assert_eq!(settings("v").hosted_tools, HostedTools::Map);
    let expected = [own[1].clone(), own[2].clone(), set("user", "\"u\"")];
    assert_eq!(aimed.set, expected);
    assert_eq!(&targets[1].quirks.settings, settings("p"));
    assert_eq!(settings("v").instructions, Some(Instructions::First));
    let betas = settings("b").betas.as_ref().unwrap();
    assert!(betas.iter().any(|name| name == "interleaved-thinking-2025-05-14"));
    assert_eq!(settings("o").betas.as_deref(), Some(&["x-1".to_owned()][..]));
}

/// Each block of YAML in the documentation, with what it leaves to the rest of the file.
#[test]
fn the_documented_credentials_are_valid() {
    let page = include_str!("../../../docs/authentication.md");
    let blocks: Vec<_> = page.split("```yaml\n").skip(1).collect();
    assert!(blocks.len() >= 5);
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let secret = "0123456789abcdef0123456789abcdef";
    for block in blocks {
        let (block, _) = block.split_once("```").unwrap();
        let block = block.replace("THE 64 HEX DIGITS", &"0".repeat(64));
        let key = block.contains("failed_attempts").then_some(
            "  keys: [{ name: a, sha256: \"00000000000000000000000000000000000000000000000000000000000000ff\" }]\n",
        );
        let auth = if block.starts_with("auth:") { "" } else { AUTH };
        let text = format!(
            "{block}{}{auth}providers: {{ p: {{ dialect: anthropic }} }}\n\
             models: {{ fast: {{ targets: [{{ provider: p, model: x }}] }} }}\n",
            key.unwrap_or_default()
        );
        let dir = Dir::new();
        dir.write("backend.pem", pair.public_key_pem());
        let path = dir.write("config.yaml", text.replace("${STREAMGATE_JWT_SECRET}", secret));
        let config = load(&path, &env).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        assert!(!format!("{config:?}").contains(secret));
        for issuer in &config.auth.issuers {
            assert!(!issuer.algorithms.is_empty() && !issuer.audience.is_empty());
        }
    }
}

#[test]
fn an_issuer_has_defaults() {
    let config = load_text(
        "limits: { burst: 7 }\nauth:\n  jwt:\n    - { issuer: a, audience: b, algorithms: [ES256], jwks_url: \"http://[::1]:1/canary\" }\n",
    );
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    let issuer = &config.auth.issuers[0];
    assert_eq!(issuer.leeway, Duration::from_secs(30));
    assert_eq!(issuer.max_lifetime, Some(Duration::from_hours(24)));
    assert_eq!(
        (issuer.models.as_slice(), issuer.limits.burst),
        (&["*".to_owned()][..], NonZeroU32::new(7))
    );
    let names = [&issuer.claims.subject, &issuer.claims.models, &issuer.claims.limits];
    assert_eq!(names, ["sub", "models", "limits"]);
    let attempts = config.auth.failed_attempts;
    assert_eq!((attempts.burst.get(), attempts.per_minute), (20, NonZeroU32::new(20)));
    assert!(!format!("{config:?}").contains("canary"));
}

#[test]
fn the_design_example_is_valid() {
    let config = load_text(
        r#"
server:
  listen: 127.0.0.1:8081
  body_limit: 32MiB
  header_timeout: 10s
  drain: 30s
  cors: { origins: ["https://chat.example.com", "http://localhost:*"] }
auth:
  keys:
    - { name: web, sha256: "00000000000000000000000000000000000000000000000000000000000000ff", models: ["*"], limits: { requests_per_minute: 60 } }
limits:
  requests_per_minute: 600
  burst: 5
  concurrent_streams: 100
providers:
  anthropic: { dialect: anthropic, api_key: "${ANTHROPIC_API_KEY}" }
  local:     { dialect: openai-chat, base_url: http://127.0.0.1:9200/v1/ }
models:
  fast:
    targets:
      - { provider: anthropic, model: claude-sonnet-4-5 }
      - { provider: local, model: small, context: 32768 }
stream:
  heartbeat: 1s
  commit_after: 0s
  first_token: 2m
  unstreamed: 20m
  stall: 500ms
  total: 1h
  max_event: 64KB
"#,
    )
    .unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.server.listen.port(), 8081);
    assert_eq!(config.server.body_limit, 32 << 20);
    for origin in ["https://chat.example.com", "http://localhost:3000"] {
        assert!(config.server.cors_origins.contains(&HeaderValue::from_static(origin)));
    }
    let key = &config.auth.keys[0];
    assert_eq!((key.name.as_str(), key.digest[31], key.models.len()), ("web", 255, 1));
    assert_eq!(key.limits.requests_per_minute, NonZeroU32::new(60));
    assert_eq!(key.limits.burst, NonZeroU32::new(5));
    assert_eq!(key.limits.concurrent_streams, Some(100));
    let targets = &config.models["fast"];
    assert_eq!(targets[0].model, "claude-sonnet-4-5");
    let secret = targets[0].provider.api_key.as_ref().unwrap();
    assert_eq!(secret.expose(), "canary-anthropic");
    assert_eq!(targets[1].provider.base_url.as_str(), "http://127.0.0.1:9200/v1");
    assert_eq!(
        targets.iter().map(|target| target.context).collect::<Vec<_>>(),
        [None, Some(32768)]
    );
    let source = targets[0].provider.credential.to_string();
    assert_eq!(source, "providers.anthropic.api_key (line 16), from ${ANTHROPIC_API_KEY}");
    assert_eq!(config.stream.unstreamed, Duration::from_mins(20));
    assert_eq!(config.stream.commit_after, Duration::ZERO);
    assert_eq!(config.stream.stall, Duration::from_millis(500));
    assert_eq!(config.stream.total, Some(Duration::from_hours(1)));
    assert_eq!(config.stream.max_event, 64_000);
    assert_eq!(config.stream.write_stall, Duration::from_secs(30));
    let shown = format!("{config:?}");
    assert!(!shown.contains("canary"), "{shown}");
}

#[test]
fn what_is_left_out_has_defaults() {
    // A key with nothing behind it counts as left out.
    let config = with_auth("stream:\nserver: { listen: ~ }\n");
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.auth.keys[0].models, ["*"]);
    assert_eq!(config.auth.keys[0].limits.requests_per_minute, NonZeroU32::new(600));
    assert_eq!(config.stream.heartbeat, Duration::from_secs(15));
    assert_eq!(config.stream.unstreamed, Duration::from_mins(4));
    assert!(config.providers.is_empty() && config.models.is_empty());
}

#[test]
fn values_are_expanded_and_never_parsed_again() {
    let config = with_auth(
        "limits: { requests_per_minute: \"${RPM}\" }\n\
         providers:\n  p:\n    dialect: openai-chat\n    base_url: http://h\n    \
         api_key: 'x-${file:secret.txt}-${CANARY}'\n    query: { q: \"${CANARY_LINES}\" }\n",
    );
    let provider = &config.providers["p"];
    assert_eq!(provider.api_key.as_ref().unwrap().expose(), "x-canary from file-canary");
    assert_eq!(provider.query, [("q".to_owned(), "canary\nx: [y".to_owned())]);
    assert_eq!(config.auth.keys[0].limits.requests_per_minute, NonZeroU32::new(77));
}

#[test]
fn the_example_of_limits_is_valid() {
    let page = include_str!("../../../docs/limits.md");
    let (example, _) = page.split_once("```yaml\n").unwrap().1.split_once("```").unwrap();
    let example = example
        .replace("THE 64 HEX DIGITS", &"0".repeat(64))
        .replace("OTHER 64 HEX DIGITS", &"1".repeat(64));
    let config = load_text(example).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.auth.keys[0].limits.tokens_per_minute, NonZeroU32::new(200_000));
    assert_eq!(config.auth.keys[0].limits.concurrent_streams, Some(100));
    assert_eq!(config.auth.keys[1].limits, Limits::NONE);
    assert_eq!(config.model_limits["fast"].concurrent_streams, Some(50));
}

#[test]
fn limits_are_taken_field_by_field() {
    let config = load_text(
        "auth:\n  keys:\n    \
         - { name: a, sha256: \"00000000000000000000000000000000000000000000000000000000000000f1\", limits: { tokens_per_minute: none, cut_off: false } }\n    \
         - { name: b, sha256: \"00000000000000000000000000000000000000000000000000000000000000f2\", limits: none }\n    \
         - { name: c, sha256: \"00000000000000000000000000000000000000000000000000000000000000f3\" }\n\
         limits: { tokens_per_minute: 1000, assumed_output: 50, cut_off: true, burst: 7 }\n\
         providers: { p: { dialect: anthropic } }\n\
         models:\n  \
         m: { targets: [{ provider: p, model: x }], limits: { tokens_per_minute: 9 } }\n  \
         n: { targets: [{ provider: p, model: x }] }\n",
    )
    .unwrap_or_else(|problems| panic!("{problems}"));
    let given = Limits {
        tokens_per_minute: NonZeroU32::new(1000),
        assumed_output: NonZeroU32::new(50).unwrap(),
        burst: NonZeroU32::new(7),
        cut_off: true,
        ..Limits::default()
    };
    assert_eq!(given.requests_per_minute, NonZeroU32::new(600));
    let own = Limits { tokens_per_minute: None, cut_off: false, ..given };
    let limits: Vec<_> = config.auth.keys.iter().map(|key| key.limits).collect();
    assert_eq!(limits, [own, Limits::NONE, given]);
    let model = Limits { tokens_per_minute: NonZeroU32::new(9), ..Limits::NONE };
    assert_eq!(config.model_limits, [("m".to_owned(), model)].into());
    assert_eq!(
        load_text(format!("{AUTH}limits: none\n")).unwrap().auth.keys[0].limits,
        Limits::NONE
    );
    assert_eq!(Limits::default().tokens_per_minute, None);
}

#[test]
fn credentials_travel_as_the_provider_wants() {
    let config = with_auth(
        "providers:\n  \
         a: { dialect: openai-chat, auth_header: Api-Key, headers: { X-Team: chat } }\n  \
         b: { dialect: openai-chat, auth_header: { name: authorization, prefix: Key } }\n  \
         c: { dialect: openai-chat, auth_header: { name: x, prefix: \"k=\" } }\n",
    );
    let header = |name: &str| {
        let (name, prefix) = config.providers[name].auth_header.clone().unwrap();
        format!("{name}: {prefix}")
    };
    assert_eq!(
        [header("a"), header("b"), header("c")],
        ["api-key: ", "authorization: Key ", "x: k="]
    );
    let headers = &config.providers["a"].headers;
    assert_eq!((headers[0].0.as_str(), headers[0].1.is_sensitive()), ("x-team", true));
}

#[test]
fn the_newer_token_limit_is_only_for_the_vendor_and_azure() {
    let cases = [
        ("", false),
        ("base_url: https://api.openai.com/v1/,", false),
        ("base_url: https://x.openai.azure.com/openai/v1,", false),
        ("base_url: http://127.0.0.1:1/v1,", true),
        ("base_url: https://azure.com.example/v1,", true),
        ("base_url: http://127.0.0.1:1/v1, max_tokens_field: max_completion_tokens,", false),
        ("max_tokens_field: max_tokens,", true),
    ];
    for (fields, legacy) in cases {
        let config =
            with_auth(&format!("providers: {{ p: {{ {fields} dialect: openai-chat }} }}\n"));
        assert_eq!(config.providers["p"].quirks.legacy_max_tokens, legacy, "{fields}");
    }
    let config = with_auth(
        "providers: { p: { dialect: openai-chat, stream_options: false, reasoning_field: r } }\n",
    );
    assert!(!config.providers["p"].quirks.stream_options);
    assert_eq!(config.providers["p"].quirks.reasoning_field.as_deref(), Some("r"));
}

#[test]
fn without_a_file_there_is_the_simulated_upstream() {
    let none = |_: &str| None;
    let config = without_file(&none, "127.0.0.1:9".parse().unwrap(), "sg-k");
    let names: Vec<_> = config.providers.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "sim",
            "sim-anthropic",
            "sim-bedrock",
            "sim-cohere",
            "sim-gemini",
            "sim-ollama",
            "sim-openai-responses"
        ]
    );
    assert_eq!(config.models["sim"][0].provider.base_url.as_str(), "http://127.0.0.1:9/v1");
    assert_eq!(config.providers["sim-anthropic"].base_url.as_str(), "http://127.0.0.1:9/");
    assert_eq!(
        (config.auth.keys[0].name.as_str(), config.auth.keys[0].digest),
        ("default", digest("sg-k"))
    );
    let config = without_file(&env, "127.0.0.1:9".parse().unwrap(), "sg-k");
    assert_eq!(config.providers["openai"].api_key.as_ref().unwrap().expose(), "canary-openai");
}

#[test]
fn a_made_key_and_its_line_fit_the_file() {
    let key = new_key();
    assert!(key.starts_with("sg-") && key.len() == 46 && key != new_key(), "{key}");
    for name in ["web", "it's \"a\": #1 {x}\\"] {
        let line = key_line(name, &digest(&key));
        assert!(!line.contains(&key));
        let config = load_text(format!("auth:\n  keys:\n    {line}\n")).unwrap();
        assert_eq!(
            (config.auth.keys[0].name.as_str(), config.auth.keys[0].digest),
            (name, digest(&key))
        );
    }
    assert_eq!(
        key_line("n", &digest("abc")),
        "- { name: \"n\", sha256: \"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\" }"
    );
}

#[test]
fn units_read_exactly_what_is_documented() {
    let ms = |text| units::duration(text).map(|duration| duration.as_millis());
    for (text, expected) in [
        ("500ms", Some(500)),
        ("15s", Some(15_000)),
        ("2m", Some(120_000)),
        ("1h", Some(3_600_000)),
        ("0s", Some(0)),
        ("15", None),
        ("s", None),
        ("1.5s", None),
        ("-1s", None),
        ("1 s", None),
        ("1S", None),
        ("99999h", None),
        ("99999999999999999999s", None),
        ("9999999999999999999h", None),
        ("١s", None),
    ] {
        assert_eq!(ms(text), expected, "{text}");
    }
    for (text, expected) in [
        ("1", Some(1)),
        ("7B", Some(7)),
        ("64KB", Some(64_000)),
        ("32MiB", Some(32 << 20)),
        ("2GiB", Some(2 << 30)),
        ("0", None),
        ("0MiB", None),
        ("32mb", None),
        ("99999999999GiB", None),
        ("", None),
    ] {
        assert_eq!(units::size(text), expected, "{text}");
    }
}

/// The trace settings of a configuration with these variables in the environment.
fn traces(text: &str, variables: &[(&str, &str)]) -> Result<Option<Otlp>, String> {
    let env = |name: &str| {
        let found = variables.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| (*value).to_owned()).or_else(|| env(name))
    };
    let dir = Dir::new();
    let path = dir.write("config.yaml", format!("{AUTH}{text}"));
    load(&path, &env).map(|config| config.otlp).map_err(|problems| problems.to_string())
}

/// Headers as text, names and values.
fn lines(otlp: &Otlp) -> Vec<String> {
    let headers = otlp.headers.iter();
    headers.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
}

#[test]
fn traces_are_off_unless_a_collector_is_named() {
    assert_eq!(traces("", &[]), Ok(None));
    assert_eq!(traces("telemetry: {}\n", &[("OTEL_SERVICE_NAME", "x")]), Ok(None));
    assert_eq!(traces("telemetry: { otlp: }\n", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), Ok(None));

    let otlp = traces("telemetry: { otlp: { endpoint: http://c:4318 } }\n", &[]).unwrap().unwrap();
    assert_eq!(otlp.endpoint.as_str(), "http://c:4318/v1/traces");
    assert_eq!((otlp.sample, otlp.service_name.as_str()), (1.0, "streamgate"));
    assert_eq!((otlp.timeout, otlp.headers.len()), (Duration::from_secs(10), 0));

    let text = "telemetry: { otlp: { endpoint: https://c/otlp/v1/traces/, sample: 0.25, timeout: 1s, \
                service_name: gate way, headers: { authorization: \"Bearer ${OTLP_TOKEN}\" } } }\n";
    let elsewhere = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://other"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x=y"),
        ("OTEL_SERVICE_NAME", "other"),
    ];
    let otlp = traces(text, &elsewhere).unwrap().unwrap();
    assert_eq!(otlp.endpoint.as_str(), "https://c/otlp/v1/traces");
    assert_eq!((otlp.sample, otlp.service_name.as_str()), (0.25, "gate way"));
    assert_eq!(lines(&otlp), ["authorization: Bearer canary-otlp"]);
    assert!(!format!("{otlp:?}").contains("canary"), "{otlp:?}");
}

#[test]
fn the_standard_variables_speak_where_the_file_says_nothing() {
    let named = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Basic%20YTpi+w==, x-tenant = a%26b&c ,"),
        ("OTEL_SERVICE_NAME", "gate"),
    ];
    for text in ["", "telemetry: { otlp: {} }\n"] {
        let otlp = traces(text, &named).unwrap().unwrap();
        assert_eq!(otlp.endpoint.as_str(), "http://c:4318/v1/traces");
        assert_eq!(otlp.service_name, "gate");
        assert_eq!(lines(&otlp), ["authorization: Basic YTpi+w==", "x-tenant: a&b&c"]);
        assert!(!format!("{otlp:?}").contains("YTpi"), "{otlp:?}");
    }
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "canary:4318"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "canary"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=canary%0Ab"),
        ("OTEL_SERVICE_NAME", "canary\n"),
    ] {
        let told = traces("telemetry: { otlp: { sample: 1 } }\n", &[named[0], (name, value)]);
        // The first of a name counts.
        let told = if name == named[0].0 { traces("", &[(name, value)]) } else { told };
        let told = told.unwrap_err();
        assert!(told.contains(&format!("variable `{name}` is not valid; expected ")), "{told}");
        assert!(!told.contains("canary"), "{told}");
    }
}
