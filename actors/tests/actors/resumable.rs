//! Resumable uploads: what is told to have arrived has arrived, whatever fails in between.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use penstock_actors::{
    content::{
        resumable::{NewUpload, ResumableError, ResumableIngest},
        upload::IngestError,
    },
    ids::{ProducerId, UploadId},
    model::{ResumableUpload, UploadKind},
    ports::{ContentIndex as _, PART_BYTES},
    testkit::{
        blob_store_suite,
        dice::Dice,
        memory_blobs::{MemoryBlobs, hash_of},
        memory_uploads::MemoryUploads,
        resumable_uploads_suite,
        script::Fault,
    },
};

use crate::{
    delivery::content,
    rig::{Rig, World, eventually},
};

fn new(producer_id: ProducerId, bytes: &[u8]) -> NewUpload {
    NewUpload {
        producer_id,
        kind: UploadKind::Whole,
        length_bytes: bytes.len() as u64,
        media_type: "video/mp4".into(),
        declared_hash: None,
        metadata: String::new(),
    }
}

/// One request with these bytes, which ends as it should.
async fn send(
    to: &ResumableIngest,
    id: UploadId,
    offset: u64,
    bytes: &[u8],
    held: bool,
) -> Result<ResumableUpload, ResumableError> {
    let mut append = to.append(id, None, offset, held).await?;
    for part in bytes.chunks(100_000) {
        append.write(Bytes::copy_from_slice(part)).await?;
    }
    append.end().await
}

/// Nothing is left of uploads that have ended.
async fn assert_no_parts(world: &World) {
    eventually("the parts are removed", || world.blobs.parts() == 0 && world.uploads.parts() == 0).await;
}

#[actix::test]
async fn the_memory_keeps_the_promises_of_the_ports() {
    resumable_uploads_suite::run(Arc::<MemoryUploads>::default(), ProducerId::next()).await;
    blob_store_suite::run_parts(&MemoryBlobs::default()).await;
}

#[actix::test]
async fn content_of_any_size_arrives_in_several_requests() {
    let rig = Rig::start().await;
    let to = &rig.node.resumable;
    for (number, size) in [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES + 5].into_iter().enumerate()
    {
        let bytes = content(size);
        let upload = to.begin(new(ProducerId::next(), &bytes)).await.expect("begun");
        let id = upload.upload_id;
        let (first, second) = bytes.split_at(size / 3);
        if size > 0 {
            let now = send(to, id, 0, first, false).await.expect("taken");
            assert_eq!((now.offset_bytes, now.is_complete()), (first.len() as u64, false), "{size}");
            let wrong = send(to, id, first.len() as u64 + 1, second, false).await;
            assert!(
                matches!(wrong, Err(ResumableError::Offset { offset }) if offset == first.len() as u64),
                "{wrong:?}"
            );
            send(to, id, first.len() as u64, second, number % 2 == 0).await.expect("taken");
        }
        let now = to.find(id, None).await.expect("found");
        assert_eq!((now.content_hash, now.offset_bytes), (Some(hash_of(&bytes)), size as u64));
        assert!(rig.index.content(hash_of(&bytes)).await.expect("read").is_some());
        assert_no_parts(&rig).await;
    }
    rig.end_alone().await;
}

#[actix::test]
async fn a_body_that_breaks_off_keeps_what_arrived_unless_it_is_held() {
    let rig = Rig::start().await;
    let to = &rig.node.resumable;
    let bytes = content(PART_BYTES + 2_000_000);
    for held in [false, true] {
        let upload = to.begin(new(ProducerId::next(), &bytes)).await.expect("begun");
        let mut append = to.append(upload.upload_id, None, 0, held).await.expect("begun");
        for part in bytes[..PART_BYTES + 1_000_000].chunks(100_000) {
            append.write(Bytes::copy_from_slice(part)).await.expect("taken");
        }
        append.broken_off().await.expect("kept");
        let offset = to.find(upload.upload_id, None).await.expect("found").offset_bytes;
        assert_eq!(offset, if held { 0 } else { PART_BYTES as u64 + 1_000_000 });
        to.remove(upload.upload_id, None).await.expect("removed");
        assert_no_parts(&rig).await;
    }
    rig.end_alone().await;
}

