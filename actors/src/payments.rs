//! Payments on chain: receipts for them, and what the node knows of the chain.
//!
//! [`purchase`] makes a receipt of a payment. [`chain`] is arithmetic over headers: branches, the best one, and the Merkle roots by height.
//! [`chain_handle`] shares one such chain with those who verify, and says whether it is recent enough to sell by. [`header_keeper`] fills it
//! from a source of headers and from the store that all instances share.

pub mod chain;
pub mod chain_handle;
pub mod header_keeper;
pub mod purchase;
