//! Whether a connection's session is our own, or that of a pooler between us and the server.
//!
//! A pooler keeps no session for the lock that migrations need. And a request to cancel must not go through one: PgBouncer
//! 1.18 ends of it now and then, with the connections of all instances (its issues 801, 822 and 904).

use tokio_postgres::{Client, Config, Error, error::SqlState};

/// An option that only a session of the server's own has. A name with a dot needs no rights.
const OWN_SESSION: &str = "-c penstock.own_session=yes";

/// The same way, with a mark on the session that [`is_own`] finds if it arrives.
pub(super) fn marked(config: &Config) -> Config {
    let mut marked = config.clone();
    marked.options(match config.get_options() {
        Some(options) => format!("{options} {OWN_SESSION}"),
        None => OWN_SESSION.to_owned(),
    });
    marked
}

/// Whether a [`marked`] connection was refused because a pooler cannot keep the mark: PgBouncer names a startup parameter, other
/// poolers call it a feature that they lack.
pub(super) fn is_pooler(error: &Error) -> bool {
    error.as_db_error().is_some_and(|refusal| {
        (*refusal.code() == SqlState::PROTOCOL_VIOLATION && refusal.message().contains("startup parameter"))
            || *refusal.code() == SqlState::FEATURE_NOT_SUPPORTED
    })
}

/// Whether the mark has arrived. A pooler that was told to pass over options lets a [`marked`] connection through.
pub(super) async fn is_own(client: &Client) -> Result<bool, Error> {
    const IS_OWN: &str = "SELECT current_setting('penstock.own_session', true) IS NOT DISTINCT FROM 'yes'";
    Ok(client.query_typed_one(IS_OWN, &[]).await?.get(0))
}
