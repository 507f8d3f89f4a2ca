//! Client TLS: the section `tls` of a provider, private certificate authorities and a client certificate. No message,
//! log line or `Debug` may show them.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls_platform_verifier::Verifier;
use sha2::{Digest, Sha256};
use tokio_rustls::rustls;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};

use super::field::{Field, Section};
use super::reader::{Reader, Table};
use super::tls::{certificates, certified, key_of, pem, validity};
use super::units::TEXT;

const CA: Field<String> = TEXT
    .key("ca", "Certificate authorities besides the public ones, as PEM: a path relative to this file, or the text by `${...}`.")
    .example("ca.pem");
const CERT: Field<String> = TEXT
    .key("cert", "Client certificate and those that signed it, as PEM; needs `key`.")
    .example("client.pem");
const KEY: Field<String> = TEXT
    .key("key", "Private key of the client certificate, as PEM; needs `cert`.")
    .example("client.key");

pub(super) const CLIENT_TLS: Section = Section::table(
    "tls",
    "TLS towards the upstream: private authorities, and a client certificate.",
    &[CA.key, CERT.key, KEY.key],
)
.otherwise("public certificate authorities, no client certificate");

/// TLS towards upstreams. Equal ones have the same certificates and key.
#[derive(Clone, Default)]
pub struct ClientTls(Arc<Material>);

#[derive(Default)]
struct Material {
    authorities: Vec<CertificateDer<'static>>,
    identity: Option<Arc<CertifiedKey>>,
    /// Of the files as they were read.
    digest: [u8; 32],
    /// Made of the above at the first use: it reads the system's authorities.
    config: OnceLock<Result<ClientConfig, String>>,
}

impl ClientTls {
    /// What a handshake needs. HTTP/1.1 is offered.
    pub fn config(&self) -> Result<&ClientConfig, &str> {
        let made = self.0.config.get_or_init(|| {
            let made = client_config(self.0.authorities.clone(), self.0.identity.clone());
            made.map_err(|error| error.to_string())
        });
        made.as_ref().map_err(String::as_str)
    }
}

impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.digest == other.0.digest
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").finish_non_exhaustive()
    }
}

/// Reads the section. `None`: it is left out, or wrong and reported.
pub(super) fn client_tls(reader: &mut Reader<'_>, provider: &Table<'_>) -> Option<ClientTls> {
    let node = provider.get(&CLIENT_TLS)?;
    let table = reader.table(CLIENT_TLS.name, node, &CLIENT_TLS)?;
    let (ca, cert, key) = (table.get(&CA), table.get(&CERT), table.get(&KEY));
    match (ca, cert, key) {
        (None, None, None) => {
            let expected = "expected `ca`, or `cert` and `key`";
            reader.report(node.at, format!("`tls` has no field; {expected}"));
        }
        (_, Some(_), None) => {
            reader.require(&table, &KEY, "the client certificate's private key, as PEM");
        }
        (_, None, Some(_)) => {
            reader.require(&table, &CERT, "the client certificate, as PEM");
        }
        _ => {}
    }
    let mut digest = Sha256::new();
    let mut text = |reader: &mut Reader<'_>, field: &Field<String>| {
        let node = table.get(field)?;
        let text = pem(reader, field.name, node)?;
        digest.update(field.name);
        digest.update((text.len() as u64).to_le_bytes());
        digest.update(&text);
        Some((node, text))
    };
    let [ca_text, cert_text, key_text] = [CA, CERT, KEY].map(|field| text(reader, &field));
    let authorities = ca_text.and_then(|(node, pem)| reader.report_err(node.at, authorities(&pem)));
    let expected = "expected the client's certificate, then those that signed it, as PEM";
    let chain = cert_text.and_then(|(node, pem)| {
        let chain = reader.report_err(node.at, certificates(CERT.name, &pem, expected))?;
        let warning = reader.report_err(node.at, validity(&chain, "upstreams"))?;
        if let Some(warning) = warning {
            reader.warn(node.at, warning);
        }
        Some(chain)
    });
    let private =
        key_text.and_then(|(node, pem)| Some((node, reader.report_err(node.at, key_of(&pem))?)));
    let identity = chain.zip(private).and_then(|(chain, (node, private))| {
        reader.report_err(node.at, certified(chain, private, &default_provider()))
    });
    let whole = authorities.is_some() == ca.is_some()
        && identity.is_some() == (cert.is_some() || key.is_some());
    let tls = whole.then(|| {
        ClientTls(Arc::new(Material {
            authorities: authorities.unwrap_or_default(),
            identity: identity.map(Arc::new),
            digest: digest.finalize().into(),
            config: OnceLock::new(),
        }))
    })?;
    // Made ready now, so that no request waits for it.
    reader.report_err(
        node.at,
        tls.config().map(drop).map_err(|error| format!("`tls` cannot be used: {error}")),
    )?;
    Some(tls)
}

fn authorities(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let expected = "expected certificates of authorities, as PEM";
    let authorities = certificates(CA.name, pem, expected)?;
    let mut store = RootCertStore::empty();
    for authority in &authorities {
        store
            .add(authority.clone())
            .map_err(|_| format!("`ca` has a certificate that cannot be read; {expected}"))?;
    }
    Ok(authorities)
}

/// The system's authorities (or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`), those built in, because
/// a container may have none, and `authorities`.
fn client_config(
    mut authorities: Vec<CertificateDer<'static>>,
    identity: Option<Arc<CertifiedKey>>,
) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(default_provider());
    authorities.extend(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
    let verifier = Verifier::new_with_extra_roots(authorities, Arc::clone(&provider))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        Some(identity) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
