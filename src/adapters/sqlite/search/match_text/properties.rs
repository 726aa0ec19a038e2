//! What holds for every search.

use rusqlite::Connection;

use super::*;

thread_local! {
    static INDEX: Connection = index().unwrap_or_else(|error| panic!("SQLite has no index: {error}"));
}

fn index() -> rusqlite::Result<Connection> {
    let conn = Connection::open_in_memory()?;
    let table = "CREATE VIRTUAL TABLE texts USING fts5 (
        name, description, policy_meta, tags, content = '', contentless_delete = 1, tokenize = 'ascii')";
    conn.execute_batch(table)?;
    Ok(conn)
}

/// # Panics
/// When SQLite finds a mistake in what the search becomes.
pub(crate) fn check(filter: &SearchFilter) {
    let places = MatchedField::ALL.into_iter().map(Some).chain([None]);
    for text in places.filter_map(|place| match_text(filter, place)) {
        let found = INDEX.with(|conn| {
            let mut statement = conn.prepare_cached("SELECT rowid FROM texts WHERE texts MATCH ?1")?;
            statement.query_map([&text], |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()
        });
        assert!(found.is_ok(), "{text}: {found:?}");
    }
}
