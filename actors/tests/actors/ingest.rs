//! Uploads: all of the content, or nothing visible.

use bytes::Bytes;
use jiff::Timestamp;
use penstock_actors::{
    content::upload::{IngestError, Upload, UploadedContent},
    ids::ProducerId,
    model::{LEAF_BYTES, StorageTier, VerificationKind},
    ports::{ContentIndex as _, PortError, QuarantineList as _},
    testkit::{memory_blobs::hash_of, script::Fault},
};

use crate::{
    delivery::content,
    rig::{Rig, aside, eventually},
};

async fn begin_with(rig: &Rig, bytes: &[u8]) -> Upload {
    let mut upload = rig.node.ingest.begin(ProducerId::next()).await.expect("begun");
    write(&mut upload, bytes).await.expect("taken");
    upload
}

async fn write(upload: &mut Upload, bytes: &[u8]) -> Result<(), IngestError> {
    for part in bytes.chunks(100_000) {
        upload.write(Bytes::copy_from_slice(part)).await?;
    }
    Ok(())
}

async fn finish(upload: Upload) -> Result<UploadedContent, IngestError> {
    finish_of(upload, ProducerId::next()).await
}

async fn finish_of(upload: Upload, producer: ProducerId) -> Result<UploadedContent, IngestError> {
    upload.finish(None, "video/mp4".into(), producer).await
}

/// Nothing is visible, and no remains are left.
async fn assert_nothing(rig: &Rig) {
    eventually("what was written is removed", || rig.blobs.unfinished() == 0).await;
    assert_eq!(rig.blobs.names(), []);
    eventually("the permit is back", || rig.node.ingest.queue().in_use == 0).await;
}

#[actix::test]
async fn an_upload_is_there_whole_and_the_same_again_is_one_blob() {
    let (rig, producer) = (Rig::start().await, ProducerId::next());
    for size in [0, 1, LEAF_BYTES as usize, 2 * LEAF_BYTES as usize + 3] {
        let content = content(size);
        let first = finish_of(begin_with(&rig, &content).await, producer).await.expect("stored");
        assert!(first.created);
        assert_eq!((first.meta.content_hash, first.meta.size_bytes), (hash_of(&content), size as u64));
        let again = finish_of(begin_with(&rig, &content).await, producer).await.expect("known");
        assert_eq!((again.created, again.meta), (false, first.meta.clone()));
        // To another producer it is new.
        let of_another = finish(begin_with(&rig, &content).await).await.expect("known");
        assert!(of_another.created);
    }
    assert_eq!(rig.blobs.names().len(), 4);
    rig.end_alone().await;
}

#[actix::test]
async fn a_client_that_leaves_in_the_middle_leaves_nothing() {
    let rig = Rig::start().await;
    for written in [0, 1, 100_000, 3_000_000] {
        drop(begin_with(&rig, &content(written)).await);
        assert_nothing(&rig).await;
    }
    rig.end_alone().await;
}

#[actix::test]
async fn a_full_disk_is_reported_as_such_and_leaves_nothing() {
    let rig = Rig::start().await;
    rig.blobs.script().next("write", [None, Some(Fault::Full)]);
    let mut upload = rig.node.ingest.begin(ProducerId::next()).await.expect("begun");
    // More strides than fit between the connection and the disk: the client learns of the error before it has sent everything.
    let told = write(&mut upload, &content(3_000_000)).await;
    assert!(matches!(told, Err(IngestError::Port(PortError::Full(_)))), "{told:?}");
    drop(upload);
    assert_nothing(&rig).await;
    rig.end_alone().await;
}

#[actix::test]
async fn a_disk_that_fills_with_the_last_part_is_reported_at_the_end() {
    let rig = Rig::start().await;
    rig.blobs.script().next("write", [Some(Fault::Full)]);
    let upload = begin_with(&rig, &content(1000)).await;
    assert!(matches!(finish(upload).await, Err(IngestError::Port(PortError::Full(_)))));
    assert_nothing(&rig).await;
    rig.end_alone().await;
}

#[actix::test]
async fn wrong_and_oversized_uploads_leave_nothing() {
    let rig = Rig::with(|settings| settings.ingest.max_bytes = 1000).await;
    let upload = begin_with(&rig, &content(1000)).await;
    let expected = hash_of(b"something else");
    let wrong = upload.finish(Some(expected), "video/mp4".into(), ProducerId::next()).await;
    assert!(matches!(wrong, Err(IngestError::DigestMismatch { actual, .. }) if actual == hash_of(&content(1000))));
    assert_nothing(&rig).await;
    let mut upload = begin_with(&rig, &content(1000)).await;
    let more = upload.write(Bytes::from_static(b"x")).await;
    assert!(matches!(more, Err(IngestError::TooLarge { limit: 1000 })));
    drop(upload);
    assert_nothing(&rig).await;
    rig.end_alone().await;
}

