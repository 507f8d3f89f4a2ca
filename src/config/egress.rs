//! Egress: the proxy and the TLS of connections to upstreams. A provider's `proxy` overrides the environment's. It must
//! never connect to anything, nor show a proxy's credentials.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::client_tls::{self, ClientTls};
use super::field::{Field, Format, Notation};
use super::reader::{Reader, Table};
use super::secret::Secret;

/// Its errors name what is wrong with an address, and are written by [`proxy`].
pub(super) const PROXY: Field<String> = Format::new(
    "`http://`, `https://`, `socks5://` or `socks5h://` URL, or `none`",
    "`none`, or an address such as `http://proxy.example.com:3128` with the scheme `http`, `https`, \
     `socks5` or `socks5h`",
    Notation::Pattern("none|([hH][tT][tT][pP][sS]?|[sS][oO][cC][kK][sS]5[hH]?)://[^?#]+"),
    |text| Some(text.to_owned()),
)
.secret()
.key("proxy", "The proxy that the upstream is reached through; `none` connects directly.")
.otherwise("`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` of the environment")
.example("http://user:${PROXY_PASSWORD}@proxy.example.com:3128");

const SCHEMES: [&str; 4] = ["http", "https", "socks5", "socks5h"];

/// The way to an upstream. Equal ones share connections.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Egress {
    /// The proxy that connections go through; without one, they are direct.
    pub proxy: Option<Arc<EgressProxy>>,
    /// How TLS is spoken to the upstream, and to a proxy that speaks it.
    pub tls: ClientTls,
}

/// A proxy on the way to upstreams. `Display` and `Debug` leave out its credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct EgressProxy {
    /// Without credentials.
    address: Url,
    credentials: Option<(String, Secret)>,
}

impl EgressProxy {
    /// `http`, `https`, `socks5` (names are resolved here) or `socks5h` (names are resolved there).
    pub fn scheme(&self) -> &str {
        self.address.scheme()
    }

    /// Its address, without credentials.
    pub fn address(&self) -> &Url {
        &self.address
    }

    /// User and password, decoded.
    pub fn credentials(&self) -> Option<(&str, &str)> {
        self.credentials.as_ref().map(|(user, password)| (user.as_str(), password.expose()))
    }

    /// Reads `scheme://[user:password@]host[:port]`, or returns what is wrong with it.
    fn parse(text: &str) -> Result<Self, &'static str> {
        let Some((scheme, _)) = text.split_once("://") else {
            return Err("has no scheme");
        };
        if !SCHEMES.contains(&scheme.to_ascii_lowercase().as_str()) {
            return Err("has an unsupported scheme");
        }
        let mut address = Url::parse(text).map_err(|_| "is not an address")?;
        if address.host_str().is_none_or(str::is_empty) {
            return Err("has no host");
        }
        let bare = matches!(address.path(), "" | "/")
            && address.query().is_none()
            && address.fragment().is_none();
        if !bare {
            return Err("has a path or a query");
        }
        let decoded = |text: &str| percent_decode_str(text).decode_utf8().map(String::from);
        let user = decoded(address.username());
        let password = address.password().map(decoded).transpose();
        let (Ok(user), Ok(password)) = (user, password) else {
            return Err("has credentials that are not UTF-8");
        };
        let given = !user.is_empty() || password.is_some();
        let credentials = given.then(|| (user, Secret::new(password.unwrap_or_default())));
        // Both can fail only for addresses without a host.
        let stripped = address.set_username("").and_then(|()| address.set_password(None));
        stripped.map_err(|()| "has no host")?;
        Ok(Self { address, credentials })
    }
}

impl fmt::Display for EgressProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.address.as_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for EgressProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The proxies that `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` name, in capitals or small
/// letters; the latter come first, as for curl.
#[derive(Debug, Clone, Default, PartialEq)]
struct ProxyEnvironment {
    http: Option<Arc<EgressProxy>>,
    https: Option<Arc<EgressProxy>>,
    direct: Vec<Exception>,
}

/// An entry of `NO_PROXY`: what is reached directly, on one port or on all.
#[derive(Debug, Clone, PartialEq)]
struct Exception {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq)]
enum Hosts {
    All,
    Network(IpNet),
    /// A domain and all below it.
    Domain(String),
}

