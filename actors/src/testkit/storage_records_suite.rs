//! The promises of the ports in [`StorageRecords`](crate::ports::StorageRecords), together with the catalogue and the log of changes of the same store.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use jiff::{Timestamp, ToSpan as _, civil::Date};
use uuid::Uuid;

use super::catalog_suite::{self, CatalogStore};
use crate::{
    ids::{ContentHash, NodeId, VerificationId},
    model::{ContentMove, Finding, HistoryPosition, MoveState, StorageTier, Verification, VerificationKind},
    ports::{
        Changes, PortError, PortResult, QuarantineList, StorageMoves, StoredContents, Tag, TaskLease, Verifications,
    },
};

/// The store under test.
pub trait StorageRecordsBackend:
    Verifications + QuarantineList + StoredContents + StorageMoves + CatalogStore + Changes
{
}

impl<S: Verifications + QuarantineList + StoredContents + StorageMoves + CatalogStore + Changes> StorageRecordsBackend
    for S
{
}

/// Runs the whole suite.
///
/// # Panics
/// When a promise is broken.
pub async fn run<S: StorageRecordsBackend>(store: Arc<S>) {
    let store = &*store;
    history_is_reported_newest_first_page_by_page(store).await;
    old_history_is_forgotten_in_steps(store).await;
    quarantine_is_kept_announced_and_lifted(store).await;
    stored_contents_are_walked_in_order_with_their_last_use(store).await;
    a_move_is_carried_out_by_one(store).await;
    a_move_that_several_begin_at_once_is_one_and_known_to_all(store).await;
    a_move_that_is_over_may_turn_round(store).await;
    moves_are_listed_page_by_page(store).await;
    surplus_copies_are_recorded_for_the_tier_that_has_the_content(store).await;
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

async fn content<S: CatalogStore>(store: &S) -> ContentHash {
    catalog_suite::asset(store).await.content_hash
}

fn look(hash: ContentHash, kind: VerificationKind, verified_at: Timestamp) -> Verification {
    Verification {
        verification_id: VerificationId::next(),
        content_hash: hash,
        kind,
        tier: StorageTier::Warm,
        finding: Finding::WrongSize,
        expected_bytes: 1 << 40,
        found_bytes: Some(7),
        node: NodeId::random(),
        verified_at,
    }
}

async fn history_is_reported_newest_first_page_by_page<S: StorageRecordsBackend>(store: &S) {
    let hash = content(store).await;
    let start = at("2026-01-02T03:04:05.678901Z");
    let mut looks = Vec::new();
    for step in 0..12_i64 {
        let kind = if step % 3 == 0 { VerificationKind::OnDemand } else { VerificationKind::Walk };
        // Two at each moment.
        looks.push(look(hash, kind, start + (step / 2).hours()));
    }
    looks[5].found_bytes = None;
    looks[5].finding = Finding::Missing;
    store.note_verifications(&looks).await.expect("noted");
    store.note_verifications(&looks[..3]).await.expect("noted again");
    store.note_verifications(&[look(content(store).await, VerificationKind::Walk, start)]).await.expect("another's");
    looks.sort_by_key(|row| std::cmp::Reverse((row.verified_at, row.verification_id)));

    let walk = async |kind: Option<VerificationKind>| {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = store.verifications(hash, kind, after, 5).await.expect("a page");
            assert!(page.len() <= 5);
            let Some(last) = page.last() else { return all };
            after = Some(HistoryPosition { verified_at: last.verified_at, verification_id: last.verification_id });
            all.extend(page);
        }
    };
    assert_eq!(walk(None).await, looks);
    let asked: Vec<_> = looks.iter().filter(|row| row.kind == VerificationKind::OnDemand).cloned().collect();
    assert_eq!(walk(Some(VerificationKind::OnDemand)).await, asked);
    assert_eq!(walk(Some(VerificationKind::Repair)).await, []);
}

