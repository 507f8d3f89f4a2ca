//! JWT issuers: the section `auth.jwt`. Algorithms are pinned here and must fit the key, so that no token chooses
//! how it is verified. No message, log line or `Debug` may show a secret.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use url::{Host, Url};

use super::channel_rights::{CHANNEL_RIGHTS, ChannelRightTemplates, channel_rights};
use super::field::{Field, Format, Key, Notation, Section};
use super::known_models::{ALLOWED_MODELS, KnownModels};
use super::limits::{LIMITS, Limits, limits};
use super::queue::CLASS;
use super::reader::{Reader, Table};
use super::secret::Secret;
use super::tree::{Node, Value};
use super::units::{DURATION, POSITIVE_DURATION_OR_NONE, TEXT};

/// Algorithms of asymmetric keys. HS256 is for a shared secret, and for nothing else.
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
const SYMMETRIC: (&str, Algorithm) = ("HS256", Algorithm::HS256);

/// RFC 7518, section 3.2: a key as long as the hash.
const MIN_SECRET_BYTES: usize = 32;
/// The bytes of the smallest RSA modulus that is still safe (2048 bits).
const MIN_RSA_BYTES: usize = 256;

const ISSUER: Field<String> =
    TEXT.key("issuer", "The `iss` of its tokens, compared exactly.").required();
const AUDIENCE: Field<String> =
    TEXT.one_or_list("audience", "The `aud` of its tokens: this, or one of a list.").required();
const ALGORITHMS: Field<Algorithm> = Format::choice(
    || ASYMMETRIC.iter().chain([&SYMMETRIC]).map(|(name, _)| *name).collect(),
    |text| {
        let mut known = ASYMMETRIC.iter().chain([&SYMMETRIC]);
        known.find(|(name, _)| *name == text).map(|(_, algorithm)| *algorithm)
    },
)
.list("algorithms", "The signature algorithms that are accepted; `HS256` is for a `secret`, the others for public keys.")
.required();
const JWKS_URL: Field<Url> = Format::new(
    "`https://` URL",
    "an `https://` address without user or fragment (`http://` only for this machine's own)",
    Notation::Pattern("\\s*[hH][tT][tT][pP][sS]?:[^#]+"),
    jwks_url,
)
.secret()
.key("jwks_url", "Address of the issuer's JWK set; `http://` only on loopback.")
.otherwise("one of `jwks_url`, `public_key` and `secret` is required")
.example("https://idp.example.com/jwks.json");
const PUBLIC_KEY: Field<String> = TEXT
    .key(
        "public_key",
        "The issuer's public key as PEM: RSA of 2048 bits or more, P-256, P-384 or Ed25519.",
    )
    .example("${file:issuer.pem}");
const SECRET: Field<Secret> = Format::new(
    "text of at least 32 bytes",
    "a secret of at least 32 bytes (`openssl rand -hex 32` prints one)",
    Notation::Text,
    |text| (text.len() >= MIN_SECRET_BYTES).then(|| Secret::new(text)),
)
.secret()
.key("secret", "The secret that the issuer signs with (`HS256`).")
.example("${JWT_SECRET}");
const LEEWAY: Field<Duration> =
    DURATION.key("leeway", "Tolerance for the issuer's clock in `exp` and `nbf`.").default("30s");
const MAX_LIFETIME: Field<Option<Duration>> = POSITIVE_DURATION_OR_NONE
    .key("max_lifetime", "The longest time until a token's `exp`.")
    .default("24h");
const SUBJECT_CLAIM: Field<String> =
    TEXT.key("subject", "Claim with the caller's name.").default("sub");
const MODELS_CLAIM: Field<String> =
    TEXT.key("models", "Claim with the models that the caller may use.").default("models");
const LIMITS_CLAIM: Field<String> = TEXT
    .key("limits", "Claim with the caller's limits, in the keys of the section `limits`.")
    .default("limits");