#[actix::test]
async fn an_upload_belongs_to_its_producer_and_takes_no_more_than_it_said() {
    let rig = Rig::start().await;
    let (to, owner) = (&rig.node.resumable, ProducerId::next());
    let id = to.begin(new(owner, b"12345")).await.expect("begun").upload_id;
    for stranger in
        [to.find(id, Some(ProducerId::next())).await.map(drop), to.remove(id, Some(ProducerId::next())).await]
    {
        assert!(matches!(stranger, Err(ResumableError::Unknown)), "{stranger:?}");
    }
    let more = send(to, id, 0, b"123456", false).await;
    assert!(matches!(more, Err(ResumableError::TooLong { length: 5 })), "{more:?}");
    assert_eq!(to.find(id, Some(owner)).await.expect("found").offset_bytes, 0);
    let large = to.begin(NewUpload { length_bytes: 1 << 40, ..new(owner, b"") }).await;
    assert!(matches!(large, Err(ResumableError::Ingest(IngestError::TooLarge { .. }))), "{large:?}");
    rig.end_alone().await;
}

#[actix::test]
async fn bytes_with_another_hash_than_declared_are_dropped_with_their_upload() {
    let rig = Rig::start().await;
    let to = &rig.node.resumable;
    let declared = NewUpload { declared_hash: Some(hash_of(b"other")), ..new(ProducerId::next(), b"12345") };
    let id = to.begin(declared).await.expect("begun").upload_id;
    send(to, id, 0, b"123", false).await.expect("taken");
    let told = send(to, id, 3, b"45", false).await;
    assert!(matches!(told, Err(ResumableError::Ingest(IngestError::DigestMismatch { .. }))), "{told:?}");
    assert!(matches!(to.find(id, None).await, Err(ResumableError::Unknown)));
    assert_eq!(rig.blobs.names(), []);
    assert_no_parts(&rig).await;
    rig.end_alone().await;
}

#[actix::test]
async fn partial_uploads_become_one_content() {
    let rig = Rig::start().await;
    let (to, owner) = (&rig.node.resumable, ProducerId::next());
    let bytes = content(3_000_000);
    let mut ids = Vec::new();
    for piece in bytes.chunks(1_000_000) {
        let partial = NewUpload { kind: UploadKind::Partial, ..new(owner, piece) };
        ids.push(to.begin(partial).await.expect("begun").upload_id);
    }
    let concatenate = |by| to.concatenate(new(by, b""), &ids, "final;/a /b /c".into());
    for (id, piece) in ids.iter().zip(bytes.chunks(1_000_000)) {
        assert!(matches!(concatenate(owner).await, Err(ResumableError::Unfinished)));
        assert!(send(to, *id, 0, piece, false).await.expect("taken").is_complete());
    }
    assert!(matches!(concatenate(ProducerId::next()).await, Err(ResumableError::Unfinished)), "they are another's");
    let whole = concatenate(owner).await.expect("one content");
    assert_eq!((whole.content_hash, whole.length_bytes), (Some(hash_of(&bytes)), 3_000_000));
    assert!(matches!(to.append(whole.upload_id, None, 3_000_000, false).await, Err(ResumableError::Final)));
    for id in ids {
        to.remove(id, Some(owner)).await.expect("removed");
    }
    assert_no_parts(&rig).await;
    rig.end_alone().await;
}