async fn old_history_is_forgotten_in_steps<S: StorageRecordsBackend>(store: &S) {
    let hash = content(store).await;
    let old = at("2001-01-01T00:00:00Z");
    let mut looks: Vec<_> = (0..5).map(|hour: i64| look(hash, VerificationKind::Walk, old + hour.hours())).collect();
    let kept = look(hash, VerificationKind::Walk, old + 10.hours());
    looks.push(kept.clone());
    store.note_verifications(&looks).await.expect("noted");
    let before = old + 10.hours();
    let mut forgotten = Vec::new();
    for _ in 0..4 {
        forgotten.push(store.forget_verifications(before, 2).await.expect("forgotten"));
    }
    assert_eq!(forgotten, [2, 2, 1, 0]);
    assert_eq!(store.verifications(hash, None, None, 10).await.expect("a page"), [kept]);
}

/// Whether the log names a content after a mark.
async fn is_announced<S: Changes>(store: &S, mark: crate::ports::ChangeMark, hash: ContentHash) -> bool {
    let page = store.changes(Some(mark), 1000).await.expect("a page");
    page.changes.iter().any(|change| change.tag == Tag::Content(hash))
}

async fn quarantine_is_kept_announced_and_lifted<S: StorageRecordsBackend>(store: &S) {
    let (one, other) = (content(store).await, content(store).await);
    let now = at("2026-01-02T03:04:05Z");
    let mark = store.changes(None, 1).await.expect("a mark").mark;
    assert!(store.quarantine(one, now).await.expect("kept"));
    assert!(!store.quarantine(one, now).await.expect("kept before"));
    assert!(is_announced(store, mark, one).await);
    let nobody = ContentHash::from_bytes([0x11; 32]);
    assert!(!store.quarantine(nobody, now).await.expect("content that is not stored cannot be quarantined"));
    assert_eq!(store.quarantined_among(&[other, one, nobody]).await.expect("looked"), [one]);
    assert!(store.quarantine(other, now).await.expect("kept"));
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store.quarantined(after, 1).await.expect("a page");
        let Some(last) = page.last() else { break };
        after = Some(last.content_hash);
        assert!(![one, other].contains(&last.content_hash) || last.since == now);
        all.extend(page.iter().map(|one| one.content_hash));
    }
    assert!(all.is_sorted() && all.contains(&one) && all.contains(&other));
    let mark = store.changes(None, 1).await.expect("a mark").mark;
    assert!(store.lift_quarantine(one).await.expect("lifted"));
    assert!(!store.lift_quarantine(one).await.expect("lifted before"));
    assert!(is_announced(store, mark, one).await);
    assert_eq!(store.quarantined_among(&[one, other]).await.expect("looked"), [other]);
    assert!(store.lift_quarantine(other).await.expect("lifted"));
}

async fn stored_contents_are_walked_in_order_with_their_last_use<S: StorageRecordsBackend>(store: &S) {
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(content(store).await);
    }
    let (monday, tuesday): (Date, Date) = (Date::constant(2026, 3, 2), Date::constant(2026, 3, 3));
    store.note_accesses(&[made[0], made[1], made[0]], tuesday).await.expect("noted");
    store.note_accesses(&[made[1], made[2]], monday).await.expect("noted");
    let used = async |hash| store.stored_content(hash).await.expect("looked").expect("stored").used_on;
    assert_eq!(used(made[0]).await, Some(at("2026-03-03T00:00:00Z")));
    assert_eq!(used(made[1]).await, Some(at("2026-03-03T00:00:00Z")), "an older day changes nothing");
    assert_eq!(used(made[2]).await, Some(at("2026-03-02T00:00:00Z")));
    assert_eq!(used(made[3]).await, None);
    assert_eq!(store.stored_content(ContentHash::from_bytes([0x11; 32])).await.expect("looked"), None);

    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store.stored_after(after, 3).await.expect("a page");
        let Some(last) = page.last() else { break };
        after = Some(last.content_hash);
        all.extend(page);
    }
    assert!(all.is_sorted_by(|one, next| one.content_hash < next.content_hash));
    for hash in made {
        let walked = all.iter().find(|content| content.content_hash == hash).copied();
        assert_eq!(walked, store.stored_content(hash).await.expect("looked"));
    }
}

const TTL: Duration = Duration::from_secs(3600);

fn fenced(result: &PortResult<()>) {
    assert!(matches!(result, Err(PortError::Fenced)), "{result:?}");
}

