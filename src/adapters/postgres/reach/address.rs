//! The servers that a driver configuration names, and the configuration for one address of one server.

use std::{fmt, io, net::IpAddr};

use tokio::net::lookup_host;
use tokio_postgres::{
    Config,
    config::{Host, LoadBalanceHosts},
};

/// The driver's default.
const DEFAULT_PORT: u16 = 5432;

/// A server, as it is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    host: Option<Host>,
    /// Its address, if the configuration gives one beside the name.
    address: Option<IpAddr>,
    port: u16,
}

impl Server {
    /// The servers of a configuration, in the order in which the driver would try them.
    pub(super) fn all_of(config: &Config) -> Vec<Self> {
        let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
        let count = hosts.len().max(addresses.len());
        let server = |index: usize| Self {
            host: hosts.get(index).cloned(),
            address: addresses.get(index).copied(),
            port: ports.get(index).or(ports.first()).copied().unwrap_or(DEFAULT_PORT),
        };
        let mut servers: Vec<_> = (0..count).map(server).collect();
        if config.get_load_balance_hosts() == LoadBalanceHosts::Random {
            fastrand::shuffle(&mut servers);
        }
        servers
    }

    /// The addresses of its name, in the order of the system; `None` stands for a socket that needs none.
    pub(super) async fn addresses(&self) -> io::Result<Vec<Option<IpAddr>>> {
        match (&self.host, self.address) {
            (_, Some(address)) => Ok(vec![Some(address)]),
            (Some(Host::Tcp(name)), None) => {
                let found: Vec<_> = lookup_host((name.as_str(), self.port)).await?.map(|at| Some(at.ip())).collect();
                if found.is_empty() {
                    Err(io::Error::new(io::ErrorKind::NotFound, "it has no address"))
                } else {
                    Ok(found)
                }
            }
            (Some(Host::Unix(_)) | None, None) => Ok(vec![None]),
        }
    }

    /// One of its addresses, as logs show it.
    pub(super) fn at(&self, address: Option<IpAddr>) -> String {
        match address {
            Some(address) if self.to_string() != format!("{address}:{}", self.port) => format!("{self} ({address})"),
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.address) {
            (Some(Host::Tcp(name)), _) => write!(f, "{name}:{}", self.port),
            (Some(Host::Unix(folder)), _) => write!(f, "{}", folder.display()),
            (None, Some(address)) => write!(f, "{address}:{}", self.port),
            (None, None) => f.write_str("no host"),
        }
    }
}

/// The same configuration for one address of one server. (A driver configuration can only grow, so this builds a new
/// one.)
pub(super) fn only(config: &Config, server: &Server, address: Option<IpAddr>) -> Config {
    let mut only = Config::new();
    if let Some(user) = config.get_user() {
        only.user(user);
    }
    if let Some(password) = config.get_password() {
        only.password(password);
    }
    if let Some(database) = config.get_dbname() {
        only.dbname(database);
    }
    if let Some(options) = config.get_options() {
        only.options(options);
    }
    if let Some(name) = config.get_application_name() {
        only.application_name(name);
    }
    if let Some(timeout) = config.get_tcp_user_timeout() {
        only.tcp_user_timeout(*timeout);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        only.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        only.keepalives_retries(retries);
    }
    only.ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .channel_binding(config.get_channel_binding())
        .keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle())
        .target_session_attrs(config.get_target_session_attrs())
        .port(server.port);
    match &server.host {
        Some(Host::Tcp(name)) => {
            only.host(name);
        }
        Some(Host::Unix(folder)) => {
            only.host_path(folder);
        }
        None => {}
    }
    if let Some(address) = address {
        only.hostaddr(address);
    }
    only
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        text.parse().expect("a configuration")
    }

    #[test]
    fn one_address_keeps_all_that_is_said_of_the_connection() {
        let said = "user=u password=p dbname=d options='-c a.b=c' application_name=n sslmode=require sslnegotiation=direct \
                    tcp_user_timeout=3 keepalives=0 keepalives_idle=4 keepalives_interval=5 keepalives_retries=6 \
                    target_session_attrs=read-only channel_binding=disable";
        let all = config(&format!("host=one,two port=1,2 {said} connect_timeout=9 load_balance_hosts=random"));
        let mut servers = Server::all_of(&all);
        servers.sort_by_key(|server| server.port);
        let address = "10.0.0.2".parse().expect("an address");
        let way = only(&all, &servers[1], Some(address));
        assert_eq!(way, config(&format!("host=two hostaddr=10.0.0.2 port=2 {said}")));
        assert_eq!(servers[1].at(Some(address)), "two:2 (10.0.0.2)");
    }

    #[tokio::test]
    async fn servers_are_those_that_the_driver_would_try() {
        let servers = Server::all_of(&config("host=10.0.0.1,/run/pg,::1 port=7"));
        assert_eq!(servers.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.1:7", "/run/pg", "::1:7"]);
        let mut addresses = Vec::new();
        for server in &servers {
            addresses.extend(server.addresses().await.expect("no name to look up"));
        }
        assert_eq!(addresses, [Some("10.0.0.1".parse().expect("one")), None, Some("::1".parse().expect("one"))]);
        assert_eq!(servers[0].at(addresses[0]), "10.0.0.1:7");
        let by_address = Server::all_of(&config("host=db.internal hostaddr=10.0.0.9"));
        assert_eq!(by_address[0].addresses().await.expect("given"), [Some("10.0.0.9".parse().expect("one"))]);
    }
}
