//! The promises of every [`ResumableUploads`].

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::{
    clock::to_micros,
    ids::{ContentHash, PartId, ProducerId, UploadId},
    model::{NewPart, PartName, ResumableUpload, UploadBounds, UploadKind},
    ports::{BeginOutcome, ResumableUploads},
};

const TTL: Duration = Duration::from_secs(3600);

const MANY: UploadBounds = UploadBounds { per_producer: 1000, total_bytes: 1 << 50 };

/// Runs the whole suite. `producer` exists, and has no uploads.
///
/// # Panics
/// When a promise is broken.
pub async fn run<S: ResumableUploads>(store: Arc<S>, producer: ProducerId) {
    let store = &*store;
    an_upload_is_read_back_as_it_was_begun(store, producer).await;
    of_several_that_append_at_one_byte_one_succeeds(store, producer).await;
    parts_are_kept_all_or_none_and_in_order(store, producer).await;
    one_holder_at_a_time_completes_an_upload(store, producer).await;
    a_complete_or_removed_upload_takes_nothing_and_its_parts_are_loose(store, producer).await;
    only_expired_uploads_are_removed(store, producer).await;
    only_old_loose_parts_are_condemned_and_then_never_kept(store, producer).await;
    the_bounds_hold_for_uploads_that_are_begun_at_once(store, producer).await;
}

fn now() -> Timestamp {
    to_micros(Timestamp::now())
}

