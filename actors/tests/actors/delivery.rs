//! Deliveries: the bytes that the connection gets, and the charge for them, however the stream ends.

use std::{collections::VecDeque, ops::Range, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, future::join};
use penstock_actors::{
    content::delivery::{AnswerPart, Delivery, DeliveryError, DeliveryPlan},
    model::{Credit, LEAF_BYTES, Outcome, QuotaPolicy, ReceiptStatus, UsageRow},
    ports::{PortError, Tag},
    quota::book::Demand,
    testkit::{connection::TestConnection, script::Fault},
};

use tokio::time::timeout;

use crate::rig::{Rig, bytes, eventually};

const MIB: usize = LEAF_BYTES as usize;

/// Content that differs at every offset that matters.
pub(crate) fn content(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 31 % 251) as u8 ^ (at / MIB) as u8).collect()
}

/// Reads to the end, or to the error.
async fn read(delivery: &mut Delivery) -> (Vec<u8>, Option<DeliveryError>) {
    let mut all = Vec::new();
    while let Some(piece) = delivery.next().await {
        match piece {
            Ok(piece) => all.extend_from_slice(&piece),
            Err(error) => return (all, Some(error)),
        }
    }
    (all, None)
}

async fn only_row(rig: &Rig) -> UsageRow {
    rig.settled().await;
    let mut rows = rig.ledger.rows();
    assert_eq!(rows.len(), 1, "one stream, one row");
    rows.remove(0)
}

#[actix::test]
async fn a_stream_delivers_every_byte_and_is_charged_for_each() {
    let rig = Rig::start().await;
    for size in [1, 65_536, 65_537, MIB, MIB + 1, 3 * MIB + 17] {
        let content = content(size);
        let right = rig.receipt_to(bytes(1 << 30), content.clone());
        let (got, error) = read(&mut rig.deliver(&right).await).await;
        assert!(error.is_none() && got == content, "{size} bytes");
        rig.settled().await;
        assert_eq!(rig.ledger.hour(right.id, rig.now()).0, Credit::new(size as u64, 1));
    }
    rig.end_alone().await;
}

#[actix::test]
async fn empty_content_is_a_request_of_no_bytes() {
    let rig = Rig::start().await;
    let right = rig.receipt_to(bytes(1000), Bytes::new());
    let (got, error) = read(&mut rig.deliver(&right).await).await;
    assert!(got.is_empty() && error.is_none());
    let row = only_row(&rig).await;
    assert_eq!((row.bytes_sent, row.requests, row.outcome), (0, 1, Outcome::Completed));
    rig.end_alone().await;
}

/// Ranges with headers and a tail, as a multipart answer has them.
fn multipart(ranges: &[Range<u64>]) -> DeliveryPlan {
    let parts: VecDeque<AnswerPart> = ranges
        .iter()
        .enumerate()
        .map(|(n, range)| AnswerPart { framing: format!("--part {n}--").into(), range: range.clone() })
        .collect();
    DeliveryPlan { parts, tail: Bytes::from_static(b"--end--") }
}

#[actix::test]
async fn of_a_multipart_answer_the_framing_is_not_charged() {
    let rig = Rig::start().await;
    let content = content(2 * MIB + 100);
    let right = rig.receipt_to(bytes(1 << 30), content.clone());
    let end = content.len() as u64;
    let ranges = [end - 10..end, 0..5, LEAF_BYTES - 3..LEAF_BYTES + 3];
    let plan = multipart(&ranges);
    let (length, charged) = (plan.body_bytes(), plan.content_bytes());
    let reservation = rig.acquire(&right, Demand::Bytes(charged)).await.expect("let in");
    let mut delivery = rig.deliver_plan(reservation, plan).await;
    let (got, error) = read(&mut delivery).await;
    let mut expected = Vec::new();
    for (n, range) in ranges.iter().enumerate() {
        expected.extend_from_slice(format!("--part {n}--").as_bytes());
        expected.extend_from_slice(&content[range.start as usize..range.end as usize]);
    }
    expected.extend_from_slice(b"--end--");
    assert!(error.is_none() && got == expected);
    assert_eq!(got.len() as u64, length);
    drop(delivery);
    assert_eq!(only_row(&rig).await.bytes_sent, charged);
    rig.end_alone().await;
}

