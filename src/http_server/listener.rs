//! The listening socket, which closes without resetting clients that are already connected.
//!
//! A client is connected as soon as the kernel completes the handshake, even before the server has accepted the
//! connection. A listener that closes resets the connections in its queue, and a client that had sent a request by then
//! cannot know what happened to it: a balancer repeats a GET, but must not repeat a POST. So the door is
//! [shut](Listener::shut) before the listener closes: from then on the kernel drops new connection requests, and the
//! connections in the queue are still accepted. A client whose request was dropped tries again a second later (RFC
//! 6298, section 2), is refused outright, and turns to another instance with nothing lost.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::AsFd,
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Connections that wait to be accepted. A burst of a thousand new streams fits.
const BACKLOG: i32 = 2048;

/// The listening socket, shared with the server that accepts from it.
pub struct Listener(Socket);

impl Listener {
    /// Listens; the returned listener is for the server that accepts.
    ///
    /// # Errors
    /// The system's error about the address.
    pub fn open(address: SocketAddr) -> io::Result<(Self, TcpListener)> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // Old connections of an earlier node must not delay the start.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = socket.try_clone()?.into();
        Ok((Self(socket), listener))
    }

    /// [Drops](super::mute) new connection requests from now on. Connections in the queue wait until they are accepted.
    ///
    /// # Errors
    /// The system's error; then the socket still takes new connections.
    #[cfg(target_os = "linux")]
    pub fn shut(self) -> io::Result<()> {
        super::mute::mute(&self.0, &filter::NO_SYN)
    }

    /// Other systems have no such filter.
    #[cfg(not(target_os = "linux"))]
    pub fn shut(self) -> io::Result<()> {
        Ok(())
    }
}

/// Frees an accepted connection of what [`Listener::shut`] did to its listener.
///
/// # Errors
/// The system's error about the connection.
#[cfg(target_os = "linux")]
pub(super) fn take(connection: &impl AsFd) -> io::Result<()> {
    super::mute::unmute(&SockRef::from(connection))
}

/// Other systems leave the listener as it is.
#[cfg(not(target_os = "linux"))]
pub(super) fn take(_: &impl AsFd) -> io::Result<()> {
    Ok(())
}

#[cfg(target_os = "linux")]
mod filter {
    use socket2::SockFilter;

    // linux/bpf_common.h: the code of an instruction, with its operands.
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_SET: u16 = 0x45;
    const RETURN: u16 = 0x06;

    /// The position of the flags in the header of a segment, where a filter begins to read (RFC 9293, section 3.1).
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;

    /// Drops segments that ask for a new connection, and keeps those of handshakes under way.
    pub(super) const NO_SYN: [SockFilter; 4] = [
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(JUMP_IF_SET, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ];
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpStream,
        time::Duration,
    };

    use super::*;

    #[test]
    fn a_listener_that_was_shut_accepts_queued_connections_and_no_new_ones() {
        let (shared_listener, listener) = Listener::open((std::net::Ipv4Addr::LOCALHOST, 0).into()).expect("bound");
        let address = listener.local_addr().expect("bound");
        let mut inside = TcpStream::connect(address).expect("let in");
        inside.write_all(b"a request").expect("sent");
        shared_listener.shut().expect("shut");
        let late = TcpStream::connect_timeout(&address, Duration::from_millis(200)).expect_err("nobody is let in");
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);

        let (mut accepted, _) = listener.accept().expect("it waited");
        drop(listener);
        let mut request = [0; 9];
        accepted.read_exact(&mut request).expect("received");
        accepted.write_all(b"an answer").expect("answered");
        let mut answer = [0; 9];
        inside.read_exact(&mut answer).expect("nothing was reset");
        assert_eq!((&request, &answer), (b"a request", b"an answer"));
        let refused = TcpStream::connect(address).expect_err("nobody listens");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
