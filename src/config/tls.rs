//! Server TLS: the section `server.tls`, a certificate and its private key. No message, log line or `Debug` may show
//! the key, nor anything made of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio_rustls::rustls;

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, RootCertStore, ServerConfig};

use super::field::{Field, Section};
use super::reader::{Reader, Table, shown};
use super::tree::{Node, Value};
use super::units::TEXT;

const CHAIN: &str = "expected the server's certificate, then those that signed it, as PEM";

const CERT: Field<String> = TEXT
    .key(
        "cert",
        "The certificate and those that signed it, as PEM: a path relative to this file, or the text by `${...}`.",
    )
    .required()
    .example("cert.pem");
const KEY: Field<String> = TEXT
    .key("key", "The certificate's private key, as PEM, without a passphrase.")
    .required()
    .example("key.pem");

pub(super) const TLS: Section = Section::table(
    "tls",
    "HTTPS with HTTP/2 for callers (docs/tls.md). A change of the files is a reload.",
    &[CERT.key, KEY.key],
)
.otherwise("plain HTTP");

/// TLS of the listener.
#[derive(Clone)]
pub struct Tls {
    /// Of the certificate and the key as they were read.
    digest: [u8; 32],
    expiry: Option<i64>,
    server: Arc<ServerConfig>,
}

impl Tls {
    /// The configuration of handshakes. HTTP/2 is offered before HTTP/1.1.
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// The earliest expiry of the chain's certificates, in seconds since 1970. `None`: none of them could be parsed.
    pub fn expiry(&self) -> Option<i64> {
        self.expiry
    }