#[actix::test]
async fn a_client_that_leaves_is_charged_for_the_content_that_its_connection_sent() {
    let rig = Rig::start().await;
    let size = MIB + 70_000;
    let hash = rig.blobs.put(content(size));
    let piece = 32 << 10;
    for (polls, held_back) in [(0, 0), (1, 0), (1, 1000), (1, piece), (2, piece + 1), (3, 10 * piece), (34, 0), (36, 0)]
    {
        let right = rig.receipt_for(bytes(1 << 30), hash, size as u64);
        let connection = TestConnection::new();
        let reservation = rig.acquire(&right, Demand::Whole).await.expect("let in");
        let opened = rig.open_to(&connection, reservation, DeliveryPlan::single(0..right.size)).await;
        let mut delivery = opened.expect("readable");
        let mut out = 0;
        for _ in 0..polls {
            if let Some(piece) = delivery.next().await {
                out += piece.expect("readable").len() as u64;
            }
        }
        assert_eq!(connection.all_handed_over(), out);
        connection.hold_back(held_back);
        drop(delivery);
        rig.settled().await;
        let whole = polls == 36;
        assert_eq!(connection.is_cut(), polls > 0 && !whole, "after {polls} polls");
        let sent = if whole { size as u64 } else { out.saturating_sub(held_back) };
        let charged = Credit::new(sent, u64::from(sent > 0));
        assert_eq!(rig.ledger.hour(right.id, rig.now()).0, charged, "{polls} polls, {held_back} held back");
    }
    rig.end_alone().await;
}

#[actix::test]
async fn a_stream_ends_when_all_of_it_has_left() {
    let rig = Rig::start().await;
    let size = 100_000;
    let hash = rig.blobs.put(content(size));
    for leaves in [true, false] {
        let right = rig.receipt_for(bytes(1 << 30), hash, size as u64);
        let connection = TestConnection::new();
        connection.hold_back(40_000);
        let reservation = rig.acquire(&right, Demand::Whole).await.expect("let in");
        let opened = rig.open_to(&connection, reservation, DeliveryPlan::single(0..right.size)).await;
        let mut delivery = opened.expect("readable");
        while connection.all_handed_over() < size as u64 {
            delivery.next().await.expect("a piece").expect("readable");
        }
        assert!(timeout(Duration::from_millis(100), delivery.next()).await.is_err(), "some of it is still here");
        assert_eq!(rig.active(), 1);
        if leaves {
            drop(delivery);
        } else {
            connection.hold_back(0);
            assert!(delivery.next().await.is_none(), "the end");
        }
        rig.settled().await;
        let charged = if leaves { size as u64 - 40_000 } else { size as u64 };
        assert_eq!(rig.ledger.hour(right.id, rig.now()).0, Credit::new(charged, 1));
        assert_eq!(connection.is_cut(), leaves);
    }
    rig.end_alone().await;
}

#[actix::test]
async fn a_refund_cuts_the_connection_while_it_takes_nothing() {
    let rig = Rig::start().await;
    let right = rig.receipt_to(bytes(1 << 30), content(3 * MIB));
    let connection = TestConnection::new();
    let reservation = rig.acquire(&right, Demand::Whole).await.expect("let in");
    let opened = rig.open_to(&connection, reservation, DeliveryPlan::single(0..right.size)).await;
    let mut delivery = opened.expect("readable");
    let first = delivery.next().await.expect("a piece").expect("readable").len() as u64;
    connection.hold_back(1000);
    rig.ledger.set_status(right.id, ReceiptStatus::Refunded);
    rig.node.quota.invalidate(&Tag::Receipt(right.id));
    // The server asks for no further piece.
    eventually("the connection is cut", || connection.is_cut()).await;
    drop(delivery);
    let row = only_row(&rig).await;
    assert_eq!((row.bytes_sent, row.outcome), (first - 1000, Outcome::Revoked));
    rig.end_alone().await;
}

#[actix::test]
async fn a_refunded_receipt_stops_a_paced_stream_and_is_charged_for_what_was_sent() {
    let rig = Rig::start().await;
    // A piece of 64 KiB takes minutes: the stream waits for its time when the refund comes.
    let policy = QuotaPolicy { max_bandwidth_mbps: Some(0.001), burst_bytes_allowance: Some(70_000), ..bytes(1 << 30) };
    let right = rig.receipt_to(policy, content(MIB));
    let mut delivery = rig.deliver(&right).await;
    let first = delivery.next().await.expect("a piece").expect("readable").len() as u64;
    let id = right.id;
    rig.ledger.set_status(id, ReceiptStatus::Refunded);
    rig.node.quota.invalidate(&Tag::Receipt(id));
    let (rest, error) = read(&mut delivery).await;
    assert!(matches!(error, Some(DeliveryError::Revoked)), "{error:?}");
    assert!(delivery.next().await.is_none(), "nothing comes after the error");
    drop(delivery);
    let row = only_row(&rig).await;
    assert_eq!((row.bytes_sent, row.outcome), (first + rest.len() as u64, Outcome::Revoked));
    rig.end_alone().await;
}

