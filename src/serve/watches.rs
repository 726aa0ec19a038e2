//! Checks of a running node for reasons to stop that no request would find.

use std::time::Duration;

use penstock_actors::{lineage::Lineage, node::Node, storage::store_guard::StoreGuard};

use crate::wiring::Backends;

/// How often the actors are checked.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// How often the database is asked for its installation.
const DATABASE_EVERY: Duration = Duration::from_secs(5);

/// Returns when the node cannot continue, with the reason.
pub(super) async fn node(node: &Node, lineage: &Lineage, backends: &Backends) -> String {
    loop {
        if !(node.is_alive() && lineage.is_alive()) {
            return "an actor died".to_owned();
        }
        if node.has_namesake() {
            return "another process runs under this node's identity".to_owned();
        }
        if let Some(file) = backends.file.as_ref().filter(|file| file.is_replaced()) {
            return format!(
                "{} was replaced or removed while the node ran: writes are lost from now on; stop the node before a restore \
                 (penstock restore)",
                file.path().display()
            );
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

/// Returns when the database belongs to another installation, with advice. A database that does not answer, or has no
/// installation (emptied, or in the middle of a restore), may still be the right one, so the node waits for it.
pub(super) async fn database(store: &StoreGuard) -> String {
    let mut is_announced = false;
    loop {
        match store.replacement().await {
            Ok(Some(now)) => {
                return format!(
                    "the database is installation {now}'s now: it was created again or exchanged while the node ran; \
                     restore the right one, or correct the URL"
                );
            }
            Ok(None) => is_announced = false,
            Err(error) if !std::mem::replace(&mut is_announced, true) => {
                tracing::error!(
                    %error,
                    "the database names no installation: it was emptied, or is being restored. Nothing is stored, \
                     reported missing or removed meanwhile; if it was emptied, restore it from a backup"
                );
            }
            Err(_) => {}
        }
        tokio::time::sleep(DATABASE_EVERY).await;
    }
}
