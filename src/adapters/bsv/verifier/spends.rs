//! Whether unmined transactions may spend what they spend: outputs that exist and are spent once, scripts, values, and times.
//!
//! Scripts run by the rules of a node's mempool, since a payment that no node takes is none. **Bound.** The work of each script is
//! counted, and is divided among the inputs before the first script runs. Numbers and memory of a script are bounded, since the work does
//! not count what arithmetic costs.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use bsv_rs::{
    primitives::bsv::sighash::{TxInput, TxOutput, TxSighashCache},
    script::{LockingScript, ProtocolEra, ScriptFlags, Spend, TxSpendParams, UnlockingScript},
    transaction::beef_stream::{InputRef, OutputRef, TxBody},
};
use penstock_actors::ports::{BestChain, PaymentFault, VerificationLimits};

use super::{Hash, NetworkConstants};

/// Blocks that a coinbase waits for before it is spent.
const MATURITY: u32 = 100;

/// Lock times below this one are heights, the others seconds since 1970.
const FIRST_TIME: u32 = 500_000_000;

/// The longest number that a script computes with, in bytes. Keys, hashes and amounts have 33 at most.
const NUMBER_BYTES: usize = 1_000;

/// The memory of a script's stacks.
const STACK_BYTES: usize = 1_000_000;

/// A transaction of an envelope.
pub(super) struct Transaction {
    pub(super) txid: Hash,
    /// The height of its block, if the envelope proves it.
    pub(super) proven_at: Option<u32>,
    pub(super) body: TxBody,
}

impl Transaction {
    fn is_coinbase(&self) -> bool {
        matches!(self.body.inputs.as_slice(), [input] if input.prev == [0; 32] && input.vout == u32::MAX)
    }

    fn script(&self, output: &OutputRef) -> &[u8] {
        &self.body.raw[output.script.clone()]
    }
}

/// Judges the unmined transactions of one envelope.
pub(super) struct Judge<'a> {
    constants: &'a NetworkConstants,
    limits: &'a VerificationLimits,
    /// The height of the block that could hold the transactions; `None` if the node knows no block.
    next_height: Option<u32>,
    median_time: Option<u32>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(constants: &'a NetworkConstants, limits: &'a VerificationLimits, chain: &dyn BestChain) -> Self {
        let next_height = chain.tip().map(|tip| tip.saturating_add(1));
        Self { constants, limits, next_height, median_time: chain.median_time_past() }
    }

    pub(super) fn judge(&self, transactions: &[Transaction]) -> Result<(), PaymentFault> {
        spends_once(transactions)?;
        let by_id: HashMap<_, _> = transactions.iter().map(|transaction| (transaction.txid, transaction)).collect();
        let unmined = || transactions.iter().filter(|transaction| transaction.proven_at.is_none());
        let inputs: usize = unmined().map(|transaction| transaction.body.inputs.len()).sum();
        let share = self.limits.script_work / u64::try_from(inputs.max(1)).unwrap_or(u64::MAX);
        let work = share.min(self.limits.script_work_of_input);
        for transaction in unmined() {
            self.judge_one(transaction, &by_id, work)?;
        }
        Ok(())
    }

    fn judge_one(
        &self,
        transaction: &Transaction,
        by_id: &HashMap<Hash, &Transaction>,
        work: u64,
    ) -> Result<(), PaymentFault> {
        let next_height = self.next_height.ok_or(PaymentFault::NotFinal)?;
        self.is_final(&transaction.body, next_height)?;
        // The network mines no output of this form any more.
        if transaction.body.outputs.iter().any(|output| is_p2sh(transaction.script(output))) {
            return Err(PaymentFault::Script);
        }
        let mut paid_in = 0_u128;
        let mut sources = Vec::with_capacity(transaction.body.inputs.len());
        for input in &transaction.body.inputs {
            let parent = by_id.get(&input.prev).ok_or(PaymentFault::MissingParent)?;
            let output = parent.body.outputs.get(input.vout as usize).ok_or(PaymentFault::Unavailable)?;
            let made_at = parent.proven_at.unwrap_or(next_height);
            if parent.is_coinbase() && next_height.saturating_sub(made_at) < MATURITY {
                return Err(PaymentFault::NotFinal);
            }
            paid_in += u128::from(output.satoshis);
            sources.push(Source { made_at, satoshis: output.satoshis, script: parent.script(output) });
        }
        let paid_out: u128 = transaction.body.outputs.iter().map(|output| u128::from(output.satoshis)).sum();
        if paid_out > paid_in {
            return Err(PaymentFault::CreatesValue);
        }
        let shared = Arc::new(sighash_cache(&transaction.body));
        for (index, (input, source)) in transaction.body.inputs.iter().zip(&sources).enumerate() {
            let unlocking = &transaction.body.raw[input.script.clone()];
            self.run(Run { transaction: Arc::clone(&shared), index, source, unlocking, work, next_height })?;
        }
        Ok(())
    }

    /// As the network decides for the next block.
    fn is_final(&self, body: &TxBody, next_height: u32) -> Result<(), PaymentFault> {
        if body.lock_time == 0 || body.inputs.iter().all(|input| input.sequence == u32::MAX) {
            return Ok(());
        }
        let limit =
            if body.lock_time < FIRST_TIME { next_height } else { self.median_time.ok_or(PaymentFault::NotFinal)? };
        if body.lock_time < limit { Ok(()) } else { Err(PaymentFault::NotFinal) }
    }

    fn run(&self, run: Run<'_>) -> Result<(), PaymentFault> {
        let Run { transaction, index, source, unlocking, work, next_height } = run;
        // Scripts of old outputs mean what they meant in their time. Of those, only the plainest are judged here.
        let is_old = source.made_at < self.constants.genesis_height;
        if is_p2sh(source.script) || is_old && !pays_a_key(source.script) {
            return Err(PaymentFault::Script);
        }
        let era = ProtocolEra::at_height(next_height, self.constants.genesis_height, self.constants.chronicle_height)
            .ok_or(PaymentFault::Script)?;
        let mut flags = ScriptFlags::standard(era);
        if source.made_at < self.constants.chronicle_height {
            flags = flags.without(ScriptFlags::UTXO_AFTER_CHRONICLE);
        }
        let mut spend = Spend::with_transaction(TxSpendParams {
            transaction,
            input_index: index,
            source_satoshis: source.satoshis,
            locking_script: LockingScript::from_binary(source.script).map_err(|_| PaymentFault::Script)?,
            unlocking_script: UnlockingScript::from_binary(unlocking).map_err(|_| PaymentFault::Script)?,
            memory_limit: Some(STACK_BYTES),
            work_limit: Some(work),
        })
        .map_err(|_| PaymentFault::Script)?;
        spend.set_flags(flags);
        spend.set_script_num_length_policy(NUMBER_BYTES);
        match spend.validate() {
            Ok(true) => Ok(()),
            Ok(false) => Err(PaymentFault::Script),
            Err(error) if error.resource_limit.is_some() => Err(PaymentFault::TooMuchWork),
            Err(_) => Err(PaymentFault::Script),
        }
    }
}

