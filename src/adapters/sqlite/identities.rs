//! The port `Identities`.

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::ProducerId,
    model::{Binding, IdentityKey},
    ports::{BindOutcome, IDENTITIES, Identities, Missing, PortError, PortResult},
};
use rusqlite::{Connection, OptionalExtension as _, Row, named_params};

use super::{
    SqliteStore,
    columns::{Sql, get},
};

/// Served by the primary key.
pub(super) const IDENTITY: &str =
    "SELECT identity_key, producer_id, bound_at FROM producer_identities WHERE identity_key = :key";

/// Served by the primary keys. No row means that the key is bound already, or that the producer does not exist.
pub(super) const BIND_IDENTITY: &str = "
    INSERT INTO producer_identities (identity_key, producer_id, bound_at)
    SELECT :key, producer_id, :now FROM producers WHERE producer_id = :producer
    ON CONFLICT (identity_key) DO NOTHING";

/// Served by the primary key.
pub(super) const UNBIND_IDENTITY: &str =
    "DELETE FROM producer_identities WHERE identity_key = :key AND producer_id = :producer";

/// Served by `producer_identities_producer`, in its order.
pub(super) const IDENTITIES_OF_PRODUCER: &str = "
    SELECT identity_key, producer_id, bound_at FROM producer_identities
    WHERE producer_id = :producer ORDER BY bound_at LIMIT :limit";

#[async_trait]
impl Identities for SqliteStore {
    async fn identity(&self, key: IdentityKey) -> PortResult<Option<ProducerId>> {
        let find = move |conn: &Connection| Ok(find(conn, key)?.map(|binding| binding.producer_id));
        self.workers.read("identity", find).await
    }

    async fn bind_identity(&self, key: IdentityKey, producer: ProducerId, now: Timestamp) -> PortResult<BindOutcome> {
        let bind = move |conn: &Connection| {
            let bound = conn.prepare_cached(BIND_IDENTITY)?.execute(named_params! {
                ":key": Sql(key), ":producer": Sql(producer), ":now": Sql(now),
            })?;
            Ok((bound == 1, find(conn, key)?))
        };
        match self.workers.write("bind_identity", bind).await? {
            (true, Some(binding)) => Ok(BindOutcome::New(binding)),
            (_, Some(binding)) if binding.producer_id == producer => Ok(BindOutcome::Already(binding)),
            (_, Some(_)) => Ok(BindOutcome::Taken),
            (_, None) => Err(PortError::NotFound(Missing::Producer)),
        }
    }

    async fn unbind_identity(&self, key: IdentityKey, producer: ProducerId) -> PortResult<bool> {
        let unbind = move |conn: &Connection| {
            let mut delete = conn.prepare_cached(UNBIND_IDENTITY)?;
            Ok(delete.execute(named_params! { ":key": Sql(key), ":producer": Sql(producer) })? == 1)
        };
        self.workers.write("unbind_identity", unbind).await
    }

    async fn identities(&self, producer: ProducerId) -> PortResult<Vec<Binding>> {
        let list = move |conn: &Connection| {
            let mut select = conn.prepare_cached(IDENTITIES_OF_PRODUCER)?;
            let which = named_params! { ":producer": Sql(producer), ":limit": IDENTITIES as i64 };
            let bindings = select.query_map(which, from_row)?.collect::<rusqlite::Result<Vec<_>>>();
            Ok(bindings?)
        };
        self.workers.read("identities", list).await
    }
}

fn find(conn: &Connection, key: IdentityKey) -> rusqlite::Result<Option<Binding>> {
    conn.prepare_cached(IDENTITY)?.query_row(named_params! { ":key": Sql(key) }, from_row).optional()
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Binding> {
    Ok(Binding {
        identity_key: get(row, "identity_key")?,
        producer_id: get(row, "producer_id")?,
        bound_at: get(row, "bound_at")?,
    })
}
