//! What the node has billed must be what was received, to the byte and to the stream.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    api::{Api, WindowUse},
    fault_report::FaultReport,
    measure::Received,
};

/// How long the node may take to write down what it has streamed. Usage is flushed by age within seconds; what takes longer
/// is lost or late, and either is a fault.
pub(crate) const SETTLE_WITHIN: Duration = Duration::from_secs(30);

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
    /// What was billed beyond all that, for streams that a killed instance had begun.
    pub(crate) lost_bytes: u64,
    pub(crate) lost_requests: u64,
    /// Receipts whose bill is not what was received, in words.
    pub(crate) differences: Vec<String>,
}

impl BillingReport {
    /// Of no receipt.
    pub(crate) fn empty() -> Self {
        Self {
            receipts: 0,
            received_bytes: 0,
            billed_bytes: 0,
            received_streams: 0,
            unread_at_most: 0,
            billed_requests: 0,
            lost_bytes: 0,
            lost_requests: 0,
            differences: Vec::new(),
        }
    }

    /// Compares receipt by receipt. A node may be a moment late, so a difference is looked at again until it is old.
    pub(crate) async fn compare(
        api: &Api,
        received: &BTreeMap<String, Received>,
        allowance: Allowance,
    ) -> anyhow::Result<Self> {
        Self::compare_within(SETTLE_WITHIN, api, received, allowance).await
    }

    pub(crate) async fn compare_within(
        patience: Duration,
        api: &Api,
        received: &BTreeMap<String, Received>,
        allowance: Allowance,
    ) -> anyhow::Result<Self> {
        let deadline = Instant::now() + patience;
        let mut report = Self { receipts: received.len(), ..Self::empty() };
        for (receipt_id, got) in received {
            let mut billed = api.month_of(receipt_id).await?;
            while !allowance.is_settled(*got, billed) && Instant::now() < deadline {
                tokio::time::sleep(LOOK_EVERY).await;
                billed = api.month_of(receipt_id).await?;
            }
            report.add(receipt_id, *got, billed, allowance);
        }
        if report.lost_requests > allowance.requests || report.lost_bytes > allowance.bytes {
            report.differences.push(format!(
                "{} bytes in {} requests were charged that no client received; killed instances explain at most {} bytes in {}",
                report.lost_bytes, report.lost_requests, allowance.bytes, allowance.requests
            ));
        }
        Ok(report)
    }

    fn add(&mut self, receipt_id: &str, got: Received, billed: WindowUse, allowance: Allowance) {
        self.received_bytes += got.bytes;
        self.received_streams += got.streams;
        self.unread_at_most += got.unread_at_most;
        self.billed_bytes += billed.bytes_used;
        self.billed_requests += billed.requests_used;
        self.lost_bytes += billed.bytes_used.saturating_sub(got.bytes + got.unread_at_most);
        self.lost_requests += billed.requests_used.saturating_sub(got.streams + got.cut);
        if !allowance.is_settled(got, billed) {
            self.differences.push(format!(
                "receipt {receipt_id}: received {} bytes (and up to {} unread) in {} streams ({} cut), billed {} bytes in {} requests",
                got.bytes, got.unread_at_most, got.streams, got.cut, billed.bytes_used, billed.requests_used
            ));
        }
    }
}

/// What may be billed and not received, because instances were killed: each charges a stream up to its last note, which precedes the bytes; and the
/// balancer may have asked another instance for a stream whose head had not come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Allowance {
    bytes: u64,
    requests: u64,
}

impl Allowance {
    /// For the streams that were open when instances were killed, none larger than this.
    pub(crate) fn of(faults: &[FaultReport], largest: u64) -> Self {
        let requests = faults.iter().map(|fault| fault.open_when_killed).sum();
        Self { requests, bytes: requests * largest }
    }

    /// Whether the bill has all that was received and, but for what is allowed, nothing else.
    fn is_settled(self, got: Received, billed: WindowUse) -> bool {
        let requests = got.streams..=got.streams + got.cut + self.requests;
        let bytes = got.bytes..=got.bytes + got.unread_at_most + self.bytes;
        requests.contains(&billed.requests_used) && bytes.contains(&billed.bytes_used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn billed(bytes_used: u64, requests_used: u64) -> WindowUse {
        WindowUse { bytes_used, requests_used }
    }

    #[test]
    fn a_bill_is_exact_but_for_what_was_cut_and_what_killed_instances_explain() {
        let got = Received { bytes: 100, streams: 10, unread_at_most: 0, cut: 0 };
        let none = Allowance::default();
        assert!(none.is_settled(got, billed(100, 10)));
        for (bytes, requests) in [(99, 10), (101, 10), (100, 9), (100, 11)] {
            assert!(!none.is_settled(got, billed(bytes, requests)), "{bytes} {requests}");
        }
        let cut = Received { unread_at_most: 5, cut: 1, ..got };
        assert!(none.is_settled(cut, billed(105, 11)) && !none.is_settled(cut, billed(106, 11)));
        let killed = FaultReport { open_when_killed: 2, ..FaultReport::default() };
        let allowance = Allowance::of(&[killed], 50);
        assert!(allowance.is_settled(got, billed(200, 12)), "two streams of 50 bytes");
        assert!(!allowance.is_settled(got, billed(201, 12)) && !allowance.is_settled(got, billed(99, 10)));
    }

    #[test]
    fn what_is_explained_once_is_not_explained_for_each_receipt() {
        let allowance = Allowance { bytes: 50, requests: 1 };
        let mut report = BillingReport::empty();
        let got = Received { bytes: 100, streams: 1, ..Received::default() };
        report.add("a", got, billed(150, 2), allowance);
        report.add("b", got, billed(150, 2), allowance);
        assert_eq!((report.lost_bytes, report.lost_requests), (100, 2), "and the sum is compared");
    }
}
