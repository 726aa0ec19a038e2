//! How a connection is opened: address by address, each with its share of the time, and then asked whether it is of use.
//!
//! A URL may name several servers and a name may have several addresses. One that swallows what is sent to it must not use up
//! the time that the next one needs, so each gets its part of what is left. An address that answers is still no server of ours
//! when it only reads, or when its sessions are not what the statements rely on ([`Session`]): then the next one is tried.

mod address;

use std::{
    fmt,
    future::{Future, poll_fn},
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use deadpool_postgres::ClientWrapper;
use tokio::{
    runtime::Handle,
    time::{Instant, timeout_at},
};
use tokio_postgres::{Config, Error};

use self::address::{Server, only};
use super::{
    error::told,
    session::{Session, is_pooler, marked},
    tls::{Tls, is_distrust},
};

/// Opens connections on the I/O runtime.
///
/// A socket belongs to the runtime that opened it. Opened by whichever task happens to call, it would be served by, and die
/// with, that web worker or arbiter.
#[derive(Clone)]
pub(super) struct Reach {
    config: Config,
    tls: Tls,
    /// For all addresses together, handshakes included.
    within: Duration,
    role: Role,
    io: Handle,
    /// Whether a pooler was met between us and the server. From then on connections go without the mark that it cannot keep.
    pooled: Arc<AtomicBool>,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It must take writes.
    Primary,
    /// It may read only.
    Replica,
}

/// No address led to a server that can be used: what each of them said.
#[derive(Debug)]
pub(super) struct Unreached(Vec<(String, Refusal)>);

/// Why one address is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("{}", told(.0))]
    Failed(#[from] Error),
    #[error("the name cannot be looked up: {0}")]
    Nameless(io::Error),
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error("the server only reads: it is a standby, or default_transaction_read_only is on")]
    OnlyReads,
    /// A setting of the server, which no waiting mends.
    #[error("{0}")]
    Unfit(String),
}

impl Refusal {
    /// Whether a setting is the reason, here or there.
    fn is_hopeless(&self) -> bool {
        match self {
            Self::Unfit(_) => true,
            Self::Failed(error) => is_distrust(error),
            Self::Nameless(_) | Self::Late(_) | Self::OnlyReads => false,
        }
    }
}

impl Unreached {
    /// Whether settings are the reason at every address, so that trying again is of no use.
    pub(super) fn is_hopeless(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|(_, refusal)| refusal.is_hopeless())
    }

    /// Whether TLS is the reason at every address.
    pub(super) fn is_distrust(&self) -> bool {
        let distrusted = |refusal: &Refusal| matches!(refusal, Refusal::Failed(error) if is_distrust(error));
        !self.0.is_empty() && self.0.iter().all(|(_, refusal)| distrusted(refusal))
    }
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (address, refusal)) in self.0.iter().enumerate() {
            write!(f, "{}{address}: {refusal}", if index > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Unreached {}

impl Reach {
    pub(super) fn new(mut config: Config, tls: Tls, within: Duration, role: Role, io: Handle) -> Self {
        tls.apply(&mut config);
        if config.get_application_name().is_none() {
            config.application_name("penstock");
        }
        Self { config, tls, within, role, io, pooled: Arc::default() }
    }

    pub(super) const fn tls(&self) -> &Tls {
        &self.tls
    }

    pub(super) const fn io(&self) -> &Handle {
        &self.io
    }

    pub(super) const fn within(&self) -> Duration {
        self.within
    }

    /// Whether a pooler stands between us and the server, as far as that is known.
    pub(super) fn is_pooled(&self) -> bool {
        self.pooled.load(Relaxed)
    }

    /// A connection to the first address that is of use.
    pub(super) async fn open(&self) -> Result<ClientWrapper, Unreached> {
        let deadline = Instant::now() + self.within;
        let mut refusals = Vec::new();
        let servers = Server::all_of(&self.config);
        for (index, server) in servers.iter().enumerate() {
            let (began, until) = part(deadline, servers.len() - index);
            let addresses = match timeout_at(until, self.inside(server.addresses())).await {
                Ok(Ok(addresses)) => addresses,
                Ok(Err(error)) => {
                    refusals.push((server.to_string(), Refusal::Nameless(error)));
                    continue;
                }
                Err(_) => {
                    refusals.push((server.to_string(), Refusal::Late(began.elapsed())));
                    continue;
                }
            };
            for (index, address) in addresses.iter().enumerate() {
                let (began, mut until) = part(until, addresses.len() - index);
                if let Some(most) = self.config.get_connect_timeout() {
                    until = until.min(began + *most);
                }
                let way = only(&self.config, server, *address);
                let refusal = match timeout_at(until, self.attempt(&way)).await {
                    Ok(Ok(client)) => return Ok(client),
                    Ok(Err(refusal)) => refusal,
                    Err(_) => Refusal::Late(began.elapsed()),
                };
                refusals.push((server.at(*address), refusal));
            }
        }
        Err(Unreached(refusals))
    }

    /// A connection by a way that leads to one address, if it is of use.
    async fn attempt(&self, way: &Config) -> Result<ClientWrapper, Refusal> {
        if !self.is_pooled() {
            match self.connect(&marked(way)).await {
                Err(error) if is_pooler(&error) => self.met_a_pooler(),
                connected => return self.used(connected?).await,
            }
        }
        self.used(self.connect(way).await?).await
    }

    async fn connect(&self, way: &Config) -> Result<ClientWrapper, Error> {
        let (client, connection) = self.inside(way.connect(self.tls.connector())).await?;
        let driver = self.io.spawn(async move {
            if let Err(error) = connection.await {
                tracing::warn!(%error, "a connection to PostgreSQL broke");
            }
        });
        Ok(ClientWrapper::new(client, driver))
    }

    /// The connection, when it is of use.
    async fn used(&self, client: ClientWrapper) -> Result<ClientWrapper, Refusal> {
        let session = Session::of(&client).await?;
        if !session.is_own {
            self.met_a_pooler();
        }
        if let Some(why) = session.flaw() {
            return Err(Refusal::Unfit(why));
        }
        if self.role == Role::Primary && session.only_reads {
            return Err(Refusal::OnlyReads);
        }
        Ok(client)
    }

    fn met_a_pooler(&self) {
        if !self.pooled.swap(true, Relaxed) {
            tracing::info!("a pooler stands before PostgreSQL: statements that take too long are the server's to end");
        }
    }

    /// Makes progress as if it ran on the I/O runtime, and ends with the caller.
    async fn inside<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|context| {
            let _inside = self.io.enter();
            future.as_mut().poll(context)
        })
        .await
    }
}

/// When the first of `many` has to be done that come one after the other until `deadline`, and when it begins.
fn part(deadline: Instant, many: usize) -> (Instant, Instant) {
    let now = Instant::now();
    let left = deadline.saturating_duration_since(now);
    // Nobody names so many addresses.
    (now, now + left / u32::try_from(many).unwrap_or(u32::MAX).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_comes_last_has_at_least_an_equal_part_of_the_time() {
        let whole = Duration::from_secs(3);
        let deadline = Instant::now() + whole;
        let (_, first) = part(deadline, 3);
        assert_eq!(first, Instant::now() + whole / 3);
        // The first one refused at once: what it left is the others'.
        let (_, second) = part(deadline, 2);
        assert_eq!(second, Instant::now() + whole / 2);
        tokio::time::advance(whole / 2).await;
        let (_, last) = part(deadline, 1);
        assert_eq!(last, deadline);
        tokio::time::advance(whole).await;
        assert_eq!(part(deadline, 1).1, Instant::now(), "nothing is left");
    }
}