#[actix::test]
async fn damage_in_the_middle_is_an_error_and_never_wrong_bytes() {
    let rig = Rig::start().await;
    let good = content(3 * MIB);
    let right = rig.receipt_to(bytes(1 << 30), good.clone());
    let mut bad = good.clone();
    bad[2 * MIB + 5] ^= 1;
    rig.blobs.damage(right.hash, bad);
    let mut delivery = rig.deliver(&right).await;
    let (got, error) = read(&mut delivery).await;
    assert!(matches!(error, Some(DeliveryError::Storage(PortError::Corrupt(_)))), "{error:?}");
    assert!(got == good[..2 * MIB], "the bytes before the error are right");
    drop(delivery);
    let row = only_row(&rig).await;
    assert_eq!((row.bytes_sent, row.outcome), (2 * LEAF_BYTES, Outcome::Failed));
    // After the repair, the next stream reads the new blob and not the one that was open.
    rig.blobs.damage(right.hash, good.clone());
    let (got, error) = read(&mut rig.deliver(&right).await).await;
    assert!(error.is_none() && got == good);
    rig.end_alone().await;
}

#[actix::test]
async fn what_cannot_be_read_at_all_is_charged_nothing() {
    let rig = Rig::start().await;
    let right = rig.receipt_to(bytes(1 << 30), content(MIB));
    for call in ["open", "read_at"] {
        rig.blobs.script().next(call, [Fault::Unavailable]);
        let reservation = rig.acquire(&right, Demand::Whole).await.expect("let in");
        let opened = rig.open(reservation, DeliveryPlan::single(0..right.size)).await;
        assert!(matches!(opened.err(), Some(PortError::Unavailable { .. })), "{call}");
    }
    rig.settled().await;
    assert_eq!(rig.ledger.rows(), []);
    let (got, error) = read(&mut rig.deliver(&right).await).await;
    assert!(error.is_none() && got.len() == MIB);
    rig.end_alone().await;
}

#[actix::test]
async fn a_truncated_blob_is_an_error_at_every_length() {
    let rig = Rig::start().await;
    let good = content(MIB + 10);
    let hash = rig.blobs.put(good.clone());
    for kept in [0, 1, MIB - 1, MIB, MIB + 9] {
        let right = rig.receipt_for(bytes(1 << 30), hash, good.len() as u64);
        rig.blobs.damage(right.hash, good[..kept].to_vec());
        let reservation = rig.acquire(&right, Demand::Whole).await.expect("let in");
        let opened = rig.open(reservation, DeliveryPlan::single(0..right.size)).await;
        assert!(matches!(opened.err(), Some(PortError::Corrupt(_))), "{kept} bytes are left");
    }
    rig.end_alone().await;
}

/// With a clock of its own that moves only by the waits of the streams.
#[actix::test]
async fn two_streams_of_one_receipt_together_have_its_bandwidth() {
    let rig = Rig::start().await;
    let policy = QuotaPolicy { max_bandwidth_mbps: Some(8.0), ..bytes(1 << 30) };
    let right = rig.receipt_to(policy, content(MIB));
    // Both are in memory: from here on no other thread takes part.
    let (mut one, mut two) = (rig.deliver(&right).await, rig.deliver(&right).await);
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let ((one_got, _), (two_got, _)) = join(read(&mut one), read(&mut two)).await;
    let took = began.elapsed();
    tokio::time::resume();
    assert_eq!((one_got.len(), two_got.len()), (MIB, MIB));
    // 2 MiB at a million bytes a second, less the tenth of a second that may be sent ahead.
    let ideal = Duration::from_secs_f64(2.0 * MIB as f64 / 1e6 - 0.1);
    assert!(took >= ideal && took < ideal + Duration::from_millis(100), "{took:?} instead of {ideal:?}");
    drop((one, two));
    rig.end_alone().await;
}