    /// Itself, or `running` if that has the same certificate and key: callers who hold its session
    /// tickets may go on using them.
    #[must_use]
    pub fn or_same(self, running: Option<&Self>) -> Self {
        match running {
            Some(running) if running.digest == self.digest => running.clone(),
            _ => self,
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// Reads the section. `None`: it is left out, or wrong and reported.
pub(super) fn tls(reader: &mut Reader<'_>, server: &Table<'_>) -> Option<Tls> {
    let node = server.get(&TLS)?;
    let table = reader.table(TLS.name, node, &TLS)?;
    reader.require(&table, &CERT, "a file with the certificate, as PEM");
    reader.require(&table, &KEY, "a file with the certificate's private key, as PEM");
    let (cert, key) = (table.get(&CERT), table.get(&KEY));
    let cert_text = cert.and_then(|node| pem(reader, CERT.name, node));
    let key_text = key.and_then(|node| pem(reader, KEY.name, node));
    let chain = cert.zip(cert_text.as_deref());
    let chain = chain
        .and_then(|(node, pem)| reader.report_err(node.at, certificates(CERT.name, pem, CHAIN)));
    let private = key.zip(key_text.as_deref());
    let private = private.and_then(|(node, pem)| reader.report_err(node.at, key_of(pem)));
    let (cert, key, chain, private) = (cert?, key?, chain?, private?);
    let outdated = reader.report_err(cert.at, validity(&chain, "callers"))?;
    let expiry = expiry(&chain);
    let server = reader.report_err(key.at, server_config(chain, private))?;
    if let Some(outdated) = outdated {
        reader.warn(cert.at, outdated);
    }
    let mut digest = Sha256::new();
    for text in [cert_text?, key_text?] {
        digest.update((text.len() as u64).to_le_bytes());
        digest.update(text);
    }
    Some(Tls { digest: digest.finalize().into(), expiry, server: Arc::new(server) })
}

/// The PEM text in the file that a field names, or in the field itself, where an expansion put it.
pub(super) fn pem(reader: &mut Reader<'_>, name: &str, node: &Node) -> Option<String> {
    let text = reader.text(name, node)?;
    if text.contains("-----BEGIN ") {
        return Some(text);
    }
    let read = reader.pem_file(&text).map_err(|error| {
        let raw = if let Value::Text(raw) = &node.value { raw.as_str() } else { "" };
        // A key that was pasted without its armour is base64, which has no dot.
        let path = if raw.contains('.') { format!("`{}`", raw.escape_debug()) } else { shown(raw) };
        format!("`{name}` names the file {path} ({error}); expected a readable PEM file")
    });
    reader.report_err(node.at, read)
}

/// The certificates of a PEM text; `name` is the field that it comes from.
pub(super) fn certificates(
    name: &str,
    pem: &str,
    expected: &str,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match chain {
        Err(_) => Err(format!("`{name}` is not intact; {expected}")),
        Ok(chain) if chain.is_empty() => Err(format!("`{name}` has no certificate; {expected}")),
        Ok(chain) => Ok(chain),
    }
}

pub(super) fn key_of(pem: &str) -> Result<PrivateKeyDer<'static>, String> {
    if pem.contains("-----BEGIN ENCRYPTED ") || pem.contains("Proc-Type: 4,ENCRYPTED") {
        let remedy = "expected it without a passphrase: `openssl pkey -in KEY -out PLAIN`";
        return Err(format!("`key` is encrypted; {remedy}"));
    }
    let keys: Result<Vec<_>, _> = PrivateKeyDer::pem_slice_iter(pem.as_bytes()).collect();
    let mut keys =
        keys.map_err(|_| "`key` is not intact; expected one private key, as PEM".to_owned())?;
    match (keys.pop(), keys.len()) {
        (Some(key), 0) => Ok(key),
        (None, _) => Err("`key` has no private key; expected one, as PEM".into()),
        (Some(_), more) => Err(format!("`key` has {} private keys; expected one", more + 1)),
    }
}

/// The earliest expiry of these certificates: a chain is valid as long as all of it is.
fn expiry(chain: &[CertificateDer<'_>]) -> Option<i64> {
    // At the end of all time, so that each certificate is reported as expired, with its date.
    let end = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
    let not_after = |der| match verify_dates(&ParsedCertificate::try_from(der).ok()?, end)? {
        CertificateError::ExpiredContext { not_after, .. } => {
            i64::try_from(not_after.as_secs()).ok()
        }
        _ => None,
    };
    chain.iter().filter_map(not_after).min()
}

/// A warning if the first certificate has expired or is not valid yet, so that `peers` will reject it.
pub(super) fn validity(
    chain: &[CertificateDer<'_>],
    peers: &str,
) -> Result<Option<String>, String> {
    let unreadable =
        || "`cert` cannot be read; expected a certificate of X.509 version 3".to_owned();
    let first = chain.first().ok_or_else(unreadable)?;
    let cert = ParsedCertificate::try_from(first).map_err(|_| unreadable())?;
    let consequence = format!("{peers} will reject it; replace the file");
    Ok(match verify_dates(&cert, UnixTime::now()) {
        Some(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            Some(format!("`cert` has expired: {consequence}"))
        }
        Some(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            Some(format!("`cert` is not valid yet: {consequence}, or set the clock"))
        }
        _ => None,
    })
}

/// The error of a verifier without trust anchors: that of the dates, which are checked first, or that no issuer is
/// trusted.
fn verify_dates(cert: &ParsedCertificate<'_>, now: UnixTime) -> Option<CertificateError> {
    let algorithms = default_provider().signature_verification_algorithms.all;
    let nobody = RootCertStore::empty();
    match verify_server_cert_signed_by_trust_anchor(cert, &nobody, &[], now, algorithms) {
        Err(rustls::Error::InvalidCertificate(error)) => Some(error),
        _ => None,
    }
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, String> {
    // The provider is named: a default for the whole process would be a global that tests and
    // other users of the library share.
    let provider = Arc::new(default_provider());
    let certified = certified(chain, key, &provider)?;
    let builder = ServerConfig::builder_with_provider(provider);
    let impossible = |error| format!("`key` cannot be used ({error}); expected another");
    let mut server = builder
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(impossible)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Sessions are resumed with tickets that callers keep, so that any worker can.
    server.ticketer = Ticketer::new().map_err(impossible)?;
    Ok(server)
}

pub(super) fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, String> {
    let signing = provider.key_provider.load_private_key(key).map_err(|_| {
        "`key` is of no kind that TLS uses; expected RSA, ECDSA or Ed25519".to_owned()
    })?;
    let certified = CertifiedKey::new(chain, signing);
    certified.keys_match().map_err(|_| {
        "`key` does not belong to the first certificate of `cert`; expected its private key"
            .to_owned()
    })?;
    Ok(certified)
}
