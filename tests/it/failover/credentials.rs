//! An upstream that refuses the gateway's own credential or account, in every vendor's words: never the
//! caller's error (failure mode 70).

use serde_json::{Value, json};

use super::{JSON, before, good, send, text, yaml};
use crate::streaming::count;
use crate::support::Ended;
use crate::support::answers::{opening, streamed};
use crate::support::gateway::{Gateway, Log, configuration};
use crate::support::language::{LANGUAGES, language};
use crate::support::received;
use crate::support::upstream::{Step, Upstream};

const CREDENTIALS: &str = "upstream_credentials";
const BILLING: &str = "upstream_billing";

/// Rejections of a credential or an account by each vendor: the upstream's dialect, the status, the body and
/// the code that callers get. Each body names the operator's account.
const REFUSALS: [(&str, u16, &str, &str); 36] = [
    (
        "openai-chat",
        401,
        r#"{"error":{"message":"Incorrect API key provided: sk-canary","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#,
        CREDENTIALS,
    ),
    (
        "openai-chat",
        403,
        r#"{"error":{"message":"Project proj-canary does not have access","type":"invalid_request_error","code":null}}"#,
        CREDENTIALS,
    ),
    (
        "openai-chat",
        429,
        r#"{"error":{"message":"You exceeded your current quota, org-canary","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
        BILLING,
    ),
    (
        "openai-chat",
        429,
        r#"{"error":{"message":"Your account org-canary is not active","type":"billing_not_active","code":"billing_not_active"}}"#,
        BILLING,
    ),
    (
        "openai-chat",
        400,
        r#"{"error":{"message":"org-canary: Billing hard limit has been reached","type":"invalid_request_error","code":"billing_hard_limit_reached"}}"#,
        BILLING,
    ),
    (
        "openai-chat",
        402,
        r#"{"error":{"message":"Insufficient Balance of canary","type":"unknown_error","code":"invalid_request_error"}}"#,
        BILLING,
    ),
    (
        "openai-chat",
        402,
        r#"{"error":{"code":402,"message":"Insufficient credits, canary"},"user_id":"user-canary"}"#,
        BILLING,
    ),
    (
        "openai-chat",
        403,
        r#"{"error":{"code":403,"message":"Key limit exceeded, canary"},"user_id":"user-canary"}"#,
        CREDENTIALS,
    ),
    (
        "openai-chat",
        400,
        r#"{"code":"Client specified an invalid argument","error":"Incorrect API key provided: xa-canary."}"#,
        CREDENTIALS,
    ),
    ("openai-chat", 401, r#"{"detail":"Invalid API Key canary"}"#, CREDENTIALS),
    (
        "openai-chat",
        400,
        r#"[{"error":{"code":400,"message":"canary","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID"}]}}]"#,
        CREDENTIALS,
    ),
    (
        "openai-chat",
        429,
        r#"{"error":{"message":"Your account org-canary is suspended","type":"exceeded_current_quota_error"}}"#,
        BILLING,
    ),
    ("openai-chat", 401, "<html>canary</html>", CREDENTIALS),
    ("openai-chat", 403, "", CREDENTIALS),
    (
        "openai-responses",
        401,
        r#"{"error":{"message":"Incorrect API key provided: sk-canary","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#,
        CREDENTIALS,
    ),
    (
        "openai-responses",
        429,
        r#"{"error":{"message":"quota of org-canary","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
        BILLING,
    ),
    (
        "anthropic",
        401,
        r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key canary"},"request_id":"req_canary"}"#,
        CREDENTIALS,
    ),
    (
        "anthropic",
        403,
        r#"{"type":"error","error":{"type":"permission_error","message":"workspace canary"}}"#,
        CREDENTIALS,
    ),
    (
        "anthropic",
        402,
        r#"{"type":"error","error":{"type":"billing_error","message":"canary"}}"#,
        BILLING,
    ),
    (
        "anthropic",
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API, canary."}}"#,
        BILLING,
    ),
    (
        "anthropic",
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"This organization has been disabled. canary"}}"#,
        CREDENTIALS,
    ),
    (
        "anthropic",
        401,
        r#"{"error":{"message":"canary","type":"invalid_request_error","code":"invalid_api_key"}}"#,
        CREDENTIALS,
    ),
    (
        "anthropic",
        401,
        r#"[{"error":{"code":401,"message":"canary","status":"UNAUTHENTICATED"}}]"#,
        CREDENTIALS,
    ),
    (
        "gemini",
        400,
        r#"{"error":{"code":400,"message":"API key not valid, canary.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID"}]}}"#,
        CREDENTIALS,
    ),
    (
        "gemini",
        400,
        r#"{"error":{"code":400,"message":"API Key not found. canary","status":"INVALID_ARGUMENT"}}"#,
        CREDENTIALS,
    ),
    (
        "gemini",
        401,
        r#"{"error":{"code":401,"message":"canary","status":"UNAUTHENTICATED"}}"#,
        CREDENTIALS,
    ),
    (
        "gemini",
        403,
        r#"{"error":{"code":403,"message":"project canary","status":"PERMISSION_DENIED"}}"#,
        CREDENTIALS,
    ),
    (
        "gemini",
        403,
        r#"{"error":{"code":403,"message":"project canary","status":"PERMISSION_DENIED","details":[{"reason":"BILLING_DISABLED"}]}}"#,
        BILLING,
    ),
    (
        "gemini",
        400,
        r#"{"error":{"code":400,"message":"User location is not supported for the API use. canary","status":"FAILED_PRECONDITION"}}"#,
        CREDENTIALS,
    ),
    (
        "ollama",
        401,
        r#"{"error":"unauthorized canary","signin_url":"https://canary"}"#,
        CREDENTIALS,
    ),
    ("ollama", 402, r#"{"error":"upgrade, canary"}"#, BILLING),
    ("cohere", 401, r#"{"id":"canary","message":"invalid api token"}"#, CREDENTIALS),
    ("cohere", 498, r#"{"id":"canary","message":"invalid token"}"#, CREDENTIALS),
    (
        "bedrock",
        403,
        r#"{"message":"The security token included in the request is invalid: canary"}"#,
        CREDENTIALS,
    ),
    (
        "bedrock",
        403,
        r#"{"Message":"User: arn:aws:iam::canary is not authorized to perform: bedrock:InvokeModel"}"#,
        CREDENTIALS,
    ),
    (
        "bedrock",
        400,
        r#"{"message":"Authorization header requires 'Credential' parameter. canary"}"#,
        CREDENTIALS,
    ),
];

/// Failure mode 70: the operator's key is revoked or its account is empty. No caller of any dialect
/// gets its status, its words or its headers, streamed or not.
#[tokio::test]
async fn fm70_a_refused_credential_is_never_reported_as_the_callers() {
    for (dialect, status, body, code) in REFUSALS {
        let a = Upstream::new(vec![Step::Whole(status, JSON, body.into())]).await;
        let gateway = before(dialect, &a, &a, "").await;
        for language in LANGUAGES {
            for (model, stream) in [("one", true), ("one", false), ("a/m", true)] {
                let place = format!("{} from {dialect} {status} {model} {body}", language.name);
                let response = send(&gateway, language, model, stream).await;
                assert_eq!(response.status(), 502, "{place}");
                let headers = format!("{:?}", response.headers());
                for absent in ["canary", "retry-after", "ratelimit-remaining-requests\": \"3"] {
                    assert!(!headers.contains(absent), "{place}: {headers}");
                }
                assert_eq!(response.headers()["x-should-retry"], "false", "{place}");
                let value: Value =
                    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
                let message = (language.error)(&value);
                let message = message.unwrap_or_else(|| panic!("{place}: {value}"));
                assert!(message.ends_with(&format!("({code})")), "{place}: {message}");
                assert!(!value.to_string().contains("canary"), "{place}: {value}");
                if language.name.starts_with("openai") {
                    assert_eq!(value["error"]["code"], code, "{place}: {value}");
                }
            }
        }
    }
}

/// The next target is tried, and from then on it is the first.
#[tokio::test]
async fn fm70_failover_of_a_refused_credential() {
    for (dialect, status, body, _) in REFUSALS {
        let a = Upstream::new(vec![Step::Whole(status, JSON, body.into())]).await;
        let b = good().await;
        let gateway = before(dialect, &a, &b, "").await;
        for language in LANGUAGES {
            let response = send(&gateway, language, "two", true).await;
            assert_eq!(text(language, response).await, "Hello", "{} {body}", language.name);
        }
        assert_eq!(a.requests().await.len(), 1, "{dialect} {body}");
        assert_eq!(b.requests().await.len(), LANGUAGES.len());
    }
}

/// The same in a stream, before its first output.
#[tokio::test]
async fn fm70_failover_of_a_refused_credential_in_a_stream() {
    for (dialect, event) in [
        ("openai-chat", r#"{"error":{"message":"Incorrect API key provided: canary","code":401}}"#),
        (
            "openai-chat",
            r#"{"error":{"message":"canary","type":"insufficient_quota","code":"insufficient_quota"}}"#,
        ),
        (
            "anthropic",
            r#"{"type":"error","error":{"type":"authentication_error","message":"canary"}}"#,
        ),
        ("gemini", r#"{"error":{"code":403,"message":"canary","status":"PERMISSION_DENIED"}}"#),
    ] {
        let script = vec![Step::Sse, Step::chunk(&format!("data: {event}\n\n")), Step::End];
        let (a, b) = (Upstream::new(script).await, good().await);
        let gateway = before(dialect, &a, &b, "").await;
        for language in LANGUAGES {
            let response = send(&gateway, language, "one", true).await;
            assert_eq!(response.status(), 502, "{} {event}", language.name);
            let body = response.text().await.unwrap();
            assert!(body.contains("(upstream_") && !body.contains("canary"), "{body}");
            assert_eq!(text(language, send(&gateway, language, "two", true).await).await, "Hello");
        }
    }
}

/// After output nothing can be tried again; the vendor's words stay behind all the same.
#[tokio::test]
async fn fm70_a_refused_credential_after_output_is_not_repeated() {
    for (dialect, event) in [
        (
            "openai-chat",
            "data: {\"error\":{\"message\":\"org-canary\",\"type\":\"insufficient_quota\",\"code\":\"insufficient_quota\"}}\n\n",
        ),
        (
            "anthropic",
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"authentication_error\",\"message\":\"org-canary\"}}\n\n",
        ),
    ] {
        let script = vec![Step::Sse, Step::chunk(&opening(dialect, "Hello")), Step::chunk(event)];
        let a = Upstream::new(script).await;
        let gateway = before(dialect, &a, &a, "").await;
        for language in LANGUAGES {
            let bytes = received(send(&gateway, language, "one", true).await).await.0;
            let view = (language.stream)(&bytes, true).unwrap();
            assert_eq!(view.choices[&0].text, "Hello");
            let Ended::Error(message) = view.ended else { panic!("{} {bytes:?}", language.name) };
            assert!(message.contains("(upstream_"), "{} {message}", language.name);
            assert!(!String::from_utf8_lossy(&bytes).contains("canary"));
        }
    }
}

/// The log names the provider and where its key is configured, once however many requests meet it, and
/// never the key.
#[tokio::test]
async fn fm70_a_refused_credential_is_logged_once_with_its_place() {
    let a = Upstream::new(vec![Step::Whole(401, JSON, Vec::new())]).await;
    let gateway = before("openai-chat", &a, &a, "").await;
    let log = Log::default();
    let capture = log.capture();
    for _ in 0..5 {
        assert_eq!(send(&gateway, language("anthropic"), "one", true).await.status(), 502);
    }
    drop(capture);
    let log_text = log.text();
    let lines = log_text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let errors: Vec<Value> = lines.filter(|line| line["level"] == "ERROR").collect();
    assert_eq!(errors.len(), 1, "{log_text}");
    let (provider, place) = (&errors[0]["provider"], &errors[0]["credential"]);
    assert_eq!((provider, place), (&json!("a"), &json!("providers.a.api_key (line 5)")));
    assert!(!log_text.contains("up-canary-key"), "{log_text}");
    assert_eq!(a.requests().await.len(), 5, "a lone target is always tried");
    assert_eq!(count(&gateway, "streamgate_target_ejected{target=\"a/*\"}"), "1");
}

/// Another key in the configuration is tried at once.
#[tokio::test]
async fn failover_ends_at_once_with_a_renewed_key() {
    let scripts = vec![vec![Step::Whole(401, JSON, Vec::new())], streamed("openai-chat", "again")];
    let (a, b) = (Upstream::scripted(scripts).await, good().await);
    let yaml = yaml("openai-chat", &a.url, &b.url, "");
    let gateway = Gateway::new(&yaml).await;
    let ask =
        async || text(language("openai-chat"), gateway.chat("two").send().await.unwrap()).await;
    assert_eq!(ask().await, "Hello");
    gateway.app.reload(configuration(&yaml));
    assert_eq!(ask().await, "Hello", "the same key is as bad as it was");
    gateway.app.reload(configuration(&yaml.replace("up-canary-key", "renewed")));
    assert_eq!(ask().await, "again");
    assert_eq!(count(&gateway, "streamgate_target_ejected{"), "0");
}
