//! Flow: how much may be under way, and how fast.
//!
//! [`admission`] bounds every queue of the node by permits. A [`token_bucket`] paces streams, scans and moves. Both are arithmetic
//! with no actor, and every folder above uses them.

pub mod admission;
pub mod token_bucket;
