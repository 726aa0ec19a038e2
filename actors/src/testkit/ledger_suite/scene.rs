//! The set-up of a scenario: one producer, one stored content, one priced asset, one policy, one receipt.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use uuid::Uuid;

use super::Store;
use crate::{
    clock::{Clock, SystemClock},
    ids::{ContentHash, KeyId, NodeId, ProducerId, ReceiptId, UsageId, VersionId},
    model::{
        ApiKey, ContentMeta, Credit, LeaseSizing, LostLease, NewAsset, NewProducer, NodeEpoch, Outcome, QuotaPolicy,
        ReceiptStatus, Role, UsageRow, WindowKind, WindowUsage,
    },
    ports::{AuditPage, NewReceipt, PortResult, Pulse, Reclaimed, Refill, Release, SettleBatch, Want},
    testkit::asked,
};

/// The size of the scene's content.
pub(super) const SIZE_BYTES: u64 = 1_000_000;
/// The price of the scene's asset.
pub(super) const PRICE_SATOSHIS: u64 = 1_234;
/// Leases may take the whole remainder unless a scenario is about their size.
pub(super) const WHOLE: LeaseSizing = LeaseSizing { divisor: 1 };
/// Longer than any run of the suite.
const ALIVE: Duration = Duration::from_secs(3600);

/// The set-up of a scenario.
#[derive(Clone)]
pub(super) struct Scene {
    pub(super) store: Store,
    pub(super) producer: ProducerId,
    pub(super) content: ContentHash,
    pub(super) version: VersionId,
    pub(super) policy: QuotaPolicy,
    pub(super) receipt: ReceiptId,
    /// Ten minutes into the current hour, so that a scenario may move on by minutes within it.
    pub(super) now: Timestamp,
}

/// A policy with a name of its own and the same limits in all three windows.
pub(super) fn limited(bytes: u64, requests: u64) -> QuotaPolicy {
    let (bytes, requests) = (Some(bytes), Some(requests));
    QuotaPolicy {
        policy_name: format!("suite-{}", Uuid::new_v4()),
        bytes_per_hour: bytes,
        bytes_per_day: bytes,
        bytes_per_month: bytes,
        requests_per_hour: requests,
        requests_per_day: requests,
        requests_per_month: requests,
        ..QuotaPolicy::default()
    }
}

/// A policy with a name of its own that limits nothing.
pub(super) fn unlimited() -> QuotaPolicy {
    QuotaPolicy { policy_name: format!("suite-{}", Uuid::new_v4()), ..QuotaPolicy::default() }
}

/// A live node that reclaims lost leases; the same one in all scenarios, so that it is counted once.
pub(super) async fn reclaimer(store: &Store) -> NodeEpoch {
    let node = NodeId::from_uuid(Uuid::from_u128(0x0072_6563_6c61_696d_6572));
    let known = store.standing(node).await.expect("answered");
    let epoch = known.map_or(1, |known| if known.alive { known.epoch } else { known.epoch + 1 });
    let node = NodeEpoch { node, epoch };
    store.heartbeat(node, ALIVE).await.expect("alive");
    node
}

/// How many instances the ledger counts.
pub(super) async fn nodes_alive(store: &Store) -> u64 {
    Pulse::count_alive(&store.pulses().await.expect("seen"))
}

/// One step of reclaiming, by a node that has not heard of anybody for long enough: the ledger's clock decides.
pub(super) async fn reclaim(store: &Store, mode: LostLease, now: Timestamp, limit: u32) -> Reclaimed {
    reclaim_by(store, reclaimer(store).await, mode, now, limit).await
}

/// The same by a certain node.
pub(super) async fn reclaim_by(store: &Store, by: NodeEpoch, mode: LostLease, now: Timestamp, limit: u32) -> Reclaimed {
    let silent = store.pulses().await.expect("seen");
    store.reclaim(by, &silent, mode, now, limit).await.expect("reclaimed")
}

fn random_bytes() -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(Uuid::new_v4().as_bytes());
    bytes[16..].copy_from_slice(Uuid::new_v4().as_bytes());
    bytes
}

pub(super) fn random_content() -> ContentHash {
    ContentHash::from_bytes(random_bytes())
}

impl Scene {
    pub(super) async fn new(store: &Store, policy: QuotaPolicy) -> Self {
        let now = WindowKind::Hour.window(SystemClock.now()).start + Duration::from_secs(600);
        let producer = ProducerId::next();
        let key = ApiKey {
            key_id: KeyId::next(),
            producer_id: producer,
            role: Role::Producer,
            secret_hash: random_bytes(),
            ends_in: None,
        };
        let new = NewProducer { name: "suite".into(), key, created_at: now };
        store.create_producer(&new).await.expect("a producer");
        store.put_quota_policy(&policy, now).await.expect("a policy");
        let mut scene = Self {
            store: Arc::clone(store),
            producer,
            content: random_content(),
            version: VersionId::next(),
            policy,
            receipt: ReceiptId::random(),
            now,
        };
        scene.announce(scene.content).await;
        assert!(store.complete_content(scene.content).await.expect("completed"));
        scene.make_asset(scene.version, scene.content).await;
        scene.receipt = scene.another_receipt().await;
        scene
    }

    pub(super) async fn announce(&self, content: ContentHash) {
        let meta = ContentMeta {
            content_hash: content,
            size_bytes: SIZE_BYTES,
            media_type: "text/plain".into(),
            stored_at: self.now,
        };
        self.store.announce_content(&meta, self.producer).await.expect("announced");
    }

