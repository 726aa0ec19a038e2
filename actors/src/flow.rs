//! Flow: how much may be under way, and how fast.
//!
//! [`admission`] bounds every queue of the node by permits, and [`fairness`] shares them among those that want them. A [`token_bucket`]
//! paces streams, scans and moves. A [`log_budget`] bounds what the log says about failures that come in crowds. [`timings`] count how
//! long things took. All are arithmetic with no actor, and every folder above uses them.

pub mod admission;
pub mod fairness;
pub mod log_budget;
pub mod timings;
pub mod token_bucket;
