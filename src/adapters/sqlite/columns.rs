//! Domain types in columns: times as microseconds, ids and hashes as raw bytes, counts as checked 64-bit integers,
//! states as their names.

use jiff::{Span, Timestamp, civil::Date};
use penstock_actors::{
    governance::{Decision, Verdict},
    ids::{
        ContentHash, InstallationId, KeyId, NodeId, PartId, PolicyRunId, ProducerId, ReceiptId, RunId, SessionId,
        StoreId, TimelineId, UploadId, UsageId, VerificationId, VersionId,
    },
    model::{
        ChainHash, ClientMark, Credit, EventHash, Facets, Finding, IdentityKey, MoveState, NamespaceKey, NodeKey,
        NodeKind, Outcome, PaymentStage, ReceiptStatus, Role, RunState, StorageTier, UploadKind, VerificationKind,
        WindowKind,
    },
    ports::{Occasion, OutboxKind},
};
use rusqlite::{
    Row,
    types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef},
};
use uuid::Uuid;

/// A domain value for writing to or reading from a column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sql<T>(pub(super) T);

/// Reads a column.
pub(super) fn get<T>(row: &Row<'_>, column: &str) -> rusqlite::Result<T>
where
    Sql<T>: FromSql,
{
    row.get::<_, Sql<T>>(column).map(|value| value.0)
}

/// Reads a column that may be NULL.
pub(super) fn get_opt<T>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>>
where
    Sql<T>: FromSql,
{
    Ok(row.get::<_, Option<Sql<T>>>(column)?.map(|value| value.0))
}

/// Reads an amount of quota from its two columns.
pub(super) fn get_credit(row: &Row<'_>, bytes: &str, requests: &str) -> rusqlite::Result<Credit> {
    Ok(Credit::new(get(row, bytes)?, get(row, requests)?))
}

macro_rules! uuid_columns {
    ($($id:ty),*) => {$(
        impl ToSql for Sql<$id> {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(ToSqlOutput::from(self.0.as_uuid().into_bytes().to_vec()))
            }
        }

        impl FromSql for Sql<$id> {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                <[u8; 16]>::column_result(value).map(|bytes| Self(<$id>::from_uuid(Uuid::from_bytes(bytes))))
            }
        }
    )*};
}

uuid_columns!(
    InstallationId,
    KeyId,
    NodeId,
    PartId,
    PolicyRunId,
    ProducerId,
    ReceiptId,
    RunId,
    SessionId,
    StoreId,
    TimelineId,
    UploadId,
    UsageId,
    VerificationId,
    VersionId
);

macro_rules! byte_columns {
    ($($key:ident),*) => {$(
        impl ToSql for Sql<$key> {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(ToSqlOutput::from(self.0.0.as_slice()))
            }
        }

        impl FromSql for Sql<$key> {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                FromSql::column_result(value).map(|bytes| Self($key(bytes)))
            }
        }
    )*};
}

byte_columns!(EventHash, NamespaceKey, NodeKey);

impl ToSql for Sql<ContentHash> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(self.0.as_bytes().as_slice()))
    }
}

impl FromSql for Sql<ContentHash> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        <[u8; 32]>::column_result(value).map(|bytes| Self(ContentHash::from_bytes(bytes)))
    }
}

/// In the order of the wire.
impl ToSql for Sql<ChainHash> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(self.0.as_wire().as_slice()))
    }
}

impl FromSql for Sql<ChainHash> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        <[u8; 32]>::column_result(value).map(|bytes| Self(ChainHash::from_wire(bytes)))
    }
}

impl ToSql for Sql<ClientMark> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(self.0.as_bytes().as_slice()))
    }
}

impl FromSql for Sql<ClientMark> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        <[u8; 8]>::column_result(value).map(|bytes| Self(ClientMark::from_bytes(bytes)))
    }
}

impl ToSql for Sql<IdentityKey> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(self.0.as_bytes().as_slice()))
    }
}

