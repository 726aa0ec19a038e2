//! What the verification of a payment costs a processor: the payment spends a transaction that no block has, which spends one that a block
//! has. The path in the envelope is that of a block of 1,000 transactions.

use divan::{Bencher, black_box};
use penstock::adapters::bsv::{
    miner::{
        PrivateChain,
        beef::Beef,
        wallet::{Coin, Input, RawTransaction, Wallet, coin},
    },
    verifier::BeefVerifier,
};
use penstock_actors::{
    model::{Network, TxOutput},
    ports::{PaymentVerifier as _, VerificationLimits},
};

/// Those of `config/default.toml`.
const LIMITS: VerificationLimits = VerificationLimits {
    bytes: 1 << 20,
    transactions: 500,
    depth: 100,
    script_work_of_input: 100_000,
    script_work: 1_000_000,
};

fn main() {
    divan::main();
}

struct World {
    chain: PrivateChain,
    wallet: Wallet,
    coin: Coin,
    mined: Beef,
}

impl World {
    fn new() -> Self {
        let wallet = Wallet::of(&[7; 32]).expect("a key");
        let mut chain = PrivateChain::new();
        let (_, reward) = chain.mine(&[], &wallet.script(), 1_700_000_000);
        for _ in 0..100 {
            chain.mine(&[], &wallet.script(), 0);
        }
        let output = TxOutput { satoshis: 100_000, locking_script: wallet.script() };
        let funding = wallet.spend(&[reward], std::slice::from_ref(&output)).expect("signed");
        let others = (0..998).map(|number| RawTransaction::of(&[], &[], number));
        let block: Vec<_> = std::iter::once(funding.clone()).chain(others).collect();
        chain.mine(&block, &wallet.script(), 0);
        let mined = Beef::new().mined(&funding, chain.proof(&funding.id()).expect("it is in a block"));
        Self { chain, wallet, coin: coin(&funding, 0, &output), mined }
    }

    /// With so many unmined transactions in a row.
    fn envelope(&self, length: usize) -> Vec<u8> {
        let mut beef = self.mined.clone();
        let mut last = self.coin.clone();
        for _ in 0..length {
            let output = TxOutput { satoshis: last.output.satoshis - 10, locking_script: self.wallet.script() };
            let next = self.wallet.spend(&[last], std::slice::from_ref(&output)).expect("signed");
            last = coin(&next, 0, &output);
            beef = beef.unmined(&next);
        }
        beef.v1()
    }

    fn verify(&self, beef: &[u8]) -> bool {
        BeefVerifier::new(Network::Regtest, LIMITS).verify(beef, &self.chain).is_ok()
    }
}

fn bench(bencher: Bencher<'_, '_>, length: usize) {
    let world = World::new();
    let beef = world.envelope(length);
    assert!(world.verify(&beef));
    bencher.bench_local(|| world.verify(black_box(&beef)));
}

#[divan::bench]
fn a_payment_out_of_a_block(bencher: Bencher<'_, '_>) {
    bench(bencher, 1);
}

#[divan::bench]
fn a_payment_behind_an_unmined_ancestor(bencher: Bencher<'_, '_>) {
    bench(bencher, 2);
}

#[divan::bench]
fn a_payment_behind_fifty_unmined_ancestors(bencher: Bencher<'_, '_>) {
    bench(bencher, 51);
}

/// A script of this form that spends nearly all that one input may: `begin`, then `step` again and again, then true.
fn heavy(bencher: Bencher<'_, '_>, begin: &[u8], step: &[u8], times: usize) {
    let mut world = World::new();
    let locking_script = [begin, &step.repeat(times), &[0x51]].concat();
    let output = TxOutput { satoshis: 100_000, locking_script };
    let lock = world.wallet.spend(std::slice::from_ref(&world.coin), std::slice::from_ref(&output)).expect("signed");
    world.chain.mine(std::slice::from_ref(&lock), &world.wallet.script(), 0);
    let input = Input { outpoint: coin(&lock, 0, &output).outpoint, script: Vec::new(), sequence: u32::MAX };
    let payment = RawTransaction::of(&[input], &[TxOutput { satoshis: 1, locking_script: world.wallet.script() }], 0);
    let proof = world.chain.proof(&lock.id()).expect("it is in a block");
    let beef = Beef::new().mined(&lock, proof).unmined(&payment).v1();
    assert!(world.verify(&beef));
    bencher.bench_local(|| world.verify(black_box(&beef)));
}

/// Squares of a number of 500 bytes.
#[divan::bench]
fn a_script_of_arithmetic(bencher: Bencher<'_, '_>) {
    let number = [&[0x4d, 0xf4, 0x01][..], &[0x7f; 500], &[0x6b]].concat();
    // From the other stack, twice, multiplied, dropped.
    heavy(bencher, &number, &[0x6c, 0x76, 0x6b, 0x76, 0x95, 0x75], 16_000);
}

/// Copies of a value of 400,000 bytes.
#[divan::bench]
fn a_script_of_copies(bencher: Bencher<'_, '_>) {
    let value = [&[0x4e][..], &400_000_u32.to_le_bytes(), &[0x7f; 400_000]].concat();
    let begin = [value.as_slice(), &[0x6b]].concat();
    heavy(bencher, &begin, &[0x6c, 0x76, 0x6b, 0x75], 24_000);
}
