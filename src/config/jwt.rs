//! Who vouches for callers: the issuers of `auth.jwt`. Algorithms are pinned here and must fit the
//! key, so that no token can choose how it is verified. No secret is ever shown.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use url::{Host, Url};

use super::auth::{KnownModels, reject_duplicate};
use super::limits::{Limits, limits};
use super::raw::{Reader, Table};
use super::secret::Secret;
use super::tree::{Node, Value};
use super::units;

/// What an issuer's key signs with. HS256 is for a shared secret, and for nothing else.
const ASYMMETRIC: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];
const NAMES: &str = "`RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `EdDSA`, or `HS256` with a `secret`";
const SOURCES: [&str; 3] = ["jwks_url", "public_key", "secret"];
const JWKS_URL: &str =
    "an `https://` address without user or fragment (`http://` only for this machine's own)";
const SECRET: &str = "a secret of at least 32 bytes (`openssl rand -hex 32` prints one)";
const DURATION: &str = "a duration such as `30s` or `2m`";
const LIFETIME: &str = "a duration above zero such as `1h` or `24h`, or `none`";
const CLAIM: &str = "the name of a claim";

/// RFC 7518, section 3.2: a key as long as the hash.
const SHORTEST_SECRET: usize = 32;
/// The bytes of the smallest RSA modulus that is still safe (2048 bits).
const SMALLEST_RSA: usize = 256;

/// An issuer of tokens.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// What its tokens say in `iss`, exactly.
    pub name: String,
    /// What its tokens must say in `aud`: one of these.
    pub audience: Vec<String>,
    /// What its tokens may be signed with.
    pub algorithms: Vec<Algorithm>,
    /// What they are verified with.
    pub keys: IssuerKeys,
    /// How much its clock may differ from ours.
    pub leeway: Duration,
    /// How far ahead `exp` may lie.
    pub max_lifetime: Option<Duration>,
    /// Where its tokens say what.
    pub claims: ClaimNames,
    /// The models of callers whose token names none.
    pub models: Vec<String>,
    /// The limits of callers, where their token says nothing else.
    pub limits: Limits,
}

/// What an issuer's tokens are verified with.
#[derive(Clone)]
pub enum IssuerKeys {
    /// Public keys, fetched from there.
    Fetched(Url),
    /// A public key.
    Public(DecodingKey),
    /// A secret that whoever issues tokens has too.
    Shared(Secret),
}

impl std::fmt::Debug for IssuerKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // An address may hold a credential in its query.
        f.write_str(match self {
            Self::Fetched(_) => "Fetched",
            Self::Public(_) => "Public",
            Self::Shared(_) => "Shared",
        })
    }
}

/// The names of the claims that are read: each the name of a member, or names joined by dots.
#[derive(Debug, Clone)]
pub struct ClaimNames {
    /// Who calls.
    pub subject: String,
    /// The models that they may use.
    pub models: String,
    /// Their limits.
    pub limits: String,
}

/// Whether a key is of the kind and the strength that an algorithm needs.
pub fn key_serves(key: &DecodingKey, algorithm: Algorithm) -> bool {
    use jsonwebtoken::DecodingKeyKind::{RsaModulusExponent, SecretOrDer};
    let modulus = |n: &[u8]| n.iter().skip_while(|byte| **byte == 0).count();
    key.family() == algorithm.family()
        && match (key.kind(), algorithm) {
            (SecretOrDer(point), Algorithm::ES256) => point.len() == 65,
            (SecretOrDer(point), Algorithm::ES384) => point.len() == 97,
            (SecretOrDer(point), Algorithm::EdDSA) => point.len() == 32,
            (SecretOrDer(secret), Algorithm::HS256) => secret.len() >= SHORTEST_SECRET,
            // The modulus and some framing.
            (SecretOrDer(der), _) => der.len() > SMALLEST_RSA,
            (RsaModulusExponent { n, .. }, _) => modulus(n) >= SMALLEST_RSA,
        }
}

