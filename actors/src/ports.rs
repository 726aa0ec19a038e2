//! The ports: the services that the actors need, in the words of the domain. The server's crate, in `src/`, implements them.
//!
//! A port has few methods, takes batches where the hot path has batches, and says what a caller may conclude from an error.
//!
//! [`Receipts`] has the quota policies too; [`GovernancePolicies`] has the others. A blob store implements [`StoreMarks`], which
//! includes [`BlobStore`], [`BlobCopies`], [`BlobTrash`] and [`UploadParts`].

mod api_keys;
mod assets;
mod blob_copies;
mod blob_store;
mod blob_trash;
mod changes;
mod client_keys;
mod connection;
mod console_sessions;
mod content_index;
mod error;
mod governance;
mod headers;
mod identities;
mod installations;
mod invalidation_bus;
mod ledger;
mod lineage_store;
mod page;
mod payer_data;
mod payment_keys;
mod payment_verifier;
mod payments;
mod rate_limits;
mod receipts;
mod replay_guard;
mod resumable_uploads;
mod search;
mod session_store;
mod shared_cache;
mod shared_state;
mod storage_moves;
mod storage_records;
mod store_marks;
mod stream_slots;
mod task_leases;
mod timekeeper;
mod timelines;
mod upkeep;
mod upload_parts;
mod url_signer;
mod usage_spool;

pub use api_keys::ApiKeys;
pub use assets::{Assets, NewAssetError};
pub use blob_copies::{BlobCopies, StoredCopy};
pub use blob_store::{BlobSink, BlobSource, BlobStore, StoredBlob};
pub use blob_trash::{BlobTrash, ListedBlob, StoreTime, Sweep};
pub use changes::{Change, ChangeMark, ChangePage, Changes, Tag, UnknownTag};
pub use client_keys::{ClientKeys, DailyKey};
pub use connection::Connection;
pub use console_sessions::{ConsoleSession, ConsoleSessions, MOST_SESSIONS_OF_A_KEY, NewConsoleSession};
pub use content_index::ContentIndex;
pub use error::{Missing, PortError, PortResult};
pub use governance::{
    GovernancePolicies, GovernancePolicySummary, GovernanceRun, Occasion, Provenance, PutOutcome, RunMark,
    StoredGovernancePolicy,
};
pub use headers::{HEADERS_A_CALL, HeaderFault, HeaderRules, HeaderSource, HeaderStore};
pub use identities::{BindOutcome, IDENTITIES, Identities};
pub use installations::Installations;
pub use invalidation_bus::{InvalidationBus, Invalidations};
pub use ledger::{
    Closed, EpochStanding, Ledger, Pulse, ReceiptView, Reclaimed, Refill, RefillRequest, Release, SettleBatch, Settled,
    Want,
};
pub use lineage_store::{
    BODY_BYTES, EVENTS, EventOutcome, Ingested, LineageGraphUpkeep, LineageOutbox, LineageStore, LineageUpkeep,
    NEIGHBOURS, OutboxEntry, OutboxKind, RUNS, SEARCHED, WindowState,
};
pub use page::Page;
pub use payer_data::{ErasureStep, PayerData};
pub use payment_keys::PaymentKeys;
pub use payment_verifier::{BestChain, PaymentFault, PaymentVerifier, VerificationLimits};
pub use payments::{PaymentChange, Payments, Recorded};
pub use rate_limits::{RateGrant, RateLimits};
pub use receipts::{NewReceipt, QuotaView, Receipts, StatusChange};
pub use replay_guard::{ReplayCheck, ReplayGuard, ReplayKey, ReplayTerms};
pub use resumable_uploads::{BeginOutcome, ResumableUploads};
pub use search::{Hit, Media, Search, SearchFacets, SearchFilter, SearchPage, SearchPosition};
pub use session_store::SessionStore;
pub use shared_cache::{
    CacheLookup, CacheName, CacheTag, EntryKey, KeyPattern, Loader, PopularityList, SharedCache, SharedValue,
    TagVersions, Version,
};
pub use shared_state::SharedState;
pub use storage_moves::{MoveBegun, StorageMoves};
pub use storage_records::{QuarantineList, StorageRecords, StoredContents, Verifications};
pub use store_marks::{Mark, StoreMarks};
pub use stream_slots::{SlotGrant, StreamSlot, StreamSlots};
pub use task_leases::{LeasedTask, StorageTasks, TaskLease, TaskLeases};
pub use timekeeper::Timekeeper;
pub use timelines::Timelines;
pub use upkeep::{AuditDifference, AuditPage, LeaseComparison, SetAside, UnknownLeases, Upkeep};
pub use upload_parts::{PART_BYTES, UploadParts};
pub use url_signer::{SignedUrl, UrlRequest, UrlSigner};
pub use usage_spool::{Leftover, NoSpool, SpoolKey, SpoolStatus, UsageSpool};
