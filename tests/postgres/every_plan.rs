//! The plan of every statement of the adapter, with few rows and with many: none reads a table that grows from end to end.
//!
//! The statements are read from the adapter's source, so that none can be left out. One connection prepares them when each table has
//! a row, and shows how it would run them when the tables have grown: a plan that was good for one row must not be kept.

use std::{fs, path::Path};

use tokio_postgres::Client;

use crate::support::TestDatabase;

const SOURCES: &str = "src/adapters/postgres";

/// Tables that are large by their statistics, partitions by themselves. One that grows and is not among them has no rows in [`FILL`].
const LARGE: &str = "
    SELECT relname::text FROM pg_class
    WHERE relkind = 'r' AND reltuples >= 3000 AND relnamespace = 'public'::regnamespace";

/// Statements that read a table that grows from end to end, and why they may.
const EXCEPTIONS: [(&str, &str); 5] = [
    ("unheld", "adds up all leases, when an operator asks for an audit"),
    ("crowded_lineage", "adds up the counts of each namespace; there is one for each namespace and day"),
    ("lineage_window", "looks for the oldest count and adds up the newest ones"),
    ("forget_lineage_counts", "drops the counts of days that are over, which are a thirtieth of all"),
    ("prune_lineage_namespaces", "compares namespaces with their counts"),
];

/// Steps of housekeeping, of a hundred rows and more: while a table is small, to pass over it once is less than to look each of them up.
const STEPS: [&str; 8] = [
    "audit",
    "claim_lineage",
    "condemn_upload_parts",
    "expire_receipts",
    "expire_uploads",
    "forget_prices",
    "prune_lineage_nodes",
    "prune_nodes",
];

/// A statement as the source has it.
#[derive(Debug)]
struct Found {
    name: String,
    sql: String,
    types: Vec<String>,
}

/// Every statement of the files in a folder.
fn statements(folder: &Path) -> Vec<Found> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.append(&mut statements(&path));
        } else {
            let source = fs::read_to_string(&path).expect("a source file");
            let literals = source.split(": Statement = Statement {").skip(1);
            found.extend(
                literals.map(|literal| statement(literal).unwrap_or_else(|| panic!("{path:?}: {literal:.80}"))),
            );
        }
    }
    found
}

/// Reads `name: "..", sql: "..", types: &[..]`.
fn statement(literal: &str) -> Option<Found> {
    let (_, rest) = literal.split_once("name: ")?;
    let (name, rest) = text(rest)?;
    let (_, rest) = rest.split_once("sql: ")?;
    let (sql, rest) = text(rest)?;
    let (_, rest) = rest.split_once("types: &[")?;
    let (types, _) = rest.split_once(']')?;
    let types = types.split(',').filter_map(|name| name.trim().strip_prefix("Type::")).map(type_name).collect();
    Some(Found { name, sql, types })
}

/// A literal between quotes, and what follows it.
fn text(source: &str) -> Option<(String, &str)> {
    let inner = source.trim_start().strip_prefix('"')?;
    let (mut text, mut chars) = (String::new(), inner.char_indices());
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((text, &inner[at + 1..])),
            '\\' => match chars.next()?.1 {
                // The line goes on after its white space, which no SQL minds.
                '\n' => text.push(' '),
                escaped => text.push(escaped),
            },
            char => text.push(char),
        }
    }
    None
}

/// `TIMESTAMPTZ_ARRAY` is `timestamptz[]`.
fn type_name(name: &str) -> String {
    let name = name.to_lowercase();
    name.strip_suffix("_array").map_or(name.clone(), |element| format!("{element}[]"))
}

