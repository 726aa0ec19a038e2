//! The domain model as plain data: no I/O, no clock of its own, no behaviour beyond invariants.
//!
//! Beside the types stand small pure helpers: [`rate_window`] for the arithmetic of rate limits, [`moment`] for written times, and
//! [`json_path`] for the paths that errors name. Every folder but [`ids`](crate::ids) may use this one.

mod asset;
mod chain;
mod client_mark;
mod content;
mod credit;
mod identity;
mod installation;
pub mod json_path;
mod lease;
mod lineage;
pub mod moment;
mod payment;
mod producer;
mod quota_policy;
pub mod rate_window;
mod receipt;
mod resumable;
mod session;
mod storage;
mod subject;
mod timeline;
mod usage;
mod window;

pub use asset::{Asset, NewAsset};
pub use chain::{
    BlockHash, ChainHash, ChainHeader, ChainWork, CheckedHeader, HEADER_BYTES, InvalidHash, MerkleRoot, Network,
    Outpoint, RawHeader, TxId, TxOutput,
};
pub use client_mark::ClientMark;
pub use content::{ContentMeta, LEAF_BYTES, LeafHash, UNSAID_MEDIA_TYPE, leaf_count};
pub use credit::Credit;
pub use identity::{Binding, IdentityKey};
pub use installation::{Installation, NotedStore};
pub use lease::{LeaseSizing, LostLease, NodeEpoch};
pub use lineage::{
    Direction, EventHash, EventKind, FACETS_KEPT, Facet, FacetSource, Facets, Graph, GraphNode, GraphWalk, LineageEdge,
    LineageEvent, LineageNode, MentionedNode, NamespaceKey, NodeDetail, NodeKey, NodeKind, NodeName, RunDetail,
    RunState, RunSummary, StoredEvent, words_of,
};
pub use payment::{
    Derivation, LONGEST_OFFER, NewPayment, Payment, PaymentStage, PaymentState, Price, VerifiedTransaction,
};
pub use producer::{ApiKey, KeyInfo, NewKey, NewProducer, ProducerInfo, Role};
pub use quota_policy::{Limits, QuotaPolicy, is_of_media_range};
pub use receipt::{Receipt, ReceiptStatus};
pub use resumable::{NewPart, PartName, ResumableUpload, UploadBounds, UploadKind};
pub use session::{Session, SessionMark, SessionProgress, StreamSession};
pub use storage::{
    ContentMove, Finding, HistoryPosition, MoveState, Quarantined, StorageTask, StorageTier, StoredContent,
    TaskProgress, UnknownStorageTier, Verification, VerificationKind,
};
pub use subject::{Client, Subject, household};
pub use timeline::{NewTimeline, Timeline};
pub use usage::{Outcome, UsageRow};
pub use window::{Window, WindowKind, WindowSet, WindowUsage};
