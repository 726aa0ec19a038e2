//! Where content is stored, and the results of its verification.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{ContentHash, NodeId, VerificationId};

/// A storage tier, by how fast reads must be. Copies are preferred in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageTier {
    /// Takes all new content.
    Hot,
    Warm,
    Cold,
}

macro_rules! words {
    ($name:ident, $($variant:ident = $word:literal),+) => {
        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }

            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.as_str() == word)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words!(StorageTier, Hot = "hot", Warm = "warm", Cold = "cold");

/// Why stored bytes were verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VerificationKind {
    /// A client asked for it.
    OnDemand,
    /// The walk over all content reached them.
    Walk,
    /// A reader found damage.
    Read,
    /// They were copied to another tier.
    Move,
    /// They were written in place of a damaged copy.
    Repair,
}

words!(VerificationKind, OnDemand = "on_demand", Walk = "walk", Read = "read", Move = "move", Repair = "repair");

/// The result for one copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Every byte is as stored.
    Intact,
    /// The right number of bytes, but wrong ones; or the data kept beside them is damaged.
    Corrupt,
    /// Too many bytes, or too few.
    WrongSize,
    /// The copy is missing.
    Missing,
}

words!(Finding, Intact = "intact", Corrupt = "corrupt", WrongSize = "wrong_size", Missing = "missing");

/// One verification of one copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    pub verification_id: VerificationId,
    pub content_hash: ContentHash,
    pub kind: VerificationKind,
    pub tier: StorageTier,
    pub finding: Finding,
    pub expected_bytes: u64,
    /// `None` where there was no copy, or its size is unknown.
    pub found_bytes: Option<u64>,
    /// The instance that verified it.
    pub node: NodeId,
    pub verified_at: Timestamp,
}

/// A position in a content's history of verifications, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryPosition {
    pub verified_at: Timestamp,
    pub verification_id: VerificationId,
}

/// The text is not the name of a tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a tier is hot, warm or cold")]
pub struct UnknownStorageTier;

impl FromStr for StorageTier {
    type Err = UnknownStorageTier;

    fn from_str(text: &str) -> Result<Self, UnknownStorageTier> {
        Self::parse(text).ok_or(UnknownStorageTier)
    }
}

/// A stored content as the tasks over all content see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredContent {
    pub content_hash: ContentHash,
    pub size_bytes: u64,
    /// The tier where it belongs.
    pub tier: StorageTier,
    pub stored_at: Timestamp,
    /// The day of its last use, as that day's first moment; `None` where no use is known.
    pub used_on: Option<Timestamp>,
}

/// A content that is withheld from readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quarantined {
    pub content_hash: ContentHash,
    /// When its damage was found.
    pub since: Timestamp,
}

/// The tasks over all content. One instance at a time runs each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StorageTask {
    /// Verifies all content, again and again.
    Walk,
    /// Moves unused content to colder tiers.
    Lifecycle,
    /// Finishes moves: those that an instance left unfinished, and the removal of copies no longer needed.
    Moves,
}

words!(StorageTask, Walk = "walk", Lifecycle = "lifecycle", Moves = "moves");

/// The progress of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TaskProgress {
    /// The last content done in this lap; `None` at its start.
    pub after: Option<ContentHash>,
    /// When this lap, or the last one, began.
    pub lap_began_at: Option<Timestamp>,
    /// When the last complete lap began: all content stored at that time has been done since.
    pub whole_lap_began_at: Option<Timestamp>,
}

/// The state of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveState {
    /// The copy is being made and verified. Readers use the old one.
    Copying,
    /// Readers use the new copy; old ones are kept for a while for readers that have them open.
    Leaving,
}

words!(MoveState, Copying = "copying", Leaving = "leaving");

/// A content on its move to another tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentMove {
    pub content_hash: ContentHash,
    pub size_bytes: u64,
    pub to: StorageTier,
    pub state: MoveState,
    /// When it entered this state.
    pub since: Timestamp,
}
