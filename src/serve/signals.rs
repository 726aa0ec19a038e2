//! Signals from a terminal, a shell, a supervisor or a log rotator, and their meaning for the node.
//!
//! | signal | sender | meaning |
//! |---|---|---|
//! | SIGTERM, SIGINT, SIGQUIT | a supervisor; Ctrl-C and Ctrl-\ | drain; while it drains, exit at once |
//! | SIGHUP | a terminal that is closed, a shell that ends | drain; never more than that, because it often comes twice |
//! | SIGHUP, with TLS | what renews certificates | read the certificate again, as other servers do |
//! | SIGUSR1, SIGUSR2 | log rotators, by habit | nothing: the node keeps no log file open |
//!
//! A node that was started with SIGHUP ignored, as by `nohup`, continues to ignore it.

use std::{fs, future::pending, io, sync::Arc};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::http_server::tls::Certificates;

/// The signals of this process, from the call of [`listen`](Self::listen) on.
pub struct Signals {
    stops: [(Signal, &'static str); 3],
    hangup: Option<Signal>,
    users: [Signal; 2],
    /// What SIGHUP reloads.
    certificates: Option<Arc<Certificates>>,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the system does not permit it.
    pub fn listen() -> io::Result<Self> {
        let hangup = if is_ignored(SignalKind::hangup()) { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self {
            stops: [
                (signal(SignalKind::terminate())?, "SIGTERM"),
                (signal(SignalKind::interrupt())?, "SIGINT"),
                (signal(SignalKind::quit())?, "SIGQUIT"),
            ],
            hangup,
            users: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
            certificates: None,
        })
    }

    /// SIGHUP makes these be read again from now on, instead of asking the node to stop.
    pub fn reload(&mut self, certificates: Arc<Certificates>) {
        self.certificates = Some(certificates);
    }

    /// Waits for a signal that asks the node to stop; returns its name.
    pub async fn stop(&mut self) -> &'static str {
        loop {
            let [terminate, interrupt, quit] = &mut self.stops;
            let [one, two] = &mut self.users;
            tokio::select! {
                _ = terminate.0.recv() => return terminate.1,
                _ = interrupt.0.recv() => return interrupt.1,
                _ = quit.0.recv() => return quit.1,
                () = next(&mut self.hangup) => match &self.certificates {
                    Some(certificates) => certificates.ask(),
                    None => return "SIGHUP",
                },
                _ = one.recv() => ignore(),
                _ = two.recv() => ignore(),
            }
        }
    }

    /// While the node drains: waits for a signal that asks it to stop at once; returns its name.
    pub async fn stop_now(&mut self) -> &'static str {
        loop {
            let name = self.stop().await;
            if name != "SIGHUP" {
                return name;
            }
        }
    }
}

fn ignore() {
    tracing::info!("SIGUSR1 and SIGUSR2 have no meaning for this node; it continues");
}

async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => pending().await,
    }
}

/// Whether this process was started with a signal ignored.
fn is_ignored(kind: SignalKind) -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores(&status, kind))
}

fn ignores(status: &str, kind: SignalKind) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (kind.as_raw_value() - 1)) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nohup_ignores_is_read_from_the_system() {
        let status =
            |mask| format!("Name:\tpenstock\nSigBlk:\t0000000000000000\nSigIgn:\t{mask}\nSigCgt:\t0000000000004a03\n");
        assert!(ignores(&status("0000000000001001"), SignalKind::hangup()));
        assert!(!ignores(&status("0000000000001000"), SignalKind::hangup()));
        assert!(!ignores("", SignalKind::hangup()));
    }
}
