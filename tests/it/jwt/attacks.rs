//! Failure mode 66: tokens that must not pass, each by the way in which one could try.

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::{ask, shared, signer, told};
use crate::support::answers::streamed;
use crate::support::gateway::{Gateway, Log};
use crate::support::tokens::{
    AUDIENCE, ISSUER, KeyServer, SECRET, Signer, base64, claims, now, with_issuer, with_issuers,
};
use crate::support::upstream::Upstream;

/// It is refused with these words, nothing that would help is told, and nothing goes upstream.
async fn refused(gateway: &Gateway, token: &str, words: &str) {
    let response = ask(gateway, token).await;
    assert_eq!(response.status(), 401, "{token}");
    let challenge = response.headers()["www-authenticate"].to_str().unwrap().to_owned();
    let text = response.text().await.unwrap();
    assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
    assert!(text.contains(words), "{words:?} is not in {text}");
    for told in [challenge, text] {
        assert!(!told.contains("canary"), "{told}");
    }
}

async fn with(issuer: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    (Gateway::new(&with_issuer(&upstream.url, issuer, "")).await, upstream)
}

#[tokio::test]
async fn fm66_a_public_key_is_no_hmac_secret() {
    for own in [Signer::rsa(0, Algorithm::RS256), Signer::new(Algorithm::ES256)] {
        let (gateway, upstream) = with(&own.issuer()).await;
        let bare: String =
            own.pem.lines().filter(|line| !line.starts_with('-')).collect::<Vec<_>>().concat();
        for secret in [own.pem.as_str(), own.pem.trim_end(), bare.as_str(), ""] {
            let forged = Signer::secret(secret.as_bytes()).sign(&claims(&json!({})));
            refused(&gateway, &forged, "algorithm").await;
        }
        assert!(upstream.requests().await.is_empty());
    }
    // Nor does a key set make one, whatever it holds.
    let own = Signer::rsa(0, Algorithm::RS256).named("kid-canary-1");
    let server = KeyServer::new(&[&own]).await;
    let oct = json!({ "kty": "oct", "kid": "kid-canary-2", "k": base64(SECRET.as_bytes()) });
    server.says(200, &json!({ "keys": [own.jwk(), oct] }).to_string());
    let (gateway, _upstream) = with(&server.issuer("RS256")).await;
    assert_eq!(told(&gateway, &own.sign(&claims(&json!({})))).await.0, 200);
    let forged = signer().named("kid-canary-2").sign(&claims(&json!({})));
    refused(&gateway, &forged, "algorithm").await;
}

#[tokio::test]
async fn fm66_a_token_without_a_signature_is_rejected() {
    let own = Signer::rsa(0, Algorithm::RS256);
    let (gateway, _upstream) = with(&own.issuer()).await;
    let payload = base64(claims(&json!({})).to_string().as_bytes());
    for alg in ["none", "None", "NONE", "nOnE", "", "RS256\\u0000"] {
        let header = base64(format!("{{\"alg\":\"{alg}\",\"typ\":\"JWT\"}}").as_bytes());
        for signature in ["", "AA"] {
            let token = format!("{header}.{payload}.{signature}");
            refused(&gateway, &token, "not a signed JWT").await;
        }
    }
    let header = base64(b"{\"alg\":\"RS256\"}");
    refused(&gateway, &format!("{header}.{payload}."), "signature").await;
    refused(&gateway, &format!("{}.{payload}.", base64(b"{\"typ\":\"JWT\"}")), "not a signed")
        .await;
    for token in ["..", "a.b.c", "e30.e30.e30", "é.é.é", ".e30."] {
        refused(&gateway, &token.replace('é', "-"), "not a signed JWT").await;
    }
}

