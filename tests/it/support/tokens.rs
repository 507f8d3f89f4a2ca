//! Issuers of tokens: keys made on the spot, and tokens signed as a test wants them, right or wrong.

use std::sync::{Arc, LazyLock, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use rcgen::{KeyPair, RsaKeySize};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::gateway::yaml;

/// The issuer of every test's configuration.
pub(crate) const ISSUER: &str = "https://issuer-canary.example.com/";
/// The `aud` of its tokens.
pub(crate) const AUDIENCE: &str = "audience-canary";
/// Its secret, where it has one.
pub(crate) const SECRET: &str = "secret-canary-of-more-than-32-bytes!";

/// Somebody who signs.
#[derive(Clone)]
pub(crate) struct Signer {
    pub(crate) algorithm: Algorithm,
    pub(crate) kid: Option<&'static str>,
    pub(crate) pem: String,
    pub(crate) key: EncodingKey,
}

/// An RSA key takes its time to make.
static RSA: LazyLock<[KeyPair; 2]> = LazyLock::new(|| {
    [(), ()]
        .map(|()| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap())
});

impl Signer {
    /// One of two RSA keys.
    pub(crate) fn rsa(which: usize, algorithm: Algorithm) -> Self {
        let pair = &RSA[which];
        let key = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).unwrap();
        Self { algorithm, kid: None, pem: pair.public_key_pem(), key }
    }

    /// A new key for an algorithm of elliptic curves.
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        let kind = match algorithm {
            Algorithm::ES256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Algorithm::ES384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Algorithm::EdDSA => &rcgen::PKCS_ED25519,
            other => panic!("not of elliptic curves: {other:?}"),
        };
        let pair = KeyPair::generate_for(kind).unwrap();
        let private = pair.serialize_pem();
        let key = match algorithm {
            Algorithm::EdDSA => EncodingKey::from_ed_pem(private.as_bytes()),
            _ => EncodingKey::from_ec_pem(private.as_bytes()),
        };
        Self { algorithm, kid: None, pem: pair.public_key_pem(), key: key.unwrap() }
    }

    /// A shared secret.
    pub(crate) fn secret(secret: &[u8]) -> Self {
        let key = EncodingKey::from_secret(secret);
        Self { algorithm: Algorithm::HS256, kid: None, pem: String::new(), key }
    }

    pub(crate) fn named(self, kid: &'static str) -> Self {
        Self { kid: Some(kid), ..self }
    }

    /// Signs claims with the header that belongs to them.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let mut header = json!({ "alg": format!("{:?}", self.algorithm), "typ": "JWT" });
        if let Some(kid) = self.kid {
            header["kid"] = kid.into();
        }
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// Signs whatever it is given.
    pub(crate) fn sign_text(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", base64(header.as_bytes()), base64(claims.as_bytes()));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm);
        format!("{message}.{}", signature.unwrap())
    }

    /// Its public key as an entry of a key set.
    pub(crate) fn jwk(&self) -> Value {
        let jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        if let Some(kid) = self.kid {
            jwk["kid"] = kid.into();
        }
        jwk
    }

    /// Its configuration as an issuer.
    pub(crate) fn issuer(&self) -> String {
        let pem = serde_json::to_string(&self.pem).unwrap();
        format!("algorithms: [{:?}], public_key: {pem}", self.algorithm)
    }
}

/// Base64 for addresses, without padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - three.len()));
        for letter in 0..=three.len() {
            out.push(char::from(LETTERS[(bits >> (18 - 6 * letter) & 63) as usize]));
        }
    }
    out
}

/// Now, in seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "tokens are about the calendar")]
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Claims that are right, but for what `changes` says; `null` leaves a claim out.
pub(crate) fn claims(changes: &Value) -> Value {
    let mut claims = json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": now() + 600 });
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

/// A configuration with one issuer and no limit of attempts.
pub(crate) fn with_issuer(upstream: &str, issuer: &str, more: &str) -> String {
    let issuer = format!("{{ issuer: \"{ISSUER}\", audience: {AUDIENCE}, {issuer} }}");
    with_issuers(upstream, &[&issuer], "failed_attempts: { per_minute: none }", more)
}

/// A configuration with issuers, more of `auth`, and more.
pub(crate) fn with_issuers(upstream: &str, issuers: &[&str], auth: &str, more: &str) -> String {
    let issuers: Vec<_> = issuers.iter().map(|issuer| format!("    - {issuer}\n")).collect();
    let text = format!("auth:\n  jwt:\n{}  {auth}\n", issuers.concat());
    yaml(upstream, upstream, more).replacen("auth:\n", &text, 1)
}

/// A server of key sets, which says what a test has it say, and counts how often.
#[derive(Clone)]
pub(crate) struct KeyServer {
    pub(crate) url: String,
    says: Arc<Mutex<Option<(u16, String)>>>,
    asked: tokio::sync::watch::Sender<usize>,
}

impl KeyServer {
    pub(crate) async fn new(keys: &[&Signer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks.json?canary", listener.local_addr().unwrap());
        let server = Self { url, says: Arc::default(), asked: tokio::sync::watch::Sender::new(0) };
        server.has(keys);
        let serving = server.clone();
        super::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let serving = serving.clone();
                super::spawn(async move {
                    let mut buffer = [0; 4096];
                    if stream.read(&mut buffer).await.unwrap_or_default() == 0 {
                        return;
                    }
                    let says = serving.says.lock().unwrap().clone();
                    serving.asked.send_modify(|asked| *asked += 1);
                    let Some((status, body)) = says else { return std::future::pending().await };
                    let head = format!(
                        "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nlocation: {}\r\nconnection: close\r\n\r\n",
                        body.len(),
                        serving.url,
                    );
                    let _gone = stream.write_all(head.as_bytes()).await;
                    let _gone = stream.write_all(body.as_bytes()).await;
                });
            }
        });
        server
    }

    /// From now on it has these keys.
    pub(crate) fn has(&self, keys: &[&Signer]) {
        let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
        self.says(200, &json!({ "keys": keys }).to_string());
    }

    /// From now on it says this.
    pub(crate) fn says(&self, status: u16, body: &str) {
        *self.says.lock().unwrap() = Some((status, body.to_owned()));
    }

    /// From now on it says nothing, and never closes.
    pub(crate) fn hangs(&self) {
        *self.says.lock().unwrap() = None;
    }

    /// Waits until it was asked so often.
    pub(crate) async fn asked(&self, times: usize) {
        self.asked.subscribe().wait_for(|asked| *asked >= times).await.unwrap();
    }

    /// The number of requests that it received.
    pub(crate) fn times(&self) -> usize {
        *self.asked.borrow()
    }

    /// Its configuration as an issuer's.
    pub(crate) fn issuer(&self, algorithms: &str) -> String {
        format!("algorithms: [{algorithms}], jwks_url: \"{}\"", self.url)
    }
}