/// Reads the issuers.
pub(super) fn issuers(
    reader: &mut Reader<'_>,
    auth: &Table<'_>,
    known: &KnownModels<'_>,
    default: Limits,
) -> Vec<Issuer> {
    let mut names = BTreeMap::new();
    let items = reader.list(auth, "jwt").unwrap_or_default();
    items.iter().filter_map(|item| issuer(reader, item, known, (default, &mut names))).collect()
}

fn issuer(
    reader: &mut Reader<'_>,
    node: &Node,
    known: &KnownModels<'_>,
    (default, names): (Limits, &mut BTreeMap<String, usize>),
) -> Option<Issuer> {
    let fields = [
        "issuer",
        "audience",
        "algorithms",
        "jwks_url",
        "public_key",
        "secret",
        "leeway",
        "max_lifetime",
        "claims",
        "models",
        "limits",
    ];
    let table = reader.table("jwt", node, &fields)?;
    reader.require(&table, "issuer", "what its tokens say in `iss`, exactly");
    reader.require(&table, "audience", "what its tokens say in `aud`");
    reader.require(&table, "algorithms", NAMES);
    let name = reader.text_of(&table, "issuer");
    reject_duplicate(reader, &table, ("issuer", name.clone()), "issuer", names);
    let audience = audience(reader, &table);
    let algorithms = algorithms(reader, &table);
    let keys = keys(reader, &table, &algorithms);
    let leeway = reader.field(&table, "leeway", (DURATION, units::duration));
    let max_lifetime =
        reader.field(&table, "max_lifetime", (LIFETIME, units::or_none(units::positive_duration)));
    let claims = claims(reader, &table);
    let models = known.models(reader, &table);
    let limits = limits(reader, &table, default);
    Some(Issuer {
        name: name?,
        audience,
        algorithms: algorithms.into_iter().map(|(_, algorithm)| algorithm).collect(),
        keys: keys?,
        leeway: leeway.unwrap_or(Duration::from_secs(30)),
        max_lifetime: max_lifetime.unwrap_or(Some(Duration::from_hours(24))),
        claims,
        models,
        limits,
    })
}

/// A text, or a list of texts.
fn audience(reader: &mut Reader<'_>, table: &Table<'_>) -> Vec<String> {
    let Some(node) = table.get("audience") else { return Vec::new() };
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    if items.is_empty() {
        reader.report(node.at, "`audience` is empty; expected what its tokens say in `aud`");
    }
    items.iter().filter_map(|item| reader.text("audience", item)).collect()
}

fn algorithms<'n>(reader: &mut Reader<'_>, table: &Table<'n>) -> Vec<(&'n Node, Algorithm)> {
    let items = reader.list(table, "algorithms").unwrap_or_default();
    if let (Some(node), true) = (table.get("algorithms"), items.is_empty())
        && matches!(node.value, Value::List(_))
    {
        reader.report(node.at, format!("`algorithms` is empty; expected {NAMES}"));
    }
    let named = |text: &str| {
        let found = ASYMMETRIC.iter().find(|(name, _)| *name == text);
        found
            .map(|(_, algorithm)| *algorithm)
            .or_else(|| (text == "HS256").then_some(Algorithm::HS256))
    };
    let read = |item| Some((item, reader.parsed("algorithms", item, (NAMES, named))?));
    items.iter().filter_map(read).collect()
}

