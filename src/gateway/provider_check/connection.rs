//! Connection checks: the name, the TCP connection and the TLS handshake of a provider, or of its proxy. It must never
//! send a request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{AlertDescription, CertificateError, Error as TlsError};
use url::{Host, Url};

use super::{Finding, State, Step};
use crate::config::Provider;

/// The port of SOCKS proxies (RFC 1928).
const SOCKS_PORT: u16 = 1080;

/// Resolves, connects and shakes hands, as far as it gets.
pub(super) async fn check(provider: &Provider, most: Duration) -> Vec<Finding> {
    let mut findings = Vec::new();
    let proxy = provider.egress.proxy.as_deref();
    let to = proxy.map_or(&provider.base_url, |proxy| proxy.address());
    let place = proxy.map_or_else(|| host_and_port(to), |proxy| format!("the proxy {proxy}"));
    let key = match proxy {
        Some(_) => {
            format!("correct `providers.{}.proxy`, or the environment's HTTPS_PROXY", provider.name)
        }
        None => format!("correct `providers.{}.base_url`", provider.name),
    };
    let addresses = match addresses(to, most).await {
        Ok((addresses, resolved)) => {
            if resolved {
                let message = format!("{place}: {} addresses", addresses.len());
                findings.push(Finding::new(Step::Name, State::Ok, message));
            }
            addresses
        }
        Err(why) => {
            let message = format!("{place} cannot be resolved ({why}); {key}, or look at DNS");
            findings.push(Finding::new(Step::Name, State::Broken, message));
            return findings;
        }
    };
    let stream = match connect(&addresses, most).await {
        Ok((stream, address)) => {
            let via = if proxy.is_some() { format!(", {place}") } else { String::new() };
            let message = format!("{address}{via}");
            findings.push(Finding::new(Step::Connection, State::Ok, message));
            stream
        }
        Err(why) => {
            let loopback = addresses.iter().all(|address| address.ip().is_loopback());
            let cause = if loopback { "start it" } else { "look at firewalls" };
            let message = format!("{place} cannot be reached ({why}); {cause}, or {key}");
            findings.push(Finding::new(Step::Connection, State::Broken, message));
            return findings;
        }
    };
    if proxy.is_none() && to.scheme() == "https" {
        findings.push(handshake(provider, stream, most).await);
    }
    findings
}

fn host_and_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The addresses of a host, and whether they were looked up.
async fn addresses(url: &Url, most: Duration) -> Result<(Vec<SocketAddr>, bool), String> {
    let port = url.port_or_known_default().unwrap_or(SOCKS_PORT);
    let name = match url.host() {
        Some(Host::Ipv4(address)) => return Ok((vec![(address, port).into()], false)),
        Some(Host::Ipv6(address)) => return Ok((vec![(address, port).into()], false)),
        Some(Host::Domain(name)) => name,
        None => return Err("it has no host".to_owned()),
    };
    let found = timeout(most, lookup_host((name, port))).await;
    let found: Vec<SocketAddr> = found
        .map_err(|_| format!("no response within {} s", most.as_secs()))?
        .map_err(|error| error.to_string())?
        .collect();
    if found.is_empty() { Err("no address".to_owned()) } else { Ok((found, true)) }
}

/// Connects to the first address that can be reached.
async fn connect(
    addresses: &[SocketAddr],
    most: Duration,
) -> Result<(TcpStream, SocketAddr), String> {
    let mut why = String::new();
    for address in addresses {
        match timeout(most, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok((stream, *address)),
            Ok(Err(error)) => why = error.to_string(),
            Err(_) => why = format!("no response within {} s", most.as_secs()),
        }
    }
    Err(why)
}

/// Shakes hands as requests do.
async fn handshake(provider: &Provider, stream: TcpStream, most: Duration) -> Finding {
    let broken = |message: String| Finding::new(Step::Tls, State::Broken, message);
    let config = match provider.egress.tls.config() {
        Ok(config) => Arc::new(config.clone()),
        Err(why) => return broken(format!("TLS cannot be used: {why}")),
    };
    let host = provider.base_url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let Ok(server) = ServerName::try_from(host) else {
        return broken(format!("correct `providers.{}.base_url`: no name for TLS", provider.name));
    };
    match timeout(most, TlsConnector::from(config).connect(server, stream)).await {
        Ok(Ok(stream)) => {
            let version = stream.get_ref().1.protocol_version();
            let version = version.and_then(|version| version.as_str()).unwrap_or("TLS");
            Finding::new(Step::Tls, State::Ok, format!("{version}, the certificate is valid"))
        }
        Ok(Err(error)) => {
            let known = error.get_ref().and_then(|error| error.downcast_ref::<TlsError>());
            let remedy = known.and_then(|error| remedy(error, &provider.name));
            broken(remedy.unwrap_or_else(|| format!("the handshake failed: {error}")))
        }
        Err(_) => broken(format!(
            "no handshake within {} s; if the port does not speak TLS, correct `providers.{}.base_url`",
            most.as_secs(),
            provider.name
        )),
    }
}

/// A known cause, and its remedy.
fn remedy(error: &TlsError, name: &str) -> Option<String> {
    Some(match error {
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer) => format!(
            "the certificate is signed by an authority that is not trusted; if it is your own, set `providers.{name}.tls.ca`"
        ),
        TlsError::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => "the certificate is not valid at this time; look at this machine's clock, then at the provider's certificate".to_owned(),
        TlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!("the certificate is for another name; correct `providers.{name}.base_url`"),
        TlsError::InvalidMessage(_) => format!(
            "the port does not speak TLS; correct `providers.{name}.base_url` (`http://`, or another port)"
        ),
        TlsError::AlertReceived(AlertDescription::CertificateRequired) => {
            format!("a client certificate is needed; set `providers.{name}.tls.cert` and `key`")
        }
        _ => return None,
    })
}
