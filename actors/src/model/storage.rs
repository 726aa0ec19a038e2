//! Where content is kept, and what was found when it was looked at.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{ContentHash, NodeId, VerificationId};

/// Where content is kept, by how soon it must come. The order is that in which copies are preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
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

words!(Tier, Hot = "hot", Warm = "warm", Cold = "cold");

/// Why stored bytes were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VerificationKind {
    /// Somebody asked.
    OnDemand,
    /// The walk over all content came by.
    Walk,
    /// A reader found damage.
    Read,
    /// They were copied to another tier.
    Move,
    /// They were written in place of a damaged copy.
    Repair,
}

words!(VerificationKind, OnDemand = "on_demand", Walk = "walk", Read = "read", Move = "move", Repair = "repair");

/// What was found of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Every byte is as it was stored.
    Intact,
    /// As many bytes as there should be, but others; or what is kept beside them is damaged.
    Corrupt,
    /// More bytes than there should be, or fewer.
    WrongSize,
    /// There is no copy where there should be one.
    Missing,
}

words!(Finding, Intact = "intact", Corrupt = "corrupt", WrongSize = "wrong_size", Missing = "missing");

/// One look at one copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    pub verification_id: VerificationId,
    pub content_hash: ContentHash,
    pub kind: VerificationKind,
    pub tier: Tier,
    pub finding: Finding,
    pub expected_bytes: u64,
    /// `None` where there were none, or nobody can tell.
    pub found_bytes: Option<u64>,
    /// The instance that looked.
    pub node: NodeId,
    pub verified_at: Timestamp,
}

/// A place in a content's history of verifications, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryPlace {
    pub verified_at: Timestamp,
    pub verification_id: VerificationId,
}

/// The text is no such word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a tier is hot, warm or cold")]
pub struct UnknownTier;

impl FromStr for Tier {
    type Err = UnknownTier;

    fn from_str(text: &str) -> Result<Self, UnknownTier> {
        Self::parse(text).ok_or(UnknownTier)
    }
}

/// A stored content as the walks over all content see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredContent {
    pub content_hash: ContentHash,
    pub size_bytes: u64,
    /// Where it should be.
    pub tier: Tier,
    pub stored_at: Timestamp,
    /// The day on which it was last used, as its first moment; `None` where no use is known.
    pub used_on: Option<Timestamp>,
}

/// What goes on over all content, one instance at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StorageTask {
    /// Verifies everything, again and again.
    Walk,
    /// Moves what is not used any more to colder tiers.
    Lifecycle,
    /// Ends moves: those that an instance left behind, and the removal of copies that nobody needs.
    Moves,
}

words!(StorageTask, Walk = "walk", Lifecycle = "lifecycle", Moves = "moves");

/// How far a task has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TaskProgress {
    /// The last content that was dealt with in this lap; `None` at the start of one.
    pub after: Option<ContentHash>,
    /// When this lap, or the last one, began.
    pub lap_began_at: Option<Timestamp>,
    /// When the last whole lap began: all that was stored then has been dealt with since.
    pub whole_lap_began_at: Option<Timestamp>,
}

/// Where a move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveState {
    /// The copy is being made and verified. Readers use the old one.
    Copying,
    /// Readers use the new copy; the old ones are kept a while for those who have them open.
    Leaving,
}

words!(MoveState, Copying = "copying", Leaving = "leaving");

/// A content on its way to another tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentMove {
    pub content_hash: ContentHash,
    pub size_bytes: u64,
    pub to: Tier,
    pub state: MoveState,
    /// When it came into this state.
    pub since: Timestamp,
}