/// A move that the caller has to carry out.
async fn begun<S: StorageMoves>(
    store: &S,
    hash: ContentHash,
    to: StorageTier,
    ttl: Duration,
) -> (ContentMove, TaskLease) {
    let begun = store.begin_move(hash, to, Uuid::new_v4(), ttl).await.expect("an answer").expect("stored");
    (begun.at, begun.lease.expect("it is this caller's"))
}

async fn is_abandoned<S: StorageMoves>(store: &S, hash: ContentHash) -> bool {
    store.abandoned_moves(None, 1000).await.expect("a page").iter().any(|at| at.content_hash == hash)
}

async fn a_move_is_carried_out_by_one<S: StorageRecordsBackend>(store: &S) {
    let hash = content(store).await;
    let unknown = ContentHash::from_bytes([0x11; 32]);
    let asked = store.begin_move(unknown, StorageTier::Cold, Uuid::new_v4(), TTL).await;
    assert_eq!(asked.expect("an answer"), None);
    let (first, lost) = begun(store, hash, StorageTier::Cold, TTL).await;
    assert_eq!((first.to, first.state), (StorageTier::Cold, MoveState::Copying));
    for to in [StorageTier::Cold, StorageTier::Warm] {
        let second = store.begin_move(hash, to, Uuid::new_v4(), TTL).await.expect("an answer").expect("stored");
        assert_eq!((second.at, second.lease), (first, None), "another caller carries it out");
    }
    assert_eq!(store.move_of(hash).await.expect("an answer"), Some(first));
    assert!(!is_abandoned(store, hash).await);
    assert!(!store.end_move(hash, StorageTier::Cold, MoveState::Copying).await.expect("an answer"), "it is held");
    fenced(&store.keep_move(hash, StorageTier::Warm, lost, TTL).await);
    // The caller that carried it out is gone, and its lease runs out.
    store.keep_move(hash, StorageTier::Cold, lost, Duration::ZERO).await.expect("kept");
    assert!(is_abandoned(store, hash).await);
    let (_, lease) = begun(store, hash, StorageTier::Cold, TTL).await;
    assert!(!is_abandoned(store, hash).await);
    fenced(&store.keep_move(hash, StorageTier::Cold, lost, TTL).await);
    fenced(&store.switch_tier(hash, StorageTier::Cold, lost).await);
    fenced(&store.give_up_move(hash, StorageTier::Cold, lost).await);
    store.keep_move(hash, StorageTier::Cold, lease, TTL).await.expect("kept");

    let mark = store.changes(None, 1).await.expect("a mark").mark;
    store.switch_tier(hash, StorageTier::Cold, lease).await.expect("switched");
    assert!(is_announced(store, mark, hash).await);
    assert_eq!(store.stored_content(hash).await.expect("an answer").expect("stored").tier, StorageTier::Cold);
    fenced(&store.keep_move(hash, StorageTier::Cold, lease, TTL).await);
    fenced(&store.switch_tier(hash, StorageTier::Cold, lease).await);
    let again = store.begin_move(hash, StorageTier::Cold, Uuid::new_v4(), TTL).await.expect("an answer");
    assert_eq!(again.map(|again| (again.lease, again.at.state)), Some((None, MoveState::Leaving)));
    assert!(!is_abandoned(store, hash).await);
    assert!(!store.end_move(hash, StorageTier::Cold, MoveState::Copying).await.expect("refused"));
    let later = at("2200-01-01T00:00:00Z");
    let is_leaving = async || {
        let leaving = store.leaving_moves(later, None, 1000).await.expect("a page");
        leaving.iter().any(|at| at.content_hash == hash)
    };
    assert!(is_leaving().await);
    assert_eq!(store.leaving_moves(at("2001-01-01T00:00:00Z"), None, 1000).await.expect("a page"), []);
    assert!(store.end_move(hash, StorageTier::Cold, MoveState::Leaving).await.expect("ended"));
    assert!(!is_leaving().await);
    assert_eq!(store.move_of(hash).await.expect("an answer"), None);
}

