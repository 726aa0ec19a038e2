//! Ingest of events: one statement per batch.

use std::collections::BTreeSet;

use jiff::Timestamp;
use penstock_actors::{
    lineage::event::day_of,
    model::{FACETS_KEPT, LineageEvent},
    ports::{EventOutcome, Ingested, LineageUpkeep as _, PortError, PortResult},
};
use tokio_postgres::{Row, types::Type};

use super::{
    super::{PostgresStore, columns::Columns, db::Statement, error::BatchFault},
    fold::Folded,
};

/// Everything by primary keys, inside the function.
const INGEST: Statement = Statement {
    name: "ingest_lineage",
    sql: "
        SELECT place, outcome, grew
        FROM penstock_ingest_lineage($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
                                     $20, $21, $22, $23)",
    types: &[
        Type::TIMESTAMPTZ,
        Type::INT4,
        Type::UUID_ARRAY,
        Type::TEXT_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
        Type::BYTEA_ARRAY,
        Type::INT4_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::UUID_ARRAY,
        Type::INT4_ARRAY,
        Type::TEXT_ARRAY,
        Type::UUID_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::JSONB_ARRAY,
        Type::INT4_ARRAY,
        Type::INT4_ARRAY,
        Type::INT4_ARRAY,
        Type::INT4_ARRAY,
        Type::INT4_ARRAY,
    ],
};

/// How often a batch is tried when its partition is missing or its window has moved.
const ATTEMPTS: u32 = 5;

impl PostgresStore {
    /// Stores a batch. If the partition of a day is missing (a first start, midnight), the partition is made and the
    /// batch is tried again: without the partition, no part of the batch was applied. The same holds when the window
    /// moved past its events meanwhile.
    pub(super) async fn keep_lineage(&self, events: &[LineageEvent], now: Timestamp) -> PortResult<Ingested> {
        let folded = Folded::of(events);
        if folded.times.is_empty() {
            return Ok(Ingested::default());
        }
        let mut attempts = 1..ATTEMPTS;
        let rows = loop {
            let error = match self.ingest_folded(&folded, now).await {
                Ok(rows) => break rows,
                Err(error) => error,
            };
            match BatchFault::of(&error) {
                Some(BatchFault::NoPartition) if attempts.next().is_some() => {
                    let days: BTreeSet<_> = folded.times.iter().map(|time| day_of(*time)).collect();
                    self.prepare_days(&days.into_iter().collect::<Vec<_>>()).await?;
                }
                // The next attempt drops the events that pruning has passed.
                Some(BatchFault::WindowMoved) if attempts.next().is_some() => {}
                _ => return Err(error),
            }
        };
        let outcome = |word: &str| match word {
            "new" => Some(EventOutcome::New),
            "known" => Some(EventOutcome::Known),
            "left" => Some(EventOutcome::Left),
            _ => None,
        };
        let kept = rows.iter().map(|row| Columns(row).word("outcome", outcome)).collect::<PortResult<Vec<_>>>()?;
        let of_event = |&(place, first): &(usize, bool)| match kept.get(place) {
            Some(EventOutcome::New) if !first => Ok(EventOutcome::Known),
            Some(kept) => Ok(*kept),
            None => Err(PortError::Corrupt("an event of a batch has no outcome".into())),
        };
        Ok(Ingested {
            kept: folded.occurrences.iter().map(of_event).collect::<PortResult<_>>()?,
            grew: rows.first().is_some_and(|row| row.try_get("grew").unwrap_or(false)),
        })
    }

    async fn ingest_folded(&self, batch: &Folded<'_>, now: Timestamp) -> PortResult<Vec<Row>> {
        let most = i32::try_from(FACETS_KEPT).unwrap_or(i32::MAX);
        self.db
            .rows(
                &INGEST,
                &[
                    &now,
                    &most,
                    &batch.namespace_keys,
                    &batch.namespaces,
                    &batch.times,
                    &batch.hashes,
                    &batch.event_namespaces,
                    &batch.kinds,
                    &batch.states,
                    &batch.runs,
                    &batch.subjects,
                    &batch.bodies,
                    &batch.node_keys,
                    &batch.node_kinds,
                    &batch.node_namespaces,
                    &batch.node_names,
                    &batch.node_words,
                    &batch.node_facets,
                    &batch.mention_events,
                    &batch.mention_nodes,
                    &batch.edge_events,
                    &batch.edge_sources,
                    &batch.edge_targets,
                ],
            )
            .await
    }
}
