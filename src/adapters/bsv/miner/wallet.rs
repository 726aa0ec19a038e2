//! Transactions of one key, for a private chain. It picks no coins and pays no fee: the caller names both sides.

use std::sync::Arc;

use bsv_rs::{
    primitives::{
        PrivateKey,
        bsv::sighash::{SIGHASH_ALL, SIGHASH_FORKID, TxInput, TxOutput as Output, TxSighashCache},
        hash160,
    },
    script::{SignOutputs, templates::P2PKH},
};
use penstock_actors::model::{Outpoint, TxId, TxOutput};

use super::hash_of;

/// The scripts of a transaction must be ready for its hash.
const FINAL: u32 = u32::MAX;

/// A serialized transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawTransaction(pub Vec<u8>);

/// An output that can be spent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coin {
    pub outpoint: Outpoint,
    pub output: TxOutput,
}

/// One input: the output that it spends, and the script that allows it.
#[derive(Debug, Clone)]
pub struct Input {
    pub outpoint: Outpoint,
    pub script: Vec<u8>,
    pub sequence: u32,
}

impl RawTransaction {
    /// A transaction of these parts, whether they are valid or not.
    pub fn of(inputs: &[Input], outputs: &[TxOutput], lock_time: u32) -> Self {
        let mut raw = 1_u32.to_le_bytes().to_vec();
        push_number(&mut raw, inputs.len());
        for input in inputs {
            raw.extend_from_slice(input.outpoint.txid.as_wire());
            raw.extend_from_slice(&input.outpoint.vout.to_le_bytes());
            push_bytes(&mut raw, &input.script);
            raw.extend_from_slice(&input.sequence.to_le_bytes());
        }
        push_number(&mut raw, outputs.len());
        for output in outputs {
            raw.extend_from_slice(&output.satoshis.to_le_bytes());
            push_bytes(&mut raw, &output.locking_script);
        }
        raw.extend_from_slice(&lock_time.to_le_bytes());
        Self(raw)
    }

    /// The first transaction of a block, and what it pays.
    pub(super) fn coinbase(height: u32, branch: u32, satoshis: u64, script: &[u8]) -> (Self, Coin) {
        let mut unlocking = vec![8];
        unlocking.extend_from_slice(&height.to_le_bytes());
        unlocking.extend_from_slice(&branch.to_le_bytes());
        let nothing = Outpoint { txid: TxId::from_wire([0; 32]), vout: u32::MAX };
        let output = TxOutput { satoshis, locking_script: script.to_vec() };
        let input = Input { outpoint: nothing, script: unlocking, sequence: FINAL };
        let transaction = Self::of(&[input], std::slice::from_ref(&output), 0);
        let coin = Coin { outpoint: Outpoint { txid: transaction.id(), vout: 0 }, output };
        (transaction, coin)
    }

    pub fn id(&self) -> TxId {
        hash_of(&self.0)
    }
}

/// One key, and what it can sign.
#[derive(Debug, Clone)]
pub struct Wallet {
    key: PrivateKey,
}

impl Wallet {
    /// # Errors
    /// When the bytes are not a private key.
    pub fn of(key: &[u8; 32]) -> anyhow::Result<Self> {
        Ok(Self { key: PrivateKey::from_bytes(key)? })
    }

    /// The script that pays this key.
    pub fn script(&self) -> Vec<u8> {
        let mut script = vec![0x76, 0xa9, 0x14];
        script.extend_from_slice(&hash160(&self.key.public_key().to_compressed()));
        script.extend_from_slice(&[0x88, 0xac]);
        script
    }

    /// Spends coins of this key.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn spend(&self, coins: &[Coin], outputs: &[TxOutput]) -> anyhow::Result<RawTransaction> {
        let input = |coin: &Coin| TxInput {
            txid: *coin.outpoint.txid.as_wire(),
            output_index: coin.outpoint.vout,
            script: Vec::new(),
            sequence: FINAL,
        };
        let output = |output: &TxOutput| Output { satoshis: output.satoshis, script: output.locking_script.clone() };
        let inputs = coins.iter().map(input).collect();
        let parts = Arc::new(TxSighashCache::new(1, inputs, outputs.iter().map(output).collect(), 0));
        let sign = |(index, coin): (usize, &Coin)| {
            let Coin { outpoint, output } = coin;
            let hash = parts.sighash_dispatched_for_signing(
                index,
                &output.locking_script,
                output.satoshis,
                SIGHASH_ALL | SIGHASH_FORKID,
            );
            let script = P2PKH::sign_with_sighash(&self.key, &hash, SignOutputs::All, false)?.to_binary();
            anyhow::Ok(Input { outpoint: *outpoint, script, sequence: FINAL })
        };
        let inputs: Vec<_> = coins.iter().enumerate().map(sign).collect::<Result<_, _>>()?;
        Ok(RawTransaction::of(&inputs, outputs, 0))
    }
}

/// An output of a transaction, as a coin.
pub fn coin(transaction: &RawTransaction, vout: u32, output: &TxOutput) -> Coin {
    Coin { outpoint: Outpoint { txid: transaction.id(), vout }, output: output.clone() }
}

/// A number of variable length, as the wire has it.
pub(super) fn push_number(bytes: &mut Vec<u8>, number: usize) {
    let number = number as u64;
    match (u8::try_from(number), u16::try_from(number), u32::try_from(number)) {
        (Ok(byte), ..) if byte < 0xfd => bytes.push(byte),
        (_, Ok(number), _) => {
            bytes.push(0xfd);
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        (.., Ok(number)) => {
            bytes.push(0xfe);
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        _ => {
            bytes.push(0xff);
            bytes.extend_from_slice(&number.to_le_bytes());
        }
    }
}

fn push_bytes(bytes: &mut Vec<u8>, part: &[u8]) {
    push_number(bytes, part.len());
    bytes.extend_from_slice(part);
}
