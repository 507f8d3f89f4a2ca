//! Callers with tokens: who passes, as whom, with what, and what is seen of it.

mod attacks;
mod command;
mod failed_attempts;
mod key_sets;

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use crate::support::answers::{SPOKEN, error_message, path, request, streamed};
use crate::support::gateway::{Gateway, KEY, Log};
use crate::support::tokens::{ISSUER, SECRET, Signer, claims, with_issuer};
use crate::support::upstream::Upstream;

/// An issuer with a secret.
pub(crate) fn shared(more: &str) -> String {
    format!("algorithms: [HS256], secret: \"{SECRET}\"{more}")
}

pub(crate) fn signer() -> Signer {
    Signer::secret(SECRET.as_bytes())
}

/// A request with a token.
pub(crate) async fn ask(gateway: &Gateway, token: &str) -> reqwest::Response {
    ask_for(gateway, token, "openai-chat", "oai/m").await
}

pub(crate) async fn ask_for(
    gateway: &Gateway,
    token: &str,
    dialect: &str,
    model: &str,
) -> reqwest::Response {
    let sent = gateway.client.post(format!("{}{}", gateway.url, path(dialect)));
    let sent = sent.header("content-type", "application/json").bearer_auth(token);
    sent.body(request(model, true, "hi")).send().await.unwrap()
}

/// The status, and what the caller is told.
pub(crate) async fn told(gateway: &Gateway, token: &str) -> (u16, String) {
    let response = ask(gateway, token).await;
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, if status == 200 { text } else { error_message("openai-chat", &text) })
}

#[tokio::test]
async fn every_kind_of_key_verifies() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    for signer in [
        Signer::rsa(0, Algorithm::RS256),
        Signer::rsa(0, Algorithm::RS512),
        Signer::rsa(0, Algorithm::PS256),
        Signer::new(Algorithm::ES256),
        Signer::new(Algorithm::ES384),
        Signer::new(Algorithm::EdDSA),
    ] {
        let gateway = Gateway::new(&with_issuer(&upstream.url, &signer.issuer(), "")).await;
        let token = signer.sign(&claims(&json!({})));
        // The second time from memory.
        for _ in 0..2 {
            assert_eq!(told(&gateway, &token).await.0, 200, "{:?}", signer.algorithm);
        }
    }
    let gateway = Gateway::new(&with_issuer(&upstream.url, &shared(""), "")).await;
    let token = signer().sign(&claims(&json!({})));
    assert_eq!(told(&gateway, &token).await.0, 200);
    assert_eq!(ask(&gateway, KEY).await.status(), 200, "keys are as good as ever");
}

#[tokio::test]
async fn a_token_goes_wherever_a_key_goes() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let gateway = Gateway::new(&with_issuer(&upstream.url, &shared(""), "")).await;
    let token = signer().sign(&claims(&json!({})));
    for (name, value) in [
        ("authorization", format!("Bearer {token}")),
        ("authorization", format!("bearer  {token} ")),
        ("x-api-key", token.clone()),
        ("api-key", token.clone()),
        ("x-goog-api-key", token),
    ] {
        let url = format!("{}/v1/models", gateway.url);
        let response = gateway.client.get(url).header(name, value).send().await.unwrap();
        assert_eq!(response.status(), 200, "{name}");
    }
}

#[tokio::test]
async fn claims_say_who_it_is_and_what_they_may_use() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let names = ", claims: { subject: email, models: realm.models, limits: \"https://a.b/limits\" }, \
        models: [\"oai/*\"], limits: { requests_per_minute: 60, burst: 3 }";
    let gateway = Gateway::new(&with_issuer(&upstream.url, &shared(names), "")).await;
    let log = Log::default();
    let guard = log.capture();
    let status = async |changes: Value, model: &str| {
        let token = signer().sign(&claims(&changes));
        let response = ask_for(&gateway, &token, "openai-chat", model).await;
        let status = response.status().as_u16();
        response.text().await.unwrap();
        status
    };
    let own = json!({ "email": "bob@x", "realm": { "models": ["oai/a*", "ant/*"] } });
    assert_eq!(status(own.clone(), "oai/a1").await, 200);
    assert_eq!(status(own.clone(), "oai/b").await, 404);
    assert_eq!(status(json!({ "email": "carol@x" }), "oai/b").await, 200, "the issuer's models");
    assert_eq!(status(json!({ "email": "carol@x" }), "ant/b").await, 404);
    let nothing = json!({ "email": "dan@x", "realm": { "models": [] } });
    assert_eq!(status(nothing, "oai/a1").await, 404, "nothing at all");
    assert_eq!(status(json!({}), "oai/a1").await, 401, "no name");
    // A burst of 3 unless the token says another.
    let erin = json!({ "email": "erin@x" });
    for expected in [200, 200, 200, 429] {
        assert_eq!(status(erin.clone(), "oai/b").await, expected);
    }
    let frank = json!({ "email": "frank@x", "https://a.b/limits": { "burst": 1 } });
    for expected in [200, 429] {
        assert_eq!(status(frank.clone(), "oai/b").await, expected);
    }
    let free = json!({ "email": "g@x", "https://a.b/limits": { "requests_per_minute": "none" } });
    for _ in 0..5 {
        assert_eq!(status(free.clone(), "oai/b").await, 200);
    }
    drop(guard);
    let records = log.records();
    assert_eq!(records[0]["caller"], format!("{ISSUER}#bob@x"), "{:?}", records[0]);
    let metrics = gateway.app.metrics.render();
    assert!(!metrics.contains("@x"), "{metrics}");
}

