//! Governance: policies that say what may be published and sold, and what they come to for an asset. Arithmetic only: no I/O,
//! no clock of its own. [`governor`](crate::governor) fetches what is judged.
//!
//! A policy is a JSON document (docs/policies.md is its language on a page): rules, each with a condition that it requires and
//! with what happens otherwise. Reading it ([`Policy::read`]) finds all of its flaws at once, each with its path. Judging
//! ([`Policy::judge`]) looks at each rule and takes the gravest outcome, so neither the order of rules nor one that passes can
//! make another one milder.
//!
//! A condition holds, does not, or cannot be told (a walk through lineage that was cut short, a list of licences of which one is
//! among those asked for and one is not). The three are combined as Kleene does, so `not` is safe; what cannot be told counts
//! against the asset, and says so.
//!
//! # Bounds
//! A document has [`DOCUMENT_BYTES`], [`RULES`], [`CONDITIONS`] nested [`DEPTH`] deep, and [`VALUES`] in a list: judging one is
//! at most some 10^6 comparisons of short texts. Policies do not refer to each other, so nothing can recurse.

mod condition;
mod explain;
mod facts;
mod policy;
mod reader;
mod truth;
mod verdict;

pub use condition::{Condition, FacetPath};
pub use facts::{Ancestry, Facts};
pub use policy::{Policy, Rule};
pub use reader::Flaw;
pub use truth::Truth;
pub use verdict::{Decision, Evidence, Reason, Verdict};

/// Bytes of a document as compact JSON: a hundred times a policy that a person would write.
pub const DOCUMENT_BYTES: usize = 64 << 10;

/// Rules of a policy.
pub const RULES: usize = 64;

/// Conditions of a policy, over all of its rules and at any depth.
pub const CONDITIONS: usize = 512;

/// How deep conditions may be nested: a condition that stands directly in a rule is at 1.
pub const DEPTH: usize = 8;

/// Values in a list.
pub const VALUES: usize = 256;

/// Bytes of a value or a name in a document.
pub const TEXT_BYTES: usize = 256;

/// The farthest that lineage is followed, as in the questions that clients may ask about it.
pub const LINEAGE_DEPTH: u32 = 10;

/// Flaws of a document that are told; there may be thousands of one kind.
pub const FLAWS: usize = 100;

/// Pieces of evidence for a reason.
pub const EVIDENCE: usize = 8;

/// Licences or classifications of an asset that are looked at; of an asset with more of them nothing can be told.
pub const TERMS: usize = 100;

#[cfg(test)]
mod page;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
