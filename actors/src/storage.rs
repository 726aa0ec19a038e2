//! Storage: the stored copies of contents, for as long as they are kept.
//!
//! A [`verifier`] inspects copies and repairs damaged ones from good ones. A [`mover`] takes a content to another tier.
//! Both hold a [`copy_context`], which inspects and writes single copies, and count in [`counters`].
//! [`maintenance`] does both in the background, one instance at a time, and moves by age what [`last_access`] says is not used.
//! [`store_guard`] stands before the blob store, and stops uploads and removals while the store is not this installation's own; it
//! counts in [`store_timings`] how long the store takes.
//!
//! The node starts the maintenance; administrators' requests call the verifier and the mover. **Bound.** One content at a time for
//! each job, a few leaves of it in memory.

pub mod copy_context;
pub mod counters;
pub mod last_access;
pub mod maintenance;
pub mod mover;
pub mod store_guard;
pub mod store_timings;
pub mod verifier;