impl ProxyEnvironment {
    /// Reads the variables. Those that are wrong count as left out, and are returned as messages.
    fn read(env: &dyn Fn(&str) -> Option<String>) -> (Self, Vec<String>) {
        let mut wrong = Vec::new();
        let mut proxy = |name: &'static str| {
            let [small, capital] = [name.to_ascii_lowercase(), name.to_owned()];
            let (name, text) = [small, capital].into_iter().find_map(|name| {
                let text = env(&name).filter(|text| !text.is_empty())?;
                Some((name, text))
            })?;
            // Without a scheme, HTTP is meant, as everywhere.
            let text = if text.contains("://") { text } else { format!("http://{text}") };
            let parsed = EgressProxy::parse(&text).map_err(|reason| {
                wrong.push(format!(
                    "the environment variable `{name}` {reason}; expected an address such as \
                     `http://proxy.example.com:3128` with the scheme `http`, `https`, `socks5` or `socks5h`"
                ));
            });
            parsed.ok().map(Arc::new)
        };
        let all = proxy("ALL_PROXY");
        let [http, https] =
            ["HTTP_PROXY", "HTTPS_PROXY"].map(|name| proxy(name).or_else(|| all.clone()));
        let exceptions = ["no_proxy", "NO_PROXY"]
            .into_iter()
            .find_map(|name| env(name).filter(|text| !text.is_empty()));
        let direct = exceptions.unwrap_or_default();
        let direct = direct.split([',', ' ']).filter_map(Exception::parse).collect();
        (Self { http, https, direct }, wrong)
    }

    /// The proxy for an address. Loopback addresses are always reached directly.
    fn proxy_for(&self, url: &Url) -> Option<Arc<EgressProxy>> {
        let proxy = if url.scheme() == "https" { &self.https } else { &self.http };
        let proxy = proxy.as_ref()?;
        let host = url.host()?;
        let port = url.port_or_known_default();
        let direct =
            is_loopback(&host) || self.direct.iter().any(|known| known.covers(&host, port));
        (!direct).then(|| Arc::clone(proxy))
    }
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.to_canonical().is_loopback(),
    }
}

impl Exception {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if text.is_empty() {
            return None;
        }
        if text == "*" {
            return Some(Self { hosts: Hosts::All, port: None });
        }
        let network = |text: &str| {
            let plain = text.trim_start_matches('[').trim_end_matches(']');
            plain.parse().or_else(|_| plain.parse::<IpAddr>().map(IpNet::from)).ok()
        };
        if let Some(network) = network(&text) {
            return Some(Self { hosts: Hosts::Network(network), port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (text.as_str(), None),
        };
        let hosts = network(host).map_or_else(
            || Hosts::Domain(host.trim_start_matches('*').trim_matches('.').to_owned()),
            Hosts::Network,
        );
        Some(Self { hosts, port })
    }

    fn covers(&self, host: &Host<&str>, port: Option<u16>) -> bool {
        if self.port.is_some() && self.port != port {
            return false;
        }
        match (&self.hosts, host) {
            (Hosts::All, _) => true,
            (Hosts::Network(network), Host::Ipv4(address)) => {
                network.contains(&IpAddr::V4(*address))
            }
            (Hosts::Network(network), Host::Ipv6(address)) => {
                network.contains(&address.to_canonical())
            }
            (Hosts::Domain(domain), Host::Domain(name)) => {
                let above = name.trim_end_matches('.').strip_suffix(domain.as_str());
                above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
            }
            (Hosts::Network(_), Host::Domain(_)) | (Hosts::Domain(_), _) => false,
        }
    }
}

/// What a provider states of its way out.
pub(super) struct Stated {
    proxy: ProxySetting,
    tls: Option<ClientTls>,
}

/// A provider's `proxy`.
enum ProxySetting {
    /// Left out: what the environment says.
    Environment,
    /// `none`, whatever the environment says.
    Direct,
    Through(EgressProxy),
}

impl Stated {
    /// Reads a provider's `proxy` and `tls`.
    pub(super) fn read(reader: &mut Reader<'_>, provider: &Table<'_>) -> Self {
        Self { proxy: proxy(reader, provider), tls: client_tls::client_tls(reader, provider) }
    }

    /// The way to an address; what is not stated is as it is for all.
    pub(super) fn or(self, general: &General, url: &Url) -> Egress {
        let proxy = match self.proxy {
            ProxySetting::Environment => general.proxies.proxy_for(url),
            ProxySetting::Direct => None,
            ProxySetting::Through(proxy) => Some(Arc::new(proxy)),
        };
        Egress { proxy, tls: self.tls.unwrap_or_else(|| general.tls.clone()) }
    }
}

/// What holds for every connection out that has no settings of its own.
#[derive(Debug, Clone, Default)]
pub struct General {
    proxies: ProxyEnvironment,
    tls: ClientTls,
}

impl General {
    /// Reads the environment, and returns what is wrong with it.
    pub(super) fn read(env: &dyn Fn(&str) -> Option<String>) -> (Self, Vec<String>) {
        let (proxies, wrong) = ProxyEnvironment::read(env);
        (Self { proxies, tls: ClientTls::default() }, wrong)
    }

    /// The way to an address.
    pub fn to(&self, url: &Url) -> Egress {
        Egress { proxy: self.proxies.proxy_for(url), tls: self.tls.clone() }
    }
}

fn proxy(reader: &mut Reader<'_>, provider: &Table<'_>) -> ProxySetting {
    let Some(text) = reader.field(provider, &PROXY) else {
        return ProxySetting::Environment;
    };
    if text == "none" {
        return ProxySetting::Direct;
    }
    match EgressProxy::parse(&text) {
        Ok(proxy) => ProxySetting::Through(proxy),
        Err(reason) => {
            let expected = PROXY.format.scalar.expected();
            let message = format!("`proxy` {reason}; expected {expected}");
            reader.report(provider.location(&PROXY), message);
            ProxySetting::Environment
        }
    }
}
