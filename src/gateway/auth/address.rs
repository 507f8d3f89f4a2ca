//! Client addresses: the peer's, or the one that a trusted proxy reports. It must never believe what a caller reports
//! about itself. Pure.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

/// The origin of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The nearest address that is no trusted proxy's.
    pub address: IpAddr,
}

/// Headers that proxies, load balancers, tunnels and content delivery networks add to what they forward.
const FORWARDING: [&str; 6] =
    ["cdn-loop", "forwarded", "via", "x-amzn-trace-id", "x-arr-log-id", "x-original-host"];

/// Prefixes of the names of further such headers: those of RFC 7239's predecessors, Cloudflare, Envoy, Fastly,
/// Fly.io, Akamai, Azure, Google, Vercel and Tailscale.
const FORWARDING_PREFIXES: [&str; 12] = [
    "x-forwarded",
    "x-original-forwarded-",
    "cf-",
    "x-envoy-",
    "fastly-",
    "fly-",
    "akamai-",
    "x-azure-",
    "x-appengine-",
    "x-cloud-trace-",
    "x-vercel-",
    "tailscale-",
];

/// Parts of the names of headers that give the client's address: `x-real-ip`, `true-client-ip`,
/// `x-cluster-client-ip`, `do-connecting-ip`.
const FORWARDING_ADDRESSES: [&str; 4] = ["real-ip", "client-ip", "clientip", "connecting-ip"];

/// Whether a proxy has forwarded a request, trusted or not.
pub fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.keys().map(http::HeaderName::as_str).any(|name| {
        FORWARDING.contains(&name)
            || FORWARDING_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            || FORWARDING_ADDRESSES.iter().any(|part| name.contains(part))
    })
}

/// The origin of a request of this peer.
pub fn origin(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Origin {
    Origin { address: nearest(peer, headers, trusted) }
}

fn nearest(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let trusts = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut nearest = peer.to_canonical();
    if !trusts(&nearest) {
        return nearest;
    }
    // Each proxy adds its peer at the end. What cannot be read comes from beyond
    // the last readable one, as is everything before it.
    let lines = headers.get_all("x-forwarded-for").iter().rev();
    for hop in lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(',')) {
        let Some(address) = address(hop.trim()) else { break };
        nearest = address;
        if !trusts(&nearest) {
            break;
        }
    }
    nearest
}

/// `192.0.2.1`, `2001:db8::1`, and both with a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    Some(address.ok()?.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rightmost_untrusted_address_counts() {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        for (peer, forwarded, expected) in [
            ("192.0.2.9", &["203.0.113.7"][..], "192.0.2.9"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &["1.1.1.1, 203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &["1.1.1.1,203.0.113.7 , 10.9.9.9"], "203.0.113.7"),
            ("10.0.0.1", &["1.1.1.1", "203.0.113.7", "10.2.2.2, 10.3.3.3"], "203.0.113.7"),
            ("10.0.0.1", &["10.5.5.5, 10.6.6.6"], "10.5.5.5"),
            ("10.0.0.1", &["203.0.113.7:4711"], "203.0.113.7"),
            ("fd00::1", &["[2001:db8::7]:4711"], "2001:db8::7"),
            ("fd00::1", &["[2001:db8::7]"], "2001:db8::7"),
            ("::ffff:10.0.0.1", &["::ffff:203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &["203.0.113.7, nonsense"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.7, , 10.2.2.2"], "10.2.2.2"),
            ("10.0.0.1", &[""], "10.0.0.1"),
        ] {
            let mut headers = HeaderMap::new();
            for line in forwarded {
                headers.append("x-forwarded-for", line.parse().unwrap());
            }
            let found = origin(peer.parse().unwrap(), &headers, &trusted);
            assert_eq!(found.address.to_string(), expected, "{peer} {forwarded:?}");
            assert_eq!(is_forwarded(&headers), !forwarded.is_empty(), "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn what_clients_send_themselves_is_not_forwarded() {
        for name in [
            "host",
            "user-agent",
            "x-stainless-os",
            "x-api-key",
            "x-request-id",
            "origin",
            "traceparent",
        ] {
            let name = http::HeaderName::from_static(name);
            let headers =
                HeaderMap::from_iter([(name.clone(), http::HeaderValue::from_static("x"))]);
            assert!(!is_forwarded(&headers), "{name}");
        }
    }
}
