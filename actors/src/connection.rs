//! `Connection`: the way to one client, as a delivery sees it.
//!
//! Between a delivery and its client stand the buffers of the server and of this machine's kernel. What lies in them has not left
//! the node, and may never leave it. So a delivery that ends before its time asks what is left in them and has the
//! connection cut: what was not sent is dropped, and not charged.
//!
//! The server owns a connection. All others hold it weakly, so that none of them keeps it open.

/// The way to one client.
pub trait Connection: Send + Sync {
    /// Takes note that so many bytes more were handed over.
    fn handed_over(&self, bytes: u64);

    /// How many bytes at the end of all that was handed over have not left this node.
    fn unsent(&self) -> u64;

    /// Ends the connection at once, also while it waits for its client. What has not left this node is dropped: from now on
    /// [`unsent`](Self::unsent) does not shrink.
    fn cut(&self);
}