#[actix::test]
async fn an_upload_to_which_nothing_is_added_expires_and_leaves_nothing() {
    let rig = Rig::start().await;
    let to = &rig.node.resumable;
    let id = to.begin(new(ProducerId::next(), b"12345")).await.expect("begun").upload_id;
    send(to, id, 0, b"123", false).await.expect("taken");
    // A part whose request was killed before the catalogue counted it.
    rig.uploads.script.next("keep_parts", [Some(Fault::Unavailable)]);
    send(to, id, 3, b"4", false).await.expect_err("the database is away");
    assert_eq!(rig.blobs.parts(), 2);
    rig.clock.advance(Duration::from_secs(2 * 3600));
    let report = crate::janitor::pass(&rig).await;
    assert_eq!((report.uploads_expired, report.upload_parts), (0, 1), "the loose part is old, and the upload is not");
    assert_eq!(send(to, id, 3, b"4", false).await.expect("taken").offset_bytes, 4);
    rig.clock.advance(Duration::from_secs(25 * 3600));
    let report = crate::janitor::pass(&rig).await;
    assert_eq!((report.uploads_expired, report.upload_parts), (1, 2));
    assert!(matches!(to.find(id, None).await, Err(ResumableError::Unknown)));
    assert_no_parts(&rig).await;
    rig.end_alone().await;
}

/// Two instances and one upload: requests of any length at any of them, which break off, lose their answers or fail. The client
/// asks for the offset after each, as the protocol says. In the end the content is the one that it sent.
#[actix::test]
async fn whatever_interrupts_an_upload_it_ends_with_the_bytes_that_were_sent() {
    let world = World::default();
    let rigs = [Rig::join(&world, |_| {}).await, Rig::join(&world, |_| {}).await];
    for seed in 0..40 {
        let mut dice = Dice(seed);
        let size = 1 + dice.roll(5_000_000) as usize;
        let mut bytes = content(size);
        bytes[0] = u8::try_from(seed).expect("a small seed");
        let declared = NewUpload { declared_hash: Some(hash_of(&bytes)), ..new(ProducerId::next(), &bytes) };
        let id = rigs[0].node.resumable.begin(declared).await.expect("begun").upload_id;
        let mut requests = 0;
        loop {
            let to = &rigs[dice.roll(2) as usize].node.resumable;
            let now = to.find(id, None).await.expect("found");
            if now.is_complete() {
                break;
            }
            requests += 1;
            let rest = &bytes[now.offset_bytes as usize..];
            let sent = &rest[..dice.roll(rest.len() as u64 + 1) as usize];
            let sent = if dice.roll(3) == 0 { rest } else { sent };
            // Later requests meet no faults, so that each walk ends.
            if requests < 10 {
                let calls = ["add_part", "keep_parts", "kept_parts", "hold_upload", "complete_upload"];
                let fault = [Fault::Unavailable, Fault::AnswerLost][dice.roll(2) as usize];
                match dice.roll(4) {
                    0 => world.uploads.script.next(calls[dice.roll(5) as usize], [Some(fault)]),
                    1 => world
                        .blobs
                        .script()
                        .next(["put_part", "read_part", "commit"][dice.roll(3) as usize], [Some(fault)]),
                    _ => {}
                }
            }
            let held = dice.roll(4) == 0;
            let Ok(mut append) = to.append(id, None, now.offset_bytes, held).await else { continue };
            let (mut failed, cut) = (false, dice.roll(3) == 0);
            for part in sent.chunks(300_000) {
                failed |= append.write(Bytes::copy_from_slice(part)).await.is_err();
            }
            match (failed, cut, dice.roll(2)) {
                (true, ..) => append.discard(),
                // A kill: nothing more is done.
                (_, true, 0) => drop(append),
                (_, true, _) => drop(append.broken_off().await),
                _ => drop(append.end().await),
            }
            // A holder that was killed is waited for.
            world.clock.advance(Duration::from_secs(120));
        }
        let done = rigs[1].node.resumable.find(id, None).await.expect("found");
        assert_eq!((done.content_hash, done.offset_bytes), (Some(hash_of(&bytes)), size as u64), "seed {seed}");
    }
    let [one, other] = rigs;
    one.end().await;
    other.end().await;
}
