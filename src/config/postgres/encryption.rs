//! How a connection to PostgreSQL is encrypted.

use std::path::PathBuf;

/// The requirements for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsMode {
    /// Not encrypted.
    #[default]
    Off,
    /// Encrypted, but the server's identity is not checked.
    Require,
    /// Encrypted, and the server has a certificate for its name from a trusted authority.
    Verify,
}

/// How a connection is encrypted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsSettings {
    pub mode: TlsMode,
    /// The trusted authorities. `None`: those of the system.
    pub ca_file: Option<PathBuf>,
    /// The certificate that this node presents when the server asks for one.
    pub identity: Option<TlsIdentity>,
}

/// A client certificate with its chain, and the key to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsIdentity {
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
}
