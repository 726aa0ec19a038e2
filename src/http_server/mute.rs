//! Has the Linux kernel drop segments that arrive at a socket.
//!
//! A [filter] program drops exactly the segments that it names. Newer kernels (6.18) accept one on a TCP socket only from a
//! process with `CAP_NET_ADMIN`, which a node in a container or under systemd does not have. Such a node raises the
//! [least hop count](require_hops) of the socket instead: the kernel then drops all segments, but for those of a client on
//! the same network that sends with the largest hop count there is, which no usual system does.
//!
//! [filter]: Socket::attach_filter

use std::io;

use nix::{
    libc,
    sys::socket::{
        GetSockOpt as _, SetSockOpt as _,
        sockopt::{GetStruct, SetStruct},
    },
};
use socket2::{Domain, SockFilter, Socket};

/// The hop count of a segment that has passed no router and began with the largest one.
const MOST_HOPS: libc::c_int = 255;

#[derive(Debug, Clone, Copy)]
struct LeastHops;

nix::setsockopt_impl!(LeastHops, libc::IPPROTO_IP, libc::IP_MINTTL, libc::c_int, SetStruct<'_, libc::c_int>);
nix::getsockopt_impl!(LeastHops, libc::IPPROTO_IP, libc::IP_MINTTL, libc::c_int, GetStruct<libc::c_int>);

#[derive(Debug, Clone, Copy)]
struct LeastHops6;

nix::setsockopt_impl!(LeastHops6, libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT, libc::c_int, SetStruct<'_, libc::c_int>);

/// Drops what the filter names, or, where the kernel refuses the filter, what a client sends.
///
/// # Errors
/// The system's error; then the kernel drops nothing.
pub(super) fn mute(socket: &Socket, filter: &[SockFilter]) -> io::Result<()> {
    match socket.attach_filter(filter) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => require_hops(socket, MOST_HOPS),
        done => done,
    }
}

/// Lets a connection be heard whose handshake ended when the hop count of its listener was already raised: it has inherited
/// that.
///
/// # Errors
/// The system's error; then nothing of the client arrives.
pub(super) fn unmute(socket: &Socket) -> io::Result<()> {
    if LeastHops.get(socket)? == 0 { Ok(()) } else { require_hops(socket, 0) }
}

/// Segments with a smaller hop count are dropped.
fn require_hops(socket: &Socket, least: libc::c_int) -> io::Result<()> {
    if socket.domain()? == Domain::IPV6 {
        LeastHops6.set(socket, &least)?;
    }
    // Sockets of IPv6 too: they may have clients by IPv4.
    Ok(LeastHops.set(socket, &least)?)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream},
        time::Duration,
    };

    use socket2::SockRef;

    use super::*;

    fn mutes(bound: &str, address: impl Fn(u16) -> SocketAddr) {
        let listener = TcpListener::bind(bound).expect("bound");
        let address = address(listener.local_addr().expect("bound").port());
        let mut early = TcpStream::connect(address).expect("connected");
        early.write_all(b"1").expect("sent");
        require_hops(&SockRef::from(&listener), MOST_HOPS).expect("raised");
        let late = TcpStream::connect_timeout(&address, Duration::from_millis(200)).expect_err("not connected");
        assert_eq!(late.kind(), io::ErrorKind::TimedOut, "{bound}");

        // In the listener's queue from before.
        let (mut accepted, _) = listener.accept().expect("accepted");
        let mut byte = [0];
        accepted.read_exact(&mut byte).expect("received");
        require_hops(&SockRef::from(&accepted), MOST_HOPS).expect("raised");
        early.write_all(b"2").expect("sent");
        accepted.set_read_timeout(Some(Duration::from_millis(200))).expect("set");
        assert!(accepted.read_exact(&mut byte).is_err(), "{bound}: nothing arrives");
        accepted.set_read_timeout(None).expect("set");
        unmute(&SockRef::from(&accepted)).expect("lowered");
        accepted.read_exact(&mut byte).expect("the client's system sends it again");
        assert_eq!(&byte, b"2");
    }

    #[test]
    fn no_segment_arrives_from_a_client_of_any_family_until_the_hop_count_is_lowered() {
        mutes("127.0.0.1:0", |port| ([127, 0, 0, 1], port).into());
        mutes("[::]:0", |port| ([127, 0, 0, 1], port).into());
        mutes("[::1]:0", |port| (Ipv6Addr::LOCALHOST, port).into());
    }
}