#[tokio::test]
async fn fm66_a_key_id_chooses_among_the_issuers_keys_and_no_others() {
    let one = Signer::rsa(0, Algorithm::RS256).named("kid-canary-1");
    let two = Signer::rsa(1, Algorithm::RS256).named("kid-canary-2");
    let server = KeyServer::new(&[&one, &two]).await;
    let (gateway, upstream) = with(&server.issuer("RS256")).await;
    for own in [&one, &two] {
        assert_eq!(told(&gateway, &own.sign(&claims(&json!({})))).await.0, 200);
    }
    let good = claims(&json!({}));
    refused(&gateway, &one.clone().named("kid-canary-2").sign(&good), "signature").await;
    refused(&gateway, &two.clone().named("kid-canary-1").sign(&good), "signature").await;
    refused(&gateway, &Signer { kid: None, ..one.clone() }.sign(&good), "kid").await;
    for kid in ["../../dev/null", "", "KID-CANARY-1", "kid-canary-1\\u0000", "' or 1=1 --"] {
        let header = format!("{{\"alg\":\"RS256\",\"kid\":\"{kid}\"}}");
        let token = one.sign_text(&header, &good.to_string());
        refused(&gateway, &token, "signature").await;
    }
    // A key that the token brings along, or says where to get.
    let stranger = Signer::new(Algorithm::ES256);
    for header in [
        json!({ "alg": "ES256", "jwk": stranger.jwk() }),
        json!({ "alg": "ES256", "jku": server.url, "x5u": server.url }),
    ] {
        let token = stranger.sign_text(&header.to_string(), &good.to_string());
        refused(&gateway, &token, "algorithm").await;
    }
    let header = json!({ "alg": "RS256", "kid": "kid-canary-1", "jwk": two.jwk() });
    refused(&gateway, &two.sign_text(&header.to_string(), &good.to_string()), "signature").await;
    assert_eq!(upstream.requests().await.len(), 2);
}

#[tokio::test]
async fn fm66_key_use_and_key_ops_are_respected() {
    let own = Signer::rsa(0, Algorithm::RS256).named("kid-canary-1");
    let mut jwk = own.jwk();
    let entry = |change: &dyn Fn(&mut Value)| {
        let mut jwk = own.jwk();
        jwk.as_object_mut().unwrap().remove("alg");
        change(&mut jwk);
        json!({ "keys": ["junk", { "kty": "RSA" }, { "kty": "PQ", "kid": "x" }, jwk] }).to_string()
    };
    jwk["use"] = "sig".into();
    let server = KeyServer::new(&[]).await;
    let good = claims(&json!({}));
    for (body, passes) in [
        (entry(&|_| ()), true),
        (entry(&|jwk| jwk["use"] = "sig".into()), true),
        (entry(&|jwk| jwk["key_ops"] = json!(["verify"])), true),
        (entry(&|jwk| jwk["alg"] = "RS256".into()), true),
        (entry(&|jwk| jwk["use"] = "enc".into()), false),
        (entry(&|jwk| jwk["key_ops"] = json!(["encrypt"])), false),
        (entry(&|jwk| jwk["alg"] = "PS256".into()), false),
        (entry(&|jwk| jwk["alg"] = "RSA-OAEP".into()), false),
        (entry(&|jwk| jwk["n"] = "AQAB".into()), false),
    ] {
        server.says(200, &body);
        let (gateway, _upstream) = with(&server.issuer("RS256, PS256")).await;
        let (status, message) = told(&gateway, &own.sign(&good)).await;
        assert_eq!(status == 200, passes, "{body}: {message}");
    }
}

#[tokio::test]
async fn fm66_algorithms_are_the_issuers_and_not_the_tokens() {
    let rsa = Signer::rsa(0, Algorithm::RS256);
    let (gateway, _upstream) = with(&rsa.issuer()).await;
    let good = claims(&json!({}));
    for algorithm in [Algorithm::RS384, Algorithm::PS256, Algorithm::PS512] {
        refused(&gateway, &Signer::rsa(0, algorithm).sign(&good), "algorithm").await;
    }
    for algorithm in [Algorithm::ES256, Algorithm::EdDSA] {
        refused(&gateway, &Signer::new(algorithm).sign(&good), "algorithm").await;
    }
    // Another algorithm in the header than the one that it is signed with.
    let pss = Signer::rsa(0, Algorithm::PS256);
    let token = pss.sign_text("{\"alg\":\"RS256\"}", &good.to_string());
    refused(&gateway, &token, "signature").await;
    refused(&gateway, &Signer::rsa(1, Algorithm::RS256).sign(&good), "signature").await;
}

#[tokio::test]
async fn fm66_a_changed_token_is_rejected() {
    let own = Signer::new(Algorithm::ES256);
    let (gateway, _upstream) = with(&own.issuer()).await;
    let token = own.sign(&claims(&json!({})));
    let mallory = own.sign(&claims(&json!({ "sub": "mallory" })));
    let parts: Vec<_> = token.split('.').collect();
    let others: Vec<_> = mallory.split('.').collect();
    let swapped = format!("{}.{}.{}", parts[0], others[1], parts[2]);
    refused(&gateway, &swapped, "signature").await;
    for at in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert_ne!(ask(&gateway, &changed).await.status(), 200, "{at}: {changed}");
    }
    for at in (0..token.len()).step_by(7) {
        let cut = token.get(..at).unwrap();
        assert_ne!(ask(&gateway, cut).await.status(), 200, "{at}");
    }
    assert_eq!(told(&gateway, &token).await.0, 200);
}