/// A new token, with the same limits or with others, does not give a second burst for nothing.
#[tokio::test]
async fn what_is_used_belongs_to_the_subject() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let limits = ", limits: { requests_per_minute: 1, burst: 1 }";
    let gateway = Gateway::new(&with_issuer(&upstream.url, &shared(limits), "")).await;
    let token = |changes: Value| signer().sign(&claims(&changes));
    let first = token(json!({ "jti": "1" }));
    assert_eq!(told(&gateway, &first).await.0, 200);
    assert_eq!(told(&gateway, &first).await.0, 429);
    assert_eq!(told(&gateway, &token(json!({ "jti": "2" }))).await.0, 429);
    let other = token(json!({ "limits": { "burst": 2 } }));
    for expected in [200, 200, 429] {
        assert_eq!(told(&gateway, &other).await.0, expected);
    }
    assert_eq!(told(&gateway, &first).await.0, 429, "the other token has not emptied its bucket");
    // A subject with the name of a key is not that key.
    for _ in 0..3 {
        let named = token(json!({ "sub": "test", "jti": rand::random::<u64>().to_string() }));
        ask(&gateway, &named).await;
    }
    assert_eq!(ask(&gateway, KEY).await.status(), 200);
}

/// Every word that the configuration has for limits, a token has too.
#[tokio::test]
async fn a_token_may_set_every_rate_limit() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let gateway = Gateway::new(&with_issuer(&upstream.url, &shared(""), "")).await;
    let asked = async |limits: Value| {
        let token = signer().sign(&claims(&json!({ "limits": limits })));
        let sent = gateway.client.post(format!("{}/v1/chat/completions", gateway.url));
        let sent = sent.header("content-type", "application/json").bearer_auth(token);
        let unbounded = r#"{"model":"oai/m","stream":true,"messages":[]}"#;
        let response = sent.body(unbounded).send().await.unwrap();
        let left = response.headers().get("x-ratelimit-remaining-tokens").cloned();
        let left = left.map_or(u64::MAX, |left| left.to_str().unwrap().parse().unwrap());
        let limited = response.headers().contains_key("x-ratelimit-limit-requests");
        (response.status().as_u16(), left, limited)
    };
    assert!(asked(json!({})).await.2);
    let reserved = json!({ "tokens_per_minute": 1000, "assumed_output": 950 });
    let (status, left, _) = asked(reserved).await;
    assert!(status == 200 && left < 50, "{status} {left}");
    let cut = json!({ "tokens_per_minute": 2, "cut_off": true });
    assert_eq!(asked(cut).await.0, 400, "nothing would be left for an answer");
    assert_eq!(asked(json!("none")).await, (200, u64::MAX, false));
}

#[tokio::test]
async fn a_claim_of_another_type_is_named() {
    let gateway = Gateway::new(&with_issuer("http://127.0.0.1:9", &shared(""), "")).await;
    for (changes, words) in [
        (json!({ "sub": 7 }), "`sub` must be a text"),
        (json!({ "sub": "" }), "`sub` must be a text of at most 256 characters"),
        (json!({ "sub": "a\u{7}" }), "`sub` must be a text of at most 256 characters"),
        (json!({ "sub": "x".repeat(257) }), "`sub` must be a text of at most 256 characters"),
        (json!({ "models": 5 }), "`models` must be a list of model names"),
        (json!({ "models": ["a", 5] }), "`models` must be a list of model names"),
        (json!({ "limits": [] }), "`limits` must be an object of limits, or \"none\""),
        (json!({ "limits": "some" }), "`limits` must be an object of limits, or \"none\""),
        (json!({ "limits": { "cut_off": 1 } }), "`limits.cut_off` must be `true` or `false`"),
        (json!({ "limits": { "assumed_output": "none" } }), "`limits.assumed_output` must be a"),
        (json!({ "limits": { "burst": 0 } }), "`limits.burst` must be a whole number above zero"),
        (json!({ "limits": { "burst": "5" } }), "`limits.burst` must be a whole number"),
        (json!({ "limits": { "burst": 4_294_967_296_u64 } }), "`limits.burst` must be a whole"),
        (json!({ "limits": { "concurrent_streams": -1 } }), "`limits.concurrent_streams` must"),
        (json!({ "limits": { "bursts": 5 } }), "`limits.bursts` is no limit that is known"),
        (json!({ "nbf": "soon" }), "`nbf` must be a number of seconds since 1970"),
        (json!({ "iat": [] }), "`iat` must be a number of seconds since 1970"),
        (json!({ "jti": 5 }), "`jti` must be a text"),
        (json!({ "aud": [5] }), "`aud` must be a text or a list of texts"),
        (json!({ "exp": 1e300 }), "`exp` must be a number of seconds since 1970"),
        (json!({ "nbf": 1e300 }), "`nbf` must be a number of seconds since 1970"),
    ] {
        let (status, message) = told(&gateway, &signer().sign(&claims(&changes))).await;
        assert_eq!(status, 401, "{changes}");
        assert!(message.contains(words), "{changes}: {message}");
    }
}