const CHANNELS_CLAIM: Field<String> = TEXT
    .key(
        "channels",
        "Claim with the caller's channels: an object with lists `subscribe` and `publish`.",
    )
    .default("channels");
const CLAIMS: Section = Section::table(
    "claims",
    "Names of the claims that are read: each a whole name, or names of nested members joined by dots.",
    &[SUBJECT_CLAIM.key, MODELS_CLAIM.key, LIMITS_CLAIM.key, CHANNELS_CLAIM.key],
);

pub(super) const ISSUERS: Section = Section::list(
    "jwt",
    "Issuers of JWTs that callers may authenticate with. `models`, `limits` and `channels` hold for tokens without such a claim.",
    &[
        ISSUER.key,
        AUDIENCE.key,
        ALGORITHMS.key,
        JWKS_URL.key,
        PUBLIC_KEY.key,
        SECRET.key,
        LEEWAY.key,
        MAX_LIFETIME.key,
        CLAIMS.key,
        ALLOWED_MODELS.key,
        LIMITS.key,
        CLASS.key,
        CHANNEL_RIGHTS.key,
    ],
);

/// An issuer of tokens.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// The `iss` of its tokens, compared exactly.
    pub name: String,
    /// The `aud` of its tokens: one of these.
    pub audience: Vec<String>,
    /// The signature algorithms that its tokens may have.
    pub algorithms: Vec<Algorithm>,
    /// The keys that verify its tokens.
    pub keys: IssuerKeys,
    /// The tolerance for its clock.
    pub leeway: Duration,
    /// The longest time until `exp`. `None`: no limit.
    pub max_lifetime: Option<Duration>,
    /// The names of the claims that are read.
    pub claims: ClaimNames,
    /// The allowed models of callers whose token names none.
    pub models: Vec<String>,
    /// The limits of callers, where their token has none.
    pub limits: Limits,
    /// The class of its callers' requests in the queues of models.
    pub class: Option<String>,
    /// The channels of callers whose token has no such claim.
    pub channels: ChannelRightTemplates,
}

/// The keys that verify an issuer's tokens.
#[derive(Clone)]
pub enum IssuerKeys {
    /// A JWK set at this address.
    Fetched(Url),
    /// A public key.
    Public(DecodingKey),
    /// A secret shared with the issuer.
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
    /// The caller's name.
    pub subject: String,
    /// The models that the caller may use.
    pub models: String,
    /// The caller's limits.
    pub limits: String,
    /// The channels that the caller may subscribe and publish to.
    pub channels: String,
}