/// Rows `$from` to `$to` of every table that grows, in all partitions.
const FILL: &str = "
    SET session_replication_role = replica;
    INSERT INTO producers SELECT md5('producer' || n)::uuid, 'name', now() FROM generate_series($from, $to) n;
    INSERT INTO api_keys SELECT md5('key' || n)::uuid, md5('producer' || n)::uuid, 'producer',
        sha256(('key' || n)::bytea), now() FROM generate_series($from, $to) n;
    INSERT INTO producer_identities SELECT '\\x02'::bytea || sha256(('identity' || n)::bytea),
        md5('producer' || n)::uuid, now() FROM generate_series($from, $to) n;
    INSERT INTO overlay_storage_index (content_hash, size_bytes, media_type, state, producer_id, announced_at,
        stored_at)
        SELECT sha256(('content' || n)::bytea), 1000, 'text/plain', 'stored', md5('producer' || n)::uuid, now(), now()
        FROM generate_series($from, $to) n;
    INSERT INTO assets SELECT md5('asset' || n)::uuid, sha256(('content' || n)::bytea), 'name ' || n, 'of ' || n % 7,
        'text/plain', 'dataset ' || n % 100, '{}', md5('producer' || n)::uuid, now() FROM generate_series($from, $to) n;
    INSERT INTO asset_search SELECT n, md5('asset' || n)::uuid, md5('producer' || n)::uuid, 'dataset ' || n % 100,
        'text/plain', 1, to_tsvector('simple', 'name ' || n) FROM generate_series($from, $to) n;
    INSERT INTO asset_words SELECT 'word' || n, n FROM generate_series($from, $to) n;
    INSERT INTO prices SELECT md5('asset' || n)::uuid, 1, now() FROM generate_series($from, $to) n;
    INSERT INTO overlay_receipts SELECT md5('receipt' || n)::uuid, md5('asset' || n)::uuid,
        sha256(('content' || n)::bytea), 'standard', 'confirmed', now() + interval '30 days', 1, 0, now(), now()
        FROM generate_series($from, $to) n;
    INSERT INTO brc22_utxos SELECT sha256(('tx' || n)::bytea), 0, 'penstock_receipts', 1, '', NULL, now()
        FROM generate_series($from, $to) n;
    INSERT INTO payments SELECT sha256(('tx' || n)::bytea), 0, 1, 1, '\\x02'::bytea || sha256(('payer' || n)::bytea),
        '\\x02'::bytea || sha256('payee'::bytea), 'p', 's', md5('asset' || n)::uuid, md5('receipt' || n)::uuid,
        CASE WHEN n % 100 = 0 THEN 'pending' ELSE 'unproven' END, NULL, now() + n * interval '1 second', now(), ''
        FROM generate_series($from, $to) n;
    INSERT INTO payment_inputs SELECT sha256(('spent' || n)::bytea), 0, sha256(('tx' || n)::bytea)
        FROM generate_series($from, $to) n;
    INSERT INTO payment_roots SELECT sha256(('tx' || n)::bytea), n, sha256(('root' || n)::bytea)
        FROM generate_series($from, $to) n;
    INSERT INTO earlier_prices SELECT md5('asset' || n)::uuid, now() - n * interval '1 second', 1
        FROM generate_series($from, $to) n;
    INSERT INTO quota_usage_windows (receipt_id, window_type, window_start, window_end, bytes_used, bytes_reserved)
        SELECT md5('receipt' || n)::uuid, 'hour', date_trunc('hour', now(), 'UTC'),
            date_trunc('hour', now(), 'UTC') + interval '1 hour', 1, 10 FROM generate_series($from, $to) n;
    INSERT INTO block_headers SELECT n, sha256(('block' || n)::bytea), decode(lpad(to_hex(n), 160, '0'), 'hex'),
        decode(lpad(to_hex(n), 64, '0'), 'hex') FROM generate_series($from, $to) n;
    INSERT INTO ledger_nodes SELECT md5('node' || n)::uuid, 1, now() + interval '1 hour' * (100 - n), n > 100, 0
        FROM generate_series($from, $to) n;
    INSERT INTO quota_leases SELECT md5('receipt' || n)::uuid, md5('node' || n % 100 + 1)::uuid, 1,
        date_trunc('hour', now(), 'UTC'), 10, 1 FROM generate_series($from, $to) n;
    INSERT INTO quota_refills_again SELECT md5('node' || n)::uuid, 1, md5('receipt' || n)::uuid, 1, 10, 1
        FROM generate_series($from, $to) n;
    INSERT INTO streaming_usage SELECT md5('usage' || n)::uuid, md5('receipt' || n)::uuid,
        sha256(('content' || n)::bytea), NULL, md5('node' || n)::uuid,
        date_trunc('month', now(), 'UTC') + (n % 3) * interval '32 days', now(), 1, 1, 'completed', 1
        FROM generate_series($from, $to) n;
    INSERT INTO change_log (txid, tag, changed_at)
        SELECT n, 'policy:standard', now() - n * interval '1 second' FROM generate_series($from, $to) n;
    INSERT INTO policies SELECT 'p' || n, 2, '{}', now() FROM generate_series($from, $to) n;
    INSERT INTO policy_versions SELECT 'p' || n, 1, '{}', now() - n * interval '1 day' FROM generate_series($from, $to) n;
    INSERT INTO policy_runs SELECT md5('run' || n)::uuid, 'p' || n % 10, 1, md5('asset' || n % 100)::uuid, 'evaluate',
        'allow', now() - n * interval '1 second', '{}' FROM generate_series($from, $to) n;
    INSERT INTO storage_verifications SELECT md5('look' || n)::uuid, sha256(('content' || n % 1000)::bytea), 'walk',
        'hot', 'intact', 1000, 1000, md5('node')::uuid, now() - n * interval '1 second'
        FROM generate_series($from, $to) n;
    INSERT INTO storage_quarantine SELECT sha256(('content' || n)::bytea), now() FROM generate_series($from, $to) n;
    INSERT INTO storage_moves SELECT sha256(('content' || n)::bytea), 'cold',
        CASE WHEN n % 2 = 0 THEN 'leaving' ELSE 'copying' END, now() - n * interval '1 second'
        FROM generate_series($from, $to) n;
    INSERT INTO task_leases SELECT 'move:' || n, md5('node')::uuid, 1, now() FROM generate_series($from, $to) n;
    INSERT INTO resumable_uploads (upload_id, producer_id, kind, concat, length_bytes, media_type, metadata, expires_at)
        SELECT md5('upload' || n)::uuid, md5('producer' || n)::uuid, 'whole', '', 10, 'a/b', '',
            now() + n * interval '1 second' FROM generate_series($from, $to) n;
    INSERT INTO resumable_upload_parts SELECT md5('upload' || n % 1000)::uuid, md5('part' || n)::uuid,
        CASE WHEN n % 2 = 0 THEN 'loose' ELSE 'kept' END, n, 1, now() - n * interval '1 second'
        FROM generate_series($from, $to) n;
    INSERT INTO content_uses SELECT sha256(('content' || n)::bytea), now() FROM generate_series($from, $to) n;
    INSERT INTO lineage_namespaces (namespace_key, namespace)
        SELECT md5('namespace' || n)::uuid, 'n' || n FROM generate_series($from, $to) n;
    INSERT INTO lineage_event_counts SELECT current_date - n % 30, md5('namespace' || n)::uuid, 1
        FROM generate_series($from, $to) n;
    INSERT INTO lineage_events SELECT current_date + n * interval '1 millisecond', sha256(('event' || n)::bytea),
        md5('namespace' || n % 100)::uuid, 'run', 'START', md5('run' || n)::uuid, now(), '{}'
        FROM generate_series($from, $to) n;
    INSERT INTO lineage_nodes (node_key, kind, namespace, name, words, first_seen, last_seen, last_day, events)
        SELECT md5('thing' || n)::uuid, 'dataset', 'n', 'd' || n, to_tsvector('simple', 'd' || n), now(), now(),
            current_date - n % 30, 1 FROM generate_series($from, $to) n;
    INSERT INTO lineage_edges SELECT md5('thing' || n)::uuid, md5('thing' || n % 1000)::uuid, now(), now(),
        current_date - n % 30, 1 FROM generate_series($from, $to) n;
    INSERT INTO lineage_runs (run_id, job_key, first_seen, last_seen, last_day, events)
        SELECT md5('run' || n)::uuid, md5('thing' || n % 1000)::uuid, now(), now(), current_date - n % 30, 1
        FROM generate_series($from, $to) n;
    INSERT INTO lineage_outbox (kind, happened_at, detail)
        SELECT 'upload', now(), '{}' FROM generate_series($from, $to) n;
    RESET session_replication_role;
    ANALYZE;";

