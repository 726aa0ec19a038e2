//! The notes of a lane in the order in which they were written, so that the oldest is found without a look at all of them: a look at
//! the metrics must not hold a lane's lock for long.

/// A note's neighbours.
#[derive(Debug, Clone, Copy, Default)]
struct Link {
    older: Option<u32>,
    newer: Option<u32>,
}

/// Indexes of notes, the oldest first. Each step takes the same time, however many there are.
#[derive(Debug, Default)]
pub(super) struct AgeOrder {
    /// By index.
    links: Vec<Link>,
    oldest: Option<u32>,
    newest: Option<u32>,
}

impl AgeOrder {
    /// Adds a note that is not among them, as the newest.
    pub(super) fn push(&mut self, index: u32) {
        if self.links.len() <= index as usize {
            self.links.resize(index as usize + 1, Link::default());
        }
        self.links[index as usize] = Link { older: self.newest, newer: None };
        match self.newest.replace(index) {
            Some(before) => self.links[before as usize].newer = Some(index),
            None => self.oldest = Some(index),
        }
    }

    /// Removes a note that is among them.
    pub(super) fn remove(&mut self, index: u32) {
        let Link { older, newer } = self.links[index as usize];
        match older {
            Some(older) => self.links[older as usize].newer = newer,
            None => self.oldest = newer,
        }
        match newer {
            Some(newer) => self.links[newer as usize].older = older,
            None => self.newest = older,
        }
    }

    pub(super) const fn oldest(&self) -> Option<u32> {
        self.oldest
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_queue_from_whose_middle_notes_may_go(steps in proptest::collection::vec((0_u32..12, any::<bool>()), 0..200)) {
            let (mut order, mut model) = (AgeOrder::default(), VecDeque::new());
            for (index, comes_back) in steps {
                let is_there = model.contains(&index);
                if is_there {
                    order.remove(index);
                    model.retain(|there| *there != index);
                }
                if !is_there || comes_back {
                    order.push(index);
                    model.push_back(index);
                }
                prop_assert_eq!(order.oldest(), model.front().copied());
            }
            while let Some(index) = model.pop_front() {
                prop_assert_eq!(order.oldest(), Some(index));
                order.remove(index);
            }
            prop_assert_eq!(order.oldest(), None);
        }
    }
}