    async fn make_asset(&self, version_id: VersionId, content_hash: ContentHash) {
        let new = NewAsset {
            version_id,
            content_hash,
            name: "a name".into(),
            description: String::new(),
            media_type: None,
            dataset_id: None,
            policy_meta: serde_json::json!({}),
            producer_id: self.producer,
            price_satoshis: PRICE_SATOSHIS,
            created_at: self.now,
        };
        self.store.create_asset(&new).await.expect("an asset");
    }

    pub(super) fn new_receipt(&self) -> NewReceipt {
        NewReceipt {
            receipt_id: ReceiptId::random(),
            version_id: self.version,
            quota_tier: self.policy.policy_name.clone(),
            status: ReceiptStatus::Confirmed,
            // After the longest month, so that a scenario may go to the end of the present one on any day of it.
            expires_at: self.now + Duration::from_secs(60 * 86_400),
            created_at: self.now,
        }
    }

    pub(super) async fn another_receipt(&self) -> ReceiptId {
        self.store.create_receipt(&self.new_receipt()).await.expect("a receipt").receipt_id
    }

    /// A node that is alive for the whole scenario.
    pub(super) async fn node(&self) -> NodeEpoch {
        let node = NodeEpoch { node: NodeId::random(), epoch: 1 };
        self.store.heartbeat(node, ALIVE).await.expect("alive");
        node
    }

    /// The same node after a restart: its earlier process is known to be gone.
    pub(super) async fn restarted(&self, node: NodeEpoch) -> NodeEpoch {
        self.store.declare_dead(node).await.expect("declared");
        self.replaced(node).await
    }

    /// Another process with the node's identity, which does not know of the first.
    pub(super) async fn replaced(&self, node: NodeEpoch) -> NodeEpoch {
        let node = NodeEpoch { epoch: node.epoch + 1, ..node };
        self.store.heartbeat(node, ALIVE).await.expect("alive");
        node
    }

    /// The node's time runs out at once.
    pub(super) async fn dies(&self, node: NodeEpoch) {
        self.store.heartbeat(node, Duration::ZERO).await.expect("a last heartbeat");
    }

    pub(super) const fn want(&self, need: Credit, want: Credit) -> Want {
        Want { receipt_id: self.receipt, content_hash: self.content, need, want }
    }

    /// One receipt's refill with everything that fits.
    pub(super) async fn refill(&self, node: NodeEpoch, want: Want) -> PortResult<Refill> {
        let mut answers = self.store.refill(node, &[asked(want)], WHOLE, self.now).await?;
        assert_eq!(answers.len(), 1, "one answer for one want");
        Ok(answers.remove(0))
    }

    /// Leases exactly this credit.
    pub(super) async fn lease(&self, node: NodeEpoch, credit: Credit) {
        let refill = self.refill(node, self.want(credit, credit)).await.expect("a refill");
        assert_eq!(refill.granted, credit, "the scene's limits leave room for the lease");
    }

    /// A stream of one request under this node's lease, at the scene's time.
    pub(super) fn row(&self, node: NodeEpoch, bytes_sent: u64) -> UsageRow {
        UsageRow {
            usage_id: UsageId::next(),
            receipt_id: self.receipt,
            content_hash: self.content,
            session_id: None,
            client: None,
            started_at: self.now,
            finished_at: self.now + Duration::from_millis(1500),
            bytes_sent,
            requests: 1,
            outcome: Outcome::Completed,
            lease_epoch: Some(node.epoch),
        }
    }

    pub(super) const fn release(&self, node: NodeEpoch, credit: Credit) -> Release {
        Release { receipt_id: self.receipt, window: self.now, epoch: node.epoch, credit }
    }

    /// Settles; returns how many rows were new.
    pub(super) async fn settle(
        &self,
        node: NodeEpoch,
        sequence: i64,
        rows: Vec<UsageRow>,
        releases: Vec<Release>,
    ) -> u64 {
        let batch = SettleBatch { node, sequence, rows, releases };
        self.store.settle(&batch).await.expect("settled").inserted
    }

    /// Reclaims until nothing is left to reclaim.
    pub(super) async fn reclaim(&self, mode: LostLease) {
        while reclaim(&self.store, mode, self.now, 100).await.more {}
    }

    pub(super) async fn windows(&self) -> [WindowUsage; 3] {
        self.store.quota(self.receipt, self.now).await.expect("a quota").expect("the receipt exists").windows
    }

    /// Asserts used and reserved of all three windows. A scenario within one hour changes them together.
    pub(super) async fn assert_windows(&self, used: Credit, reserved: Credit) {
        for window in self.windows().await {
            assert_eq!(window.used, used, "used in {:?}", window.window.kind);
            assert_eq!(window.reserved, reserved, "reserved in {:?}", window.window.kind);
        }
        self.assert_audited().await;
    }

    /// The audit of this receipt alone.
    pub(super) async fn audit(&self) -> AuditPage {
        let before = ReceiptId::from_uuid(Uuid::from_u128(self.receipt.as_uuid().as_u128() - 1));
        self.store.audit(Some(before), 1).await.expect("audited")
    }

    pub(super) async fn assert_audited(&self) {
        let mut page = self.audit().await;
        // A receipt without windows is skipped; the page is then about the next receipt.
        page.differences.retain(|difference| difference.receipt_id == self.receipt);
        assert_eq!(page.differences, [], "windows equal the sums of usage rows and leases");
    }
}
