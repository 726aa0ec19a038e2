//! PostgreSQL URLs in libpq's form: the driver parses all but the TLS parameters, which it supports only partly.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use super::TlsMode;

/// Why a text is not a usable URL. It never repeats the text, which may contain a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    #[error("be of the form postgres://user:password@host:5432/database")]
    Form,
    #[error(
        "have sslmode=verify-full, require or disable: {0} lets a server in between choose, or leaves the server's name \
         unchecked"
    )]
    WeakTls(&'static str),
    #[error("have sslmode=verify-full, require or disable")]
    UnknownMode,
}

/// The TLS parameters of a URL.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct TlsOfUrl {
    pub(super) mode: Option<TlsMode>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) certificate_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
}

/// Parses a URL.
pub(super) fn parse(url: &str) -> Result<(tokio_postgres::Config, TlsOfUrl), InvalidUrl> {
    if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(InvalidUrl::Form);
    }
    // A question mark before the first @ belongs to the password.
    let server = url.find('@').unwrap_or_default();
    let (rest, query) = match url[server..].split_once('?') {
        Some((address, query)) => (&url[..server + address.len()], query),
        None => (url, ""),
    };
    let mut tls = TlsOfUrl::default();
    let mut others = Vec::new();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        if !tls.take(parameter)? {
            others.push(parameter);
        }
    }
    let config = format!("{rest}?{}", others.join("&")).parse().map_err(|_| InvalidUrl::Form)?;
    Ok((config, tls))
}

impl TlsOfUrl {
    /// Takes a parameter if it is a TLS parameter.
    fn take(&mut self, parameter: &str) -> Result<bool, InvalidUrl> {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = percent_decode_str(value).decode_utf8().map_err(|_| InvalidUrl::Form)?;
        let file = || Some(PathBuf::from(&*value));
        match name {
            "sslmode" => self.mode = Some(mode(&value)?),
            // libpq's value for the authorities that the system trusts.
            "sslrootcert" if value == "system" => self.mode = Some(TlsMode::Verify),
            "sslrootcert" => self.ca_file = file(),
            "sslcert" => self.certificate_file = file(),
            "sslkey" => self.key_file = file(),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn mode(value: &str) -> Result<TlsMode, InvalidUrl> {
    match value {
        "disable" => Ok(TlsMode::Off),
        "require" => Ok(TlsMode::Require),
        "verify-full" => Ok(TlsMode::Verify),
        "prefer" => Err(InvalidUrl::WeakTls("prefer")),
        "allow" => Err(InvalidUrl::WeakTls("allow")),
        "verify-ca" => Err(InvalidUrl::WeakTls("verify-ca")),
        _ => Err(InvalidUrl::UnknownMode),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio_postgres::config::Host;

    use super::*;

    #[test]
    fn what_concerns_tls_is_taken_out_and_the_rest_is_the_drivers() {
        let url = "postgres://me:p%3Fw@db.internal:6432/x?sslmode=verify-full&application_name=a&sslrootcert=%2Fetc%2Fca.pem\
                   &sslcert=/c.pem&sslkey=/k.pem";
        let (config, tls) = parse(url).unwrap();
        assert_eq!(config.get_hosts(), [Host::Tcp("db.internal".into())]);
        assert_eq!((config.get_ports(), config.get_dbname()), (&[6432][..], Some("x")));
        assert_eq!(config.get_password(), Some(&b"p?w"[..]));
        assert_eq!(config.get_application_name(), Some("a"));
        let file = |path: &str| Some(PathBuf::from(path));
        let expected = TlsOfUrl {
            mode: Some(TlsMode::Verify),
            ca_file: file("/etc/ca.pem"),
            certificate_file: file("/c.pem"),
            key_file: file("/k.pem"),
        };
        assert_eq!(tls, expected);
    }

    #[test]
    fn a_tls_mode_without_protection_is_refused_by_name() {
        for weak in ["prefer", "allow", "verify-ca"] {
            let error = parse(&format!("postgres://me:secret@db/x?sslmode={weak}")).unwrap_err().to_string();
            assert!(error.contains(weak) && !error.contains("secret"), "{error}");
        }
        assert_eq!(parse("postgres://db/x?sslmode=on").unwrap_err(), InvalidUrl::UnknownMode);
        assert_eq!(parse("mysql://db/x").unwrap_err(), InvalidUrl::Form);
        assert_eq!(parse("postgres://db/x?nonsense=1").unwrap_err(), InvalidUrl::Form);
    }

    #[test]
    fn the_systems_authorities_can_be_named_as_libpq_names_them() {
        let (_, tls) = parse("postgresql://db/x?sslrootcert=system").unwrap();
        assert_eq!(tls, TlsOfUrl { mode: Some(TlsMode::Verify), ..TlsOfUrl::default() });
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd_to_be_refused(text in ".*") {
            let _ = parse(&text);
            let _ = parse(&format!("postgres://{text}"));
        }
    }
}
