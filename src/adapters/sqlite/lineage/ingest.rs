//! Ingest of events: new events are stored, and their facts merged into the graph.

use std::collections::{HashMap, hash_map::Entry};

use jiff::Timestamp;
use penstock_actors::{
    lineage::event::day_of,
    model::{Facets, LineageEvent, MentionedNode, NamespaceKey, NodeKey},
    ports::{EventOutcome, Ingested, Tag},
};
use rusqlite::{Connection, OptionalExtension as _, named_params};

use super::super::{
    changes,
    columns::{Sql, get},
    error::JobFailure,
};

/// Served by the primary key.
pub(in super::super) const NAMESPACE: &str = "
    SELECT pruned_until, pruned_hash FROM lineage_namespaces WHERE namespace_key = :key";

pub(in super::super) const KNOW_NAMESPACE: &str = "
    INSERT INTO lineage_namespaces (namespace_key, namespace) VALUES (:key, :namespace)
    ON CONFLICT (namespace_key) DO NOTHING";

/// Served by the primary key.
pub(in super::super) const KEEP_EVENT: &str = "
    INSERT INTO lineage_events (event_time, event_hash, namespace_key, kind, state, run_id, received_at, body)
    VALUES (:time, :hash, :namespace, :kind, :state, :run, :now, :body)
    ON CONFLICT (event_time, event_hash) DO NOTHING";

/// Served by the index of its uniqueness.
pub(in super::super) const NODE_FACETS: &str = "SELECT facets FROM lineage_nodes WHERE node_key = :key";

/// Served by the index of its uniqueness. NULL facets mean that there are no new ones.
pub(in super::super) const MERGE_NODE: &str = "
    INSERT INTO lineage_nodes (node_key, kind, namespace, name, words, facets, first_seen, last_seen, last_day, events)
    VALUES (:key, :kind, :namespace, :name, :words, coalesce(:facets, '{}'), :time, :time, :day, 1)
    ON CONFLICT (node_key) DO UPDATE SET
        facets = coalesce(:facets, facets),
        first_seen = min(first_seen, excluded.first_seen),
        last_seen = max(last_seen, excluded.last_seen),
        last_day = max(last_day, excluded.last_day),
        events = events + 1
    RETURNING events";

/// Served by the primary key. The end state of a run overrides every other state; otherwise the latest state counts. Of
/// two events with the same time the greater state name wins, so that every instance has the same result.
pub(in super::super) const MERGE_RUN: &str = "
    INSERT INTO lineage_runs AS r (run_id, job_key, state, state_at, started_at, ended_at, first_seen, last_seen, last_day,
                                   events)
    VALUES (:run, :job, :state, iif(:state IS NULL, NULL, :time), iif(:state = 'START', :time, NULL),
            iif(:ended, :time, NULL), :time, :time, :day, 1)
    ON CONFLICT (run_id) DO UPDATE SET
        job_key = iif((excluded.first_seen, excluded.job_key) < (r.first_seen, r.job_key), excluded.job_key, r.job_key),
        state = iif(excluded.state IS NOT NULL AND (r.state IS NULL OR (:ended, excluded.state_at, excluded.state)
                        > (r.state IN ('COMPLETE', 'ABORT', 'FAIL'), r.state_at, r.state)),
                    excluded.state, r.state),
        state_at = iif(excluded.state IS NOT NULL AND (r.state IS NULL OR (:ended, excluded.state_at, excluded.state)
                           > (r.state IN ('COMPLETE', 'ABORT', 'FAIL'), r.state_at, r.state)),
                       excluded.state_at, r.state_at),
        started_at = min(ifnull(r.started_at, excluded.started_at), ifnull(excluded.started_at, r.started_at)),
        ended_at = max(ifnull(r.ended_at, excluded.ended_at), ifnull(excluded.ended_at, r.ended_at)),
        first_seen = min(r.first_seen, excluded.first_seen),
        last_seen = max(r.last_seen, excluded.last_seen),
        last_day = max(r.last_day, excluded.last_day),
        events = r.events + 1";

/// Served by the primary key.
pub(in super::super) const MERGE_EDGE: &str = "
    INSERT INTO lineage_edges (source_key, target_key, first_seen, last_seen, last_day, events)
    VALUES (:source, :target, :time, :time, :day, 1)
    ON CONFLICT (source_key, target_key) DO UPDATE SET
        first_seen = min(first_seen, excluded.first_seen),
        last_seen = max(last_seen, excluded.last_seen),
        last_day = max(last_day, excluded.last_day),
        events = events + 1
    RETURNING events";

/// Served by the primary key.
pub(in super::super) const COUNT_EVENT: &str = "
    INSERT INTO lineage_event_counts (day, namespace_key, events) VALUES (:day, :namespace, 1)
    ON CONFLICT (day, namespace_key) DO UPDATE SET events = events + 1";

