//! How a connection is opened: one address at a time, each with its share of the time, and then checked for use.
//!
//! A URL may name several servers, and a name may have several addresses. An address that drops packets must not use up
//! the time of the next one, so each gets its share of the time left. An address that answers is still not usable when
//! the server is read-only, or when its sessions lack the properties that the statements rely on ([`Session`]): then
//! the next one is tried.

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
    error::error_text,
    session::{Session, is_pooler, marked},
    tls::{Tls, is_distrust},
};

/// Opens connections on the I/O runtime.
///
/// A socket belongs to the runtime that opened it. If the calling task opened it, the socket would depend on that web
/// worker or arbiter, and end with it.
#[derive(Clone)]
pub(super) struct ServerConnector {
    config: Config,
    tls: Tls,
    /// For all addresses together, handshakes included.
    within: Duration,
    role: ServerRole,
    io: Handle,
    /// Whether a pooler was found between this node and the server. From then on, connections omit the mark that it
    /// does not accept.
    pooled: Arc<AtomicBool>,
}

/// The role of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServerRole {
    /// It must accept writes.
    Primary,
    /// It may be read-only.
    Replica,
}

/// No address led to a usable server: the refusal of each.
#[derive(Debug)]
pub(super) struct NoUsableServer(Vec<(String, AddressFailure)>);

/// Why an address is not usable.
#[derive(Debug, thiserror::Error)]
pub(super) enum AddressFailure {
    #[error("{}", error_text(.0))]
    Failed(#[from] Error),
    #[error("the name cannot be looked up: {0}")]
    Nameless(io::Error),
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error("the server is read-only: it is a standby, or default_transaction_read_only is on")]
    OnlyReads,
    /// A setting of the server; waiting does not help.
    #[error("{0}")]
    Unfit(String),
}

impl AddressFailure {
    /// Whether a setting is the reason, here or on the server.
    fn is_hopeless(&self) -> bool {
        match self {
            Self::Unfit(_) => true,
            Self::Failed(error) => is_distrust(error),
            Self::Nameless(_) | Self::Late(_) | Self::OnlyReads => false,
        }
    }
}

impl NoUsableServer {
    /// Whether settings are the reason at every address, so that a retry is of no use.
    pub(super) fn is_hopeless(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|(_, refusal)| refusal.is_hopeless())
    }

    /// Whether TLS is the reason at every address.
    pub(super) fn is_distrust(&self) -> bool {
        let distrusted =
            |refusal: &AddressFailure| matches!(refusal, AddressFailure::Failed(error) if is_distrust(error));
        !self.0.is_empty() && self.0.iter().all(|(_, refusal)| distrusted(refusal))
    }
}

impl fmt::Display for NoUsableServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (address, refusal)) in self.0.iter().enumerate() {
            write!(f, "{}{address}: {refusal}", if index > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

impl std::error::Error for NoUsableServer {}

impl ServerConnector {
    pub(super) fn new(mut config: Config, tls: Tls, within: Duration, role: ServerRole, io: Handle) -> Self {
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

    /// Whether a pooler is known to stand between this node and the server.
    pub(super) fn is_pooled(&self) -> bool {
        self.pooled.load(Relaxed)
    }

    /// Opens a connection to the first usable address.
    pub(super) async fn open(&self) -> Result<ClientWrapper, NoUsableServer> {
        let deadline = Instant::now() + self.within;
        let mut refusals = Vec::new();
        let servers = Server::all_of(&self.config);
        for (index, server) in servers.iter().enumerate() {
            let (began, until) = part(deadline, servers.len() - index);
            let addresses = match timeout_at(until, self.inside(server.addresses())).await {
                Ok(Ok(addresses)) => addresses,
                Ok(Err(error)) => {
                    refusals.push((server.to_string(), AddressFailure::Nameless(error)));
                    continue;
                }
                Err(_) => {
                    refusals.push((server.to_string(), AddressFailure::Late(began.elapsed())));
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
                    Err(_) => AddressFailure::Late(began.elapsed()),
                };
                refusals.push((server.at(*address), refusal));
            }
        }
        Err(NoUsableServer(refusals))
    }

    /// Opens a connection to one address, if it is usable.
    async fn attempt(&self, way: &Config) -> Result<ClientWrapper, AddressFailure> {
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
                tracing::warn!(%error, "a connection to PostgreSQL broke; the pool opens a new one when it needs one");
            }
        });
        Ok(ClientWrapper::new(client, driver))
    }

    /// Returns the connection, if it is usable.
    async fn used(&self, client: ClientWrapper) -> Result<ClientWrapper, AddressFailure> {
        let session = Session::of(&client).await?;
        if !session.is_own {
            self.met_a_pooler();
        }
        if let Some(why) = session.flaw() {
            return Err(AddressFailure::Unfit(why));
        }
        if self.role == ServerRole::Primary && session.only_reads {
            return Err(AddressFailure::OnlyReads);
        }
        Ok(client)
    }

    fn met_a_pooler(&self) {
        if !self.pooled.swap(true, Relaxed) {
            tracing::info!(
                "a pooler stands in front of PostgreSQL: this node cancels no statements there, so set statement_timeout on the server"
            );
        }
    }

    /// Runs the future in the context of the I/O runtime; it ends with the caller.
    async fn inside<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|context| {
            let _inside = self.io.enter();
            future.as_mut().poll(context)
        })
        .await
    }
}

/// The deadline and the start of the first of `many` attempts that run one after another until `deadline`.
fn part(deadline: Instant, many: usize) -> (Instant, Instant) {
    let now = Instant::now();
    let left = deadline.saturating_duration_since(now);
    // No configuration has that many addresses.
    (now, now + left / u32::try_from(many).unwrap_or(u32::MAX).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_last_address_gets_at_least_an_equal_part_of_the_time() {
        let whole = Duration::from_secs(3);
        let deadline = Instant::now() + whole;
        let (_, first) = part(deadline, 3);
        assert_eq!(first, Instant::now() + whole / 3);
        // The first one was refused at once: its time goes to the others.
        let (_, second) = part(deadline, 2);
        assert_eq!(second, Instant::now() + whole / 2);
        tokio::time::advance(whole / 2).await;
        let (_, last) = part(deadline, 1);
        assert_eq!(last, deadline);
        tokio::time::advance(whole).await;
        assert_eq!(part(deadline, 1).1, Instant::now(), "nothing is left");
    }
}