/// Whether a key has the type and the strength that an algorithm needs.
pub fn key_serves(key: &DecodingKey, algorithm: Algorithm) -> bool {
    use jsonwebtoken::DecodingKeyKind::{RsaModulusExponent, SecretOrDer};
    let modulus = |n: &[u8]| n.iter().skip_while(|byte| **byte == 0).count();
    key.family() == algorithm.family()
        && match (key.kind(), algorithm) {
            (SecretOrDer(point), Algorithm::ES256) => point.len() == 65,
            (SecretOrDer(point), Algorithm::ES384) => point.len() == 97,
            (SecretOrDer(point), Algorithm::EdDSA) => point.len() == 32,
            (SecretOrDer(secret), Algorithm::HS256) => secret.len() >= MIN_SECRET_BYTES,
            // The modulus and some framing.
            (SecretOrDer(der), _) => der.len() > MIN_RSA_BYTES,
            (RsaModulusExponent { n, .. }, _) => modulus(n) >= MIN_RSA_BYTES,
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
    let items = reader.list(auth, &ISSUERS).unwrap_or_default();
    items.iter().filter_map(|item| issuer(reader, item, known, (default, &mut names))).collect()
}

fn issuer(
    reader: &mut Reader<'_>,
    node: &Node,
    known: &KnownModels<'_>,
    (default, names): (Limits, &mut BTreeMap<String, usize>),
) -> Option<Issuer> {
    let table = reader.table(ISSUERS.name, node, &ISSUERS)?;
    reader.require(&table, &ISSUER, "the `iss` of its tokens, exactly");
    reader.require(&table, &AUDIENCE, "the `aud` of its tokens");
    reader.require(&table, &ALGORITHMS, &ALGORITHMS.format.scalar.expected());
    let name = reader.field(&table, &ISSUER);
    reader.reject_duplicate(&table, (&ISSUER, name.clone()), "issuer", names);
    let audience = audience(reader, &table);
    let algorithms = algorithms(reader, &table);
    let keys = keys(reader, &table, &algorithms);
    let leeway = reader.value(&table, &LEEWAY);
    let max_lifetime = reader.value(&table, &MAX_LIFETIME);
    let claims = reader.section(&table, &CLAIMS);
    let claims = ClaimNames {
        subject: reader.value(&claims, &SUBJECT_CLAIM),
        models: reader.value(&claims, &MODELS_CLAIM),
        limits: reader.value(&claims, &LIMITS_CLAIM),
        channels: reader.value(&claims, &CHANNELS_CLAIM),
    };
    let models = known.allowed(reader, &table);
    let limits = limits(reader, &table, default);
    let class = reader.field(&table, &CLASS);
    let channels = channel_rights(reader, &table);
    Some(Issuer {
        name: name?,
        audience,
        algorithms: algorithms.into_iter().map(|(_, algorithm)| algorithm).collect(),
        keys: keys?,
        leeway,
        max_lifetime,
        claims,
        models,
        limits,
        class,
        channels,
    })
}

/// Reads a text, or a list of texts.
fn audience(reader: &mut Reader<'_>, table: &Table<'_>) -> Vec<String> {
    let Some(node) = table.get(&AUDIENCE) else { return Vec::new() };
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    if items.is_empty() {
        reader.report(node.at, "`audience` is empty; expected the `aud` of its tokens");
    }
    items.iter().filter_map(|item| reader.text(AUDIENCE.name, item)).collect()
}

fn algorithms<'n>(reader: &mut Reader<'_>, table: &Table<'n>) -> Vec<(&'n Node, Algorithm)> {
    let items = reader.list(table, &ALGORITHMS);
    if items.is_some_and(<[Node]>::is_empty) {
        let expected = ALGORITHMS.format.scalar.expected();
        let message = format!("`algorithms` is empty; expected {expected}");
        reader.report(table.location(&ALGORITHMS), message);
    }
    let mut read = |item| Some((item, reader.scalar(ALGORITHMS.name, item, &ALGORITHMS.format)?));
    items.unwrap_or_default().iter().filter_map(&mut read).collect()
}

/// Reads the one source of keys, which must fit all algorithms.
fn keys(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    algorithms: &[(&Node, Algorithm)],
) -> Option<IssuerKeys> {
    let sources: [&Key; 3] = [&JWKS_URL, &PUBLIC_KEY, &SECRET];
    let given: Vec<_> =
        sources.into_iter().filter_map(|key| Some((key.name, table.get(key)?))).collect();
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
    let keys = if table.has(&JWKS_URL) {
        IssuerKeys::Fetched(reader.field(table, &JWKS_URL)?)
    } else if table.has(&PUBLIC_KEY) {
        let text = reader.field(table, &PUBLIC_KEY)?;
        let key = public_key(&text).map_err(|error| format!("`public_key` {error}"));
        IssuerKeys::Public(reader.report_err(node.at, key)?)
    } else {
        IssuerKeys::Shared(reader.field(table, &SECRET)?)
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

/// The algorithms that fit a source of keys, for a message.
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

/// Reads the address of a JWK set. Keys that come over plain HTTP could be replaced on the way.
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

/// Reads a public key in PEM. The error continues a message that names the key.
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
