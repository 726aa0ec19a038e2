//! What goes away by its age, and what is left of a receipt whose payer is forgotten, in the tables themselves.

use std::time::Duration;

use jiff::Timestamp;
use penstock_actors::{
    ids::ReceiptId,
    ports::{ErasureStep, PayerData as _, Upkeep as _},
};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::support::{TestDatabase, store};

/// Usage of one receipt in three months of 2001, each with its windows.
const OLD_USAGE: &str = "
    SET session_replication_role = replica;
    INSERT INTO streaming_usage (usage_id, receipt_id, content_hash, session_id, node_id, started_at, finished_at, bytes_sent,
                                 requests, outcome, lease_epoch, client)
        SELECT md5('usage' || n)::uuid, md5('receipt')::uuid, sha256('content'), md5('session')::uuid, md5('node')::uuid,
               at, at + interval '1 second', n, 1, 'completed', 1, '\\x0102030405060708'
        FROM generate_series(1, 3) n, LATERAL (SELECT make_timestamptz(2001, n, 10, 10, 20, 30, 'UTC') AS at) AS time;
    INSERT INTO quota_usage_windows (receipt_id, window_type, window_start, window_end, bytes_used, requests_used)
        SELECT u.receipt_id, k.window_type, k.window_start, k.window_end, u.bytes_sent, u.requests
        FROM streaming_usage u CROSS JOIN LATERAL penstock_windows(u.started_at) AS k;
    RESET session_replication_role;";

