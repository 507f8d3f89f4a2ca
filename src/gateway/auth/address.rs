//! Where a request comes from. Pure. What a caller says of itself is never believed; what a trusted
//! proxy says of its peer is.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The nearest address that is no trusted proxy's.
    pub address: IpAddr,
    /// Whether a proxy has forwarded it, trusted or not.
    pub forwarded: bool,
}

/// What proxies add to what they forward.
const FORWARDING: [&str; 5] =
    ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"];

/// Where a request of this peer comes from.
pub fn origin(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Origin {
    let forwarded = FORWARDING.iter().any(|name| headers.contains_key(*name));
    Origin { address: nearest(peer, headers, trusted), forwarded }
}

fn nearest(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let trusts = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut nearest = peer.to_canonical();
    if !trusts(&nearest) {
        return nearest;
    }
    // Each proxy adds its peer at the end. What cannot be read is the word of whoever is beyond
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
            assert_eq!(found.forwarded, !forwarded.is_empty(), "{peer} {forwarded:?}");
        }
    }
}