fn after(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

/// An upload as it is begun.
pub fn upload_of(producer_id: ProducerId, length_bytes: u64) -> ResumableUpload {
    ResumableUpload {
        upload_id: UploadId::random(),
        producer_id,
        kind: UploadKind::Whole,
        concat: String::new(),
        length_bytes,
        offset_bytes: 0,
        parts: 0,
        media_type: "video/mp4".to_owned(),
        declared_hash: Some(ContentHash::from_bytes([7; 32])),
        metadata: "filename ZmlsbQ==".to_owned(),
        content_hash: None,
        expires_at: after(3600),
    }
}

async fn begun<S: ResumableUploads>(store: &S, upload: &ResumableUpload) {
    assert_eq!(store.begin_upload(upload, MANY).await.expect("begun"), BeginOutcome::Begun);
}

async fn read<S: ResumableUploads>(store: &S, id: UploadId) -> ResumableUpload {
    store.resumable_upload(id).await.expect("read").expect("an upload")
}

/// A loose part.
async fn part<S: ResumableUploads>(store: &S, upload_id: UploadId, from_byte: u64, size_bytes: u64) -> NewPart {
    let part_id = PartId::random();
    store.add_part(PartName { upload_id, part_id }, now()).await.expect("added");
    NewPart { part_id, from_byte, size_bytes }
}

/// The old loose parts of an upload.
async fn condemned<S: ResumableUploads>(store: &S, id: UploadId, before: Timestamp) -> Vec<PartName> {
    let all = store.condemn_parts(before, 10_000).await.expect("condemned");
    all.into_iter().filter(|part| part.upload_id == id).collect()
}

async fn an_upload_is_read_back_as_it_was_begun<S: ResumableUploads>(store: &S, producer: ProducerId) {
    let whole = upload_of(producer, 100);
    let partial = ResumableUpload { kind: UploadKind::Partial, declared_hash: None, ..upload_of(producer, 0) };
    let last = ResumableUpload { kind: UploadKind::Final, concat: "final;/a /b".into(), ..upload_of(producer, 9) };
    for upload in [whole, partial, last] {
        begun(store, &upload).await;
        assert_eq!(read(store, upload.upload_id).await, upload);
        assert!(store.remove_upload(upload.upload_id).await.expect("removed"));
        assert!(!store.remove_upload(upload.upload_id).await.expect("an answer"));
        assert_eq!(store.resumable_upload(upload.upload_id).await.expect("read"), None);
    }
}

async fn of_several_that_append_at_one_byte_one_succeeds<S: ResumableUploads>(store: &S, producer: ProducerId) {
    let upload = upload_of(producer, 100);
    let id = upload.upload_id;
    begun(store, &upload).await;
    let mut parts = Vec::new();
    for size in 1..=8 {
        parts.push(part(store, id, 0, size).await);
    }
    let tries = parts.iter().map(|part| store.keep_parts(id, 0, std::slice::from_ref(part), upload.expires_at));
    let kept: Vec<bool> = join_all(tries).await.into_iter().map(|kept| kept.expect("an answer")).collect();
    assert_eq!(kept.iter().filter(|kept| **kept).count(), 1, "{kept:?}");
    let winner = parts[kept.iter().position(|kept| *kept).expect("one")];
    let now = read(store, id).await;
    assert_eq!((now.offset_bytes, now.parts), (winner.size_bytes, 1));
    assert_eq!(store.kept_parts(id).await.expect("read"), [winner]);
    assert!(store.remove_upload(id).await.expect("removed"));
}

async fn parts_are_kept_all_or_none_and_in_order<S: ResumableUploads>(store: &S, producer: ProducerId) {
    let upload = upload_of(producer, 30);
    let id = upload.upload_id;
    begun(store, &upload).await;
    let (one, two, three) =
        (part(store, id, 0, 10).await, part(store, id, 10, 10).await, part(store, id, 20, 10).await);
    let unknown = NewPart { part_id: PartId::random(), from_byte: 10, size_bytes: 10 };
    let later = after(7200);
    assert!(!store.keep_parts(id, 0, &[one, unknown], later).await.expect("an answer"));
    assert!(!store.keep_parts(id, 5, &[one], later).await.expect("an answer"), "it ends at 0");
    assert!(!store.keep_parts(UploadId::random(), 0, &[one], later).await.expect("an answer"));
    assert_eq!(read(store, id).await, upload, "nothing was kept");
    assert!(store.keep_parts(id, 0, &[one, two], later).await.expect("kept"));
    assert!(!store.keep_parts(id, 20, &[two], later).await.expect("an answer"), "it is kept already");
    assert!(store.keep_parts(id, 20, &[three], later).await.expect("kept"));
    assert_eq!(store.kept_parts(id).await.expect("read"), [one, two, three]);
    assert_eq!(read(store, id).await, ResumableUpload { offset_bytes: 30, parts: 3, expires_at: later, ..upload });
    assert!(store.remove_upload(id).await.expect("removed"));
}

async fn one_holder_at_a_time_completes_an_upload<S: ResumableUploads>(store: &S, producer: ProducerId) {
    let upload = upload_of(producer, 10);
    let (id, one, other) = (upload.upload_id, Uuid::new_v4(), Uuid::new_v4());
    begun(store, &upload).await;
    let hold = async |holder, ttl| store.hold_upload(id, holder, ttl).await.expect("an answer");
    assert!(hold(one, TTL).await && hold(one, TTL).await, "a holder renews");
    assert!(!hold(other, TTL).await);
    assert!(hold(one, Duration::ZERO).await, "given back");
    assert!(hold(other, TTL).await);
    assert!(store.complete_upload(id, 0, ContentHash::from_bytes([1; 32]), after(60)).await.expect("complete"));
    assert!(!hold(other, TTL).await && !hold(one, TTL).await, "it has ended");
    assert!(!store.hold_upload(UploadId::random(), one, TTL).await.expect("an answer"));
    assert!(store.remove_upload(id).await.expect("removed"));
}

async fn a_complete_or_removed_upload_takes_nothing_and_its_parts_are_loose<S: ResumableUploads>(
    store: &S,
    producer: ProducerId,
) {
    let content = ContentHash::from_bytes([9; 32]);
    for completes in [true, false] {
        let upload = upload_of(producer, 30);
        let id = upload.upload_id;
        begun(store, &upload).await;
        let (kept, loose) = (part(store, id, 0, 10).await, part(store, id, 10, 10).await);
        assert!(store.keep_parts(id, 0, &[kept], upload.expires_at).await.expect("kept"));
        let expires_at = after(60);
        if completes {
            assert!(!store.complete_upload(id, 0, content, expires_at).await.expect("an answer"), "it ends at 10");
            assert!(store.complete_upload(id, 10, content, expires_at).await.expect("complete"));
            assert!(!store.complete_upload(id, 30, content, expires_at).await.expect("an answer"));
            let complete = ResumableUpload { offset_bytes: 30, content_hash: Some(content), expires_at, ..upload };
            assert_eq!(ResumableUpload { parts: 0, ..read(store, id).await }, complete);
        } else {
            assert!(store.remove_upload(id).await.expect("removed"));
        }
        for at in [10, 30] {
            assert!(!store.keep_parts(id, at, &[loose], after(60)).await.expect("an answer"));
        }
        assert_eq!(store.kept_parts(id).await.expect("read"), []);
        let left = condemned(store, id, after(60)).await;
        assert_eq!(left.len(), 2, "the Janitor finds both");
        store.forget_parts(&left).await.expect("forgotten");
        assert_eq!(condemned(store, id, after(60)).await, []);
        store.remove_upload(id).await.expect("an answer");
    }
}

async fn only_expired_uploads_are_removed<S: ResumableUploads>(store: &S, producer: ProducerId) {
    let (old, new) = (
        ResumableUpload { expires_at: after(-3600), ..upload_of(producer, 10) },
        ResumableUpload { expires_at: after(3600), ..upload_of(producer, 10) },
    );
    begun(store, &old).await;
    begun(store, &new).await;
    let kept = part(store, old.upload_id, 0, 5).await;
    assert!(store.keep_parts(old.upload_id, 0, &[kept], old.expires_at).await.expect("kept"));
    assert_eq!(store.expire_uploads(after(-7200), 10).await.expect("expired"), 0);
    assert_eq!(store.expire_uploads(now(), 10).await.expect("expired"), 1);
    assert_eq!(store.resumable_upload(old.upload_id).await.expect("read"), None);
    assert_eq!(read(store, new.upload_id).await, new);
    let left = condemned(store, old.upload_id, after(60)).await;
    assert_eq!(left, [PartName { upload_id: old.upload_id, part_id: kept.part_id }]);
    store.forget_parts(&left).await.expect("forgotten");
    assert!(store.remove_upload(new.upload_id).await.expect("removed"));
}

async fn only_old_loose_parts_are_condemned_and_then_never_kept<S: ResumableUploads>(store: &S, producer: ProducerId) {
    let upload = upload_of(producer, 30);
    let id = upload.upload_id;
    begun(store, &upload).await;
    let (kept, loose) = (part(store, id, 0, 10).await, part(store, id, 10, 10).await);
    assert!(store.keep_parts(id, 0, &[kept], upload.expires_at).await.expect("kept"));
    assert_eq!(condemned(store, id, after(-60)).await, [], "none is old");
    let name = |part: NewPart| PartName { upload_id: id, part_id: part.part_id };
    assert_eq!(condemned(store, id, after(60)).await, [name(loose)]);
    assert!(!store.keep_parts(id, 10, &[loose], upload.expires_at).await.expect("an answer"));
    assert_eq!(condemned(store, id, after(60)).await, [name(loose)], "until it is forgotten");
    store.forget_parts(&[name(loose), name(kept)]).await.expect("forgotten");
    assert_eq!(condemned(store, id, after(60)).await, []);
    assert_eq!(store.kept_parts(id).await.expect("read"), [kept], "a part that counts is not forgotten");
    assert!(store.remove_upload(id).await.expect("removed"));
    let left = condemned(store, id, after(60)).await;
    store.forget_parts(&left).await.expect("forgotten");
}

async fn the_bounds_hold_for_uploads_that_are_begun_at_once<S: ResumableUploads>(store: &S, producer: ProducerId) {
    let begin = async |bounds: UploadBounds, lengths: u64| {
        let uploads: Vec<_> = (0..8).map(|_| upload_of(producer, lengths)).collect();
        let outcomes = join_all(uploads.iter().map(|upload| store.begin_upload(upload, bounds))).await;
        let outcomes: Vec<BeginOutcome> = outcomes.into_iter().map(|outcome| outcome.expect("an answer")).collect();
        let begun = uploads.into_iter().zip(&outcomes).filter(|(_, outcome)| **outcome == BeginOutcome::Begun);
        (begun.map(|(upload, _)| upload.upload_id).collect::<Vec<_>>(), outcomes)
    };
    let (three, outcomes) = begin(UploadBounds { per_producer: 3, ..MANY }, 10).await;
    assert_eq!(three.len(), 3, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == BeginOutcome::TooMany).count(), 5);
    // Those of others count, in bytes; complete ones do not.
    let complete = store.complete_upload(three[0], 0, ContentHash::from_bytes([1; 32]), after(60)).await;
    assert!(complete.expect("complete"));
    let (one, outcomes) = begin(UploadBounds { per_producer: 1000, total_bytes: 35 }, 10).await;
    assert_eq!(one.len(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == BeginOutcome::NoRoom).count(), 7);
    for id in three.into_iter().chain(one) {
        assert!(store.remove_upload(id).await.expect("removed"));
    }
}
