//! The client of a request, by address: the peer, or the address that a trusted proxy names.
//!
//! `X-Forwarded-For` is a list to which each proxy adds its own peer at the right. Any client may send one, so it is
//! read from the right, and only while the writer of the entry is trusted: the first address that is not a trusted
//! proxy is the client, and the entries left of it may be the client's invention.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use actix_web::http::header::{HeaderMap, HeaderName};
use ipnet::IpNet;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The trusted proxies.
#[derive(Debug, Clone)]
pub struct Proxies {
    trusted: Vec<IpNet>,
}

impl Proxies {
    pub const fn new(trusted: Vec<IpNet>) -> Self {
        Self { trusted }
    }

    /// The client of a request from this peer. If the list cannot be parsed where it matters, the client is the peer.
    /// If all its entries are trusted, the client is the leftmost one. A peer without an address counts as unspecified.
    pub(super) fn client(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> IpAddr {
        let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.to_canonical());
        let mut client = peer;
        for line in headers.get_all(FORWARDED_FOR).rev() {
            // As bytes: other entries may not be text.
            for entry in line.as_bytes().rsplit(|byte| *byte == b',') {
                if !self.trusts(client) {
                    return client;
                }
                let Some(address) = address(entry) else { return peer };
                client = address;
            }
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }
}

/// An address, or an address with a port, as some proxies write it.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let entry = std::str::from_utf8(entry).ok()?.trim();
    let bare = entry.strip_prefix('[').and_then(|entry| entry.strip_suffix(']')).unwrap_or(entry);
    let address = bare.parse().ok().or_else(|| entry.parse().ok().map(|address: SocketAddr| address.ip()))?;
    Some(IpAddr::to_canonical(&address))
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod properties;

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const PEER: &str = "10.0.0.1";

    fn client(peer: &str, lines: &[&[u8]]) -> String {
        let trusted = ["10.0.0.0/8", "2001:db8:ffff::/48", "192.0.2.7/32"];
        let proxies = Proxies::new(trusted.map(|network| network.parse().expect("a network")).into());
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_bytes(line).expect("a value"));
        }
        proxies.client(Some(peer.parse().expect("an address")), &headers).to_string()
    }

    #[test]
    fn a_list_is_believed_only_as_far_as_trusted_proxies_wrote_it() {
        for (peer, lines, expected) in [
            // No list.
            (PEER, &[] as &[&str], PEER),
            ("203.0.113.5", &[], "203.0.113.5"),
            // A client that reaches the node directly may send any list.
            ("203.0.113.5", &["198.51.100.1"], "203.0.113.5"),
            ("203.0.113.5", &["10.0.0.9"], "203.0.113.5"),
            // One proxy, two proxies.
            (PEER, &["203.0.113.5"], "203.0.113.5"),
            (PEER, &["203.0.113.5, 10.0.0.2"], "203.0.113.5"),
            (PEER, &["203.0.113.5", "192.0.2.7 , 10.0.0.2"], "203.0.113.5"),
            // Entries that the client made up are left of its address.
            (PEER, &["198.51.100.1, 203.0.113.5"], "203.0.113.5"),
            (PEER, &["198.51.100.1", "203.0.113.5"], "203.0.113.5"),
            (PEER, &["10.0.0.3, 203.0.113.5"], "203.0.113.5"),
            (PEER, &["nonsense, 203.0.113.5"], "203.0.113.5"),
            (PEER, &["nonsense", "203.0.113.5, 10.0.0.2"], "203.0.113.5"),
            // All entries are trusted: a client inside the network.
            (PEER, &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            // Entries that cannot be parsed where it matters.
            (PEER, &["nonsense"], PEER),
            (PEER, &["203.0.113.5, "], PEER),
            (PEER, &[""], PEER),
            (PEER, &["203.0.113.5, unknown, 10.0.0.2"], PEER),
            (PEER, &["203.0.113.256"], PEER),
            (PEER, &["203.0.113.5 10.0.0.2"], PEER),
            // Spellings.
            (PEER, &["203.0.113.5:4711"], "203.0.113.5"),
            (PEER, &["[2001:db8::5]:4711"], "2001:db8::5"),
            (PEER, &["[2001:db8::5]"], "2001:db8::5"),
            (PEER, &["2001:DB8:0::5"], "2001:db8::5"),
            (PEER, &["::ffff:203.0.113.5"], "203.0.113.5"),
            ("::ffff:10.0.0.1", &["203.0.113.5"], "203.0.113.5"),
            ("2001:db8:ffff::1", &["203.0.113.5"], "203.0.113.5"),
            ("2001:db8:fffe::1", &["203.0.113.5"], "2001:db8:fffe::1"),
        ] {
            let bytes: Vec<_> = lines.iter().map(|line| line.as_bytes()).collect();
            assert_eq!(client(peer, &bytes), expected, "{lines:?} from {peer}");
        }
        assert_eq!(client(PEER, &[b"203.0.113.5, \xff"]), PEER, "no text");
        assert_eq!(client(PEER, &[b"\xff, 203.0.113.5"]), "203.0.113.5");
        assert_eq!(client(PEER, &[b"\xff", b"203.0.113.5"]), "203.0.113.5");
    }

    #[test]
    fn without_trusted_proxies_only_the_peer_counts() {
        let mut headers = HeaderMap::new();
        headers.append(FORWARDED_FOR, HeaderValue::from_static("203.0.113.5"));
        let proxies = Proxies::new(Vec::new());
        assert_eq!(proxies.client(PEER.parse().ok(), &headers).to_string(), PEER);
        assert_eq!(proxies.client(None, &headers).to_string(), "0.0.0.0");
    }

    proptest! {
        #[test]
        fn whatever_a_client_sends_it_counts_as_itself(
            invented in prop::collection::vec("[0-9a-f.:, \\[\\]]{0,40}|\\PC{0,20}", 0..5),
        ) {
            // The proxy adds a line of its own, or adds to the last.
            let invented: Vec<_> = invented.iter().map(String::as_bytes).filter(|line| HeaderValue::from_bytes(line).is_ok()).collect();
            let added = [invented.as_slice(), &[b"203.0.113.5"]].concat();
            prop_assert_eq!(client(PEER, &added), "203.0.113.5");
            if let Some((last, before)) = invented.split_last() {
                let last = [last, &b", 203.0.113.5"[..]].concat();
                prop_assert_eq!(client(PEER, &[before, &[&last]].concat()), "203.0.113.5");
            }
        }
    }
}