async fn a_move_that_several_begin_at_once_is_one_and_known_to_all<S: StorageRecordsBackend>(store: &S) {
    for _ in 0..20 {
        let hash = content(store).await;
        let asked = (0..8).map(|n| {
            let to = if n % 2 == 0 { StorageTier::Warm } else { StorageTier::Cold };
            async move { store.begin_move(hash, to, Uuid::new_v4(), TTL).await }
        });
        let begun = join_all(asked).await.into_iter().map(|begun| begun.expect("an answer").expect("it is stored"));
        let begun: Vec<_> = begun.collect();
        let leases: Vec<_> = begun.iter().filter_map(|begun| begun.lease).collect();
        assert_eq!(leases.len(), 1, "{begun:?}");
        assert!(begun.iter().all(|other| other.at == begun[0].at), "{begun:?}");
        store.give_up_move(hash, begun[0].at.to, leases[0]).await.expect("given up");
        assert_eq!(store.move_of(hash).await.expect("an answer"), None);
    }
}

async fn a_move_that_is_over_may_turn_round<S: StorageRecordsBackend>(store: &S) {
    let hash = content(store).await;
    let (_, lease) = begun(store, hash, StorageTier::Cold, TTL).await;
    store.switch_tier(hash, StorageTier::Cold, lease).await.expect("switched");
    let (back, lease) = begun(store, hash, StorageTier::Hot, TTL).await;
    assert_eq!((back.to, back.state), (StorageTier::Hot, MoveState::Copying));
    assert!(!store.end_move(hash, StorageTier::Cold, MoveState::Leaving).await.expect("there is no such move"));
    store.switch_tier(hash, StorageTier::Hot, lease).await.expect("switched");
    assert_eq!(store.stored_content(hash).await.expect("an answer").expect("stored").tier, StorageTier::Hot);
    assert!(store.end_move(hash, StorageTier::Hot, MoveState::Leaving).await.expect("ended"));
}

async fn moves_are_listed_page_by_page<S: StorageRecordsBackend>(store: &S) {
    let mut hashes = Vec::new();
    for n in 0..10 {
        let hash = content(store).await;
        let (_, lease) = begun(store, hash, StorageTier::Cold, TTL).await;
        if n % 2 == 0 {
            store.switch_tier(hash, StorageTier::Cold, lease).await.expect("switched");
        } else {
            store.keep_move(hash, StorageTier::Cold, lease, Duration::ZERO).await.expect("kept");
        }
        hashes.push(hash);
    }
    let later = at("2200-01-01T00:00:00Z");
    let (mut leaving, mut abandoned) = (Vec::new(), Vec::new());
    loop {
        let page = store.leaving_moves(later, leaving.last(), 2).await.expect("a page");
        let other = store.abandoned_moves(abandoned.last(), 2).await.expect("a page");
        assert!(page.len() <= 2 && other.len() <= 2);
        if page.is_empty() && other.is_empty() {
            break;
        }
        leaving.extend(page);
        abandoned.extend(other);
    }
    for listed in [&leaving, &abandoned] {
        assert!(listed.windows(2).all(|pair| pair[0].since <= pair[1].since), "{listed:?}");
    }
    for (n, hash) in hashes.iter().enumerate() {
        let count = |listed: &[ContentMove]| listed.iter().filter(|at| at.content_hash == *hash).count();
        let expected = if n % 2 == 0 { (1, 0) } else { (0, 1) };
        assert_eq!((count(&leaving), count(&abandoned)), expected, "move {n}");
    }
}

async fn surplus_copies_are_recorded_for_the_tier_that_has_the_content<S: StorageRecordsBackend>(store: &S) {
    let hash = content(store).await;
    let tier = store.stored_content(hash).await.expect("an answer").expect("stored").tier;
    let other = if tier == StorageTier::Cold { StorageTier::Warm } else { StorageTier::Cold };
    assert!(!store.clear_later(hash, other).await.expect("an answer"), "it is not there");
    assert!(
        !store.clear_later(ContentHash::from_bytes([0x12; 32]), tier).await.expect("an answer"),
        "it is not stored"
    );
    assert!(store.clear_later(hash, tier).await.expect("an answer"));
    assert!(!store.clear_later(hash, tier).await.expect("an answer"), "it is recorded");
    let listed = store.move_of(hash).await.expect("an answer").expect("a move");
    assert_eq!((listed.to, listed.state), (tier, MoveState::Leaving));
    let (_, lease) = begun(store, hash, other, TTL).await;
    assert!(!store.clear_later(hash, tier).await.expect("an answer"), "it has a move");
    store.give_up_move(hash, other, lease).await.expect("given up");
}
