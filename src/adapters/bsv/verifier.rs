//! The port `PaymentVerifier`.
//!
//! The crate's index of a BEEF judges its bytes: form, Merkle paths against the roots of the best chain, parents, and what belongs to
//! the subject. The scripts and values of the unmined transactions are judged in [`spends`], with bounds that the crate's own pass has
//! not. Everything is counted before a script runs.

mod spends;

use std::collections::HashMap;

use bsv_rs::transaction::beef_stream::{BeefDecoder, BeefIndex, Element, Headers, Kind, Reason, Refusal, Step, Stop};
use penstock_actors::{
    model::{ChainHash, MerkleRoot, Network, Outpoint, TxOutput, VerifiedTransaction},
    ports::{BestChain, PaymentFault, PaymentVerifier, VerificationLimits},
};

use self::spends::{Judge, Transaction};
use super::network::NetworkConstants;

/// A hash of the wire.
type Hash = [u8; 32];

/// Two hashes of a Merkle tree have this length, so that a path can present them as a transaction that no block has. A transaction of
/// this length has no room to pay a key.
const TWO_HASHES: usize = 64;

/// Verifies envelopes by the rules of one network.
#[derive(Debug, Clone)]
pub struct BeefVerifier {
    limits: VerificationLimits,
    constants: NetworkConstants,
}

impl BeefVerifier {
    pub fn new(network: Network, limits: VerificationLimits) -> Self {
        Self { limits, constants: NetworkConstants::of(network) }
    }
}

impl PaymentVerifier for BeefVerifier {
    fn verify(&self, beef: &[u8], chain: &dyn BestChain) -> Result<VerifiedTransaction, PaymentFault> {
        if beef.len() > self.limits.bytes {
            return Err(PaymentFault::TooLarge(self.limits.bytes));
        }
        let envelope = Envelope::read(beef, &self.limits, chain)?;
        Judge::new(&self.constants, &self.limits, chain).judge(&envelope.transactions)?;
        envelope.into_verified()
    }
}

/// An envelope whose bytes hold.
struct Envelope {
    /// In the order of the envelope, in which each unmined transaction comes after those that it spends.
    transactions: Vec<Transaction>,
    subject: usize,
    roots: Vec<(u32, MerkleRoot)>,
}

impl Envelope {
    fn read(beef: &[u8], limits: &VerificationLimits, chain: &dyn BestChain) -> Result<Self, PaymentFault> {
        let headers = Roots(chain);
        let mut decoder = BeefDecoder::new();
        let mut index = BeefIndex::structure_only();
        index.hold_to_subject();
        let mut transactions = Vec::new();
        let mut depths = HashMap::new();
        let mut rest = beef;
        while let Step::Element(element) = decoder.next(&mut rest).map_err(|refusal| fault(&refusal))? {
            if transactions.len() >= limits.transactions && matches!(element, Element::Tx { .. }) {
                return Err(PaymentFault::TooManyTransactions(limits.transactions));
            }
            index.fold(&element, &headers).map_err(|stop| fault_of_stop(&stop))?;
            match element {
                Element::Bump(_) => {}
                Element::TxidOnly { .. } => return Err(PaymentFault::IdAlone),
                Element::Tx { offset, txid, bump_index, body } => {
                    let proven_at = match bump_index {
                        Some(bump) => Some(height_of(&index, bump).ok_or(PaymentFault::Malformed(offset))?),
                        None => None,
                    };
                    let is_new = depths.insert(txid, depth(&depths, proven_at, &body.inputs, limits)?).is_none();
                    if !is_new || body.raw.len() == TWO_HASHES {
                        return Err(PaymentFault::Malformed(offset));
                    }
                    transactions.push(Transaction { txid, proven_at, body });
                }
            }
        }
        decoder.finish().map_err(|refusal| fault(&refusal))?;
        let subject = match decoder.subject() {
            Some(txid) => transactions.iter().position(|transaction| transaction.txid == txid),
            None => transactions.len().checked_sub(1),
        };
        let subject = subject.ok_or(PaymentFault::WrongSubject)?;
        index.finish(Some(&transactions[subject].txid), 0).map_err(|refusal| fault(&refusal))?;
        let root = |(height, root): &(u64, Hash)| Some((u32::try_from(*height).ok()?, ChainHash::from_wire(*root)));
        let roots = index.roots().iter().filter_map(root).collect();
        Ok(Self { transactions, subject, roots })
    }

    fn into_verified(mut self) -> Result<VerifiedTransaction, PaymentFault> {
        let Transaction { txid, proven_at, body } = self.transactions.swap_remove(self.subject);
        let inputs =
            body.inputs.iter().map(|input| Outpoint { txid: ChainHash::from_wire(input.prev), vout: input.vout });
        let outputs = body.outputs.iter().map(|output| TxOutput {
            satoshis: output.satoshis,
            locking_script: body.raw[output.script.clone()].to_vec(),
        });
        Ok(VerifiedTransaction {
            txid: ChainHash::from_wire(txid),
            inputs: inputs.collect(),
            outputs: outputs.collect(),
            raw: body.raw,
            proven_at,
            roots: self.roots,
        })
    }
}

fn height_of(index: &BeefIndex, bump: u64) -> Option<u32> {
    let (height, _) = index.roots().get(usize::try_from(bump).ok()?)?;
    u32::try_from(*height).ok()
}

/// The number of unmined transactions on the longest way from this one to a proven one.
fn depth(
    depths: &HashMap<Hash, usize>,
    proven_at: Option<u32>,
    inputs: &[bsv_rs::transaction::beef_stream::InputRef],
    limits: &VerificationLimits,
) -> Result<usize, PaymentFault> {
    if proven_at.is_some() {
        return Ok(0);
    }
    let depth = 1 + inputs.iter().filter_map(|input| depths.get(&input.prev)).max().copied().unwrap_or(0);
    if depth > limits.depth { Err(PaymentFault::TooDeep(limits.depth)) } else { Ok(depth) }
}

/// The roots of the best chain, for the crate.
struct Roots<'a>(&'a dyn BestChain);

impl Headers for Roots<'_> {
    fn carries(&self, height: u64, root: &Hash) -> bool {
        let known = u32::try_from(height).ok().and_then(|height| self.0.merkle_root(height));
        known.is_some_and(|known| known.as_wire() == root)
    }
}

fn fault(refusal: &Refusal) -> PaymentFault {
    match (refusal.kind(), &refusal.reason) {
        (_, Reason::RootNotCarried { height, .. }) => PaymentFault::UnknownRoot(*height),
        (Kind::InputNamesNoElement, _) => PaymentFault::MissingParent,
        (Kind::SubjectMissing | Kind::UnrelatedTransaction, _) => PaymentFault::WrongSubject,
        (Kind::StubNotProven, _) => PaymentFault::IdAlone,
        _ => PaymentFault::Malformed(refusal.offset),
    }
}

/// The index runs no scripts here, so it stops at bytes alone; whatever else it says is a refusal too.
fn fault_of_stop(stop: &Stop) -> PaymentFault {
    match stop {
        Stop::Invalid(refusal) => fault(refusal),
        Stop::Unverifiable { .. } => PaymentFault::NotFinal,
        Stop::Spend { .. } => PaymentFault::Script,
    }
}

#[cfg(test)]
mod tests;
