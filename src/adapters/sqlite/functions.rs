//! SQL functions that the triggers of the search call, so that the index splits words as the rest of the program does.

use penstock_actors::search::{texts, words};
use rusqlite::{
    Connection, Error,
    functions::{Context, FunctionFlags},
};

/// Separates two texts: it takes the position of a word and is part of none, so no phrase matches across it.
const GAP: &str = " ¦ ";

/// Adds `penstock_words(text)` and `penstock_texts(json)` to a connection.
pub(super) fn add(conn: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    conn.create_scalar_function("penstock_words", 1, flags, |context| {
        let text = context.get_raw(0).as_str().map_err(|error| Error::UserFunctionError(error.into()))?;
        Ok(words(text).join(" "))
    })?;
    conn.create_scalar_function("penstock_texts", 1, flags, words_of_json)
}

fn words_of_json(context: &Context<'_>) -> rusqlite::Result<String> {
    let json = context.get_raw(0).as_str().map_err(|error| Error::UserFunctionError(error.into()))?;
    let value: serde_json::Value =
        serde_json::from_str(json).map_err(|error| Error::UserFunctionError(error.into()))?;
    let texts = texts(&value).into_iter().map(|text| words(text).join(" "));
    Ok(texts.collect::<Vec<_>>().join(GAP))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(sql: &str) -> rusqlite::Result<String> {
        let conn = Connection::open_in_memory().expect("a database");
        add(&conn).expect("functions");
        conn.query_row(sql, [], |row| row.get(0))
    }

    #[test]
    fn texts_become_words_with_gaps_between_them() {
        assert_eq!(ask("SELECT penstock_words('São-Paulo!')").as_deref(), Ok("sao paulo"));
        assert_eq!(ask(r#"SELECT penstock_texts('{"a":["B c", 1, {"d":"E"}]}')"#).as_deref(), Ok("b c ¦ e"));
        assert_eq!(ask("SELECT penstock_texts('{}')").as_deref(), Ok(""));
        assert!(ask("SELECT penstock_texts('no JSON')").is_err());
    }
}
