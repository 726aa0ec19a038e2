//! What holds for every list of addresses.

use actix_web::http::header::HeaderValue;

use super::*;

/// A client that a proxy saw.
const CLIENT: &str = "203.0.113.5";
const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// Gives the lines to a node that trusts the proxies of 10.0.0.0/8.
///
/// # Panics
/// When an address is believed that the client may have made up.
pub(crate) fn check<'a>(peer: IpAddr, lines: impl Iterator<Item = &'a [u8]>) {
    let lines: Vec<_> = lines.filter(|line| HeaderValue::from_bytes(line).is_ok()).collect();
    let proxies = Proxies::new("10.0.0.0/8".parse().into_iter().collect());
    let client = |peer, lines: &[&[u8]]| {
        let mut headers = HeaderMap::new();
        for line in lines.iter().filter_map(|line| HeaderValue::from_bytes(line).ok()) {
            headers.append(FORWARDED_FOR, line);
        }
        proxies.client(Some(peer), &headers)
    };
    let peer = peer.to_canonical();
    if !proxies.trusts(peer) {
        assert_eq!(client(peer, &lines), peer);
    }
    // The proxy adds a line of its own, or adds to the last.
    assert_eq!(client(PROXY, &[lines.as_slice(), &[CLIENT.as_bytes()]].concat()).to_string(), CLIENT);
    if let Some((last, before)) = lines.split_last() {
        let last = [last, b", ".as_slice(), CLIENT.as_bytes()].concat();
        assert_eq!(client(PROXY, &[before, &[last.as_slice()]].concat()).to_string(), CLIENT);
    }
}
