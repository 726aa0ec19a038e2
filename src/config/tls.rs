//! `[tls]`: encryption of the node's own listener.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

use super::{problem::Rules, value};

/// Browsers keep an address's demand for HTTPS as long as they are told, and there is no way to reach them earlier.
const LONGEST_HSTS: Duration = Duration::from_hours(2 * 366 * 24);

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate and its chain, as PEM; empty: the listener speaks plain HTTP.
    pub certificate: PathBuf,
    /// The private key of the certificate, as PEM.
    pub key: PathBuf,
    /// The longest time that a client may take for the handshake.
    #[serde(deserialize_with = "value::duration")]
    pub handshake_timeout: Duration,
    /// How often the files are looked at for a renewed pair.
    #[serde(deserialize_with = "value::duration")]
    pub reload_interval: Duration,
    /// How long browsers shall use nothing but HTTPS for this host.
    #[serde(deserialize_with = "value::duration")]
    pub hsts_max_age: Duration,
}

impl Tls {
    /// Whether the listener speaks TLS.
    pub fn is_on(&self) -> bool {
        !self.certificate.as_os_str().is_empty()
    }

    pub(super) fn check(&self, rules: &mut Rules) {
        rules.require(
            self.certificate.as_os_str().is_empty() == self.key.as_os_str().is_empty(),
            &["tls.certificate", "tls.key"],
            "be given together with tls.key",
        );
        let names_a_file = |path: &Path| !path.as_os_str().as_encoded_bytes().contains(&b'\n');
        rules.require(names_a_file(&self.certificate), &["tls.certificate"], "name a file that holds the certificate");
        rules.require(names_a_file(&self.key), &["tls.key"], "name a file that holds the key");
        rules.some_time(self.handshake_timeout, &["tls.handshake_timeout"]);
        rules.some_time(self.reload_interval, &["tls.reload_interval"]);
        rules.require(self.hsts_max_age <= LONGEST_HSTS, &["tls.hsts_max_age"], "be two years at most");
    }
}
