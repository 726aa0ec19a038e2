//! The promises of an [`InvalidationBus`].

use tokio::sync::broadcast::error::RecvError;

use crate::{
    ids::{ReceiptId, VersionId},
    ports::{InvalidationBus, Tag},
};

pub(super) async fn run(state: &dyn InvalidationBus) {
    what_is_invalidated_reaches_every_listener_in_order(state).await;
    a_listener_that_falls_behind_is_notified(state).await;
}

async fn what_is_invalidated_reaches_every_listener_in_order(state: &dyn InvalidationBus) {
    let tags = [Tag::Receipt(ReceiptId::random()), Tag::QuotaPolicy("premium".into()), Tag::Asset(VersionId::next())];
    let mut listeners = [state.invalidations(), state.invalidations()];
    state.invalidate(&tags).await.expect("published");
    for listener in &mut listeners {
        for tag in &tags {
            assert_eq!(listener.recv().await.as_ref(), Ok(tag));
        }
    }
}

async fn a_listener_that_falls_behind_is_notified(state: &dyn InvalidationBus) {
    let mut listener = state.invalidations();
    // More than any channel should grow to.
    let tags: Vec<_> = std::iter::repeat_with(|| Tag::Receipt(ReceiptId::random())).take(100_000).collect();
    state.invalidate(&tags).await.expect("published");
    // The last tag shows that the others had time to arrive.
    let mut lagged = false;
    loop {
        match listener.recv().await {
            Err(RecvError::Lagged(_)) => lagged = true,
            Ok(tag) if Some(&tag) == tags.last() => break,
            Ok(_) => {}
            Err(RecvError::Closed) => panic!("the state is still there"),
        }
    }
    assert!(lagged, "{} tags were kept for one listener", tags.len());
}
