//! The main job: content in, a receipt, a stream out, every byte accounted for.

use crate::node::{TestNode, sample};

on_both!(a_stream_delivers_what_was_stored_and_charges_exactly_that, async |node: &mut TestNode| {
    let bytes = sample(1, 3_500_000);
    let paid = node.paid(&bytes, "unlimited").await;
    let answer = node.stream(&paid).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["etag"], format!("\"{}\"", paid.hash));
    assert_eq!(answer.bytes().await.unwrap(), bytes);
    assert_eq!(node.charged(&paid.receipt).await, (3_500_000, 1));
});
