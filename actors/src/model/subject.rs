//! The subject of a rate limit: a client in a class of calls.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

use crate::ids::KeyId;

/// A client, as far as limits tell clients apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Client {
    /// The holder of a key that exists: a made-up key must not get a budget of its own.
    Key(KeyId),
    /// All clients at an address; made by [`Client::at`].
    Address(IpAddr),
}

impl Client {
    /// The client at this address. Of IPv6 the first 64 bits count: that is the least that one household or one machine
    /// is given, and it may use all of it. IPv4 inside IPv6 counts as IPv4.
    pub fn at(address: IpAddr) -> Self {
        Self::Address(household(address))
    }
}

/// What stands for all addresses of one client, as [`Client::at`] says.
pub fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

/// One client in one class of calls; it has a count of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subject {
    /// One of a closed set.
    pub class: &'static str,
    pub client: Client,
}

/// The form used in the keys of a shared store: readable, and one spelling per subject.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.client {
            Client::Key(key) => write!(f, "{}:key:{key}", self.class),
            Client::Address(address) => write!(f, "{}:ip:{address}", self.class),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_counts_by_what_one_household_has() {
        let at = |text: &str| Client::at(text.parse().expect("an address"));
        assert_eq!(at("2001:db8:1:2:aaaa::1"), at("2001:db8:1:2:bbbb::2"));
        assert_ne!(at("2001:db8:1:2::1"), at("2001:db8:1:3::1"));
        assert_eq!(at("::ffff:192.0.2.7"), at("192.0.2.7"));
        assert_ne!(at("192.0.2.7"), at("192.0.2.8"));
        let subject = Subject { class: "streaming", client: at("2001:db8:1:2:aaaa::1") };
        assert_eq!(subject.to_string(), "streaming:ip:2001:db8:1:2::");
    }
}
