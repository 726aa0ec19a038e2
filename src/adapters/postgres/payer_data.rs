//! The port `PayerData`: forgetting runs inside one function.

use async_trait::async_trait;
use penstock_actors::{
    ids::ReceiptId,
    ports::{ErasureStep, PayerData, PortResult, SetAside},
};
use tokio_postgres::types::Type;

use super::{
    PostgresStore,
    columns::{Columns, out_of_range},
    db::Statement,
    replicas::Topic,
    set_aside,
};

/// Receipt by the primary key, leases and windows by theirs, usage by `streaming_usage_receipt`, rows set aside by
/// `usage_set_aside_receipt`, inside the function.
const ERASE: Statement = Statement {
    name: "erase_receipt",
    sql: "SELECT state, usage_rows FROM penstock_erase_receipt($1, $2)",
    types: &[Type::UUID, Type::INT8],
};

#[async_trait]
impl PayerData for PostgresStore {
    async fn set_aside_under(&self, receipt: ReceiptId, limit: u32) -> PortResult<Vec<SetAside>> {
        set_aside::under(self, receipt, limit).await
    }

    async fn erase(&self, receipt: ReceiptId, limit: u32) -> PortResult<ErasureStep> {
        let row = self.upkeep.row(&ERASE, &[&receipt.as_uuid(), &i64::from(limit)]).await;
        self.replicas.changed([Topic::Usage(receipt)]);
        let row = row?;
        let row = Columns(&row);
        let rows = row.amount("usage_rows")?;
        match row.get("state")? {
            "more" => Ok(ErasureStep::More(rows)),
            "done" => Ok(ErasureStep::Done(rows)),
            "open" => Ok(ErasureStep::Open),
            "leased" => Ok(ErasureStep::Leased),
            _ => Err(out_of_range("state")),
        }
    }
}