/// Has the planner believe that all tables and indexes have so many times as many rows on as many pages. To make them takes minutes.
const CLAIM: &str = "
    UPDATE pg_class SET reltuples = reltuples * $times
    WHERE relkind IN ('r', 'i') AND reltuples > 0 AND relnamespace = 'public'::regnamespace";

async fn fill(client: &Client, from: u32, to: u32) {
    let fill = FILL.replace("$from", &from.to_string()).replace("$to", &to.to_string());
    client.batch_execute(&fill).await.expect("filled");
}

/// A plan for any arguments takes a tenth of a table for the limit, and no server keeps such a one: it compares what it costs with
/// what plans for these arguments cost, and makes those.
fn with_a_usual_limit(sql: &str) -> String {
    let mut parts = sql.split("LIMIT $");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |sql, rest| {
        format!("{sql}LIMIT 100{}", rest.trim_start_matches(|char: char| char.is_ascii_digit()))
    })
}

/// How the connection would run a statement now.
async fn plan(client: &Client, statement: &Found) -> Vec<String> {
    let nulls = vec!["NULL"; statement.types.len()].join(", ");
    let nulls = if nulls.is_empty() { nulls } else { format!("({nulls})") };
    let explain = format!("EXPLAIN (COSTS off) EXECUTE {}{nulls}", statement.name);
    let rows = client.simple_query(&explain).await.unwrap_or_else(|error| panic!("{explain}: {error:?}"));
    let lines = rows.iter().filter_map(|row| match row {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    lines.collect()
}

/// The large tables that a plan reads from end to end.
fn scanned<'a>(plan: &'a [String], large: &[String]) -> Vec<&'a str> {
    let tables = plan.iter().filter_map(|line| line.split_once("Seq Scan on ").map(|(_, table)| table));
    let tables = tables.map(|table| table.split(' ').next().unwrap_or(table));
    tables.filter(|table| large.iter().any(|name| name == table)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_reads_a_table_that_grows_from_end_to_end() {
    let statements = statements(Path::new(SOURCES));
    assert!(statements.len() > 80, "{} statements were found", statements.len());
    let database = TestDatabase::migrated().await;
    let (filler, client) = (database.client().await, database.client().await);
    filler.batch_execute("SELECT penstock_prepare_lineage(ARRAY[current_date])").await.expect("a day");
    fill(&filler, 1, 1).await;
    // The plan that fits any arguments is the one that a connection keeps.
    client.batch_execute("SET plan_cache_mode = force_generic_plan").await.expect("set");
    for statement in &statements {
        let types = statement.types.join(", ");
        let types = if types.is_empty() { types } else { format!("({types})") };
        let sql = with_a_usual_limit(&statement.sql);
        let prepare = format!("PREPARE {}{types} AS {sql}", statement.name);
        client.batch_execute(&prepare).await.unwrap_or_else(|error| panic!("{prepare}: {error:?}"));
        // A table of one row is one page, and its scan reads no more than any other way would.
        plan(&client, statement).await;
    }
    let mut scans = Vec::new();
    for rows in [10_000, 300_000] {
        if rows == 10_000 {
            fill(&filler, 2, rows).await;
        } else {
            filler.batch_execute(&CLAIM.replace("$times", &(rows / 10_000).to_string())).await.expect("claimed");
        }
        let large = filler.query(LARGE, &[]).await.expect("read");
        let large: Vec<String> = large.iter().map(|row| row.get(0)).collect();
        assert!(large.len() >= 30, "every table that grows is large: {large:?}");
        for statement in &statements {
            let plan = plan(&client, statement).await;
            let tables = scanned(&plan, &large);
            let is_exception = EXCEPTIONS.iter().any(|(name, _)| *name == statement.name)
                || (rows <= 10_000 && STEPS.contains(&statement.name.as_str()));
            if !tables.is_empty() && !is_exception {
                scans.push(format!("{} with {rows} rows scans {tables:?}:\n{}", statement.name, plan.join("\n")));
            }
        }
    }
    assert!(scans.is_empty(), "{}", scans.join("\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_function_that_returns_rows_says_how_many() {
    const UNTOLD: &str = "
        SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE p.proretset AND p.prorows = 1000 AND p.proname LIKE 'penstock%' ORDER BY 1";
    let database = TestDatabase::migrated().await;
    let untold = database.client().await.query(UNTOLD, &[]).await.expect("read");
    let untold: Vec<String> = untold.iter().map(|row| row.get(0)).collect();
    assert_eq!(untold, [""; 0], "the planner takes 1,000 rows for granted (ROWS)");
}
