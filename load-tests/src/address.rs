//! The address of a node.

use std::{fmt, net::SocketAddr, str::FromStr};

use anyhow::{Context, bail, ensure};
use hyper::Uri;

/// Scheme, host and port of a node that speaks plain HTTP.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    authority: String,
}

impl Address {
    /// What goes into the `Host` field.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Looks the address up. Once a run, so that no stream waits for a name server.
    pub(crate) async fn resolve(&self) -> anyhow::Result<SocketAddr> {
        let mut found = tokio::net::lookup_host(&self.authority)
            .await
            .with_context(|| format!("cannot look up {}", self.authority))?;
        found.next().with_context(|| format!("{} has no address", self.authority))
    }
}

impl FromStr for Address {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let uri: Uri = text.parse().context("not an address")?;
        match uri.scheme_str() {
            Some("http") => {}
            // Encryption would measure the load generator's processor as much as the node's.
            Some("https") => bail!("load is driven over plain http: measure behind whatever ends the encryption"),
            _ => bail!("an address looks like http://127.0.0.1:8080"),
        }
        ensure!(matches!(uri.path(), "" | "/"), "an address has no path");
        let host = uri.host().context("an address has a host")?;
        Ok(Self { authority: format!("{host}:{}", uri.port_u16().unwrap_or(80)) })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_or_refused() {
        assert_eq!("http://localhost:8080/".parse::<Address>().unwrap().to_string(), "http://localhost:8080");
        assert_eq!("http://node.example".parse::<Address>().unwrap().authority(), "node.example:80");
        assert_eq!("http://[::1]:81".parse::<Address>().unwrap().authority(), "[::1]:81");
        for text in ["", "localhost:8080", "https://node.example", "http://node.example/path"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