async fn partitions_of_2001(client: &Client) -> Vec<String> {
    let names = "
        SELECT relname::text FROM pg_class WHERE relname LIKE 'streaming\\_usage\\_2001\\_0_' AND relkind = 'r' ORDER BY 1";
    client.query(names, &[]).await.expect("read").iter().map(|row| row.get(0)).collect()
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_month_is_dropped_whole_when_its_windows_are_gone_and_waits_for_no_reader() {
    let database = TestDatabase::migrated().await;
    let (store, _metrics) = store(database.settings()).await;
    let (client, reader) = (database.client().await, database.client().await);
    client.batch_execute(OLD_USAGE).await.expect("filled");
    store.prepare(at("2001-01-01T00:00:00Z"), 2).await.expect("prepared");
    let all = ["streaming_usage_2001_01", "streaming_usage_2001_02", "streaming_usage_2001_03"];
    assert_eq!(partitions_of_2001(&client).await, all);

    let march = at("2001-03-01T00:00:01Z");
    assert_eq!(store.drop_usage(march).await.expect("answered"), 0, "its windows are there");
    // The windows of January alone.
    let february = at("2001-02-01T00:00:01Z");
    assert_eq!(store.prune_windows(february, 100).await.expect("pruned"), 3);
    reader.batch_execute("BEGIN; SELECT FROM streaming_usage").await.expect("reads");
    assert_eq!(store.drop_usage(march).await.expect("answered"), 0, "a report reads the rows");
    reader.batch_execute("COMMIT").await.expect("has read");
    assert_eq!(store.drop_usage(march).await.expect("dropped"), 1);
    assert_eq!(store.drop_usage(march).await.expect("answered"), 0, "February has windows");
    assert_eq!(partitions_of_2001(&client).await, all[1..]);

    // A caller whose clock is far ahead drops no month that is not over.
    let ahead = Timestamp::now() + Duration::from_secs(365 * 86_400);
    while store.prune_windows(march, 100).await.expect("pruned") > 0 {}
    while store.drop_usage(ahead).await.expect("dropped") > 0 {}
    let left =
        client.query_one("SELECT count(*) FROM pg_inherits WHERE inhparent = 'streaming_usage'::regclass", &[]).await;
    assert!(left.expect("read").get::<_, i64>(0) >= 2, "the present month and those ahead have their partitions");
    assert_eq!(partitions_of_2001(&client).await, all[2..], "March has windows");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_clients_go_after_their_days() {
    let database = TestDatabase::migrated().await;
    let (store, _metrics) = store(database.settings()).await;
    let client = database.client().await;
    let fill = "
        INSERT INTO client_keys SELECT ((clock_timestamp() AT TIME ZONE 'UTC')::date - n), sha256(n::text::bytea)
        FROM generate_series(0, 3) n";
    client.batch_execute(fill).await.expect("filled");
    let kept = async || client.query_one("SELECT count(*) FROM client_keys", &[]).await.expect("read").get::<_, i64>(0);
    let now = Timestamp::now();
    assert_eq!(store.forget_client_keys(now - Duration::from_secs(2 * 86_400)).await.expect("forgot"), 1);
    assert_eq!(kept().await, 3);
    assert_eq!(store.forget_client_keys(now + Duration::from_secs(400 * 86_400)).await.expect("forgot"), 2);
    assert_eq!(kept().await, 1, "the key of the present day stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_in_the_tables_names_a_receipt_that_is_forgotten() {
    let database = TestDatabase::migrated().await;
    let (store, _metrics) = store(database.settings()).await;
    let client = database.client().await;
    client.batch_execute(OLD_USAGE).await.expect("filled");
    let receipt = "
        SET session_replication_role = replica;
        INSERT INTO overlay_receipts VALUES (md5('receipt')::uuid, md5('asset')::uuid, sha256('content'), 'standard', 'refunded',
            '2001-05-10 10:20:30Z', 250, 1, '2001-01-10 10:20:30Z', '2001-04-10 10:20:30Z');
        RESET session_replication_role;
        UPDATE lineage_emission SET enabled = true;";
    client.batch_execute(receipt).await.expect("filled");
    // The foreign keys of the stand-in are those of the receipt, which has neither an asset nor content here.
    let unbound = "
        ALTER TABLE overlay_receipts DROP CONSTRAINT overlay_receipts_version_id_fkey;
        ALTER TABLE overlay_receipts DROP CONSTRAINT overlay_receipts_content_hash_fkey;";
    client.batch_execute(unbound).await.expect("altered");
    let id = client.query_one("SELECT md5('receipt')::uuid", &[]).await.expect("an id").get::<_, Uuid>(0);
    let erase = async || store.erase(ReceiptId::from_uuid(id), 2).await.expect("a step");
    assert_eq!([erase().await, erase().await], [ErasureStep::More(2), ErasureStep::Done(1)]);

    let what = "
        SELECT count(*), sum(bytes_sent)::bigint, count(session_id) + count(client) + count(lease_epoch),
               bool_and(started_at = date_trunc('hour', started_at) AND finished_at = started_at),
               count(DISTINCT u.receipt_id), bool_or(u.receipt_id = md5('receipt')::uuid),
               bool_or(usage_id IN (md5('usage1')::uuid, md5('usage2')::uuid, md5('usage3')::uuid))
        FROM streaming_usage u";
    let row = client.query_one(what, &[]).await.expect("read");
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, i64>(2)), (3, 6, 0));
    assert_eq!((row.get::<_, bool>(3), row.get::<_, i64>(4)), (true, 1));
    assert_eq!((row.get::<_, bool>(5), row.get::<_, bool>(6)), (false, false));
    let sold = "
        SELECT count(*), sum(total_satoshis)::bigint, bool_and(anonymous AND created_at = '2001-01-10 00:00Z'),
               (SELECT count(*) FROM quota_usage_windows w WHERE w.receipt_id = min(r.receipt_id::text)::uuid),
               (SELECT count(*) FROM lineage_outbox)
        FROM overlay_receipts r";
    let row = client.query_one(sold, &[]).await.expect("read");
    assert_eq!(
        (row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, bool>(2)),
        (1, 250, true),
        "what was sold stays sold"
    );
    assert_eq!((row.get::<_, i64>(3), row.get::<_, i64>(4)), (9, 0), "its windows, and no sale that lineage tells of");
}