/// An output that is spent.
struct Source<'a> {
    /// The height of its block, or of the next one.
    made_at: u32,
    satoshis: u64,
    script: &'a [u8],
}

/// What the scripts of one input need.
struct Run<'a> {
    transaction: Arc<TxSighashCache>,
    index: usize,
    source: &'a Source<'a>,
    unlocking: &'a [u8],
    work: u64,
    next_height: u32,
}

/// No output is spent by two transactions, mined or not.
fn spends_once(transactions: &[Transaction]) -> Result<(), PaymentFault> {
    let mut spent = HashSet::new();
    let inputs =
        transactions.iter().filter(|transaction| !transaction.is_coinbase()).flat_map(|each| &each.body.inputs);
    for input in inputs {
        if !spent.insert((input.prev, input.vout)) {
            return Err(PaymentFault::Unavailable);
        }
    }
    Ok(())
}

/// `OP_HASH160 <20 bytes> OP_EQUAL`: its script is in the input, by rules that ended with the upgrade of 2020.
const fn is_p2sh(script: &[u8]) -> bool {
    matches!(script, [0xa9, 0x14, .., 0x87]) && script.len() == 23
}

/// Whether a script pays the hash of a key, or a key.
const fn pays_a_key(script: &[u8]) -> bool {
    matches!(
        (script.len(), script),
        (25, [0x76, 0xa9, 0x14, .., 0x88, 0xac]) | (35, [0x21, .., 0xac]) | (67, [0x41, .., 0xac])
    )
}

fn sighash_cache(body: &TxBody) -> TxSighashCache {
    let input = |input: &InputRef| TxInput {
        txid: input.prev,
        output_index: input.vout,
        script: Vec::new(),
        sequence: input.sequence,
    };
    let output =
        |output: &OutputRef| TxOutput { satoshis: output.satoshis, script: body.raw[output.script.clone()].to_vec() };
    let version = i32::from_le_bytes(body.version.to_le_bytes());
    TxSighashCache::new(
        version,
        body.inputs.iter().map(input).collect(),
        body.outputs.iter().map(output).collect(),
        body.lock_time,
    )
}
