//! The port `HeaderStore`. On the primary: who has just been told of a header must find it.

use async_trait::async_trait;
use penstock_actors::{
    model::{ChainHash, ChainHeader, ChainWork, RawHeader},
    ports::{HeaderStore, PortResult},
};
use tokio_postgres::{Row, types::Type};

use super::{
    PostgresStore,
    columns::{Columns, bytes_32, out_of_range},
    db::Statement,
};

/// By the primary key: what is there stays.
const ADD: Statement = Statement {
    name: "add_block_headers",
    sql: "
        INSERT INTO block_headers (height, hash, header, total_work)
        SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::bytea[])
        ON CONFLICT (height, hash) DO NOTHING",
    types: &[Type::INT8_ARRAY, Type::BYTEA_ARRAY, Type::BYTEA_ARRAY, Type::BYTEA_ARRAY],
};

/// The last entry of `block_headers_work`.
const BEST: Statement = Statement {
    name: "best_block_header",
    sql: "SELECT height, hash, header, total_work FROM block_headers ORDER BY total_work DESC LIMIT 1",
    types: &[],
};

/// A range of the primary key.
const RANGE: Statement = Statement {
    name: "block_headers",
    sql: "
        SELECT height, hash, header, total_work FROM block_headers
        WHERE height >= $1 AND height < $2 ORDER BY height, hash",
    types: &[Type::INT8, Type::INT8],
};

fn header_from_row(row: &Row) -> PortResult<ChainHeader> {
    let row = Columns(row);
    let header: &[u8] = row.get("header")?;
    Ok(ChainHeader {
        raw: RawHeader(header.try_into().map_err(|_| out_of_range("header"))?),
        hash: ChainHash::from_wire(bytes_32("hash", row.get("hash")?)?),
        height: u32::try_from(row.get::<i64>("height")?).map_err(|_| out_of_range("height"))?,
        total_work: ChainWork(bytes_32("total_work", row.get("total_work")?)?),
    })
}

#[async_trait]
impl HeaderStore for PostgresStore {
    async fn add_headers(&self, headers: &[ChainHeader]) -> PortResult<()> {
        let heights: Vec<i64> = headers.iter().map(|header| header.height.into()).collect();
        let hashes: Vec<&[u8]> = headers.iter().map(|header| header.hash.as_wire().as_slice()).collect();
        let raw: Vec<&[u8]> = headers.iter().map(|header| header.raw.0.as_slice()).collect();
        let work: Vec<&[u8]> = headers.iter().map(|header| header.total_work.0.as_slice()).collect();
        self.upkeep.execute(&ADD, &[&heights, &hashes, &raw, &work]).await.map(drop)
    }

    async fn best_header(&self) -> PortResult<Option<ChainHeader>> {
        let rows = self.upkeep.rows(&BEST, &[]).await?;
        rows.first().map(header_from_row).transpose()
    }

    async fn headers_from(&self, height: u32, heights: u32) -> PortResult<Vec<ChainHeader>> {
        let (from, to) = (i64::from(height), i64::from(height) + i64::from(heights));
        self.upkeep.rows(&RANGE, &[&from, &to]).await?.iter().map(header_from_row).collect()
    }
}
