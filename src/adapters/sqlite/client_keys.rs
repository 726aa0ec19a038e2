//! The port `ClientKeys`.

use std::time::Duration;

use async_trait::async_trait;
use jiff::{
    Timestamp,
    civil::Date,
    tz::{Offset, TimeZone},
};
use penstock_actors::{
    clock::{Clock as _, SystemClock},
    ports::{ClientKeys, DailyKey, PortError, PortResult},
};
use rusqlite::{Connection, OptionalExtension as _, Row, named_params};

use super::{
    SqliteStore,
    columns::{Sql, get},
    error::DEPENDENCY,
};

/// Served by the primary key.
pub(super) const CLIENT_KEY: &str = "SELECT key FROM client_keys WHERE day = :day";

/// Served by the primary key.
pub(super) const ADD_CLIENT_KEY: &str = "INSERT INTO client_keys (day, key) VALUES (:day, :key)";

/// A few rows, in the order of the primary key.
pub(super) const CLIENT_KEYS: &str = "SELECT day, key FROM client_keys ORDER BY day";

/// Served by the primary key. Neither the caller's clock nor this machine's alone ends a day.
pub(super) const FORGET_CLIENT_KEYS: &str = "DELETE FROM client_keys WHERE day < :before AND day < :today";

fn day_of(moment: Timestamp) -> Date {
    Offset::UTC.to_datetime(moment).date()
}

/// What is left of the day.
fn left(day: Date, now: Timestamp) -> Option<Duration> {
    let end = day.tomorrow().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp();
    Some(Duration::try_from(end.duration_since(now)).unwrap_or_default())
}

fn find(conn: &Connection, day: Date) -> rusqlite::Result<Option<[u8; 32]>> {
    conn.prepare_cached(CLIENT_KEY)?.query_row(named_params! { ":day": Sql(day) }, |row| row.get("key")).optional()
}

pub(super) fn forget(conn: &Connection, before: Timestamp) -> rusqlite::Result<u64> {
    let (before, today) = (day_of(before), day_of(SystemClock.now()));
    let range = named_params! { ":before": Sql(before), ":today": Sql(today) };
    Ok(conn.prepare_cached(FORGET_CLIENT_KEYS)?.execute(range)? as u64)
}

#[async_trait]
impl ClientKeys for SqliteStore {
    async fn key_of_today(&self, proposal: [u8; 32]) -> PortResult<DailyKey> {
        let now = SystemClock.now();
        let day = day_of(now);
        let found = self.workers.read("client_key", move |conn: &Connection| Ok(find(conn, day)?)).await?;
        let key = match found {
            Some(key) => key,
            None => {
                let propose = move |conn: &Connection| {
                    if let Some(key) = find(conn, day)? {
                        return Ok(key);
                    }
                    conn.prepare_cached(ADD_CLIENT_KEY)?
                        .execute(named_params! { ":day": Sql(day), ":key": proposal.as_slice() })?;
                    Ok(proposal)
                };
                self.workers.write("propose_client_key", propose).await?
            }
        };
        let left = left(day, now).ok_or_else(|| PortError::unavailable(DEPENDENCY, "the clock is past all days"))?;
        Ok(DailyKey { key, left })
    }

    async fn kept_keys(&self) -> PortResult<Vec<(Date, [u8; 32])>> {
        let from_row = |row: &Row<'_>| Ok((get(row, "day")?, row.get("key")?));
        let list = move |conn: &Connection| {
            let mut select = conn.prepare_cached(CLIENT_KEYS)?;
            let keys = select.query_map([], from_row)?.collect::<rusqlite::Result<Vec<_>>>();
            Ok(keys?)
        };
        self.workers.read("client_keys", list).await
    }
}

#[cfg(test)]
mod tests {
    use penstock_actors::ports::Upkeep as _;

    use super::{super::testing::Database, *};

    #[tokio::test]
    async fn keys_go_after_their_days() {
        let database = Database::new();
        let store = database.open();
        let now = Timestamp::now();
        let days = |days: u64| Duration::from_secs(days * 86_400);
        for past in 0..4 {
            let (day, key) = (Sql(day_of(now - days(past))), [past as u8; 32]);
            let row = named_params! { ":day": day, ":key": key.as_slice() };
            database.raw().execute(ADD_CLIENT_KEY, row).expect("added");
        }
        let kept = async || store.kept_keys().await.expect("read").len();
        assert_eq!(store.forget_client_keys(now - days(2)).await.expect("forgot"), 1);
        assert_eq!(kept().await, 3);
        assert_eq!(store.forget_client_keys(now + days(400)).await.expect("forgot"), 2);
        assert_eq!(kept().await, 1, "the key of the present day stays");
    }

    #[test]
    fn a_day_lasts_to_midnight() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let now = at("2026-11-30T23:59:58.5Z");
        assert_eq!(left(day_of(now), now), Some(Duration::from_millis(1500)));
        let midnight = at("2026-12-01T00:00:00Z");
        assert_eq!(left(day_of(midnight), midnight), Some(Duration::from_secs(86_400)));
    }
}
