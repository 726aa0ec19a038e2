//! The port `HeaderStore`.

use async_trait::async_trait;
use penstock_actors::{
    model::{ChainHash, ChainHeader, ChainWork, RawHeader},
    ports::{HeaderStore, PortResult},
};
use rusqlite::{Connection, OptionalExtension as _, Row, named_params};

use super::SqliteStore;

/// By the primary key: what is there stays.
pub(super) const ADD_BLOCK_HEADER: &str = "
    INSERT INTO block_headers (height, hash, header, total_work) VALUES (:height, :hash, :header, :total_work)
    ON CONFLICT (height, hash) DO NOTHING";

/// The last entry of `block_headers_work`.
pub(super) const BEST_BLOCK_HEADER: &str =
    "SELECT height, hash, header, total_work FROM block_headers ORDER BY total_work DESC LIMIT 1";

/// A range of the primary key.
pub(super) const BLOCK_HEADERS: &str = "
    SELECT height, hash, header, total_work FROM block_headers
    WHERE height >= :from AND height < :to ORDER BY height, hash";

fn header_from_row(row: &Row<'_>) -> rusqlite::Result<ChainHeader> {
    Ok(ChainHeader {
        raw: RawHeader(row.get("header")?),
        hash: ChainHash::from_wire(row.get("hash")?),
        height: row.get("height")?,
        total_work: ChainWork(row.get("total_work")?),
    })
}

#[async_trait]
impl HeaderStore for SqliteStore {
    async fn add_headers(&self, headers: &[ChainHeader]) -> PortResult<()> {
        let headers = headers.to_vec();
        let add = move |conn: &Connection| {
            let mut add = conn.prepare_cached(ADD_BLOCK_HEADER)?;
            for ChainHeader { raw, hash, height, total_work } in &headers {
                add.execute(named_params! {
                    ":height": height,
                    ":hash": hash.as_wire().as_slice(),
                    ":header": raw.0.as_slice(),
                    ":total_work": total_work.0.as_slice(),
                })?;
            }
            Ok(())
        };
        self.workers.write("add_block_headers", add).await
    }

    async fn best_header(&self) -> PortResult<Option<ChainHeader>> {
        let best = move |conn: &Connection| {
            Ok(conn.prepare_cached(BEST_BLOCK_HEADER)?.query_row([], header_from_row).optional()?)
        };
        self.workers.read("best_block_header", best).await
    }

    async fn headers_from(&self, height: u32, heights: u32) -> PortResult<Vec<ChainHeader>> {
        let list = move |conn: &Connection| {
            let range = named_params! { ":from": height, ":to": i64::from(height) + i64::from(heights) };
            let mut select = conn.prepare_cached(BLOCK_HEADERS)?;
            let headers = select.query_map(range, header_from_row)?.collect::<rusqlite::Result<Vec<_>>>();
            Ok(headers?)
        };
        self.workers.read("block_headers", list).await
    }
}