#[tokio::test]
async fn rejections_follow_rfc_6750() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let models = ", models: [\"oai/*\"]";
    let gateway = Gateway::new(&with_issuer(&upstream.url, &shared(models), "")).await;
    let challenge = |response: &reqwest::Response| {
        response.headers()["www-authenticate"].to_str().unwrap().to_owned()
    };
    for (dialect, _) in SPOKEN {
        let bare = gateway.client.post(format!("{}{}", gateway.url, path(dialect)));
        let response = bare.send().await.unwrap();
        assert_eq!(response.status(), 401);
        assert_eq!(challenge(&response), "Bearer realm=\"streamgate\"");

        let response = ask_for(&gateway, "wrong", dialect, "oai/m").await;
        let start = "Bearer realm=\"streamgate\", error=\"invalid_token\", error_description=\"Incorrect API key";
        assert!(challenge(&response).starts_with(start), "{}", challenge(&response));

        let expired = signer().sign(&claims(&json!({ "exp": 5 })));
        let response = ask_for(&gateway, &expired, dialect, "oai/m").await;
        let words = "error_description=\"the token has expired (exp); get a new one\"";
        let found = challenge(&response).replace('`', "");
        assert!(found.contains(words), "{found}");
        let text = response.text().await.unwrap();
        assert!(error_message(dialect, &text).contains("expired"), "{text}");

        let token = signer().sign(&claims(&json!({})));
        let response = ask_for(&gateway, &token, dialect, "ant/é\\\"x").await;
        assert_eq!(response.status(), 404);
        assert!(!response.headers().contains_key("www-authenticate"), "as for what does not exist");
    }
    for reason in ["missing", "unknown_key", "expired"] {
        let line = format!("streamgate_refused_credentials_total{{reason=\"{reason}\"}} 2");
        assert!(gateway.app.metrics.render().contains(&line), "{reason}");
    }
}

#[tokio::test]
async fn a_token_without_configured_issuers_gets_an_explanation() {
    let text = crate::support::gateway::yaml("http://127.0.0.1:9", "http://127.0.0.1:9", "");
    let gateway = Gateway::new(&text).await;
    let (status, message) = told(&gateway, &signer().sign(&claims(&json!({})))).await;
    assert_eq!(status, 401);
    assert!(message.contains("does not accept JWTs"), "{message}");
}

/// A token is good for as long as it says, but not longer than who vouches for it.
#[tokio::test]
async fn a_reload_revokes_a_token_and_keeps_its_rate_limit_usage() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let limits = ", limits: { requests_per_minute: 1, burst: 2 }";
    let good = with_issuer(&upstream.url, &shared(limits), "");
    let gateway = Gateway::new(&good).await;
    let token = signer().sign(&claims(&json!({})));
    assert_eq!(told(&gateway, &token).await.0, 200);
    let other = good.replace(SECRET, "another-secret-of-more-than-32-bytes");
    gateway.app.reload(crate::support::gateway::configuration(&other));
    assert_eq!(told(&gateway, &token).await.0, 401);
    gateway.app.reload(crate::support::gateway::configuration(&good));
    assert_eq!(told(&gateway, &token).await.0, 200);
    assert_eq!(told(&gateway, &token).await.0, 429);
}

/// Other limits of an issuer are no new ones: its callers go on with what they have used.
#[tokio::test]
async fn a_reload_of_an_issuers_rate_limit_gives_no_new_burst() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let with = |burst: u32| {
        let limits = format!(", limits: {{ requests_per_minute: 1, burst: {burst} }}");
        with_issuer(&upstream.url, &shared(&limits), "")
    };
    let gateway = Gateway::new(&with(3)).await;
    let plain = signer().sign(&claims(&json!({})));
    let claimed = signer().sign(&claims(&json!({ "limits": { "concurrent_streams": 9 } })));
    for token in [&plain, &claimed] {
        for _ in 0..3 {
            assert_eq!(told(&gateway, token).await.0, 200);
        }
    }
    gateway.app.reload(crate::support::gateway::configuration(&with(4)));
    for token in [&plain, &claimed] {
        assert_eq!(told(&gateway, token).await.0, 200);
        assert_eq!(told(&gateway, token).await.0, 429);
    }
}
