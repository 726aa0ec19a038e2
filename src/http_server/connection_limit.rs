//! The bound on connections, and the refusal of those beyond it.
//!
//! A connection that waited in the kernel's queue for a place would tell its client nothing for as long as that takes. So a
//! connection beyond the bound is accepted, gets 503 as soon as its request begins to arrive, and is closed, before any head is
//! parsed and before any actor or database hears of it. On an encrypted listener it is closed at once, because an answer would cost
//! the node a handshake.
//!
//! The places are [shared](FairAdmission) among the addresses from which connections come. Otherwise one machine that opens
//! connections and sends nothing, or little, could take all of them.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use actix_web::rt::net::TcpStream;
use ipnet::IpNet;
use penstock_actors::{
    flow::fairness::{FairAdmission, FairPermit},
    model::Client,
};

use super::client_socket::{ClientSocket, LINGER, SocketSettings};

/// Connections that are being refused at a time; further ones wait in the kernel's queue, for a second at most until one of these
/// is closed. Each takes a file descriptor and no buffer.
const REFUSALS: usize = 1024;

/// The bound, and what clients beyond it are told.
#[derive(Clone)]
pub struct ConnectionLimit {
    places: FairAdmission<Client>,
    /// Proxies, whose connections are those of many clients.
    exempt: Arc<[IpNet]>,
    /// As it stands on the wire.
    answer: Arc<[u8]>,
}

impl ConnectionLimit {
    /// A connection takes one of the `places`; without one it gets the `answer`.
    pub fn new(places: FairAdmission<Client>, answer: Vec<u8>) -> Self {
        Self { places, exempt: Arc::default(), answer: answer.into() }
    }

    /// With proxies that may take all places.
    pub fn exempting(self, proxies: Vec<IpNet>) -> Self {
        Self { exempt: proxies.into(), ..self }
    }

    /// The most connections that the server accepts: those that it serves, and those that it refuses.
    pub(super) fn most_accepted(&self) -> usize {
        usize::try_from(self.places.snapshot().capacity).unwrap_or(usize::MAX).saturating_add(REFUSALS)
    }

    /// A place for a client that has just connected. Peers without an address count as one.
    pub(super) fn admit(&self, peer: Option<SocketAddr>) -> Option<FairPermit<Client>> {
        let address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip().to_canonical());
        let client = Client::at(address);
        let place = if self.exempt.iter().any(|network| network.contains(&address)) {
            self.places.try_admit_for_many(client)
        } else {
            self.places.try_admit(client)
        };
        place.ok()
    }

    /// Tells a client that it has no place. The client's request comes first: an answer before it is noise to many clients.
    pub(super) async fn refuse(&self, stream: TcpStream, settings: &SocketSettings) {
        let told = async {
            stream.readable().await?;
            ClientSocket::accepted(stream, settings).end(&self.answer).await
        };
        match tokio::time::timeout(LINGER, told).await {
            Ok(Err(error)) if error.kind() != io::ErrorKind::ConnectionReset => {
                tracing::debug!(%error, "a connection that was refused broke before its client had closed it");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_most_places_and_never_the_last_ones() {
        let proxies = vec!["10.0.0.0/8".parse().expect("a network")];
        let limit = ConnectionLimit::new(FairAdmission::new("test", 8), Vec::new()).exempting(proxies);
        let from = |address: &str| limit.admit(Some(SocketAddr::new(address.parse().expect("an address"), 1000)));
        // One household: the first half of an address of IPv6.
        let mut taken: Vec<_> = (1..8).map_while(|host| from(&format!("2001:db8::{host}"))).collect();
        assert_eq!(taken.len(), 5);
        taken.extend(from("2001:db8:1::1"));
        taken.extend(std::iter::from_fn(|| from("::ffff:10.0.0.1")));
        assert_eq!(taken.len(), 8, "a trusted proxy may take all");
        assert!(limit.admit(None).is_none());
    }
}
