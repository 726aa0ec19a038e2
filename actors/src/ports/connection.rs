//! `Connection`: the connection to one client, as a delivery sees it.
//!
//! Between a delivery and its client lie the buffers of the server and of this machine's kernel. Bytes in them have not
//! left the node, and may never leave it. So a delivery that ends early asks how many bytes are left in the buffers and
//! has the connection cut: those bytes are dropped, and not charged.
//!
//! The server owns a connection. All others hold it weakly, so that none of them keeps it open.

/// The connection to one client.
pub trait Connection: Send + Sync {
    /// Takes note that this many more bytes were handed over.
    fn handed_over(&self, bytes: u64);

    /// How many of the bytes that were handed over have not left this node.
    fn unsent(&self) -> u64;

    /// Ends the connection at once, even while it waits for its client. Bytes that have not left this node are dropped:
    /// from now on [`unsent`](Self::unsent) does not shrink.
    fn cut(&self);
}
