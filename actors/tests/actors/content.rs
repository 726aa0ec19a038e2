//! The content store: verified reads, shared between readers and bounded in memory.

use futures::{StreamExt as _, future::join_all};
use penstock_actors::{content::reader::Verify, model::LEAF_BYTES, ports::PortError};

use crate::{
    delivery::content,
    rig::{Rig, aside, bytes, eventually},
};

const MIB: usize = LEAF_BYTES as usize;
const PIECE: u64 = 64 << 10;

#[actix::test]
async fn readers_of_a_leaf_share_one_read_and_a_reader_that_leaves_fails_no_other() {
    let rig = Rig::start().await;
    let right = rig.receipt_to(bytes(1 << 30), content(MIB));
    let held = rig.blobs.script().hold("read_at");
    let store = rig.node.content.clone();
    let open = store.open(right.hash, right.size).await.expect("open");
    let mut reading: Vec<_> = (0..20)
        .map(|_| {
            let (store, open) = (store.clone(), open.clone());
            aside(async move { store.read(&open, 0..10, PIECE).await })
        })
        .collect();
    eventually("the leaf is being read", || rig.blobs.script().calls("read_at").len() == 1).await;
    let first = reading.remove(0);
    first.abort();
    assert!(first.await.err().is_some_and(|error| error.is_cancelled()));
    drop(held);
    for read in join_all(reading).await {
        assert_eq!(&read.expect("not aborted").expect("readable").bytes[..], &content(10)[..]);
    }
    assert_eq!(rig.blobs.script().calls("read_at"), [MIB]);
    rig.end_alone().await;
}

#[actix::test]
async fn a_stream_without_read_ahead_budget_goes_on_in_pieces() {
    let rig = Rig::with(|settings| {
        settings.content.read_ahead = LEAF_BYTES as u32;
        settings.content.memory_cache = 0;
    })
    .await;
    let content = content(3 * MIB + 5);
    let right = rig.receipt_to(bytes(1 << 30), content.clone());
    // The first holds the whole budget and reads nothing for now.
    let mut holder = rig.deliver(&right).await;
    assert_eq!(rig.node.content.read_ahead().in_use, LEAF_BYTES);
    let mut others: Vec<_> = join_all((0..3).map(|_| rig.deliver(&right))).await;
    for other in &mut others {
        let mut got = Vec::new();
        while let Some(piece) = other.next().await {
            got.extend_from_slice(&piece.expect("readable"));
        }
        assert!(got == content, "pieces add up");
        assert!(rig.node.content.read_ahead().in_use <= LEAF_BYTES);
    }
    let mut got = 0;
    while let Some(piece) = holder.next().await {
        got += piece.expect("readable").len();
    }
    assert_eq!(got, content.len());
    drop((holder, others));
    rig.end_alone().await;
}

#[actix::test]
async fn damage_is_found_in_every_leaf_when_it_is_read_first() {
    for verify in [Verify::Always, Verify::Cold] {
        let rig = Rig::with(|settings| settings.content.verify = verify).await;
        let good = content(MIB + 10);
        let hash = rig.blobs.put(good.clone());
        for at in [0, MIB - 1, MIB, MIB + 9] {
            let mut bad = good.clone();
            bad[at] ^= 0x80;
            rig.blobs.damage(hash, bad);
            let store = &rig.node.content;
            let open = store.open(hash, good.len() as u64).await.expect("open");
            let range = at as u64..at as u64 + 1;
            assert!(matches!(store.read(&open, range, PIECE).await.err(), Some(PortError::Corrupt(_))), "at {at}");
        }
        rig.end_alone().await;
    }
}

#[actix::test]
async fn a_content_of_another_size_than_the_index_says_is_damage() {
    let rig = Rig::start().await;
    let hash = rig.blobs.put(content(100));
    assert!(matches!(rig.node.content.open(hash, 99).await.err(), Some(PortError::Corrupt(_))));
    rig.end_alone().await;
}