#[tokio::test]
async fn fm66_a_token_is_valid_only_during_its_lifetime() {
    let (gateway, _upstream) = with(&shared(", leeway: 30s, max_lifetime: 1h")).await;
    let now = now();
    for (changes, words) in [
        (json!({ "exp": now - 60 }), "expired"),
        (json!({ "exp": 0 }), "expired"),
        (json!({ "exp": null }), "no claim `exp`"),
        (json!({ "exp": "never" }), "`exp` must be a number"),
        (json!({ "exp": -1 }), "`exp` must be a number"),
        (json!({ "exp": [now + 60] }), "`exp` must be a number"),
        (json!({ "exp": true }), "`exp` must be a number"),
        (json!({ "exp": now + 3600 + 120 }), "longer than is accepted"),
        (json!({ "exp": 253_402_300_800_u64 }), "longer than is accepted"),
        (json!({ "exp": u64::MAX }), "longer than is accepted"),
        (json!({ "exp": 1e300 }), ""),
        (json!({ "nbf": now + 120 }), "not valid yet"),
        (json!({ "nbf": 253_402_300_800_u64 }), "not valid yet"),
        (json!({ "nbf": 1e300 }), ""),
    ] {
        refused(&gateway, &signer().sign(&claims(&changes)), words).await;
    }
    let text = |exp: &str| claims(&json!({ "exp": 5 })).to_string().replace("\"exp\":5", exp);
    for exp in ["\"exp\":1e999", "\"exp\":NaN", "\"exp\":18446744073709551616000", "\"exp\":null"] {
        refused(&gateway, &signer().sign_text("{\"alg\":\"HS256\"}", &text(exp)), "").await;
    }
    for changes in [
        json!({ "exp": now - 10 }),
        json!({ "exp": now + 3600 }),
        json!({ "nbf": now + 10 }),
        json!({ "nbf": now - 10, "iat": now - 10 }),
        json!({ "exp": f64::from(u32::try_from(now).unwrap()) + 60.5 }),
    ] {
        assert_eq!(told(&gateway, &signer().sign(&claims(&changes))).await.0, 200, "{changes}");
    }
    // A second late, where none is given.
    let (gateway, _upstream) = with(&shared(", leeway: 0s")).await;
    refused(&gateway, &signer().sign(&claims(&json!({ "exp": now - 1 }))), "expired").await;
    let day = json!({ "exp": now + 86_400 + 60 });
    refused(&gateway, &signer().sign(&claims(&day)), "longer than is accepted").await;
    let (gateway, _upstream) = with(&shared(", max_lifetime: none")).await;
    assert_eq!(told(&gateway, &signer().sign(&claims(&day))).await.0, 200);
}

#[tokio::test]
async fn fm66_issuer_and_audience_must_match() {
    let (gateway, _upstream) = with(&shared("")).await;
    let trimmed = ISSUER.trim_end_matches('/');
    for (changes, words) in [
        (json!({ "iss": null }), "no claim `iss`"),
        (json!({ "iss": "" }), "issuer"),
        (json!({ "iss": trimmed }), "issuer"),
        (json!({ "iss": ISSUER.to_uppercase() }), "issuer"),
        (json!({ "iss": format!("{ISSUER}x") }), "issuer"),
        (json!({ "iss": [ISSUER] }), "`iss` must be a text"),
        (json!({ "iss": [ISSUER, "other"] }), "`iss` must be a text"),
        (json!({ "iss": 5 }), "`iss` must be a text"),
        (json!({ "aud": null }), "no claim `aud`"),
        (json!({ "aud": "" }), "(`aud`)"),
        (json!({ "aud": "other" }), "(`aud`)"),
        (json!({ "aud": [] }), "(`aud`)"),
        (json!({ "aud": ["other", "another"] }), "(`aud`)"),
        (json!({ "aud": format!("{AUDIENCE}s") }), "(`aud`)"),
        (json!({ "aud": { AUDIENCE: true } }), "`aud` must be a text or a list"),
    ] {
        refused(&gateway, &signer().sign(&claims(&changes)), words).await;
    }
    let several = claims(&json!({ "aud": ["other", AUDIENCE] }));
    assert_eq!(told(&gateway, &signer().sign(&several)).await.0, 200);
}

