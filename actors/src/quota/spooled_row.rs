//! The note of one stream in the spool, from the stream's first piece until its row is durably in the ledger.
//!
//! Dropping it leaves the note in the spool: if the row got lost in this process, the next start finds it. Only
//! [`settled`](SpooledRow::settled) and [`cancel`](SpooledRow::cancel) take it out.

use std::{fmt, sync::Arc};

use crate::{
    model::{Outcome, UsageRow},
    ports::{PortResult, SpoolKey, UsageSpool},
};

/// The last note of a stream, as far as later rows may differ from it.
#[derive(Debug, Clone, Copy)]
struct LastNote {
    key: SpoolKey,
    bytes_sent: u64,
    outcome: Outcome,
}

impl LastNote {
    const fn new(key: SpoolKey, row: &UsageRow) -> Self {
        Self { key, bytes_sent: row.bytes_sent, outcome: row.outcome }
    }
}

/// A stream's place in the spool.
pub struct SpooledRow {
    spool: Arc<dyn UsageSpool>,
    noted: Option<LastNote>,
}

impl fmt::Debug for SpooledRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SpooledRow").field(&self.noted).finish()
    }
}

impl SpooledRow {
    /// Of a stream that is not noted yet.
    pub(crate) fn new(spool: Arc<dyn UsageSpool>) -> Self {
        Self { spool, noted: None }
    }

    /// Of a row that an earlier process left.
    pub(crate) fn left(spool: Arc<dyn UsageSpool>, key: SpoolKey, row: &UsageRow) -> Self {
        Self { spool, noted: Some(LastNote::new(key, row)) }
    }

    /// Notes the row that is charged if the process ends now.
    ///
    /// # Errors
    /// The bytes of the row must not be sent.
    pub(crate) fn note(&mut self, row: &UsageRow) -> PortResult<()> {
        let key = match self.noted {
            Some(LastNote { key, .. }) => {
                self.spool.renew(key, row)?;
                key
            }
            None => self.spool.begin(row)?,
        };
        self.noted = Some(LastNote::new(key, row));
        Ok(())
    }

    /// Notes the final row, unless the last note says the same. The spool counts a failure; the row goes to the ledger all the same.
    pub(crate) fn note_end(&mut self, row: &UsageRow) {
        let is_noted =
            self.noted.is_some_and(|noted| noted.bytes_sent == row.bytes_sent && noted.outcome == row.outcome);
        if !is_noted && let Err(error) = self.note(row) {
            tracing::warn!(%error, usage = %row.usage_id, "the end of a stream was not noted in the usage spool; its row is settled as usual");
        }
    }

    /// The row is durably in the ledger.
    pub(crate) fn settled(self) {
        if let Some(noted) = self.noted {
            self.spool.settled(noted.key);
        }
    }

    /// The stream is not charged.
    pub(crate) fn cancel(self) {
        if let Some(noted) = self.noted {
            self.spool.cancel(noted.key);
        }
    }
}
