use std::collections::HashMap;

use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;
use crate::model::{ChainHash, ChainWork, HEADER_BYTES, RawHeader};

/// A header with this number, which is its hash, its root and its time.
fn header(parent: Option<&ChainHeader>, number: u32, work: u8) -> ChainHeader {
    let hash = |number: u32| {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        ChainHash::from_wire(bytes)
    };
    let mut raw = [0; HEADER_BYTES];
    if let Some(parent) = parent {
        raw[4..36].copy_from_slice(parent.hash.as_wire());
    }
    raw[36..68].copy_from_slice(hash(number).as_wire());
    raw[68..72].copy_from_slice(&number.to_le_bytes());
    let mut own = [0; 32];
    own[31] = work;
    let before = parent.map_or_else(ChainWork::default, |parent| parent.total_work);
    ChainHeader {
        raw: RawHeader(raw),
        hash: hash(number),
        height: parent.map_or(0, |parent| parent.height + 1),
        total_work: before.plus(ChainWork(own)),
    }
}

/// A chain of so many headers, the first one included.
fn grown(length: u32) -> (Chain, Vec<ChainHeader>) {
    let mut chain = Chain::default();
    let mut headers = Vec::new();
    for number in 1..=length {
        let next = header(headers.last(), number, 1);
        assert_eq!(chain.add(next), Ok(Added::Tip));
        headers.push(next);
    }
    (chain, headers)
}

fn roots(chain: &Chain) -> Vec<MerkleRoot> {
    chain.roots_from(0).map(|(_, root)| root).collect()
}

#[test]
fn the_branch_with_more_work_becomes_the_best_and_the_first_of_two_equals_stays() {
    let (mut chain, headers) = grown(5);
    let first = header(Some(&headers[2]), 100, 1);
    let second = header(Some(&first), 101, 1);
    assert_eq!(chain.add(first), Ok(Added::Aside));
    assert_eq!(chain.add(second), Ok(Added::Aside), "as much work as the best has");
    assert_eq!(chain.root(4), Some(headers[4].raw.merkle_root()));
    let third = header(Some(&second), 102, 1);
    assert_eq!(chain.add(third), Ok(Added::Reorganised { depth: 2 }));
    assert_eq!(chain.best(), Some(&third));
    let expected = [&headers[0], &headers[1], &headers[2], &first, &second, &third];
    assert_eq!(roots(&chain), expected.map(|header| header.raw.merkle_root()));
    assert_eq!(chain.add(third), Ok(Added::Known));
}

#[test]
fn a_shorter_branch_with_more_work_is_the_best() {
    let (mut chain, headers) = grown(5);
    let heavy = header(Some(&headers[1]), 100, 9);
    assert_eq!(chain.add(heavy), Ok(Added::Reorganised { depth: 3 }));
    assert_eq!(roots(&chain).len(), 3);
    assert_eq!(chain.root(3), None, "no root of the branch that was left stays");
}

#[test]
fn a_header_without_its_parent_has_no_place() {
    let (mut chain, headers) = grown(3);
    let unknown = header(Some(&headers[2]), 50, 1);
    assert_eq!(chain.add(header(Some(&unknown), 51, 1)), Err(NoPlace::NoParent));
    assert_eq!(chain.best(), headers.last());
}

#[test]
fn old_headers_are_forgotten_and_their_roots_stay() {
    let (mut chain, headers) = grown(KEPT + 10);
    assert_eq!(chain.recent.len(), KEPT as usize);
    assert_eq!(chain.root(0), Some(headers[0].raw.merkle_root()));
    assert_eq!(chain.add(header(Some(&headers[5]), 9_000_001, 9)), Err(NoPlace::TooOld));
    assert_eq!(chain.lineage(&headers[headers.len() - 1], usize::MAX).len(), KEPT as usize);
}

#[test]
fn the_headers_of_one_height_are_bounded() {
    let (mut chain, headers) = grown(2);
    for number in 10..9 + SIBLINGS as u32 {
        assert_eq!(chain.add(header(Some(&headers[0]), number, 1)), Ok(Added::Aside));
    }
    assert_eq!(chain.add(header(Some(&headers[0]), 99, 9)), Err(NoPlace::TooMany));
}

#[test]
fn the_time_of_a_chain_is_the_median_of_eleven_blocks() {
    assert_eq!(Chain::default().median_time_past(), None);
    assert_eq!(grown(1).0.median_time_past(), Some(1));
    assert_eq!(grown(20).0.median_time_past(), Some(15));
}

proptest! {
    /// Whatever the order and the branches, the roots are those on the way from the tip with the most work to the first block.
    #[test]
    fn the_roots_are_those_of_the_chain_with_the_most_work(steps in vec((any::<Index>(), 1..4_u8), 1..60)) {
        let mut chain = Chain::default();
        let mut headers = vec![header(None, 1, 1)];
        chain.add(headers[0]).expect("the first block");
        let mut parents = HashMap::new();
        let mut best = headers[0];
        for (number, (parent, work)) in (2..).zip(steps) {
            let parent = *parent.get(&headers);
            let next = header(Some(&parent), number, work);
            match chain.add(next) {
                Ok(added) => {
                    let is_best = next.total_work > best.total_work;
                    prop_assert_eq!(is_best, added != Added::Aside);
                    if is_best {
                        best = next;
                    }
                    parents.insert(next.hash, parent);
                    headers.push(next);
                }
                Err(fault) => prop_assert_eq!(fault, NoPlace::TooMany),
            }
            let mut expected = vec![best.raw.merkle_root()];
            let mut at = best;
            while let Some(parent) = parents.get(&at.hash) {
                expected.push(parent.raw.merkle_root());
                at = *parent;
            }
            expected.reverse();
            prop_assert_eq!(roots(&chain), expected);
            prop_assert_eq!(chain.best(), Some(&best));
        }
    }
}