/// Issuers do not vouch for each other.
#[tokio::test]
async fn fm66_one_issuers_key_does_not_sign_anothers_tokens() {
    let upstream = Upstream::new(streamed("openai-chat", "hi")).await;
    let other_secret = "other-canary-secret-of-more-than-32-bytes";
    let one = format!("{{ issuer: \"{ISSUER}\", audience: {AUDIENCE}, {} }}", shared(""));
    let two = format!(
        "{{ issuer: two-canary, audience: [a, b], algorithms: [HS256], secret: \"{other_secret}\" }}"
    );
    let none = "failed_attempts: { per_minute: none }";
    let gateway = Gateway::new(&with_issuers(&upstream.url, &[&one, &two], none, "")).await;
    let other = Signer::secret(other_secret.as_bytes());
    refused(&gateway, &other.sign(&claims(&json!({}))), "signature").await;
    refused(&gateway, &signer().sign(&claims(&json!({ "iss": "two-canary" }))), "signature").await;
    refused(&gateway, &other.sign(&claims(&json!({ "iss": "two-canary" }))), "(`aud`)").await;
    let right = claims(&json!({ "iss": "two-canary", "aud": "b" }));
    assert_eq!(told(&gateway, &other.sign(&right)).await.0, 200);
}

#[tokio::test]
async fn fm66_duplicate_claims_are_rejected() {
    let (gateway, _upstream) = with(&shared("")).await;
    let good = claims(&json!({})).to_string();
    let header = "{\"alg\":\"HS256\"}";
    for (more, words) in [
        ("\"sub\":\"mallory\"", "`sub` twice"),
        ("\"sub\":\"alice\"", "`sub` twice"),
        ("\"exp\":9999999999", "`exp` twice"),
        ("\"aud\":\"x\"", "`aud` twice"),
        ("\"a\":{\"b\":{\"c\":1,\"c\":2}}", "`c` twice"),
        ("\"a\":[{\"c\":1,\"\\u0063\":2}]", "`c` twice"),
        ("\"iss\":\"x\"", "`iss` twice"),
    ] {
        let claims = good.replacen('{', &format!("{{{more},"), 1);
        refused(&gateway, &signer().sign_text(header, &claims), words).await;
    }
    for header in [
        "{\"alg\":\"HS256\",\"alg\":\"none\"}",
        "{\"alg\":\"HS256\",\"crit\":[\"exp\"],\"exp\":1}",
        "{\"alg\":\"HS256\",\"crit\":[]}",
        "{\"alg\":\"HS256\",\"zip\":\"DEF\"}",
        "[]",
    ] {
        refused(&gateway, &signer().sign_text(header, &good), "not a signed JWT").await;
    }
    for claims in ["[]", "5", "\"x\"", "null", "{", "", "{}x"] {
        refused(&gateway, &signer().sign_text(header, claims), "").await;
    }
    let deep = good.replacen('{', &format!("{{\"a\":{}{},", "[".repeat(500), "]".repeat(500)), 1);
    refused(&gateway, &signer().sign_text(header, &deep), "").await;
}

#[tokio::test]
async fn fm63_fm66_no_token_reaches_a_log_or_a_metric() {
    let log = Log::default();
    let guard = log.capture();
    let (gateway, _upstream) = with(&shared("")).await;
    let stranger = Signer::secret(b"another-canary");
    let tokens = [
        signer().sign(&claims(&json!({ "note": "claim-canary" }))),
        signer().sign(&claims(&json!({ "exp": 5, "note": "claim-canary" }))),
        signer().sign(&claims(&json!({ "aud": "claim-canary" }))),
        signer().sign(&claims(&json!({ "iss": "claim-canary" }))),
        signer().sign(&claims(&json!({ "models": { "claim-canary": 5 } }))),
        signer().named("claim-canary").sign(&claims(&json!({ "limits": ["claim-canary"] }))),
        stranger.sign(&claims(&json!({ "sub": "claim-canary" }))),
    ];
    let mut told_all = String::new();
    for token in &tokens {
        told_all += &told(&gateway, token).await.1;
    }
    drop(guard);
    let seen = [log.text(), gateway.app.metrics.render(), told_all].concat();
    assert_eq!(log.records().len(), tokens.len());
    for token in &tokens {
        for part in token.split('.') {
            assert!(!seen.contains(part), "{part}");
        }
    }
    for canary in ["claim-canary", SECRET, AUDIENCE] {
        assert!(!seen.contains(canary), "{canary}: {seen}");
    }
}

#[tokio::test]
async fn fm66_oversized_tokens_are_rejected() {
    let (gateway, _upstream) = with(&shared("")).await;
    let sized = |padding: usize| signer().sign(&claims(&json!({ "pad": "x".repeat(padding) })));
    assert_eq!(told(&gateway, &sized(5000)).await.0, 200);
    refused(&gateway, &sized(6200), "too long").await;
}
