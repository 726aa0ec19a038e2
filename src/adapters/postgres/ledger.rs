//! Leases, settlement, and the nodes that hold leases.
//!
//! The functions of the migrations `ledger_functions`, which explains their locks, and `refills_once` do the work. This
//! file passes their arguments as one array per column, so that one statement takes any number of rows.

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::{NodeId, ReceiptId, UsageId},
    model::{ContentMeta, Credit, LeaseSizing, LostLease, NodeEpoch, UsageRow, WindowKind, WindowSet},
    ports::{
        Closed, EpochStanding, Ledger, PortError, PortResult, Pulse, ReceiptView, Reclaimed, Refill, RefillRequest,
        Release, SettleBatch, Settled, Want,
    },
};
use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

use super::{
    PostgresStore,
    columns::{Columns, signed},
    db::Statement,
    error::POSTGRES,
    replicas::Topic,
    set_aside,
};

/// A lease for more than this is a mistake or the absence of a limit (2^50 bytes are a PiB). The sum of as many such
/// leases as a receipt may have at once still fits 63 bits.
const MOST_WANTED: u64 = 1 << 50;

/// Receipts with policy, content and asset by their primary keys; windows, nodes and leases by theirs inside the
/// function.
const REFILL: Statement = Statement {
    name: "refill",
    sql: "
        SELECT t.*, r.receipt_id IS NOT NULL AS known,
               r.version_id, r.content_hash, r.quota_tier, r.status, r.expires_at, r.total_satoshis, r.created_at,
               r.epoch, a.name AS asset_name, a.media_type, c.state AS content_state, c.size_bytes, c.stored_at,
               p.policy_name, p.description, p.bytes_per_hour, p.bytes_per_day, p.bytes_per_month,
               p.requests_per_hour, p.requests_per_day, p.requests_per_month, p.max_concurrent_streams,
               p.max_bandwidth_mbps, p.burst_bytes_allowance, p.burst_duration_minutes, p.max_file_size_bytes,
               p.allowed_content_types
        FROM penstock_refill($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) AS t
        LEFT JOIN overlay_receipts r ON r.receipt_id = t.receipt_id
        LEFT JOIN quota_policies p ON p.policy_name = r.quota_tier
        LEFT JOIN overlay_storage_index c ON c.content_hash = r.content_hash
        LEFT JOIN assets a ON a.version_id = r.version_id",
    types: &[
        Type::UUID,
        Type::INT8,
        Type::INT8,
        Type::TIMESTAMPTZ,
        Type::UUID_ARRAY,
        Type::BYTEA_ARRAY,
        Type::INT8_ARRAY,
        Type::BOOL_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
    ],
};

