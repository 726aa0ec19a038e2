//! The actors through their handles, over ports in memory that delay, fail and fence by script.

mod admission;
mod cluster;
mod content;
mod delegation;
mod delivery;
mod elsewhere;
mod fencing;
mod governor;
mod ingest;
mod janitor;
mod lineage;
mod lost_answers;
mod mending;
mod quota;
mod quota_faults;
mod restores;
mod rig;
mod slots;
mod storage;
mod usage;