#[actix::test]
async fn an_upload_that_fails_at_its_end_can_be_repeated() {
    let rig = Rig::start().await;
    let bytes = content(100);
    let mut stored = false;
    for call in ["announce_content", "commit", "complete_content"] {
        for fault in [Fault::Unavailable, Fault::AnswerLost] {
            rig.index.script.next(call, [fault]);
            rig.blobs.script().next(call, [fault]);
            let failed = finish(begin_with(&rig, &bytes).await).await;
            let visible = !rig.blobs.names().is_empty();
            assert!(failed.is_err(), "{call}, {fault:?}");
            assert!(!visible || rig.index.announced() == 1 || stored || call == "complete_content");
            stored |= call == "complete_content" && fault == Fault::AnswerLost;
        }
    }
    let done = finish(begin_with(&rig, &bytes).await).await.expect("at last");
    assert_eq!(done.meta.content_hash, hash_of(&bytes));
    assert_eq!((rig.blobs.names().len(), rig.index.announced()), (1, 0));
    rig.end_alone().await;
}

#[actix::test]
async fn an_upload_whose_announcement_was_withdrawn_does_not_count_as_stored() {
    let rig = Rig::start().await;
    let bytes = content(100);
    let held = rig.blobs.script().hold("commit");
    let slow = aside({
        let upload = begin_with(&rig, &bytes).await;
        async move { finish(upload).await }
    });
    eventually("it is announced", || rig.index.announced() == 1).await;
    rig.index.withdraw_announcements(Timestamp::MAX, 10).await.expect("withdrawn");
    drop(held);
    assert!(matches!(slow.await.expect("no panic"), Err(IngestError::Port(PortError::Unavailable { .. }))));
    finish(begin_with(&rig, &bytes).await).await.expect("the next one is stored");
    assert!(rig.index.content(hash_of(&bytes)).await.expect("an answer").is_some());
    rig.end_alone().await;
}

#[actix::test]
async fn content_in_quarantine_that_comes_again_takes_nothing_away_before_it_is_there() {
    let rig = Rig::start().await;
    let bytes = content(1000);
    let hash = finish(begin_with(&rig, &bytes).await).await.expect("stored").meta.content_hash;
    rig.node.content.quarantine().set(hash, true);
    for fault in [Fault::Unavailable, Fault::Full] {
        rig.blobs.script().next("commit", [fault]);
        assert!(finish(begin_with(&rig, &bytes).await).await.is_err());
        assert_eq!(rig.blobs.tiers_of(hash), [StorageTier::Hot], "{fault:?}");
    }
    finish(begin_with(&rig, &bytes).await).await.expect("stored again");
    assert_eq!(rig.blobs.tiers_of(hash), [StorageTier::Hot]);
    rig.end_alone().await;
}

#[actix::test]
async fn content_in_quarantine_that_is_uploaded_again_is_verified_and_released() {
    let rig = Rig::start().await;
    let bytes = content(1000);
    let hash = finish(begin_with(&rig, &bytes).await).await.expect("stored").meta.content_hash;
    rig.records.put(hash, bytes.len() as u64, StorageTier::Hot, rig.now());
    rig.blobs.damage_copy(hash, StorageTier::Hot, vec![0; bytes.len()]);
    let found = rig.node.verifier.verify(hash, VerificationKind::OnDemand, None).await.expect("verified");
    assert!(found.is_some_and(|found| found.quarantined) && rig.node.content.quarantine().holds(hash));

    // The upload has succeeded, although it cannot be verified.
    rig.records.script.next("stored_content", [Fault::Unavailable]);
    finish(begin_with(&rig, &bytes).await).await.expect("stored again");
    assert!(rig.node.content.quarantine().holds(hash));

    finish(begin_with(&rig, &bytes).await).await.expect("stored again");
    assert!(!rig.node.content.quarantine().holds(hash), "readers get it again");
    assert_eq!(rig.records.quarantined(None, 10).await.expect("a page"), []);
    rig.end_alone().await;
}

#[actix::test]
async fn more_uploads_than_allowed_are_refused_at_once() {
    let rig = Rig::with(|settings| settings.ingest.concurrent = 2).await;
    let running = [begin_with(&rig, b"1").await, begin_with(&rig, b"2").await];
    assert!(matches!(rig.node.ingest.begin(ProducerId::next()).await.err(), Some(IngestError::Overloaded)));
    drop(running);
    assert_nothing(&rig).await;
    finish(begin_with(&rig, b"3").await).await.expect("there is room again");
    rig.end_alone().await;
}

#[actix::test]
async fn where_the_store_takes_parts_fewer_uploads_run_at_a_time() {
    let rig = Rig::with(|settings| {
        settings.ingest.in_parts = 1;
        settings.ingest.stores_parts = true;
    })
    .await;
    let running = begin_with(&rig, b"1").await;
    assert!(matches!(rig.node.ingest.begin(ProducerId::next()).await.err(), Some(IngestError::Overloaded)));
    assert_eq!(rig.node.ingest.queue().in_use, 1, "a refused upload holds nothing");
    drop(running);
    assert_nothing(&rig).await;
    finish(begin_with(&rig, b"2").await).await.expect("there is room again");
    assert_eq!(rig.node.ingest.queue_in_parts().in_use, 0);
    rig.end_alone().await;
}

#[actix::test]
async fn one_producer_cannot_take_all_uploads() {
    let rig = Rig::with(|settings| settings.ingest.concurrent = 8).await;
    let greedy = ProducerId::next();
    let mut running = Vec::new();
    let refused = loop {
        match rig.node.ingest.begin(greedy).await {
            Ok(upload) => running.push(upload),
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, IngestError::ProducerHasShare { held: 5 }), "{refused}");
    running.push(begin_with(&rig, b"of another producer").await);
    drop(running);
    assert_nothing(&rig).await;
    rig.end_alone().await;
}