/// Usage, windows, leases and the node by their primary keys, inside the function. A restored database that has no
/// timeline of its own yet returns no row.
const SETTLE: Statement = Statement {
    name: "settle",
    sql: "
        SELECT penstock_settle($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
            AS inserted
        WHERE NOT (SELECT moved FROM penstock_timeline())",
    types: &[
        Type::UUID,
        Type::INT8,
        Type::INT8,
        Type::UUID_ARRAY,
        Type::UUID_ARRAY,
        Type::BYTEA_ARRAY,
        Type::UUID_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
        Type::TEXT_ARRAY,
        Type::INT8_ARRAY,
        Type::UUID_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
    ],
};

/// Silent epochs by their primary keys, their leases by `quota_leases_node`, the rest by primary keys, inside the
/// function.
const RECLAIM: Statement = Statement {
    name: "reclaim",
    sql: "
        SELECT taken_leases, taken_bytes, taken_requests, spared_leases, spared_bytes, spared_requests, more
        FROM penstock_reclaim_silent($1, $2, $3, $4, $5, $6, $7, $8)",
    types: &[
        Type::UUID,
        Type::INT8,
        Type::UUID_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
        Type::TIMESTAMPTZ,
        Type::INT8,
        Type::UUID_ARRAY,
    ],
};

/// The epoch by its primary key, its leases by `quota_leases_node`, the rest by primary keys, inside the function.
const CLOSE: Statement = Statement {
    name: "close",
    sql: "
        SELECT taken_leases, taken_bytes, taken_requests, uncharged_leases, uncharged_bytes, uncharged_requests, more
        FROM penstock_end_epoch($1, $2, $3)",
    types: &[Type::UUID, Type::INT8, Type::INT8],
};

/// The node's epochs by the primary key.
const HEARTBEAT: Statement = Statement {
    name: "heartbeat",
    sql: "
        INSERT INTO ledger_nodes AS n (node_id, epoch, alive_until, beats, lease_ms)
        SELECT $1, $2, clock_timestamp() + make_interval(secs => $3), 1, ($3 * 1000)::bigint
        WHERE NOT EXISTS (SELECT FROM ledger_nodes later WHERE later.node_id = $1 AND later.epoch > $2)
        ON CONFLICT (node_id, epoch) DO UPDATE SET
            alive_until = excluded.alive_until, beats = n.beats + 1, lease_ms = excluded.lease_ms,
            on_time = CASE WHEN n.alive_until > clock_timestamp() THEN n.on_time + 1 ELSE 0 END
        WHERE NOT n.fenced",
    types: &[Type::UUID, Type::INT8, Type::FLOAT8],
};

/// The latest epoch of a node, by the primary key.
const STANDING: Statement = Statement {
    name: "standing",
    sql: "
        SELECT epoch, beats, NOT fenced AND alive_until > clock_timestamp() AS alive
        FROM ledger_nodes WHERE node_id = $1 ORDER BY epoch DESC LIMIT 1",
    types: &[Type::UUID],
};

/// By the primary key.
const DECLARE_DEAD: Statement = Statement {
    name: "declare_dead",
    sql: "
        UPDATE ledger_nodes SET fenced = true, alive_until = least(alive_until, clock_timestamp())
        WHERE node_id = $1 AND epoch = $2 AND NOT fenced",
    types: &[Type::UUID, Type::INT8],
};

/// By `ledger_nodes_alive`, later epochs by the primary key.
const NODES_ALIVE: Statement = Statement {
    name: "nodes_alive",
    sql: "
        SELECT count(*) AS alive FROM ledger_nodes n
        WHERE NOT fenced AND alive_until > clock_timestamp() AND NOT EXISTS (
            SELECT FROM ledger_nodes later WHERE later.node_id = n.node_id AND later.epoch > n.epoch)",
    types: &[],
};

/// By `ledger_nodes_alive`.
const PULSES: Statement = Statement {
    name: "pulses",
    sql: "SELECT node_id, epoch, beats, lease_ms FROM ledger_nodes WHERE NOT fenced",
    types: &[],
};

/// By the primary key.
const NOTE_UNKNOWN: Statement = Statement {
    name: "note_unknown",
    sql: "
        UPDATE ledger_nodes SET unknown_bytes = $3, unknown_requests = $4, compared_at = clock_timestamp()
        WHERE node_id = $1 AND epoch = $2",
    types: &[Type::UUID, Type::INT8, Type::INT8, Type::INT8],
};

/// By `quota_leases_node`.
const LEASED: Statement = Statement {
    name: "leased",
    sql: "
        SELECT coalesce(sum(bytes), 0)::bigint AS bytes, coalesce(sum(requests), 0)::bigint AS requests
        FROM quota_leases WHERE node_id = $1 AND epoch = $2 AND state = 'live'",
    types: &[Type::UUID, Type::INT8],
};

#[async_trait]
impl Ledger for PostgresStore {
    async fn refill(
        &self,
        node: NodeEpoch,
        requests: &[RefillRequest],
        sizing: LeaseSizing,
        now: Timestamp,
    ) -> PortResult<Vec<Refill>> {
        let wants = || requests.iter().map(|request| &request.want);
        let receipts: Vec<Uuid> = wants().map(|want| want.receipt_id.as_uuid()).collect();
        let contents: Vec<&[u8]> = wants().map(|want| want.content_hash.as_bytes().as_slice()).collect();
        let ids: Vec<i64> = requests.iter().map(|request| request.id).collect();
        let again: Vec<bool> = requests.iter().map(|request| request.again).collect();
        let amounts = |amount: fn(&Want) -> u64| wants().map(|want| signed(amount(want))).collect::<Vec<i64>>();
        let rows = self
            .ledger
            .rows(
                &REFILL,
                &[
                    &node.node.as_uuid(),
                    &node.epoch,
                    &signed(sizing.divisor.max(1)),
                    &now,
                    &receipts,
                    &contents,
                    &ids,
                    &again,
                    &amounts(|want| want.need.bytes),
                    &amounts(|want| want.need.requests.min(MOST_WANTED)),
                    &amounts(|want| want.want.bytes.min(MOST_WANTED)),
                    &amounts(|want| want.want.requests.min(MOST_WANTED)),
                ],
            )
            .await?;
        let windows = WindowSet::at(now);
        let mut answers = HashMap::with_capacity(rows.len());
        for row in &rows {
            let id = ReceiptId::from_uuid(Columns(row).get("receipt_id")?);
            answers.insert(id, refill(row, &windows)?);
        }
        let answer = |want: &Want| {
            answers
                .remove(&want.receipt_id)
                .ok_or_else(|| PortError::Corrupt("a receipt that needs a lease got no answer".into()))
        };
        wants().map(answer).collect()
    }

    async fn settle(&self, batch: &SettleBatch) -> PortResult<Settled> {
        let rows = &batch.rows;
        let ids: Vec<Uuid> = rows.iter().map(|row| row.usage_id.as_uuid()).collect();
        let receipts: Vec<Uuid> = rows.iter().map(|row| row.receipt_id.as_uuid()).collect();
        let contents: Vec<&[u8]> = rows.iter().map(|row| row.content_hash.as_bytes().as_slice()).collect();
        let sessions: Vec<Option<Uuid>> = rows.iter().map(|row| row.session_id.map(|id| id.as_uuid())).collect();
        let starts: Vec<Timestamp> = rows.iter().map(|row| row.started_at).collect();
        let ends: Vec<Timestamp> = rows.iter().map(|row| row.finished_at).collect();
        let bytes: Vec<i64> = rows.iter().map(|row| signed(row.bytes_sent)).collect();
        let requests: Vec<i64> = rows.iter().map(|row| signed(row.requests)).collect();
        let outcomes: Vec<&str> = rows.iter().map(|row| row.outcome.as_str()).collect();
        let epochs: Vec<Option<i64>> = rows.iter().map(|row| row.lease_epoch).collect();

        let releases = &batch.releases;
        let hour = |release: &Release| WindowKind::Hour.window(release.window).start;
        let release_receipts: Vec<Uuid> = releases.iter().map(|release| release.receipt_id.as_uuid()).collect();
        let release_hours: Vec<Timestamp> = releases.iter().map(hour).collect();
        let release_epochs: Vec<i64> = releases.iter().map(|release| release.epoch).collect();
        // A release is capped at the lease, so a cap that keeps the sums within 63 bits changes nothing.
        let credit = |amount: fn(&Credit) -> u64| {
            releases.iter().map(|release| signed(amount(&release.credit).min(MOST_WANTED))).collect::<Vec<i64>>()
        };

        let row = self
            .ledger
            .row_opt(
                &SETTLE,
                &[
                    &batch.node.node.as_uuid(),
                    &batch.node.epoch,
                    &batch.sequence,
                    &ids,
                    &receipts,
                    &contents,
                    &sessions,
                    &starts,
                    &ends,
                    &bytes,
                    &requests,
                    &outcomes,
                    &epochs,
                    &release_receipts,
                    &release_hours,
                    &release_epochs,
                    &credit(|credit| credit.bytes),
                    &credit(|credit| credit.requests),
                ],
            )
            .await;
        self.replicas.changed(rows.iter().map(|row| Topic::Usage(row.receipt_id)));
        let row = row?.ok_or_else(|| {
            PortError::unavailable(POSTGRES, "the database was restored, and its new timeline has not begun yet")
        })?;
        Ok(Settled { inserted: Columns(&row).amount("inserted")? })
    }

    async fn set_aside(&self, node: NodeId, row: &UsageRow, reason: &str) -> PortResult<()> {
        set_aside::set_aside(self, node, row, reason).await
    }

    async fn heartbeat(&self, node: NodeEpoch, ttl: Duration) -> PortResult<()> {
        let kept = self.ledger.execute(&HEARTBEAT, &[&node.node.as_uuid(), &node.epoch, &ttl.as_secs_f64()]).await?;
        if kept == 0 { Err(PortError::Fenced) } else { Ok(()) }
    }

    async fn nodes_alive(&self) -> PortResult<u64> {
        let row = self.ledger.row(&NODES_ALIVE, &[]).await?;
        Columns(&row).amount("alive")
    }

    async fn standing(&self, node: NodeId) -> PortResult<Option<EpochStanding>> {
        let row = self.ledger.row_opt(&STANDING, &[&node.as_uuid()]).await?;
        let standing = |row: &Row| {
            let row = Columns(row);
            Ok(EpochStanding { epoch: row.get("epoch")?, heartbeats: row.amount("beats")?, alive: row.get("alive")? })
        };
        row.as_ref().map(standing).transpose()
    }

    async fn declare_dead(&self, node: NodeEpoch) -> PortResult<()> {
        self.ledger.execute(&DECLARE_DEAD, &[&node.node.as_uuid(), &node.epoch]).await.map(drop)
    }

    async fn pulses(&self) -> PortResult<Vec<Pulse>> {
        let rows = self.ledger.rows(&PULSES, &[]).await?;
        rows.iter().map(pulse).collect()
    }

    async fn leased(&self, node: NodeEpoch) -> PortResult<Credit> {
        let row = self.upkeep.row(&LEASED, &[&node.node.as_uuid(), &node.epoch]).await?;
        Columns(&row).credit("bytes", "requests")
    }

    async fn note_unknown(&self, node: NodeEpoch, unknown: Credit) -> PortResult<()> {
        let (id, bytes, requests) = (node.node.as_uuid(), signed(unknown.bytes), signed(unknown.requests));
        self.upkeep.execute(&NOTE_UNKNOWN, &[&id, &node.epoch, &bytes, &requests]).await.map(drop)
    }

    async fn reclaim(
        &self,
        by: NodeEpoch,
        silent: &[Pulse],
        mode: LostLease,
        now: Timestamp,
        limit: u32,
    ) -> PortResult<Reclaimed> {
        let nodes: Vec<Uuid> = silent.iter().map(|pulse| pulse.node_epoch.node.as_uuid()).collect();
        let epochs: Vec<i64> = silent.iter().map(|pulse| pulse.node_epoch.epoch).collect();
        let heartbeats: Vec<i64> = silent.iter().map(|pulse| signed(pulse.heartbeats)).collect();
        let charges: Option<Vec<Uuid>> = match mode {
            LostLease::Charge => Some((0..limit).map(|_| UsageId::next().as_uuid()).collect()),
            LostLease::Release => None,
        };
        let (node, epoch, most) = (by.node.as_uuid(), by.epoch, i64::from(limit));
        let row =
            self.upkeep.row(&RECLAIM, &[&node, &epoch, &nodes, &epochs, &heartbeats, &now, &most, &charges]).await?;
        let spared = Columns(&row);
        Ok(Reclaimed {
            spared_leases: spared.amount("spared_leases")?,
            spared: spared.credit("spared_bytes", "spared_requests")?,
            ..taken(&row)?
        })
    }

    async fn close(&self, node: NodeEpoch, limit: u32) -> PortResult<Closed> {
        let row = self.ledger.row(&CLOSE, &[&node.node.as_uuid(), &node.epoch, &i64::from(limit)]).await?;
        let row = Columns(&row);
        Ok(Closed {
            leases: row.amount("taken_leases")?,
            credit: row.credit("taken_bytes", "taken_requests")?,
            uncharged_leases: row.amount("uncharged_leases")?,
            uncharged: row.credit("uncharged_bytes", "uncharged_requests")?,
            more: row.get("more")?,
        })
    }
}

fn taken(row: &Row) -> PortResult<Reclaimed> {
    let row = Columns(row);
    Ok(Reclaimed {
        leases: row.amount("taken_leases")?,
        credit: row.credit("taken_bytes", "taken_requests")?,
        more: row.get("more")?,
        ..Reclaimed::default()
    })
}

fn pulse(row: &Row) -> PortResult<Pulse> {
    let row = Columns(row);
    let node_epoch = NodeEpoch { node: NodeId::from_uuid(row.get("node_id")?), epoch: row.get("epoch")? };
    let lease = row.get::<Option<i64>>("lease_ms")?;
    let lease = lease.map(|millis| Duration::from_millis(millis.try_into().unwrap_or_default()));
    Ok(Pulse { node_epoch, heartbeats: row.amount("beats")?, lease })
}

fn refill(row: &Row, windows: &WindowSet) -> PortResult<Refill> {
    const HOUR: [&str; 4] = ["hour_bytes_used", "hour_bytes_reserved", "hour_requests_used", "hour_requests_reserved"];
    const DAY: [&str; 4] = ["day_bytes_used", "day_bytes_reserved", "day_requests_used", "day_requests_reserved"];
    const MONTH: [&str; 4] =
        ["month_bytes_used", "month_bytes_reserved", "month_requests_used", "month_requests_reserved"];
    let row = Columns(row);
    Ok(Refill {
        view: if row.get("known")? { Some(view(&row)?) } else { None },
        windows: [
            row.window(windows.get(WindowKind::Hour), &HOUR)?,
            row.window(windows.get(WindowKind::Day), &DAY)?,
            row.window(windows.get(WindowKind::Month), &MONTH)?,
        ],
        granted: row.credit("granted_bytes", "granted_requests")?,
    })
}

fn view(row: &Columns<'_>) -> PortResult<ReceiptView> {
    let receipt = row.receipt()?;
    let content = match row.get("content_state")? {
        Some("stored") => Some(ContentMeta {
            content_hash: receipt.content_hash,
            size_bytes: row.amount("size_bytes")?,
            media_type: row.get("media_type")?,
            stored_at: row.get("stored_at")?,
        }),
        _ => None,
    };
    Ok(ReceiptView { receipt, policy: row.policy()?, content, asset_name: row.get("asset_name")? })
}
