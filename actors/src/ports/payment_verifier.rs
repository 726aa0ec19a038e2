//! `PaymentVerifier`: whether the envelope of a payment proves that its transaction is valid.
//!
//! **Caller:** the purchase, on a thread for computing. **Errors:** none: the verdict is a function of the input. It fails closed: a
//! limit that is reached is a refusal. **Bound:** [`VerificationLimits`].

use crate::model::{MerkleRoot, VerifiedTransaction};

/// How much one envelope may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerificationLimits {
    /// Bytes of the envelope.
    pub bytes: usize,
    /// Transactions in it.
    pub transactions: usize,
    /// The longest way from the subject to a proven ancestor.
    pub depth: usize,
    /// Steps of scripts and bytes hashed by them, for each input.
    pub script_work_of_input: u64,
    /// The same, for the whole envelope.
    pub script_work: u64,
}

/// The headers of the best chain, as one verification sees them.
pub trait BestChain: Send + Sync {
    /// The Merkle root of the block at this height; `None` if the node has no header there.
    fn merkle_root(&self, height: u32) -> Option<MerkleRoot>;

    /// The height of the tip.
    fn tip(&self) -> Option<u32>;

    /// The median of the times of the last eleven blocks, in seconds since 1970.
    fn median_time_past(&self) -> Option<u32>;
}

/// Why an envelope proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PaymentFault {
    #[error("it is larger than {0} bytes")]
    TooLarge(usize),
    #[error("it has more than {0} transactions")]
    TooManyTransactions(usize),
    #[error("it has more than {0} unconfirmed transactions in a row")]
    TooDeep(usize),
    #[error("its scripts need more work than this node does")]
    TooMuchWork,
    /// The offset is that of the byte that the parser names.
    #[error("it is not a valid BEEF: see byte {0}")]
    Malformed(u64),
    #[error("it names a transaction by its id alone")]
    IdAlone,
    #[error("a Merkle root at height {0} is not that of the chain that this node knows")]
    UnknownRoot(u64),
    #[error("a transaction spends an output that is not in it")]
    MissingParent,
    #[error("the subject is not in it, or another transaction is in it that the subject does not need")]
    WrongSubject,
    #[error("a script refuses to be spent")]
    Script,
    #[error("a transaction pays more than it spends")]
    CreatesValue,
    #[error("two of its transactions spend one output, or an output is spent that does not exist")]
    Unavailable,
    #[error("a transaction may not be mined yet")]
    NotFinal,
}

/// Verifies envelopes.
pub trait PaymentVerifier: Send + Sync + 'static {
    /// Verifies BEEF of version 1, 2, or Atomic. Without the Atomic prefix, the last transaction is the subject.
    ///
    /// Every unmined transaction's inputs resolve to outputs in the envelope, down to transactions that a Merkle path proves; each
    /// root is that of `chain` at its height; each script of an unmined transaction verifies; no outputs exceed their inputs.
    ///
    /// # Errors
    /// The first fault.
    fn verify(&self, beef: &[u8], chain: &dyn BestChain) -> Result<VerifiedTransaction, PaymentFault>;
}
