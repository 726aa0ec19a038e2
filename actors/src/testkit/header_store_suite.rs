//! The promises of the store of headers, as scenarios that every adapter runs unchanged.

use std::sync::Arc;

use futures::future::join_all;

use crate::{
    model::{ChainHash, ChainHeader, ChainWork, HEADER_BYTES, RawHeader},
    ports::{HEADERS_A_CALL, HeaderStore},
};

/// Runs every scenario. The store has no headers yet.
///
/// # Panics
/// When a promise is broken.
pub async fn run(store: Arc<impl HeaderStore>) {
    assert_eq!(store.best_header().await.expect("read"), None);
    assert_eq!(store.headers_from(0, 100).await.expect("read"), []);
    let chain = headers(0, HEADERS_A_CALL as u32, 1);
    store.add_headers(&chain).await.expect("added");
    assert_eq!(store.best_header().await.expect("read"), chain.last().copied());
    several_instances_add_the_same_headers(&*store, &chain).await;
    pages_have_whole_heights(&*store, &chain).await;
    the_best_header_has_the_most_work(&*store, &chain).await;
}

async fn several_instances_add_the_same_headers(store: &impl HeaderStore, chain: &[ChainHeader]) {
    for added in join_all((0..4).map(|_| store.add_headers(&chain[10..50]))).await {
        added.expect("added");
    }
    store.add_headers(&[]).await.expect("nothing to add");
    assert_eq!(store.headers_from(0, u32::MAX).await.expect("read"), chain);
}

async fn pages_have_whole_heights(store: &impl HeaderStore, chain: &[ChainHeader]) {
    let sibling = headers(7, 1, 200)[0];
    store.add_headers(&[sibling]).await.expect("added");
    let page = store.headers_from(5, 3).await.expect("read");
    let heights: Vec<_> = page.iter().map(|header| header.height).collect();
    assert_eq!(heights, [5, 6, 7, 7]);
    assert!(page[2..].contains(&sibling) && page[2..].contains(&chain[7]));
    assert_eq!(store.headers_from(chain.len() as u32, 10).await.expect("read"), []);
}

async fn the_best_header_has_the_most_work(store: &impl HeaderStore, chain: &[ChainHeader]) {
    // Lower than the tip, and with more work: its highest byte is set.
    let mut heavy = headers(3, 1, 201)[0];
    heavy.total_work = ChainWork([0x80; 32]);
    assert!(heavy.height < chain[chain.len() - 1].height);
    store.add_headers(&[heavy]).await.expect("added");
    assert_eq!(store.best_header().await.expect("read"), Some(heavy));
    // As much work again changes no answer to another header that was there before it.
    assert_eq!(store.headers_from(3, 1).await.expect("read").len(), 2);
}

/// Headers of consecutive heights, each with the work of its height. `branch` distinguishes them from others.
fn headers(from: u32, count: u32, branch: u8) -> Vec<ChainHeader> {
    (from..from + count)
        .map(|height| {
            let mut raw = [branch; HEADER_BYTES];
            raw[..4].copy_from_slice(&height.to_be_bytes());
            let mut hash = [branch; 32];
            hash[..4].copy_from_slice(&height.to_be_bytes());
            let mut work = [0; 32];
            work[28..].copy_from_slice(&(height + 1).to_be_bytes());
            ChainHeader { raw: RawHeader(raw), hash: ChainHash::from_wire(hash), height, total_work: ChainWork(work) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::memory_headers::MemoryHeaders;

    #[tokio::test]
    async fn the_store_in_memory_keeps_the_promises() {
        run(Arc::<MemoryHeaders>::default()).await;
    }
}
