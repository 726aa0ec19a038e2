//! The HTTP shell and the cold endpoints, from a request to its answer, over ports in memory.

mod bodies;
mod catalogue;
mod governance;
mod node;
mod operators;
mod origins;
mod rate_limits;
mod receipts;
mod refusals;
mod shell;
mod socket;
mod unused;
#[path = "../support/words.rs"]
mod words;
mod world;