/// The one source of keys, which must fit all algorithms.
fn keys(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    algorithms: &[(&Node, Algorithm)],
) -> Option<IssuerKeys> {
    let given: Vec<_> =
        SOURCES.into_iter().filter_map(|name| Some((name, table.get(name)?))).collect();
    let (name, node) = match given.as_slice() {
        [one] => *one,
        [] => {
            reader.report(
                table.at,
                "no key to verify tokens with; expected `jwks_url`, `public_key` or `secret`",
            );
            return None;
        }
        [(first, _), (second, node), ..] => {
            reader.report(
                node.at,
                format!("`{second}` is given beside `{first}`; expected only one of them"),
            );
            return None;
        }
    };
    let keys = match name {
        "jwks_url" => IssuerKeys::Fetched(reader.hidden(name, node, (JWKS_URL, jwks_url))?),
        "public_key" => {
            let text = reader.text(name, node)?;
            match public_key(&text) {
                Ok(key) => IssuerKeys::Public(key),
                Err(wrong) => {
                    reader.report(node.at, format!("`public_key` {wrong}"));
                    return None;
                }
            }
        }
        _ => IssuerKeys::Shared(reader.hidden(name, node, (SECRET, secret))?),
    };
    for (node, algorithm) in algorithms {
        let fits = match &keys {
            IssuerKeys::Fetched(_) => algorithm.family() != AlgorithmFamily::Hmac,
            IssuerKeys::Public(key) => key_serves(key, *algorithm),
            IssuerKeys::Shared(_) => algorithm.family() == AlgorithmFamily::Hmac,
        };
        if !fits {
            let message = format!(
                "`algorithms` has `{algorithm:?}`, which does not go with this `{name}`; expected {}",
                fitting(&keys)
            );
            reader.report(node.at, message);
        }
    }
    Some(keys)
}

/// The algorithms that go with a source of keys, as words.
fn fitting(keys: &IssuerKeys) -> String {
    let fits = |algorithm| match keys {
        IssuerKeys::Fetched(_) => true,
        IssuerKeys::Public(key) => key_serves(key, algorithm),
        IssuerKeys::Shared(_) => false,
    };
    let names: Vec<_> = ASYMMETRIC
        .iter()
        .filter(|(_, algorithm)| fits(*algorithm))
        .map(|(name, _)| format!("`{name}`"))
        .collect();
    if names.is_empty() { "`HS256`".to_owned() } else { names.join(", ") }
}

/// Keys that come over an open line are anybody's keys.
fn jwks_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    let own = match url.host()? {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(address) => IpAddr::from(address).is_loopback(),
        Host::Ipv6(address) => IpAddr::from(address).is_loopback(),
    };
    (plain && (url.scheme() == "https" || (url.scheme() == "http" && own))).then_some(url)
}

/// A public key in PEM, or what is wrong with it.
fn public_key(text: &str) -> Result<DecodingKey, &'static str> {
    if text.contains("PRIVATE KEY-----") {
        return Err(
            "holds a private key; expected the public one, and the private one kept elsewhere",
        );
    }
    if text.contains("-----BEGIN CERTIFICATE-----") {
        return Err(
            "holds a certificate; expected its public key (`openssl x509 -pubkey -noout` prints it)",
        );
    }
    if text.matches("-----BEGIN ").count() > 1 {
        return Err("holds several keys; expected one (`jwks_url` is for sets)");
    }
    let pem = text.as_bytes();
    let key = DecodingKey::from_rsa_pem(pem)
        .or_else(|_| DecodingKey::from_ec_pem(pem))
        .or_else(|_| DecodingKey::from_ed_pem(pem))
        .map_err(|_| {
            "does not parse; expected an RSA, EC or Ed25519 key in PEM (`-----BEGIN PUBLIC KEY-----`), or `${file:PATH}` of one"
        })?;
    if ASYMMETRIC.iter().any(|(_, algorithm)| key_serves(&key, *algorithm)) {
        return Ok(key);
    }
    Err(
        "is of a kind or size that is not supported; expected RSA of 2048 bits or more, P-256, P-384 or Ed25519",
    )
}

fn secret(text: &str) -> Option<Secret> {
    (text.len() >= SHORTEST_SECRET).then(|| Secret::new(text))
}

fn claims(reader: &mut Reader<'_>, table: &Table<'_>) -> ClaimNames {
    let claims = reader.section(table, "claims", &["subject", "models", "limits"]);
    let mut name = |key: &str, default: &str| {
        let named = reader.field(&claims, key, (CLAIM, |text: &str| Some(text.to_owned())));
        named.unwrap_or_else(|| default.to_owned())
    };
    ClaimNames {
        subject: name("subject", "sub"),
        models: name("models", "models"),
        limits: name("limits", "limits"),
    }
}
