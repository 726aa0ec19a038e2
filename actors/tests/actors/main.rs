//! The actors through their handles, over ports in memory that delay, fail and fence by script.

mod admission;
mod cluster;
mod content;
mod delegation;
mod delivery;
mod elsewhere;
mod fencing;
mod ingest;
mod janitor;
mod lineage;
mod lost_answers;
mod policy_evaluator;
mod purchase;
mod quota;
mod quota_faults;
mod repair;
mod restores;
mod resumable;
mod rig;
mod slots;
mod spool;
mod storage;
mod supervision;
mod usage;
