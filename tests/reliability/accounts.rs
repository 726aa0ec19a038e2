//! What the ledger says of a receipt, compared with what its clients received: usage rows and windows, to the byte.

use std::collections::HashMap;

use serde_json::Value;
use uuid::Uuid;

use crate::{
    load::{End, Product, Request},
    proxy::LINE_HOLDS_BYTES,
    scene::Scene,
    still::usage_rows,
};

/// Whether an instance that is killed forgets what it had not settled. The lease of a limited receipt then covers it, and nothing that
/// of another one. Where this is false, each stream has its row after a kill too.
const A_KILLED_INSTANCE_FORGETS: bool = false;

/// What a killed instance may have noted before it was sent.
const PIECE_BYTES: u64 = 1 << 20;

/// Bytes of all receipts together.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    /// By clients.
    pub(crate) received: u64,
    /// In usage rows.
    pub(crate) charged: u64,
    /// Received, and neither in a row nor covered by the charge for a lost lease.
    pub(crate) lost: u64,
    /// What each receipt was charged, in the order of the products.
    by_product: Vec<u64>,
}

/// Compares rows with requests, once nothing is under way. The instances still run.
pub(crate) async fn compare(scene: &Scene, products: &[Product], requests: &[Request]) -> Accounts {
    let mut accounts = Accounts::default();
    for (number, product) in products.iter().enumerate() {
        let rows = usage_rows(&scene.instances[0].node, &product.paid.receipt).await;
        let (mut by_session, mut of_lost_leases, mut charged) = (HashMap::new(), 0, 0);
        for row in &rows {
            charged += bytes(row);
            match row["sessionId"].as_str() {
                Some(session) => {
                    let session: Uuid = session.parse().expect("an id");
                    assert!(by_session.insert(session, bytes(row)).is_none(), "a stream is charged once: {row}");
                }
                None => {
                    assert_eq!(row["outcome"], "lost_lease", "each stream named a session");
                    of_lost_leases += bytes(row);
                }
            }
        }
        let mut without_row = 0;
        for request in requests.iter().filter(|request| request.product == number) {
            accounts.received += request.received;
            match by_session.remove(&request.session) {
                Some(charged) => {
                    let was_killed = scene.instances[request.instance].was_killed;
                    assert!(explains(charged, request, was_killed), "{charged} bytes charged for {request:?}");
                }
                None if request.received == 0 => {}
                None => {
                    let forgot = A_KILLED_INSTANCE_FORGETS && scene.instances[request.instance].was_killed;
                    assert!(forgot, "no row explains {request:?}");
                    without_row += request.received;
                }
            }
        }
        assert!(by_session.is_empty(), "rows of streams that no client asked for: {by_session:?}");
        assert!(A_KILLED_INSTANCE_FORGETS || of_lost_leases == 0, "{of_lost_leases} bytes charged without a stream");
        let lost = without_row.saturating_sub(of_lost_leases);
        assert!(
            lost == 0 || !product.is_limited,
            "{without_row} bytes without a row, {of_lost_leases} charged as lost"
        );
        accounts.lost += lost;
        accounts.charged += charged;
        accounts.by_product.push(charged);
    }
    accounts
}

fn bytes(row: &Value) -> u64 {
    row["bytesSent"].as_u64().expect("a number")
}

/// Whether this was charged as received. A connection that broke may have had some of it under way.
fn explains(charged: u64, request: &Request, was_killed: bool) -> bool {
    let under_way = LINE_HOLDS_BYTES + if was_killed { PIECE_BYTES } else { 0 };
    match request.end {
        End::Whole => charged == request.received,
        End::Cut | End::Unanswered => (request.received..=request.received + under_way).contains(&charged),
        End::Refused(_) => charged == 0,
    }
}

/// Compares windows with rows, once all instances have stopped: each kind of window is their sum, and nothing is reserved.
pub(crate) async fn compare_windows(scene: &Scene, products: &[Product], accounts: &Accounts) {
    const WINDOWS: &str = "SELECT window_type, CAST(sum(bytes_used) AS BIGINT), CAST(sum(bytes_reserved) AS BIGINT)
        FROM quota_usage_windows WHERE receipt_id = $1 GROUP BY window_type";
    for (product, charged) in products.iter().zip(&accounts.by_product) {
        let receipt: Uuid = product.paid.receipt.parse().expect("an id");
        let windows: Vec<(String, i64, i64)> = match &scene.postgres {
            Some(server) => {
                let rows = server.client().await.query(WINDOWS, &[&receipt]).await.unwrap();
                rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
            }
            None => {
                let ledger = rusqlite::Connection::open(scene.data_dir().join("penstock.sqlite3")).unwrap();
                let mut statement = ledger.prepare(WINDOWS).unwrap();
                let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
                statement.query_map([receipt.as_bytes().as_slice()], row).unwrap().map(Result::unwrap).collect()
            }
        };
        let kinds: Vec<_> = windows.iter().map(|(kind, ..)| kind.as_str()).collect();
        assert_eq!(kinds.len(), 3, "hours, days and months: {kinds:?}");
        for (kind, used, reserved) in &windows {
            assert_eq!((u64::try_from(*used).unwrap(), *reserved), (*charged, 0), "{kind} is the sum of its rows");
        }
    }
}
