//! Content: its bytes on their way in and out.
//!
//! An [`upload`] hashes and stores them; a [`resumable`] one arrives in several requests. A [`reader`] verifies each leaf before its first byte is used, and [`read_ahead`] reads for
//! large streams. A [`delivery`] paces, counts and settles a stream; [`delegation`] charges for what others deliver. [`quarantine`]
//! lists the damaged content that no reader gets, and [`quarantine_sync`] keeps the list equal to the database's.
//!
//! Handlers call these, and [`storage`](crate::storage) reads and repairs with them. No byte passes through a mailbox.
//! **Bound.** Uploads, streams and read-ahead each take permits; the leaf cache holds a stated number of bytes.

pub mod delegation;
pub mod delivery;
pub mod quarantine;
pub mod quarantine_sync;
pub mod read_ahead;
pub mod reader;
pub mod resumable;
pub mod upload;
