//! How the store of a tier relates to the installation, and the evidence for it.

use std::fmt;

use crate::{
    ids::{ContentHash, InstallationId},
    model::{Installation, StorageTier},
    ports::{ContentIndex, PortResult, StoreMarks},
};

/// Places in a store, evenly distributed over all names, from which contents are sampled.
const PLACES: u8 = 4;

/// Contents sampled from each place.
const FROM_EACH: usize = 32;

/// The share of a sample, in per cent, that the database must know to prove that the store belongs to it.
const PROOF: usize = 90;

/// How a store relates to an installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreStanding {
    /// It carries the installation's mark.
    Ours,
    /// It is empty and has no mark, and the database has no store recorded: it may be marked.
    New,
    /// It has no mark, the database has no store recorded but knows its contents: it is older than marks, and may be marked.
    Older(SampleEvidence),
    /// It carries the installation's mark, but is not the recorded store, which was last at this place.
    Other(String),
    /// It carries the mark of another installation.
    Foreign(InstallationId),
    /// It has no mark, and nothing proves which installation it belongs to.
    Unmarked(SampleEvidence),
    /// It is empty and has no mark, but the database has a store recorded, last at this place.
    Gone(String),
    /// Something else is in the place of its mark.
    Unreadable,
    /// Whatever its mark: the database belongs to another installation than when the process first asked it.
    Replaced(InstallationId),
}

/// A [`StoreStanding`] as a word, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StandingKind {
    /// It is the installation's own, and used.
    Own,
    /// It may be marked, and has no mark yet.
    New,
    Other,
    Foreign,
    Unmarked,
    /// It is empty or missing, but the database has a store recorded.
    Missing,
    Unreadable,
    Replaced,
    /// The store or the database did not answer.
    Unknown,
}

impl StandingKind {
    pub const ALL: &[Self] = &[
        Self::Own,
        Self::New,
        Self::Other,
        Self::Foreign,
        Self::Unmarked,
        Self::Missing,
        Self::Unreadable,
        Self::Replaced,
        Self::Unknown,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::New => "new",
            Self::Other => "other",
            Self::Foreign => "foreign",
            Self::Unmarked => "unmarked",
            Self::Missing => "missing",
            Self::Unreadable => "unreadable",
            Self::Replaced => "replaced",
            Self::Unknown => "unknown",
        }
    }
}

impl StoreStanding {
    pub const fn kind(&self) -> StandingKind {
        match self {
            Self::Ours => StandingKind::Own,
            Self::New | Self::Older(_) => StandingKind::New,
            Self::Other(_) => StandingKind::Other,
            Self::Foreign(_) => StandingKind::Foreign,
            Self::Unmarked(_) => StandingKind::Unmarked,
            Self::Gone(_) => StandingKind::Missing,
            Self::Unreadable => StandingKind::Unreadable,
            Self::Replaced(_) => StandingKind::Replaced,
        }
    }

    /// Whether the store is used.
    pub const fn is_usable(&self) -> bool {
        matches!(self, Self::Ours | Self::New | Self::Older(_))
    }

    /// What is wrong, and what to do, without a place or an installation.
    pub fn advice(&self, tier: StorageTier) -> String {
        let (wrong, right) = match self {
            Self::Ours | Self::New | Self::Older(_) => return String::new(),
            Self::Other(_) => ("is not the one that the database knows", "check that its disk or share is mounted"),
            Self::Foreign(_) => ("belongs to another installation", "check which of the two is configured wrongly"),
            Self::Unmarked(_) => ("has no mark", "check that it and the database belong together"),
            Self::Gone(_) => {
                ("is empty or missing", "check that its disk or share is mounted and its bucket and prefix are right")
            }
            Self::Replaced(_) => ("was the last database's", "start the node again"),
            Self::Unreadable => ("has something else in the place of its mark", "check what has written there"),
        };
        format!("the {tier} store {wrong}: {right}; `penstock check` on this instance says more")
    }

    /// Why it is not used, and what an operator can do.
    pub fn refusal(&self, tier: StorageTier, place: &str, of: Installation) -> String {
        let id = of.installation_id;
        let adopt = format!("if it is the right one, run `penstock adopt-store --tier {tier}`");
        match self {
            Self::Ours | Self::New | Self::Older(_) => String::new(),
            Self::Other(known) => format!(
                "the {tier} store at {place} carries the mark of installation {id}, but is not the store that the database knows, last \
                 at {known}: check that its disk or share is mounted here, and was when the instances first started; {adopt}"
            ),
            Self::Foreign(other) => format!(
                "the {tier} store at {place} belongs to installation {other}, and the database to {id}: check which of the two is \
                 configured wrongly; {adopt}"
            ),
            Self::Unmarked(evidence) => format!(
                "the {tier} store at {place} has no mark of its installation, and {evidence}: check that it and the database belong \
                 together; {adopt}"
            ),
            Self::Gone(known) => format!(
                "the {tier} store at {place} is empty or missing, but installation {id} has one, last at {known}: check that its disk \
                 or share is mounted and its bucket and prefix are right; {adopt}"
            ),
            Self::Replaced(now) => format!(
                "the database belonged to installation {id} and now belongs to {now}: it was made anew or exchanged while this process ran. The process must be \
                 started again before it uses the {tier} store at {place}"
            ),
            Self::Unreadable => {
                format!("the mark of the {tier} store at {place} (penstock-store) is unreadable; {adopt}")
            }
        }
    }
}

/// The result of a sample of a store's contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleEvidence {
    /// Contents in the sample.
    pub sampled: usize,
    /// Sampled contents that the database knows.
    pub known: usize,
}

impl SampleEvidence {
    /// Samples contents from a few places of the store and asks the database about them.
    pub(super) async fn gather(
        store: &dyn StoreMarks,
        index: &dyn ContentIndex,
        tier: StorageTier,
    ) -> PortResult<Self> {
        let mut sample = Vec::new();
        for place in 0..PLACES {
            let mut from = [0; 32];
            from[0] = place * (u8::MAX / PLACES + 1);
            sample.extend(store.sample(tier, ContentHash::from_bytes(from), FROM_EACH).await?);
        }
        sample.sort_unstable();
        sample.dedup();
        let unknown = index.unknown_content(&sample).await?;
        Ok(Self { sampled: sample.len(), known: sample.len() - unknown.len() })
    }

    /// Whether the contents prove that the store belongs to the database.
    pub const fn is_proof(&self) -> bool {
        self.known > 0 && self.known * 100 >= self.sampled * PROOF
    }
}

impl fmt::Display for SampleEvidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the database knows {} of {} contents taken from it as a sample", self.known, self.sampled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_recognised_by_nearly_all_of_its_contents() {
        let is_proof = |sampled, known| SampleEvidence { sampled, known }.is_proof();
        assert!(is_proof(1, 1) && is_proof(128, 128) && is_proof(10, 9));
        assert!(!is_proof(0, 0) && !is_proof(128, 0) && !is_proof(10, 8));
    }
}
