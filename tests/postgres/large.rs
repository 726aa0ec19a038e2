//! A database whose tables are large, and calls that are watched: each is one round trip and reads no such table from end to end.
//!
//! The server itself says how often it has scanned a table, which sees into functions as a plan does not.

use penstock::adapters::postgres::{PostgresSettings, PostgresStore};
use tokio::task::yield_now;
use tokio_postgres::Client;

use crate::support::{TestDatabase, round_trips, store};

/// 100,000 rows of everything that grows (half of the receipts are leased, by a hundred nodes that are alive), made by their
/// number so that a test can name any of them. Foreign keys are as they should be but are not checked one by one.
const FILL: &str = "
    SET session_replication_role = replica;
    INSERT INTO producers SELECT md5('producer' || n)::uuid, 'name', now() FROM generate_series(1, 100000) n;
    INSERT INTO api_keys SELECT md5('key' || n)::uuid, md5('producer' || n)::uuid, 'producer',
        sha256(('key' || n)::bytea), now()
        FROM generate_series(1, 100000) n;
    INSERT INTO overlay_storage_index (content_hash, size_bytes, media_type, state, producer_id, announced_at,
        stored_at)
        SELECT sha256(('content' || n)::bytea), 1000, 'text/plain', 'stored', md5('producer' || n)::uuid, now(), now()
        FROM generate_series(1, 100000) n;
    INSERT INTO assets SELECT md5('asset' || n)::uuid, sha256(('content' || n)::bytea), 'name ' || n, 'of ' || n % 7,
        'text/plain', 'dataset ' || n % 100, '{}', md5('producer' || n)::uuid, now() FROM generate_series(1, 100000) n;
    INSERT INTO prices SELECT md5('asset' || n)::uuid, 1, now() FROM generate_series(1, 100000) n;
    INSERT INTO overlay_receipts SELECT md5('receipt' || n)::uuid, md5('asset' || n)::uuid,
        sha256(('content' || n)::bytea),
        'standard', 'confirmed', now() + interval '30 days', 1, 0, now(), now() FROM generate_series(1, 100000) n;
    INSERT INTO quota_usage_windows (receipt_id, window_type, window_start, window_end, bytes_used, bytes_reserved,
            requests_used, requests_reserved)
        SELECT md5('receipt' || n)::uuid, w.window_type, w.window_start, w.window_end, 1,
            CASE WHEN n > 50000 THEN 0 ELSE 10 END, 1,
            CASE WHEN n > 50000 THEN 0 ELSE 1 END
        FROM generate_series(1, 100000) n, penstock_windows(now()) w;
    INSERT INTO ledger_nodes SELECT md5('node' || n)::uuid, 1, now() + CASE WHEN n <= 100 THEN 1
        ELSE -24 END * interval '1 hour',
        n > 100, 0 FROM generate_series(1, 100000) n;
    INSERT INTO quota_leases SELECT md5('receipt' || n)::uuid, md5('node' || n % 100 + 1)::uuid, 1,
        date_trunc('hour', now(), 'UTC'), 10, 1
        FROM generate_series(1, 50000) n;
    INSERT INTO streaming_usage SELECT md5('usage' || n)::uuid, md5('receipt' || n)::uuid,
        sha256(('content' || n)::bytea), NULL,
        md5('node' || n)::uuid, now(), now(), 1, 1, 'completed', 1 FROM generate_series(1, 100000) n;
    INSERT INTO change_log (txid, tag, changed_at)
        SELECT n, 'policy:standard', now() - (100000 - n) * interval '1 second' FROM generate_series(1, 100000) n;
    INSERT INTO policies SELECT 'p' || n, 2, '{\"rules\": []}', now() FROM generate_series(1, 100000) n;
    INSERT INTO policy_versions SELECT 'p' || (n + 1) / 2, 2 - n % 2, '{\"rules\": []}', now() - n * interval '1 day'
        FROM generate_series(1, 100000) n;
    INSERT INTO policy_runs SELECT md5('run' || n)::uuid, 'p' || n % 10, 1, md5('asset' || n % 100)::uuid, 'evaluate',
        'allow', now() - n * interval '1 second',
        '{\"decision\": \"allow\", \"reasons\": [], \"passed\": [], \"notApplicable\": []}' FROM generate_series(1, 100000) n;
    INSERT INTO storage_verifications SELECT md5('look' || n)::uuid, sha256(('content' || n % 1000)::bytea), 'walk', 'hot',
        'intact', 1000, 1000, md5('node')::uuid, now() - n * interval '1 second' FROM generate_series(1, 100000) n;
    INSERT INTO storage_quarantine SELECT sha256(('content' || n)::bytea), now() FROM generate_series(1, 100000) n;
    INSERT INTO storage_moves SELECT sha256(('content' || n)::bytea), 'cold',
        CASE WHEN n % 2 = 0 THEN 'leaving' ELSE 'copying' END, now() - n * interval '1 second'
        FROM generate_series(1, 100000) n;
    INSERT INTO task_leases SELECT 'move:' || n, md5('node')::uuid, 1, now() FROM generate_series(1, 100000) n;
    INSERT INTO content_uses SELECT sha256(('content' || n)::bytea), now() FROM generate_series(1, 100000) n;
    RESET session_replication_role;
    ANALYZE;";

/// What the server has read from end to end, of tables that are large.
const SCANNED: &str = "
    SELECT s.relname::text, s.seq_scan
    FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid
    WHERE c.reltuples > 10000
    ORDER BY 1";

/// A database of large tables.
pub(crate) struct Large {
    pub(crate) database: TestDatabase,
    pub(crate) client: Client,
}

impl Large {
    pub(crate) async fn new() -> Self {
        let database = TestDatabase::migrated().await;
        let client = database.client().await;
        client.batch_execute(FILL).await.expect("filled");
        Self { database, client }
    }

    pub(crate) async fn scanned(&self) -> Vec<(String, i64)> {
        self.client.batch_execute("SELECT pg_stat_clear_snapshot()").await.expect("cleared");
        let rows = self.client.query(SCANNED, &[]).await.expect("statistics");
        assert!(rows.len() >= 10, "every table that grows is large");
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Makes one call over a connection of its own. The server counts what a connection did when that ends.
    pub(crate) async fn call(&self, name: &str, call: impl AsyncFnOnce(&PostgresStore)) {
        let before = self.scanned().await;
        let (store, metrics) = store(PostgresSettings { pool_max: 1, ..self.database.settings() }).await;
        call(&store).await;
        drop(store);
        const OTHERS: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
            AND application_name = 'penstock'";
        while self.client.query_one(OTHERS, &[]).await.expect("counted").get::<_, i64>(0) > 0 {
            yield_now().await;
        }
        assert_eq!(self.scanned().await, before, "{name} reads a table from end to end");
        assert_eq!(round_trips(&metrics), 1, "{name} is one round trip");
    }

    /// The id of a row that [`FILL`] has made.
    pub(crate) async fn id(&self, what: &str, number: u32) -> uuid::Uuid {
        let text = format!("{what}{number}");
        self.client.query_one("SELECT md5($1)::uuid", &[&text]).await.expect("an id").get(0)
    }

    pub(crate) async fn hash(&self, what: &str, number: u32) -> [u8; 32] {
        let text = format!("{what}{number}");
        let row = self.client.query_one("SELECT sha256($1::text::bytea)", &[&text]).await.expect("a hash");
        row.get::<_, Vec<u8>>(0).try_into().expect("32 bytes")
    }
}
