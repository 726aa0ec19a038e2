//! The promises of every [`StorageRecords`], together with the catalogue and the log of changes of the same store.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use jiff::{Timestamp, ToSpan as _, civil::Date};

use super::catalog_suite;
use crate::{
    ids::{ContentHash, NodeId, VerificationId},
    model::{
        Finding, HistoryPosition, MoveState, StorageTask, StorageTier, TaskProgress, Verification, VerificationKind,
    },
    ports::{Catalog, Changes, StorageRecords, Tag},
};

/// Runs the whole suite.
///
/// # Panics
/// When a promise is broken.
pub async fn run<S: StorageRecords + Catalog + Changes>(store: Arc<S>) {
    let store = &*store;
    history_is_told_newest_first_page_by_page(store).await;
    old_history_is_forgotten_in_steps(store).await;
    quarantine_is_kept_told_and_lifted(store).await;
    stored_contents_are_walked_in_order_with_their_last_use(store).await;
    a_task_is_one_nodes_until_its_time_is_over(store).await;
    a_move_is_carried_out_by_one(store).await;
    a_move_that_several_begin_at_once_is_one_and_known_to_all(store).await;
    a_move_that_is_over_may_turn_round(store).await;
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

async fn content<S: Catalog>(store: &S) -> ContentHash {
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

async fn history_is_told_newest_first_page_by_page<S: StorageRecords + Catalog>(store: &S) {
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

async fn old_history_is_forgotten_in_steps<S: StorageRecords + Catalog>(store: &S) {
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
async fn is_told<S: Changes>(store: &S, mark: crate::ports::ChangeMark, hash: ContentHash) -> bool {
    let page = store.changes(Some(mark), 1000).await.expect("a page");
    page.changes.iter().any(|change| change.tag == Tag::Content(hash))
}

async fn quarantine_is_kept_told_and_lifted<S: StorageRecords + Catalog + Changes>(store: &S) {
    let (one, other) = (content(store).await, content(store).await);
    let now = at("2026-01-02T03:04:05Z");
    let mark = store.changes(None, 1).await.expect("a mark").mark;
    assert!(store.quarantine(one, now).await.expect("kept"));
    assert!(!store.quarantine(one, now).await.expect("kept before"));
    assert!(is_told(store, mark, one).await);
    let nobody = ContentHash::from_bytes([0x11; 32]);
    assert!(!store.quarantine(nobody, now).await.expect("content that is not stored cannot be quarantined"));
    assert_eq!(store.quarantined_among(&[other, one, nobody]).await.expect("looked"), [one]);
    assert!(store.quarantine(other, now).await.expect("kept"));
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store.quarantined(after, 1).await.expect("a page");
        let Some(last) = page.last() else { break };
        after = Some(*last);
        all.extend(page);
    }
    assert!(all.is_sorted() && all.contains(&one) && all.contains(&other));
    let mark = store.changes(None, 1).await.expect("a mark").mark;
    assert!(store.lift_quarantine(one).await.expect("lifted"));
    assert!(!store.lift_quarantine(one).await.expect("lifted before"));
    assert!(is_told(store, mark, one).await);
    assert_eq!(store.quarantined_among(&[one, other]).await.expect("looked"), [other]);
    assert!(store.lift_quarantine(other).await.expect("lifted"));
}

async fn stored_contents_are_walked_in_order_with_their_last_use<S: StorageRecords + Catalog>(store: &S) {
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

async fn a_task_is_one_nodes_until_its_time_is_over<S: StorageRecords>(store: &S) {
    let (task, ttl) = (StorageTask::Walk, Duration::from_secs(60));
    let (one, other) = (NodeId::random(), NodeId::random());
    let now = at("2026-01-02T03:04:05Z");
    let claim = store.claim_task(task, one, now, ttl).await.expect("claimed");
    assert!(claim.is_ours);
    let progress = TaskProgress {
        after: Some(ContentHash::from_bytes([7; 32])),
        lap_began_at: Some(now),
        whole_lap_began_at: None,
    };
    assert!(store.advance_task(task, one, &progress).await.expect("kept"));
    let claim = store.claim_task(task, other, now + 59.seconds(), ttl).await.expect("asked");
    assert_eq!(
        (claim.is_ours, claim.progress),
        (false, progress),
        "a node that comes too early only sees the progress"
    );
    assert!(!store.advance_task(task, other, &TaskProgress::default()).await.expect("refused"));
    assert!(store.claim_task(task, one, now + 59.seconds(), ttl).await.expect("kept on").is_ours);
    assert!(!store.claim_task(task, other, now + 100.seconds(), ttl).await.expect("asked").is_ours);
    let claim = store.claim_task(task, other, now + 120.seconds(), ttl).await.expect("asked");
    assert_eq!((claim.is_ours, claim.progress), (true, progress), "a task goes on where its dead node left it");
    assert!(!store.advance_task(task, one, &TaskProgress::default()).await.expect("refused"));
    assert!(store.claim_task(StorageTask::Lifecycle, one, now, ttl).await.expect("another task").is_ours);
}

async fn a_move_is_carried_out_by_one<S: StorageRecords + Catalog + Changes>(store: &S) {
    let hash = content(store).await;
    let now = at("2026-01-02T03:04:05Z");
    let stale = now - 60.seconds();
    let nobody = ContentHash::from_bytes([0x11; 32]);
    assert_eq!(store.begin_move(nobody, StorageTier::Cold, now, stale).await.expect("asked"), None);
    let begun = store.begin_move(hash, StorageTier::Cold, now, stale).await.expect("begun").expect("stored");
    assert!(begun.is_ours);
    assert_eq!((begun.at.to, begun.at.state, begun.at.since), (StorageTier::Cold, MoveState::Copying, now));
    for to in [StorageTier::Cold, StorageTier::Warm] {
        let second = store.begin_move(hash, to, now + 1.second(), stale).await.expect("asked").expect("stored");
        assert!(!second.is_ours, "another caller carries it out");
        assert_eq!(second.at, begun.at);
    }
    assert_eq!(store.move_of(hash).await.expect("looked"), Some(begun.at));
    assert!(store.keep_move(hash, StorageTier::Cold, now + 30.seconds()).await.expect("kept"));
    assert!(!store.keep_move(hash, StorageTier::Warm, now).await.expect("there is none to this tier"));
    let copying = store.moves(MoveState::Copying, now + 30.seconds(), 100).await.expect("a page");
    assert!(!copying.iter().any(|at| at.content_hash == hash), "its sign of life was renewed");
    let copying = store.moves(MoveState::Copying, now + 31.seconds(), 100).await.expect("a page");
    assert!(copying.iter().any(|at| at.content_hash == hash));
    // The caller that carried it out is gone.
    let taken =
        store.begin_move(hash, StorageTier::Cold, now + 100.seconds(), now + 40.seconds()).await.expect("asked");
    assert!(taken.expect("stored").is_ours);

    let mark = store.changes(None, 1).await.expect("a mark").mark;
    assert!(!store.switch_tier(hash, StorageTier::Warm, now).await.expect("refused"));
    assert!(store.switch_tier(hash, StorageTier::Cold, now + 101.seconds()).await.expect("switched"));
    assert!(is_told(store, mark, hash).await);
    assert_eq!(store.stored_content(hash).await.expect("looked").expect("stored").tier, StorageTier::Cold);
    assert!(!store.keep_move(hash, StorageTier::Cold, now).await.expect("it is no longer copying"));
    let again =
        store.begin_move(hash, StorageTier::Cold, now + 200.seconds(), now + 150.seconds()).await.expect("asked");
    assert_eq!(again.map(|again| (again.is_ours, again.at.state)), Some((false, MoveState::Leaving)));
    assert!(!store.end_move(hash, StorageTier::Cold, MoveState::Copying).await.expect("refused"));
    assert!(store.end_move(hash, StorageTier::Cold, MoveState::Leaving).await.expect("ended"));
    let leaving = store.moves(MoveState::Leaving, now + 1.hour(), 1000).await.expect("a page");
    assert!(!leaving.iter().any(|at| at.content_hash == hash));
    assert_eq!(store.move_of(hash).await.expect("looked"), None);
}

async fn a_move_that_several_begin_at_once_is_one_and_known_to_all<S: StorageRecords + Catalog>(store: &S) {
    let now = at("2026-01-02T03:04:05Z");
    for _ in 0..20 {
        let hash = content(store).await;
        let asked = (0..8).map(|n| {
            let to = if n % 2 == 0 { StorageTier::Warm } else { StorageTier::Cold };
            async move { store.begin_move(hash, to, now, now - 60.seconds()).await }
        });
        let begun = join_all(asked).await.into_iter().map(|begun| begun.expect("asked").expect("it is stored"));
        let begun: Vec<_> = begun.collect();
        assert_eq!(begun.iter().filter(|begun| begun.is_ours).count(), 1);
        assert!(begun.iter().all(|other| other.at == begun[0].at), "{begun:?}");
        assert!(store.end_move(hash, begun[0].at.to, MoveState::Copying).await.expect("ended"));
    }
}

async fn a_move_that_is_over_may_turn_round<S: StorageRecords + Catalog>(store: &S) {
    let hash = content(store).await;
    let now = at("2026-01-02T03:04:05Z");
    let stale = now - 60.seconds();
    store.begin_move(hash, StorageTier::Cold, now, stale).await.expect("begun").expect("stored");
    assert!(store.switch_tier(hash, StorageTier::Cold, now).await.expect("switched"));
    let back = store.begin_move(hash, StorageTier::Hot, now + 1.second(), stale).await.expect("begun").expect("stored");
    assert!(back.is_ours);
    assert_eq!((back.at.to, back.at.state), (StorageTier::Hot, MoveState::Copying));
    assert!(!store.end_move(hash, StorageTier::Cold, MoveState::Leaving).await.expect("there is no such move"));
    assert!(store.switch_tier(hash, StorageTier::Hot, now + 2.seconds()).await.expect("switched"));
    assert_eq!(store.stored_content(hash).await.expect("looked").expect("stored").tier, StorageTier::Hot);
    assert!(store.end_move(hash, StorageTier::Hot, MoveState::Leaving).await.expect("ended"));
}
