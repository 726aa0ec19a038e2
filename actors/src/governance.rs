//! Governance: policies that say which assets may be published and sold, and their outcome for an asset. Arithmetic
//! only: no I/O, no clock of its own. [`policy_evaluator`](crate::policy_evaluator) fetches the policies and the facts.
//!
//! A policy is a JSON document (docs/policies.md describes its language). It is a list of rules; each has a condition
//! that it requires, and an outcome for assets that do not meet it. Reading it ([`GovernancePolicy::read`]) finds all of its
//! flaws at once, each with its path. Judging ([`GovernancePolicy::judge`]) evaluates every rule and takes the gravest outcome,
//! so neither the order of rules nor a rule that passes can soften another rule.
//!
//! A condition holds, does not hold, or is unknown (a walk through lineage was cut short, or one licence of an asset is
//! listed and another is not). The three values combine by Kleene's logic, so `not` is safe. Unknown counts against the
//! asset, and the reason says so.
//!
//! # Bounds
//! A document has at most [`DOCUMENT_BYTES`], [`RULES`], [`CONDITIONS`] nested [`DEPTH`] deep, and [`VALUES`] in a
//! list: judging one takes at most some 10^6 comparisons of short texts. Policies do not refer to each other, so there
//! is no recursion.

mod condition;
mod explain;
mod facts;
mod policy;
mod reader;
mod truth;
mod verdict;

pub use condition::{Condition, FacetPath};
pub use facts::{Ancestry, Facts};
pub use policy::{GovernancePolicy, Rule};
pub use reader::Flaw;
pub use truth::Truth;
pub use verdict::{Decision, Evidence, Reason, Verdict};

/// Bytes of a document as compact JSON: a hundred times the size of a policy that a person would write.
pub const DOCUMENT_BYTES: usize = 64 << 10;

/// Rules of a policy.
pub const RULES: usize = 64;

/// Conditions of a policy, over all of its rules and at any depth.
pub const CONDITIONS: usize = 512;

/// How deep conditions may be nested; a condition directly in a rule has depth 1.
pub const DEPTH: usize = 8;

/// Values in a list.
pub const VALUES: usize = 256;

/// Bytes of a value or a name in a document.
pub const TEXT_BYTES: usize = 256;

/// The farthest that lineage is followed; the API has the same limit for lineage queries.
pub const LINEAGE_DEPTH: u32 = 10;

/// Flaws of a document that are reported; there may be thousands of one kind.
pub const FLAWS: usize = 100;

/// Pieces of evidence for a reason.
pub const EVIDENCE: usize = 8;

/// Licences or classifications of an asset that are checked; with more of them, the condition is unknown.
pub const TERMS: usize = 100;

#[cfg(test)]
mod page;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
