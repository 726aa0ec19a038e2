//! Conversions between rows and the types of the domain.
//!
//! PostgreSQL has no unsigned integers: amounts are stored as `bigint`, and checks keep them non-negative.

use penstock_actors::{
    ids::ContentHash,
    model::{ClientMark, Credit, IdentityKey, QuotaPolicy, Receipt, UsageRow, Window, WindowUsage},
    ports::{PortError, PortResult},
};
use penstock_actors::{
    ids::{ReceiptId, SessionId, UsageId, VersionId},
    model::Outcome,
};
use tokio_postgres::{Row, types::FromSql};

/// An amount that must be stored exactly.
///
/// # Errors
/// `Rejected` when the amount does not fit the column.
pub(super) fn exact(amount: u64) -> PortResult<i64> {
    i64::try_from(amount).map_err(|error| PortError::rejected("PostgreSQL", error))
}

/// An amount that may be capped at the largest that the database can store. No real amount of bytes, requests or
/// satoshis comes near 2^63; a limit of that size limits nothing.
pub(super) fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

/// A row whose columns are read by name.
pub(super) struct Columns<'a>(pub(super) &'a Row);

impl<'a> Columns<'a> {
    pub(super) fn get<T: FromSql<'a>>(&self, name: &str) -> PortResult<T> {
        self.0.try_get(name).map_err(|error| PortError::Corrupt(format!("column {name}: {error}")))
    }

    pub(super) fn amount(&self, name: &str) -> PortResult<u64> {
        unsigned(name, self.get(name)?)
    }

    pub(super) fn amount_opt(&self, name: &str) -> PortResult<Option<u64>> {
        self.get::<Option<i64>>(name)?.map(|amount| unsigned(name, amount)).transpose()
    }

    /// A number that fits 32 bits wherever this program wrote it.
    fn small_opt(&self, name: &str) -> PortResult<Option<u32>> {
        let amount = self.amount_opt(name)?;
        amount.map(|amount| u32::try_from(amount).map_err(|_| out_of_range(name))).transpose()
    }

    pub(super) fn hash(&self, name: &str) -> PortResult<ContentHash> {
        bytes_32(name, self.get(name)?).map(ContentHash::from_bytes)
    }

    /// A word from a closed set.
    /// A compressed public key.
    pub(super) fn identity(&self, name: &str) -> PortResult<IdentityKey> {
        let bytes: &[u8] = self.get(name)?;
        let key = bytes.try_into().ok().and_then(|bytes| IdentityKey::from_bytes(bytes).ok());
        key.ok_or_else(|| PortError::Corrupt(format!("column {name} is not a compressed key")))
    }

    pub(super) fn word<T>(&self, name: &str, parse: impl FnOnce(&str) -> Option<T>) -> PortResult<T> {
        parse(self.get(name)?).ok_or_else(|| out_of_range(name))
    }

    pub(super) fn credit(&self, bytes: &str, requests: &str) -> PortResult<Credit> {
        Ok(Credit::new(self.amount(bytes)?, self.amount(requests)?))
    }

    /// The columns that the statements of `receipts` return.
    pub(super) fn receipt(&self) -> PortResult<Receipt> {
        Ok(Receipt {
            receipt_id: ReceiptId::from_uuid(self.get("receipt_id")?),
            version_id: VersionId::from_uuid(self.get("version_id")?),
            content_hash: self.hash("content_hash")?,
            quota_tier: self.get("quota_tier")?,
            status: self.word("status", |word| word.parse().ok())?,
            expires_at: self.get("expires_at")?,
            total_satoshis: self.amount("total_satoshis")?,
            created_at: self.get("created_at")?,
            epoch: self.get("epoch")?,
        })
    }

    pub(super) fn policy(&self) -> PortResult<QuotaPolicy> {
        Ok(QuotaPolicy {
            policy_name: self.get("policy_name")?,
            description: self.get("description")?,
            bytes_per_hour: self.amount_opt("bytes_per_hour")?,
            bytes_per_day: self.amount_opt("bytes_per_day")?,
            bytes_per_month: self.amount_opt("bytes_per_month")?,
            requests_per_hour: self.amount_opt("requests_per_hour")?,
            requests_per_day: self.amount_opt("requests_per_day")?,
            requests_per_month: self.amount_opt("requests_per_month")?,
            max_concurrent_streams: self.small_opt("max_concurrent_streams")?,
            max_bandwidth_mbps: self.get("max_bandwidth_mbps")?,
            burst_bytes_allowance: self.amount_opt("burst_bytes_allowance")?,
            burst_duration_minutes: self.small_opt("burst_duration_minutes")?,
            max_file_size_bytes: self.amount_opt("max_file_size_bytes")?,
            allowed_content_types: self.get("allowed_content_types")?,
        })
    }

    /// A window, from the four counters of a joined row.
    pub(super) fn window(&self, window: Window, columns: &[&str; 4]) -> PortResult<WindowUsage> {
        let [bytes_used, bytes_reserved, requests_used, requests_reserved] = columns;
        Ok(WindowUsage {
            window,
            used: self.credit(bytes_used, requests_used)?,
            reserved: self.credit(bytes_reserved, requests_reserved)?,
        })
    }

    fn client_opt(&self, name: &str) -> PortResult<Option<ClientMark>> {
        let bytes = self.get::<Option<&[u8]>>(name)?;
        let mark = |bytes: &[u8]| bytes.try_into().map(ClientMark::from_bytes).map_err(|_| out_of_range(name));
        bytes.map(mark).transpose()
    }

    pub(super) fn usage_row(&self) -> PortResult<UsageRow> {
        Ok(UsageRow {
            usage_id: UsageId::from_uuid(self.get("usage_id")?),
            receipt_id: ReceiptId::from_uuid(self.get("receipt_id")?),
            content_hash: self.hash("content_hash")?,
            session_id: self.get::<Option<_>>("session_id")?.map(SessionId::from_uuid),
            client: self.client_opt("client")?,
            started_at: self.get("started_at")?,
            finished_at: self.get("finished_at")?,
            bytes_sent: self.amount("bytes_sent")?,
            requests: self.amount("requests")?,
            outcome: self.word("outcome", Outcome::parse)?,
            lease_epoch: self.get("lease_epoch")?,
        })
    }
}

fn unsigned(name: &str, amount: i64) -> PortResult<u64> {
    u64::try_from(amount).map_err(|_| out_of_range(name))
}

pub(super) fn bytes_32(name: &str, bytes: &[u8]) -> PortResult<[u8; 32]> {
    bytes.try_into().map_err(|_| out_of_range(name))
}

pub(super) fn out_of_range(name: &str) -> PortError {
    PortError::Corrupt(format!("column {name} is out of range"))
}
