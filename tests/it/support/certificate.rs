//! A certificate for the gateway, made for the test and kept in files, and callers who trust it.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::gateway::Gateway;

/// A certificate for 127.0.0.1 in files that go away with it.
pub(crate) struct Certificate {
    folder: PathBuf,
    pub(crate) der: CertificateDer<'static>,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("streamgate-tls-{}", rand::random::<u64>()));
        std::fs::create_dir(&folder).unwrap();
        let mut certificate = Self { folder, der: CertificateDer::from(Vec::new()) };
        certificate.renew();
        certificate
    }

    /// Puts another certificate with another key into the same files.
    pub(crate) fn renew(&mut self) {
        self.der = self.make(|_| {});
    }

    /// Puts another certificate for the same key into its file, as renewals do that keep the key.
    pub(crate) fn reissue(&mut self) {
        let key = std::fs::read_to_string(self.folder.join("key.pem")).unwrap();
        let key = KeyPair::from_pem(&key).unwrap();
        let cert = Self::parameters().self_signed(&key).unwrap();
        self.put("cert.pem", &cert.pem());
        self.der = cert.der().clone();
    }

    /// Takes one of the two files of another certificate over: `cert.pem` or `key.pem`.
    pub(crate) fn adopt(&mut self, other: &Self, name: &str) {
        self.put(name, &std::fs::read_to_string(other.folder.join(name)).unwrap());
        self.der = other.der.clone();
    }

    /// Replaces a file by another one, as who renews a certificate does.
    fn put(&self, name: &str, pem: &str) {
        let new = self.folder.join("new");
        std::fs::write(&new, pem).unwrap();
        std::fs::rename(new, self.folder.join(name)).unwrap();
    }

    fn parameters() -> CertificateParams {
        CertificateParams::new(["localhost", "127.0.0.1"].map(str::to_owned)).unwrap()
    }

    /// The same with a certificate that nobody takes any more.
    pub(crate) fn expire(&self) {
        self.make(|params| params.not_after = rcgen::date_time_ymd(2001, 1, 1));
    }

    /// Puts an authority's certificate that expires at the beginning of a year behind the first one.
    pub(crate) fn add_issuer(&self, year: i32) {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let issuer = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let first = std::fs::read_to_string(self.folder.join("cert.pem")).unwrap();
        self.put("cert.pem", &(first + &issuer.pem()));
    }

    /// Leaves no key in the key's file.
    pub(crate) fn spoil(&self) {
        std::fs::write(self.folder.join("key.pem"), "").unwrap();
    }

    fn make(&self, change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let mut params = Self::parameters();
        change(&mut params);
        let cert = params.self_signed(&key).unwrap();
        std::fs::write(self.folder.join("cert.pem"), cert.pem()).unwrap();
        std::fs::write(self.folder.join("key.pem"), key.serialize_pem()).unwrap();
        cert.der().clone()
    }

    /// A `server` section with it, and more fields.
    pub(crate) fn server(&self, more: &str) -> String {
        let folder = self.folder.display();
        format!("server: {{ tls: {{ cert: {folder}/cert.pem, key: {folder}/key.pem }}, {more} }}\n")
    }

    /// Makes this gateway's client trust the certificate. It speaks HTTP/1.1.
    pub(crate) fn trusted_by(&self, gateway: &mut Gateway) {
        gateway.client = self.client();
        gateway.url = format!("https://{}", gateway.address);
    }

    pub(crate) fn client(&self) -> reqwest::Client {
        let root = reqwest::Certificate::from_der(&self.der).unwrap();
        reqwest::Client::builder().no_proxy().tls_certs_only([root]).build().unwrap()
    }

    /// A TLS configuration for a caller with a socket. `alpn`: the protocols that it offers.
    pub(crate) fn config(&self, alpn: &[&str]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

/// Connects and shakes hands.
pub(crate) async fn secure(
    gateway: &Gateway,
    config: &Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(gateway.address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::clone(config)).connect(name, stream).await
}
