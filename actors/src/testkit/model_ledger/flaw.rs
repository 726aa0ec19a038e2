//! Broken promises of the ledger in memory: each proves that a test which relies on the promise notices.

/// One way in which a ledger is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Each grant is one byte larger than what fits.
    GrantsOneMore,
    /// A refill that is repeated grants once more.
    GrantsTwice,
    /// A refill that is repeated gets no grant, although its first statement was granted.
    ForgetsGrants,
    /// A refill of an epoch that is over is granted.
    GrantsToFenced,
    /// The leases of all other epochs are reclaimed, whether they are dead or not.
    ReclaimsAtOnce,
    /// Leases are reclaimed when the database's clock says that their epoch is late. No other clock is asked, nor whether the epoch
    /// that reclaims them was in time.
    TrustsOneClock,
    /// A batch that arrives again counts again.
    SettlesTwice,
    /// Not the ledger but a node is wrong: it spends its leases for longer than they are valid. For a test that starts such a node.
    SpendsPastValidity,
}
