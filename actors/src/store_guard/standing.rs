//! What the store of a tier is to the installation, and what speaks for it.

use std::fmt;

use crate::{
    ids::{ContentHash, InstallationId},
    model::{Installation, Tier},
    ports::{Catalog, PortResult, StoreMarks},
};

/// Places in a store, evenly over all names, from which contents are taken as a sample.
const PLACES: u8 = 4;

/// Contents from each of them.
const FROM_EACH: usize = 32;

/// Of a hundred contents in a sample, those that the database must know for its store to be told by them.
const PROOF: usize = 90;

/// What a store is to an installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It carries the installation's mark.
    Ours,
    /// It is empty and has no mark, and the database knows of none: it may be marked.
    New,
    /// It has no mark, the database knows of none, and what it holds the database knows: it was made before stores were marked, and
    /// may be.
    Older(Evidence),
    /// It carries the mark of another installation.
    Foreign(InstallationId),
    /// It has no mark, and nothing proves whose it is.
    Unmarked(Evidence),
    /// It is empty and has no mark, but the database knows of a store, which was last at this place.
    Gone(String),
    /// Something else is in the place of its mark.
    Unreadable,
    /// Whatever it carries: the database is another installation's than when the process first asked it.
    Replaced(InstallationId),
}

impl Standing {
    /// Why it is not used, and what to do.
    pub fn refusal(&self, tier: Tier, place: &str, of: Installation) -> String {
        let id = of.installation_id;
        let adopt = format!("if it is the right one, run `penstock adopt-store --tier {tier}`");
        match self {
            Self::Ours | Self::New | Self::Older(_) => String::new(),
            Self::Foreign(other) => format!(
                "the {tier} store at {place} belongs to installation {other}, and the database to {id}: check which of the two is \
                 configured wrongly; {adopt}"
            ),
            Self::Unmarked(evidence) => format!(
                "the {tier} store at {place} has no mark that says whose it is, and {evidence}: check that it and the database belong \
                 together; {adopt}"
            ),
            Self::Gone(known) => format!(
                "the {tier} store at {place} is empty or missing, but installation {id} has one, last at {known}: check that its disk \
                 or share is mounted and its bucket and prefix are right; {adopt}"
            ),
            Self::Replaced(now) => format!(
                "the database was installation {id}'s and is {now}'s now: it was made anew or exchanged under this process, which must be \
                 started again before it uses the {tier} store at {place}"
            ),
            Self::Unreadable => {
                format!("the mark of the {tier} store at {place} (penstock-store) cannot be read as one; {adopt}")
            }
        }
    }
}

/// What a sample of a store's contents says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// Contents in the sample.
    pub sampled: usize,
    /// Those that the database knows.
    pub known: usize,
}

impl Evidence {
    /// Takes contents from a few places of the store and asks the database about them.
    pub(super) async fn gather(store: &dyn StoreMarks, catalog: &dyn Catalog, tier: Tier) -> PortResult<Self> {
        let mut sample = Vec::new();
        for place in 0..PLACES {
            let mut from = [0; 32];
            from[0] = place * (u8::MAX / PLACES + 1);
            sample.extend(store.sample(tier, ContentHash::from_bytes(from), FROM_EACH).await?);
        }
        sample.sort_unstable();
        sample.dedup();
        let unknown = catalog.unknown_content(&sample).await?;
        Ok(Self { sampled: sample.len(), known: sample.len() - unknown.len() })
    }

    /// Whether the store is told by its contents to be the database's.
    pub const fn is_proof(&self) -> bool {
        self.known > 0 && self.known * 100 >= self.sampled * PROOF
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the database knows {} of {} contents taken from it as a sample", self.known, self.sampled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_told_by_nearly_all_of_its_contents() {
        let is_proof = |sampled, known| Evidence { sampled, known }.is_proof();
        assert!(is_proof(1, 1) && is_proof(128, 128) && is_proof(10, 9));
        assert!(!is_proof(0, 0) && !is_proof(128, 0) && !is_proof(10, 8));
    }
}
