//! What the ledger says of a receipt, compared with what its clients received: limits, windows, usage rows, to the byte.

use std::collections::HashMap;

use tokio_postgres::Client;
use uuid::Uuid;

use crate::clients::{End, Product, Request};

/// Bytes and requests.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) bytes: u64,
    pub(crate) requests: u64,
}

impl Amount {
    fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.requests += other.requests;
    }
}

/// A month of a receipt.
#[derive(Debug)]
pub(crate) struct Month {
    pub(crate) used: Amount,
    pub(crate) reserved: Amount,
}

/// A usage row.
#[derive(Debug)]
struct Row {
    session: Option<Uuid>,
    instance: Uuid,
    charged: Amount,
    outcome: String,
}

fn amount(row: &tokio_postgres::Row, bytes: &str, requests: &str) -> Amount {
    let number = |column| u64::try_from(row.get::<_, i64>(column)).expect("nothing is below zero");
    Amount { bytes: number(bytes), requests: number(requests) }
}

fn receipt(product: &Product) -> Uuid {
    product.paid.receipt.parse().expect("an id")
}

/// Windows of a receipt, the earliest first, of which none is over its limit.
async fn windows(ledger: &Client, product: &Product, kind: &str) -> Vec<Month> {
    const WINDOWS: &str = "SELECT bytes_used, requests_used, bytes_reserved, requests_reserved FROM quota_usage_windows
        WHERE receipt_id = $1 AND window_type = $2 ORDER BY window_start";
    let rows = ledger.query(WINDOWS, &[&receipt(product), &kind]).await.unwrap();
    let windows = rows.iter().map(|row| Month {
        used: amount(row, "bytes_used", "requests_used"),
        reserved: amount(row, "bytes_reserved", "requests_reserved"),
    });
    windows.inspect(|window| assert!(is_within(product, window), "over the limit: {window:?}")).collect()
}

fn is_within(product: &Product, window: &Month) -> bool {
    window.used.bytes + window.reserved.bytes <= product.bytes.unwrap_or(u64::MAX)
        && window.used.requests + window.reserved.requests <= product.requests.unwrap_or(u64::MAX)
}

/// The months of a receipt, the earliest first.
pub(crate) async fn months(ledger: &Client, product: &Product) -> Vec<Month> {
    windows(ledger, product, "month").await
}

/// Whether less is left of a month than one stream takes.
pub(crate) fn is_used_up(product: &Product, month: &Month) -> bool {
    product.bytes.is_some_and(|limit| limit - month.used.bytes < product.size())
        || product.requests.is_some_and(|limit| limit == month.used.requests)
}

async fn rows(ledger: &Client, product: &Product) -> Vec<Row> {
    const ROWS: &str =
        "SELECT session_id, node_id, bytes_sent, requests, outcome FROM streaming_usage WHERE receipt_id = $1";
    let rows = ledger.query(ROWS, &[&receipt(product)]).await.unwrap();
    let row = |row: &tokio_postgres::Row| Row {
        session: row.get("session_id"),
        instance: row.get("node_id"),
        charged: amount(row, "bytes_sent", "requests"),
        outcome: row.get("outcome"),
    };
    rows.iter().map(row).collect()
}

/// Sums by instance.
pub(crate) type ByInstance = HashMap<Uuid, Amount>;

/// The instances of a scenario.
pub(crate) struct Instances {
    /// By which usage rows name them.
    pub(crate) identities: Vec<Uuid>,
    pub(crate) killed: Vec<usize>,
}

/// What came of a receipt.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    /// By clients.
    pub(crate) received: Amount,
    pub(crate) charged: Amount,
    /// The part of it that was charged as leases of instances that were lost.
    pub(crate) lost: ByInstance,
    /// What killed instances gave without a row.
    pub(crate) unsettled: ByInstance,
}

/// Compares, once all instances have stopped. Each request has its row, or the lost lease of the instance that was killed covers it;
/// windows are the sum of the rows; clients received no more than the limits allow.
pub(crate) async fn compare(
    ledger: &Client,
    product: &Product,
    requests: &[&Request],
    instances: &Instances,
) -> Accounts {
    let Instances { identities, killed } = instances;
    let rows = rows(ledger, product).await;
    let Accounts { mut received, mut charged, mut lost, mut unsettled } = Accounts::default();
    let mut rows_by_session = HashMap::new();
    for row in &rows {
        charged.add(row.charged);
        let Some(session) = row.session else {
            assert_eq!(row.outcome, "lost_lease", "each stream named a session");
            lost.entry(row.instance).or_default().add(row.charged);
            continue;
        };
        assert!(rows_by_session.insert(session, row).is_none(), "a stream is charged once: {row:?}");
    }

    for request in requests {
        let got = Amount { bytes: request.received, requests: u64::from(request.end != End::Unanswered) };
        received.add(got);
        match rows_by_session.remove(&request.session) {
            Some(row) if request.end == End::Whole || !killed.contains(&request.instance) => {
                assert_eq!(row.charged, Amount { requests: 1, ..got }, "charged as received: {request:?}, {row:?}");
            }
            // What an instance sent before it was killed may never have arrived.
            Some(row) => assert!(row.charged.bytes >= got.bytes, "charged as sent: {request:?}, {row:?}"),
            None if got == Amount::default() => {}
            None => {
                assert!(killed.contains(&request.instance), "no row explains {request:?}");
                unsettled.entry(identities[request.instance]).or_default().add(got);
            }
        }
    }
    assert!(rows_by_session.is_empty(), "rows of streams that no client asked for: {rows_by_session:?}");
    for (instance, given) in &unsettled {
        let charge = lost.get(instance).copied().unwrap_or_default();
        assert!(product.bytes.is_none() || given.bytes <= charge.bytes, "{given:?} given, {charge:?} charged as lost");
        assert!(product.requests.is_none() || given.requests <= charge.requests, "{given:?} given, {charge:?} charged");
    }

    let months = months(ledger, product).await;
    let times = months.len() as u64;
    assert!(product.bytes.is_none_or(|limit| received.bytes <= limit * times), "{received:?} in {times} months");
    assert!(product.requests.is_none_or(|limit| received.requests <= limit * times), "{received:?} in {times} months");
    for kind in ["hour", "day", "month"] {
        let mut sum = Amount::default();
        for window in windows(ledger, product, kind).await {
            assert_eq!(window.reserved, Amount::default(), "no instance runs, so no lease is left");
            sum.add(window.used);
        }
        assert_eq!(sum, charged, "windows are the sum of their rows: {kind}");
    }
    // A stream that a kill cuts is charged up to the last note of its instance.
    if killed.is_empty() {
        assert_eq!(received, charged, "charged as received");
    }
    Accounts { received, charged, lost, unsettled }
}
