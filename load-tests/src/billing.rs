//! What the node has billed must be what was received, to the byte and to the stream.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    api::{Api, WindowUse},
    measure::Received,
};

/// How long the node may take to write down what it has streamed. Usage is flushed by age within seconds; what takes longer
/// is lost or late, and either is a fault.
const SETTLE_WITHIN: Duration = Duration::from_secs(30);

/// Between two looks at one receipt.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The comparison over all receipts of a run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BillingReport {
    pub(crate) receipts: usize,
    pub(crate) received_bytes: u64,
    pub(crate) billed_bytes: u64,
    pub(crate) received_streams: u64,
    /// Bytes that a bill may have beyond those that were received: on the way to clients that left.
    pub(crate) unread_at_most: u64,
    pub(crate) billed_requests: u64,
    /// Receipts whose bill is not what was received, in words.
    pub(crate) differences: Vec<String>,
}

impl BillingReport {
    /// Compares receipt by receipt. A node may be a moment late, so a difference is looked at again until it is old.
    pub(crate) async fn compare(api: &Api, received: &BTreeMap<String, Received>) -> anyhow::Result<Self> {
        Self::compare_within(SETTLE_WITHIN, api, received).await
    }

    pub(crate) async fn compare_within(
        patience: Duration,
        api: &Api,
        received: &BTreeMap<String, Received>,
    ) -> anyhow::Result<Self> {
        let deadline = Instant::now() + patience;
        let mut report = Self {
            receipts: received.len(),
            received_bytes: 0,
            billed_bytes: 0,
            received_streams: 0,
            unread_at_most: 0,
            billed_requests: 0,
            differences: Vec::new(),
        };
        for (receipt_id, got) in received {
            let mut billed = api.month_of(receipt_id).await?;
            while !agree(*got, billed) && Instant::now() < deadline {
                tokio::time::sleep(LOOK_EVERY).await;
                billed = api.month_of(receipt_id).await?;
            }
            report.add(receipt_id, *got, billed);
        }
        Ok(report)
    }

    fn add(&mut self, receipt_id: &str, got: Received, billed: WindowUse) {
        self.received_bytes += got.bytes;
        self.received_streams += got.streams;
        self.unread_at_most += got.unread_at_most;
        self.billed_bytes += billed.bytes_used;
        self.billed_requests += billed.requests_used;
        if !agree(got, billed) {
            self.differences.push(format!(
                "receipt {receipt_id}: received {} bytes (and up to {} unread) in {} streams, billed {} bytes in {} requests",
                got.bytes, got.unread_at_most, got.streams, billed.bytes_used, billed.requests_used
            ));
        }
    }
}

fn agree(got: Received, billed: WindowUse) -> bool {
    got.streams == billed.requests_used && (got.bytes..=got.bytes + got.unread_at_most).contains(&billed.bytes_used)
}
