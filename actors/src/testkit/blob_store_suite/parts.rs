//! The promises about the parts of resumable uploads.

use bytes::Bytes;

use super::Sample;
use crate::{
    ids::{PartId, UploadId},
    model::PartName,
    ports::{Missing, PART_BYTES, PortError, UploadParts},
};

fn part_of(upload_id: UploadId) -> PartName {
    PartName { upload_id, part_id: PartId::random() }
}

pub(super) async fn run(store: &dyn UploadParts) {
    let (one, other) = (UploadId::random(), UploadId::random());
    let parts: Vec<(PartName, Bytes)> = [(one, 1), (one, 100_000), (one, PART_BYTES), (other, 1)]
        .into_iter()
        .map(|(upload, size)| (part_of(upload), Sample::of(size).bytes))
        .collect();
    for (part, bytes) in &parts {
        store.put_part(*part, bytes.clone()).await.expect("stored");
    }
    for (part, bytes) in &parts {
        assert!(store.read_part(*part).await.expect("read") == *bytes, "{part:?}");
    }
    // One part more or less does not concern the others.
    let missing = |read| matches!(read, Err(PortError::NotFound(Missing::Blob)));
    assert!(missing(store.read_part(part_of(one)).await));
    for (part, _) in &parts[..3] {
        store.remove_part(*part).await.expect("removed");
        store.remove_part(*part).await.expect("nothing to remove");
        assert!(missing(store.read_part(*part).await));
    }
    assert!(store.read_part(parts[3].0).await.expect("read") == parts[3].1);
    store.remove_part(parts[3].0).await.expect("removed");
}
