//! Proxies between the gateway and its upstreams, one of each kind, and a front that speaks
//! TLS and may want a client certificate.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// The behaviour of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// CONNECT, and requests with a whole address.
    Http,
    /// The same for `user:p@ss`.
    HttpWithCredentials,
    Socks,
    /// SOCKS5 for `user:p@ss`.
    SocksWithCredentials,
    /// Answers 403, or "connection not allowed" to SOCKS5.
    Refuses,
    Silent,
    Hangup,
    Junk,
}

/// A proxy in this process. Names are resolved to 127.0.0.1.
pub(crate) struct Proxy {
    /// Without a scheme.
    pub(crate) address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    pub(crate) async fn new(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let heard = Arc::clone(&asked);
        super::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let heard = Arc::clone(&heard);
                super::spawn(async move { serve(stream, manner, &heard).await });
            }
        });
        Self { address, asked }
    }

    /// Where it was asked to connect to, `host:port` each.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// `None`: the other side has left.
async fn serve(mut stream: TcpStream, manner: Manner, asked: &Mutex<Vec<String>>) -> Option<()> {
    let mut first = [0];
    stream.peek(&mut first).await.ok()?;
    match manner {
        Manner::Hangup => return None,
        Manner::Silent => return std::future::pending().await,
        Manner::Junk => {
            stream.write_all(b"220 mail.example.com ESMTP\r\n\r\n").await.ok()?;
            return std::future::pending().await;
        }
        _ => {}
    }
    if first[0] == 5 {
        socks(stream, manner, asked).await
    } else {
        http(stream, manner, asked).await
    }
}

async fn http(mut stream: TcpStream, manner: Manner, asked: &Mutex<Vec<String>>) -> Option<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let text = String::from_utf8(head.clone()).ok()?;
    let target = text.split(' ').nth(1)?;
    let host = target.strip_prefix("http://").unwrap_or(target).split('/').next()?;
    asked.lock().unwrap().push(host.to_owned());
    let expected = base64::engine::general_purpose::STANDARD.encode("user:p@ss");
    let expected = format!("proxy-authorization: basic {}", expected.to_ascii_lowercase());
    if manner == Manner::Refuses {
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await.ok()?;
        return None;
    }
    let known = text.to_ascii_lowercase().lines().any(|line| line == expected);
    if manner == Manner::HttpWithCredentials && !known {
        let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(refusal.as_bytes()).await.ok()?;
        return None;
    }
    let mut onward = connect(host).await?;
    if text.starts_with("CONNECT ") {
        stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.ok()?;
    } else {
        onward.write_all(&head).await.ok()?;
    }
    copy_bidirectional(&mut stream, &mut onward).await.ok().map(drop)
}

async fn socks(mut stream: TcpStream, manner: Manner, asked: &Mutex<Vec<String>>) -> Option<()> {
    let _version = stream.read_u8().await.ok()?;
    let mut methods = vec![0; stream.read_u8().await.ok()?.into()];
    stream.read_exact(&mut methods).await.ok()?;
    if manner == Manner::SocksWithCredentials || !methods.contains(&0) {
        if !methods.contains(&2) {
            stream.write_all(&[5, 0xff]).await.ok()?;
            return None;
        }
        stream.write_all(&[5, 2]).await.ok()?;
        let _version = stream.read_u8().await.ok()?;
        let mut pair = Vec::new();
        for _ in 0..2 {
            let mut text = vec![0; stream.read_u8().await.ok()?.into()];
            stream.read_exact(&mut text).await.ok()?;
            pair.push(String::from_utf8(text).ok()?);
        }
        let known = manner != Manner::SocksWithCredentials || pair == ["user", "p@ss"];
        stream.write_all(&[1, u8::from(!known)]).await.ok()?;
        known.then_some(())?;
    } else {
        stream.write_all(&[5, 0]).await.ok()?;
    }
    let mut request = [0; 4];
    stream.read_exact(&mut request).await.ok()?;
    let host = match request[3] {
        1 => std::net::Ipv4Addr::from(stream.read_u32().await.ok()?).to_string(),
        3 => {
            let mut name = vec![0; stream.read_u8().await.ok()?.into()];
            stream.read_exact(&mut name).await.ok()?;
            String::from_utf8(name).ok()?
        }
        _ => return None,
    };
    let to = format!("{host}:{}", stream.read_u16().await.ok()?);
    asked.lock().unwrap().push(to.clone());
    let refused = manner == Manner::Refuses;
    let answer = [5, if refused { 2 } else { 0 }, 0, 1, 127, 0, 0, 1, 0, 0];
    stream.write_all(&answer).await.ok()?;
    (!refused).then_some(())?;
    let mut onward = connect(&to).await?;
    copy_bidirectional(&mut stream, &mut onward).await.ok().map(drop)
}

async fn connect(to: &str) -> Option<TcpStream> {
    let (_, port) = to.rsplit_once(':')?;
    TcpStream::connect(("127.0.0.1", port.parse().ok()?)).await.ok()
}

/// Files of a private authority, and of a client certificate that it signed; they go away with it.
pub(crate) struct Authority {
    folder: std::path::PathBuf,
    /// Of a server called `upstream.test` and 127.0.0.1.
    server: (rcgen::Certificate, KeyPair),
    certificate: rcgen::Certificate,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("streamgate-ca-{}", rand::random::<u64>()));
        std::fs::create_dir(&folder).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let signed = |names: &[&str]| {
            let key = KeyPair::generate().unwrap();
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let params = CertificateParams::new(names).unwrap();
            (params.signed_by(&key, &issuer).unwrap(), key)
        };
        let server = signed(&["upstream.test", "127.0.0.1"]);
        let (client, client_key) = signed(&["gateway"]);
        for (name, pem) in [
            ("ca.pem", certificate.pem()),
            ("client.pem", client.pem()),
            ("client.key", client_key.serialize_pem()),
        ] {
            std::fs::write(folder.join(name), pem).unwrap();
        }
        Self { folder, server, certificate }
    }

    /// The path of `ca.pem`, `client.pem` or `client.key`.
    pub(crate) fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// A listener that passes what comes over TLS on to `upstream`, an `http://` address. Returns its
    /// port.
    pub(crate) async fn front(&self, upstream: &str, wants_client: bool) -> u16 {
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = if wants_client {
            let mut roots = RootCertStore::empty();
            roots.add(self.certificate.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let (certificate, key) = &self.server;
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let upstream = upstream.trim_start_matches("http://").to_owned();
        super::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, upstream) = (acceptor.clone(), upstream.clone());
                super::spawn(async move {
                    let mut stream = acceptor.accept(stream).await.ok()?;
                    let mut onward = TcpStream::connect(upstream).await.ok()?;
                    copy_bidirectional(&mut stream, &mut onward).await.ok()
                });
            }
        });
        port
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).ok();
    }
}