/// The last event of a namespace that has left the window, by time and hash.
type Left = (i64, Vec<u8>);

pub(super) fn ingest(conn: &Connection, events: &[LineageEvent], now: Timestamp) -> Result<Ingested, JobFailure> {
    let mut namespaces = HashMap::new();
    let mut grew = false;
    let mut keep = |event| keep(conn, event, now, &mut namespaces, &mut grew);
    let kept = events.iter().map(&mut keep).collect::<Result<_, _>>()?;
    if grew {
        changes::note(conn, &[Tag::Lineage])?;
    }
    Ok(Ingested { kept, grew })
}

fn keep(
    conn: &Connection,
    event: &LineageEvent,
    now: Timestamp,
    namespaces: &mut HashMap<NamespaceKey, Left>,
    grew: &mut bool,
) -> Result<EventOutcome, JobFailure> {
    let subject = event.subject();
    let namespace = NamespaceKey::of(&subject.name.namespace);
    let (left_time, left_hash) = match namespaces.entry(namespace) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(place) => place.insert(left_of(conn, namespace, &subject.name.namespace)?),
    };
    if (event.time.as_microsecond(), event.hash.0.as_slice()) <= (*left_time, left_hash.as_slice()) {
        return Ok(EventOutcome::Left);
    }
    let kept = conn.prepare_cached(KEEP_EVENT)?.execute(named_params! {
        ":time": Sql(event.time), ":hash": Sql(event.hash), ":namespace": Sql(namespace), ":kind": event.kind.as_str(),
        ":state": event.state.map(Sql), ":run": event.run.map(Sql), ":now": Sql(now), ":body": event.body,
    })?;
    if kept == 0 {
        return Ok(EventOutcome::Known);
    }
    let (time, day) = (Sql(event.time), Sql(day_of(event.time)));
    for mention in &event.mentions {
        *grew |= merge_node(conn, mention, event.time)?;
    }
    if let Some(run) = event.run {
        let state = event.state.filter(|state| state.rank(event.time).is_some());
        conn.prepare_cached(MERGE_RUN)?.execute(named_params! {
            ":run": Sql(run), ":job": Sql(subject.key), ":state": state.map(Sql),
            ":ended": state.is_some_and(|state| state.is_end()), ":time": time, ":day": day,
        })?;
    }
    for &(source, target) in &event.edges {
        let merged = named_params! {
            ":source": Sql(event.mentions[source].key), ":target": Sql(event.mentions[target].key), ":time": time, ":day": day,
        };
        let events: u64 = conn.prepare_cached(MERGE_EDGE)?.query_row(merged, |row| get(row, "events"))?;
        *grew |= events == 1;
    }
    conn.prepare_cached(COUNT_EVENT)?.execute(named_params! { ":day": day, ":namespace": Sql(namespace) })?;
    Ok(EventOutcome::New)
}

/// The start of a namespace's window. Inserts an unknown namespace.
fn left_of(conn: &Connection, key: NamespaceKey, namespace: &str) -> rusqlite::Result<Left> {
    conn.prepare_cached(KNOW_NAMESPACE)?.execute(named_params! { ":key": Sql(key), ":namespace": namespace })?;
    conn.prepare_cached(NAMESPACE)?.query_row(named_params! { ":key": Sql(key) }, |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Returns whether the node is new.
fn merge_node(conn: &Connection, mention: &MentionedNode, time: Timestamp) -> Result<bool, JobFailure> {
    let facets = if mention.facets.is_empty() { None } else { Some(merged_facets(conn, mention)?) };
    let merged = named_params! {
        ":key": Sql(mention.key), ":kind": Sql(mention.name.kind), ":namespace": mention.name.namespace,
        ":name": mention.name.name, ":words": mention.name.words(), ":facets": facets,
        ":time": Sql(time), ":day": Sql(day_of(time)),
    };
    let events: u64 = conn.prepare_cached(MERGE_NODE)?.query_row(merged, |row| get(row, "events"))?;
    Ok(events == 1)
}

/// The facets of a node merged with those of a mention, as JSON.
fn merged_facets(conn: &Connection, mention: &MentionedNode) -> rusqlite::Result<String> {
    let mut facets = facets_of(conn, mention.key)?;
    facets.merge(mention.facets.clone());
    serde_json::to_string(&facets).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

/// The facets of a node; empty for an unknown node.
pub(super) fn facets_of(conn: &Connection, key: NodeKey) -> rusqlite::Result<Facets> {
    let known =
        conn.prepare_cached(NODE_FACETS)?.query_row(named_params! { ":key": Sql(key) }, |row| get(row, "facets"));
    Ok(known.optional()?.unwrap_or_default())
}