impl FromSql for Sql<IdentityKey> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let bytes = <[u8; 33]>::column_result(value)?;
        IdentityKey::from_bytes(bytes).map(Self).map_err(|error| FromSqlError::Other(error.into()))
    }
}

impl ToSql for Sql<Timestamp> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(self.0.as_microsecond()))
    }
}

impl FromSql for Sql<Timestamp> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let micros = value.as_i64()?;
        Timestamp::from_microsecond(micros).map(Self).map_err(|_| FromSqlError::OutOfRange(micros))
    }
}

/// The day from which days are counted.
const FIRST_DAY: Date = Date::constant(1970, 1, 1);

impl ToSql for Sql<Date> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(i64::from((self.0 - FIRST_DAY).get_days())))
    }
}

impl FromSql for Sql<Date> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let days = value.as_i64()?;
        let span = Span::new().try_days(days).map_err(|_| FromSqlError::OutOfRange(days))?;
        FIRST_DAY.checked_add(span).map(Self).map_err(|_| FromSqlError::OutOfRange(days))
    }
}

impl ToSql for Sql<u64> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let count = i64::try_from(self.0).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
        Ok(ToSqlOutput::from(count))
    }
}

impl FromSql for Sql<u64> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let count = value.as_i64()?;
        u64::try_from(count).map(Self).map_err(|_| FromSqlError::OutOfRange(count))
    }
}

impl FromSql for Sql<serde_json::Value> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        serde_json::from_str(value.as_str()?).map(Self).map_err(|e| FromSqlError::Other(e.into()))
    }
}

impl FromSql for Sql<Verdict> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        serde_json::from_str(value.as_str()?).map(Self).map_err(|e| FromSqlError::Other(e.into()))
    }
}

impl FromSql for Sql<Facets> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        serde_json::from_str(value.as_str()?).map(Self).map_err(|e| FromSqlError::Other(e.into()))
    }
}

impl FromSql for Sql<Vec<String>> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        serde_json::from_str(value.as_str()?).map(Self).map_err(|e| FromSqlError::Other(e.into()))
    }
}

macro_rules! named_columns {
    ($($state:ty => $parse:expr),* $(,)?) => {$(
        impl ToSql for Sql<$state> {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(ToSqlOutput::from(self.0.as_str()))
            }
        }

        impl FromSql for Sql<$state> {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                let name = value.as_str()?;
                let parsed: Option<$state> = $parse(name);
                parsed.map(Self).ok_or_else(|| FromSqlError::Other(format!("{name:?} is not a known name").into()))
            }
        }
    )*};
}

named_columns!(
    Decision => Decision::parse,
    Finding => Finding::parse,
    MoveState => MoveState::parse,
    StorageTier => StorageTier::parse,
    UploadKind => UploadKind::parse,
    VerificationKind => VerificationKind::parse,
    NodeKind => NodeKind::parse,
    Occasion => Occasion::parse,
    Outcome => Outcome::parse,
    PaymentStage => PaymentStage::parse,
    RunState => RunState::parse,
    OutboxKind => OutboxKind::parse,
    ReceiptStatus => |name: &str| name.parse().ok(),
    Role => |name: &str| [Role::Producer, Role::Admin].into_iter().find(|role| role.as_str() == name),
    WindowKind => |name: &str| WindowKind::ALL.into_iter().find(|kind| kind.as_str() == name),
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_beyond_the_column_is_refused_not_wrapped() {
        assert!(Sql(u64::MAX).to_sql().is_err());
        assert!(Sql(i64::MAX as u64).to_sql().is_ok());
        assert!(Sql::<u64>::column_result(ValueRef::Integer(-1)).is_err());
    }

    #[test]
    fn a_name_that_the_domain_does_not_know_is_an_error() {
        assert!(Sql::<Outcome>::column_result(ValueRef::Text(b"vanished")).is_err());
        assert_eq!(Sql::<Role>::column_result(ValueRef::Text(b"admin")).expect("a role").0, Role::Admin);
    }
}
