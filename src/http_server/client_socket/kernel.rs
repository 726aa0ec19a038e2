//! What the Linux kernel says about a socket, and is told to do with it.

use std::{io, os::fd::AsFd};

use nix::{
    libc,
    sys::socket::{GetSockOpt as _, sockopt::GetStruct},
};
use socket2::{SockFilter, SockRef};

use crate::http_server::mute::mute;

/// The beginning of `struct tcp_info` (linux/tcp.h), which only grows at its end.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct TcpInfo {
    states: [u8; 8],
    times_and_counts: [u32; 24],
    rates_and_bytes: [u64; 4],
    segments: [u32; 2],
    notsent_bytes: u32,
    min_rtt: u32,
}

#[derive(Debug, Clone, Copy)]
struct TcpInfoOption;

nix::getsockopt_impl!(TcpInfoOption, libc::IPPROTO_TCP, libc::TCP_INFO, TcpInfo, GetStruct<TcpInfo>);

/// Bytes that the kernel has accepted and never sent, also for a connection that has ended. Zero if the kernel does
/// not say.
pub(super) fn unsent(socket: &impl AsFd) -> u64 {
    TcpInfoOption.get(socket).map_or(0, |info| u64::from(info.notsent_bytes))
}

/// A filter program that accepts no segment (linux/bpf_common.h: return a constant).
const NOTHING: [SockFilter; 1] = [SockFilter::new(0x06, 0, 0, 0)];

/// From now on the kernel drops the client's segments, including acknowledgements.
pub(super) fn deafen(socket: &SockRef<'_>) -> io::Result<()> {
    mute(socket, &NOTHING)
}
