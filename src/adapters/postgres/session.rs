//! The session properties that statements rely on, and whether the session belongs to this node or to a pooler in
//! between.
//!
//! A role, a database or a server may have defaults of its own. A session of our own is opened with the settings that
//! the statements need. A pooler keeps no session: a `SET` would go to any one of its connections, and stay there for
//! other clients. So behind a pooler nothing is set, and a connection with other defaults is refused, with advice.
//!
//! A pooler also keeps no session for the lock that migrations need. And cancel requests must not go through a pooler:
//! one sometimes crashes PgBouncer 1.18, which ends the connections of all instances (its issues 801, 822 and 904).

use tokio_postgres::{Client, Config, Error, error::SqlState};

/// Every statement relies on these: it sees all earlier commits, and a backslash in a text is a backslash. The last
/// option is the mark of a session of our own: only the server itself accepts it. A name with a dot needs no
/// privileges.
const OWN_SESSION: &str = "-c default_transaction_isolation=read\\ committed -c standard_conforming_strings=on -c TimeZone=UTC \
                           -c penstock.own_session=yes";

/// The encoding of names, words and JSON.
const ENCODING: &str = "UTF8";

/// The same configuration, which opens a session of our own if no pooler is in between.
pub(super) fn marked(config: &Config) -> Config {
    let mut marked = config.clone();
    marked.options(match config.get_options() {
        Some(options) => format!("{options} {OWN_SESSION}"),
        None => OWN_SESSION.to_owned(),
    });
    marked
}

/// Whether a [`marked`] connection was refused because a pooler does not accept the mark: PgBouncer names a startup
/// parameter, other poolers call it an unsupported feature.
pub(super) fn is_pooler(error: &Error) -> bool {
    error.as_db_error().is_some_and(|refusal| {
        (*refusal.code() == SqlState::PROTOCOL_VIOLATION && refusal.message().contains("startup parameter"))
            || *refusal.code() == SqlState::FEATURE_NOT_SUPPORTED
    })
}

/// The properties of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    /// Whether the mark has arrived. A pooler that ignores options lets a [`marked`] connection through.
    pub(super) is_own: bool,
    /// Whether it accepts no writes.
    pub(super) only_reads: bool,
    database: String,
    encoding: String,
    isolation: String,
    standard_strings: bool,
}

impl Session {
    /// Asks the server, in one round trip and without a statement name, because a pooler may be in between.
    pub(super) async fn of(client: &Client) -> Result<Self, Error> {
        const FACTS: &str = "
            SELECT current_setting('penstock.own_session', true) IS NOT DISTINCT FROM 'yes',
                   current_setting('transaction_read_only')::boolean, current_database()::text,
                   current_setting('server_encoding'), current_setting('default_transaction_isolation'),
                   current_setting('standard_conforming_strings')::boolean";
        let facts = client.query_typed_one(FACTS, &[]).await?;
        Ok(Self {
            is_own: facts.try_get(0)?,
            only_reads: facts.try_get(1)?,
            database: facts.try_get(2)?,
            encoding: facts.try_get(3)?,
            isolation: facts.try_get(4)?,
            standard_strings: facts.try_get(5)?,
        })
    }

    /// Why statements would go wrong in the session, with advice.
    pub(super) fn flaw(&self) -> Option<String> {
        let Self { database, encoding, isolation, .. } = self;
        if encoding != ENCODING {
            return Some(format!(
                "the database \"{database}\" has the encoding {encoding} and Penstock needs {ENCODING}: make another one, with \
                 CREATE DATABASE ... ENCODING '{ENCODING}' TEMPLATE template0"
            ));
        }
        let (name, value, needed) = match (isolation.as_str(), self.standard_strings) {
            ("read committed", true) => return None,
            ("read committed", false) => ("standard_conforming_strings", "off", "on"),
            (isolation, _) => ("default_transaction_isolation", isolation, "read committed"),
        };
        Some(format!(
            "sessions of the pooler in front of PostgreSQL have {name} = '{value}' and Penstock needs '{needed}': set it where the \
             pooler connects (connect_query of PgBouncer), or with ALTER ROLE ... SET {name} = '{needed}'"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_used_only_when_statements_can_rely_on_it() {
        let good = Session {
            is_own: false,
            only_reads: false,
            database: "penstock".into(),
            encoding: "UTF8".into(),
            isolation: "read committed".into(),
            standard_strings: true,
        };
        assert_eq!(good.flaw(), None);
        let latin = Session { encoding: "LATIN1".into(), ..good.clone() };
        assert!(latin.flaw().is_some_and(|why| why.contains("LATIN1") && why.contains("ENCODING 'UTF8'")));
        let strict = Session { isolation: "serializable".into(), ..good.clone() };
        assert!(strict.flaw().is_some_and(|why| why.contains("default_transaction_isolation = 'serializable'")));
        let old = Session { standard_strings: false, ..good };
        assert!(old.flaw().is_some_and(|why| why.contains("standard_conforming_strings = 'off'")));
    }
}
