//! Why an attempt failed, and whether a retry may help.

use std::{error::Error, io, time::Duration};

/// Why one attempt failed.
#[derive(Debug, thiserror::Error)]
pub enum AttemptFailure {
    /// The node was not reached, was busy, or the connection was lost: the same request may succeed later.
    #[error("{reason}")]
    Passing {
        reason: String,
        /// How long the node asks the client to wait.
        retry_after: Option<Duration>,
    },
    /// The same request would fail again.
    #[error("{0}")]
    Final(String),
}

impl AttemptFailure {
    /// A connection that could not be made, or was lost.
    pub(super) fn transport(error: &reqwest::Error) -> Self {
        if error.is_builder() {
            return Self::Final(
                "the request cannot be made: a key or a media type has characters that it may not have".into(),
            );
        }
        if error.is_redirect() {
            return Self::Final("the node redirects too often".into());
        }
        if let Some(file) = Cause::all(error).find_map(|cause| cause.of_file().map(ToString::to_string)) {
            return Self::Final(file);
        }
        let what = if error.is_connect() { "cannot connect" } else { "the connection was lost" };
        let reason = if error.is_timeout() {
            "the node did not answer in time".to_owned()
        } else if let Some(why) = Cause::all(error).find_map(Cause::told) {
            format!("{what}: {why}")
        } else {
            what.to_owned()
        };
        Self::Passing { reason, retry_after: None }
    }

    /// A connection that was silent for this long.
    pub(super) fn silent(longest: Duration) -> Self {
        let reason = format!("the connection carried nothing for {}", humantime::format_duration(longest));
        Self::Passing { reason, retry_after: None }
    }
}

/// The file could not be read while it was sent. The connection is not at fault.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnreadableFile {
    #[error("the file shrank while it was sent")]
    Shorter,
    #[error("the file cannot be read on: {0}")]
    System(io::Error),
}

impl UnreadableFile {
    pub(super) fn told(self) -> io::Error {
        io::Error::other(self)
    }
}

/// One error in the chain of a failed request.
#[derive(Clone, Copy)]
struct Cause<'a>(&'a (dyn Error + 'static));

impl<'a> Cause<'a> {
    fn all(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(Self(error)), |cause| cause.next())
    }

    /// The error below this one. An I/O error that wraps another error does not name it as its source.
    fn next(self) -> Option<Self> {
        let wrapped = self.io().and_then(io::Error::get_ref).map(|inner| Self(inner));
        wrapped.or_else(|| self.0.source().map(Cause))
    }

    fn io(self) -> Option<&'a io::Error> {
        self.0.downcast_ref()
    }

    /// The error of the file that was sent.
    fn of_file(self) -> Option<&'a UnreadableFile> {
        self.0.downcast_ref()
    }

    /// The reason for a person: the system's, or what is wrong with the encryption. Texts of libraries are left out.
    fn told(self) -> Option<String> {
        if let Some(error) = self.0.downcast_ref::<rustls::Error>() {
            return Some(of_tls(error).to_owned());
        }
        let io = self.io()?;
        if io.raw_os_error().is_some() {
            return Some(io.to_string());
        }
        if io.kind() == io::ErrorKind::UnexpectedEof {
            return Some("the other side closed it".to_owned());
        }
        io.to_string().strip_prefix(NO_ADDRESS).map(|why| format!("its name has no address: {why}"))
    }
}

/// The beginning of the standard library's text for a name that cannot be resolved.
const NO_ADDRESS: &str = "failed to lookup address information: ";

fn of_tls(error: &rustls::Error) -> &'static str {
    use rustls::CertificateError::{Expired, ExpiredContext, NotValidForName, NotValidForNameContext, UnknownIssuer};

    match error {
        rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. }) => "its certificate has expired",
        rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => {
            "its certificate is for another name"
        }
        rustls::Error::InvalidCertificate(UnknownIssuer) => "this machine does not trust the issuer of its certificate",
        rustls::Error::InvalidCertificate(_) => "its certificate is not to be trusted",
        rustls::Error::InvalidMessage(_) => "what answers there does not speak TLS",
        _ => "no encryption was agreed on",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_the_systems_or_what_is_wrong_with_the_encryption() {
        let told = |error: io::Error| Cause::all(&error).find_map(Cause::told);
        let wrapped = |error: rustls::Error| io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error));
        let expired = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
        assert_eq!(told(wrapped(expired)).as_deref(), Some("its certificate has expired"));
        let no_tls = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        assert_eq!(told(wrapped(no_tls)).as_deref(), Some("what answers there does not speak TLS"));
        assert!(told(io::Error::from_raw_os_error(111)).is_some_and(|why| why.starts_with("Connection refused")));
        assert_eq!(told(io::Error::other("a library's words")), None);
    }
}
