//! A chain of a few blocks, a coin in one of them, and envelopes that pay from it or only seem to.

use std::collections::HashMap;

use penstock_actors::model::TxId;

use super::*;
use crate::adapters::bsv::miner::{
    PrivateChain,
    beef::Beef,
    wallet::{Coin, Input, RawTransaction, Wallet, coin},
};

const LIMITS: VerificationLimits = VerificationLimits {
    bytes: 100_000,
    transactions: 20,
    depth: 5,
    script_work_of_input: 50_000,
    script_work: 200_000,
};

/// Blocks as a verification sees them.
struct Known {
    roots: HashMap<u32, MerkleRoot>,
    tip: u32,
    time: u32,
}

impl Known {
    fn of(chain: &PrivateChain) -> Self {
        let headers = chain.headers_from(0);
        let roots = headers.iter().map(|header| (header.height, header.raw.merkle_root())).collect();
        Self { roots, tip: chain.height(), time: chain.median_time_past().expect("there are blocks") }
    }
}

impl BestChain for Known {
    fn merkle_root(&self, height: u32) -> Option<MerkleRoot> {
        self.roots.get(&height).copied()
    }

    fn tip(&self) -> Option<u32> {
        Some(self.tip)
    }

    fn median_time_past(&self) -> Option<u32> {
        Some(self.time)
    }
}

/// A chain in whose last block a transaction pays the wallet twice.
struct World {
    chain: PrivateChain,
    wallet: Wallet,
    funding: RawTransaction,
    coins: Vec<Coin>,
}

impl World {
    fn new() -> Self {
        Self::paying(&[])
    }

    /// The coins behind the first two have these scripts.
    fn paying(scripts: &[Vec<u8>]) -> Self {
        let wallet = Wallet::of(&[7; 32]).expect("a key");
        let mut chain = PrivateChain::new();
        let (_, reward) = chain.mine(&[], &wallet.script(), 1_700_000_000);
        for _ in 0..100 {
            chain.mine(&[], &wallet.script(), 0);
        }
        let plain = [wallet.script(), wallet.script()];
        let outputs: Vec<_> = plain.iter().chain(scripts).map(|script| output(1_000, script)).collect();
        let funding = wallet.spend(&[reward], &outputs).expect("signed");
        chain.mine(std::slice::from_ref(&funding), &wallet.script(), 0);
        let coins = (0..).zip(&outputs).map(|(vout, output)| coin(&funding, vout, output)).collect();
        Self { chain, wallet, funding, coins }
    }

    fn pay(&self, coins: &[Coin], satoshis: u64) -> RawTransaction {
        self.wallet.spend(coins, &[output(satoshis, &self.wallet.script())]).expect("signed")
    }

    /// The funding, proven.
    fn beef(&self) -> Beef {
        Beef::new().mined(&self.funding, self.chain.proof(&self.funding.id()).expect("it is in a block"))
    }

    fn verify(&self, beef: &[u8]) -> Result<VerifiedTransaction, PaymentFault> {
        BeefVerifier::new(Network::Regtest, LIMITS).verify(beef, &self.chain)
    }

    /// The verdict on a payment out of the coin with this script, and this script that unlocks it.
    fn run(script: &[u8], unlocking: &[u8]) -> Result<VerifiedTransaction, PaymentFault> {
        let world = Self::paying(&[script.to_vec()]);
        let input = Input { outpoint: world.coins[2].outpoint, script: unlocking.to_vec(), sequence: u32::MAX };
        let payment = RawTransaction::of(&[input], &[output(1_000, &world.wallet.script())], 0);
        world.verify(&world.beef().unmined(&payment).v1())
    }
}

fn output(satoshis: u64, script: &[u8]) -> TxOutput {
    TxOutput { satoshis, locking_script: script.to_vec() }
}

#[test]
fn a_payment_out_of_a_proven_coin_is_verified_in_each_form() {
    let world = World::new();
    let payment = world.pay(&world.coins[..1], 900);
    let beef = world.beef().unmined(&payment);
    for bytes in [beef.v1(), beef.v2(), beef.atomic(&payment.id())] {
        let verified = world.verify(&bytes).expect("valid");
        assert_eq!(verified.txid, payment.id());
        assert_eq!(verified.raw, payment.0);
        assert_eq!(verified.inputs, [world.coins[0].outpoint]);
        assert_eq!(verified.outputs, [output(900, &world.wallet.script())]);
        assert_eq!(verified.proven_at, None);
        let height = world.chain.height();
        assert_eq!(verified.roots, [(height, world.chain.last().raw.merkle_root())]);
    }
}

#[test]
fn a_payment_behind_an_unmined_ancestor_is_verified() {
    let world = World::new();
    let change = output(1_000, &world.wallet.script());
    let ancestor = world.wallet.spend(&world.coins[..1], std::slice::from_ref(&change)).expect("signed");
    let payment = world.pay(&[coin(&ancestor, 0, &change)], 1_000);
    let beef = world.beef().unmined(&ancestor).unmined(&payment);
    assert_eq!(world.verify(&beef.atomic(&payment.id())).expect("valid").txid, payment.id());
}

#[test]
fn a_payment_that_is_mined_says_at_which_height() {
    let world = World::new();
    let bytes = world.beef().atomic(&world.funding.id());
    assert_eq!(world.verify(&bytes).expect("valid").proven_at, Some(world.chain.height()));
}

#[test]
fn an_envelope_that_ends_anywhere_else_is_refused() {
    let world = World::new();
    let payment = world.pay(&world.coins[..1], 900);
    let beef = world.beef().unmined(&payment);
    for bytes in [beef.v1(), beef.v2(), beef.atomic(&payment.id())] {
        for end in 0..bytes.len() {
            assert!(matches!(world.verify(&bytes[..end]), Err(PaymentFault::Malformed(_))), "at {end}");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(world.verify(&longer), Err(PaymentFault::Malformed(bytes.len() as u64)));
    }
}

#[test]
fn no_other_byte_makes_another_payment() {
    let world = World::new();
    let payment = world.pay(&world.coins[..1], 900);
    let bytes = world.beef().unmined(&payment).atomic(&payment.id());
    // Signatures take their time without optimization.
    for at in (0..bytes.len()).step_by(3) {
        let mut other = bytes.clone();
        other[at] ^= 1;
        assert!(world.verify(&other).map_or(true, |verified| verified.raw == payment.0), "at {at}");
    }
}

#[test]
fn what_is_beyond_a_limit_is_refused_before_scripts_run() {
    let world = World::new();
    assert_eq!(world.verify(&vec![0; LIMITS.bytes + 1]), Err(PaymentFault::TooLarge(LIMITS.bytes)));
    let change = output(1_000, &world.wallet.script());
    let mut beef = world.beef();
    let mut last = world.coins[0].clone();
    for depth in 1..=LIMITS.depth + 1 {
        // Without a valid script: it is not read.
        let input = Input { outpoint: last.outpoint, script: Vec::new(), sequence: u32::MAX };
        let next = RawTransaction::of(&[input], std::slice::from_ref(&change), 0);
        last = coin(&next, 0, &change);
        beef = beef.unmined(&next);
        let expected = if depth > LIMITS.depth { PaymentFault::TooDeep(LIMITS.depth) } else { PaymentFault::Script };
        assert_eq!(world.verify(&beef.v1()), Err(expected));
    }
    let proof = || world.chain.proof(&world.funding.id()).expect("it is in a block");
    let many = (0..=LIMITS.transactions).fold(Beef::new(), |beef, _| beef.mined(&world.funding, proof()));
    assert!(matches!(world.verify(&many.v1()), Err(PaymentFault::Malformed(_))), "one transaction twice");
    let (mut chain, mut mined) = (world.chain.clone(), Beef::new());
    for _ in 0..=LIMITS.transactions {
        let (coinbase, _) = chain.mine(&[], &world.wallet.script(), 0);
        mined = mined.mined(&coinbase, chain.proof(&coinbase.id()).expect("it is in a block"));
    }
    let verdict = BeefVerifier::new(Network::Regtest, LIMITS).verify(&mined.v1(), &chain);
    assert_eq!(verdict, Err(PaymentFault::TooManyTransactions(LIMITS.transactions)));
}

#[test]
fn a_root_that_no_header_has_is_refused() {
    let world = World::new();
    let payment = world.pay(&world.coins[..1], 900);
    let height = world.chain.height();
    let bytes = world.beef().unmined(&payment).v1();
    for known in [
        Known { tip: height - 1, ..without(&world, height) },
        Known { roots: HashMap::from([(height, TxId::from_wire([9; 32]))]), ..Known::of(&world.chain) },
    ] {
        let verdict = BeefVerifier::new(Network::Regtest, LIMITS).verify(&bytes, &known);
        assert_eq!(verdict, Err(PaymentFault::UnknownRoot(height.into())));
    }
    let mut proof = world.chain.proof(&world.funding.id()).expect("it is in a block");
    proof.height -= 1;
    let elsewhere = Beef::new().mined(&world.funding, proof).unmined(&payment);
    assert_eq!(world.verify(&elsewhere.v1()), Err(PaymentFault::UnknownRoot((height - 1).into())));
}

fn without(world: &World, height: u32) -> Known {
    let mut known = Known::of(&world.chain);
    known.roots.remove(&height);
    known
}

#[test]
fn a_proof_of_another_transaction_proves_nothing() {
    let world = World::new();
    let payment = world.pay(&world.coins[..1], 900);
    let proof = world.chain.proof(&world.funding.id()).expect("it is in a block");
    let claimed = world.beef().mined(&payment, proof);
    assert!(matches!(world.verify(&claimed.v1()), Err(PaymentFault::Malformed(_))));
}

#[test]
fn a_transaction_by_its_id_alone_is_refused() {
    let world = World::new();
    let payment = world.pay(&world.coins[..1], 900);
    let proof = world.chain.proof(&world.funding.id()).expect("it is in a block");
    let mut bytes = vec![2, 0, 0xbe, 0xef, 1];
    bytes.extend(proof.to_bytes());
    bytes.extend([2, 2]);
    bytes.extend(world.funding.id().as_wire());
    bytes.push(0);
    bytes.extend(&payment.0);
    assert_eq!(world.verify(&bytes), Err(PaymentFault::IdAlone));
}

#[test]
fn a_parent_that_is_missing_or_comes_later_is_refused() {
    let world = World::new();
    let payment = world.pay(&world.coins[..1], 900);
    assert_eq!(world.verify(&Beef::new().unmined(&payment).v1()), Err(PaymentFault::MissingParent));
    let later =
        Beef::new().unmined(&payment).mined(&world.funding, world.chain.proof(&world.funding.id()).expect("mined"));
    assert_eq!(world.verify(&later.v1()), Err(PaymentFault::MissingParent));
}

#[test]
fn transactions_in_a_circle_are_refused() {
    // Ids are hashes, so a circle can only be claimed: each names an id that the other has not.
    let world = World::new();
    let input = |id: u8| Input {
        outpoint: Outpoint { txid: TxId::from_wire([id; 32]), vout: 0 },
        script: Vec::new(),
        sequence: u32::MAX,
    };
    let one = RawTransaction::of(&[input(2)], &[output(1, &[])], 0);
    let other = RawTransaction::of(
        &[Input { outpoint: Outpoint { txid: one.id(), vout: 0 }, ..input(0) }],
        &[output(1, &[])],
        0,
    );
    let circle = world.beef().unmined(&one).unmined(&other);
    assert_eq!(world.verify(&circle.v1()), Err(PaymentFault::MissingParent));
}

#[test]
fn another_subject_and_what_the_subject_does_not_need_are_refused() {
    let world = World::new();
    let payment = world.pay(&world.coins[..1], 900);
    let other = world.pay(&world.coins[1..2], 800);
    let both = world.beef().unmined(&other).unmined(&payment);
    assert_eq!(world.verify(&both.atomic(&payment.id())), Err(PaymentFault::WrongSubject));
    assert_eq!(world.verify(&both.v1()), Err(PaymentFault::WrongSubject));
    let alone = world.beef().unmined(&payment);
    assert_eq!(world.verify(&alone.atomic(&other.id())), Err(PaymentFault::WrongSubject));
}

#[test]
fn an_output_that_is_spent_twice_or_does_not_exist_is_refused() {
    let world = World::new();
    let change = output(1_000, &world.wallet.script());
    let first = world.wallet.spend(&world.coins[..1], std::slice::from_ref(&change)).expect("signed");
    let second = world.pay(&[coin(&first, 0, &change), world.coins[0].clone()], 1_500);
    let twice = world.beef().unmined(&first).unmined(&second);
    assert_eq!(world.verify(&twice.v1()), Err(PaymentFault::Unavailable));
    let nothing = coin(&world.funding, 9, &world.coins[0].output);
    let beef = world.beef().unmined(&world.pay(&[nothing], 900));
    assert_eq!(world.verify(&beef.v1()), Err(PaymentFault::Unavailable));
}

#[test]
fn outputs_beyond_the_inputs_are_refused() {
    let world = World::new();
    for (satoshis, verdict) in [(1_000, None), (1_001, Some(PaymentFault::CreatesValue))] {
        let payment = world.pay(&world.coins[..1], satoshis);
        assert_eq!(world.verify(&world.beef().unmined(&payment).v1()).err(), verdict);
    }
    let payment = world.pay(&world.coins[..1], u64::MAX);
    assert!(matches!(world.verify(&world.beef().unmined(&payment).v1()), Err(PaymentFault::Malformed(_))));
}

#[test]
fn a_script_that_fails_is_refused() {
    let world = World::new();
    let stranger = Wallet::of(&[8; 32]).expect("a key");
    let stolen = stranger.spend(&world.coins[..1], &[output(900, &stranger.script())]).expect("signed");
    assert_eq!(world.verify(&world.beef().unmined(&stolen).v1()), Err(PaymentFault::Script));
    // 1 is true, 0 is not, and a script may not leave more than one value.
    assert!(World::run(&[0x51], &[]).is_ok());
    for (script, unlocking) in [(vec![0x00], vec![]), (vec![0x51], vec![0x51]), (vec![0x6a], vec![]), (vec![], vec![])]
    {
        assert_eq!(World::run(&script, &unlocking), Err(PaymentFault::Script));
    }
    // The hash of a script, whose rules ended.
    let p2sh = [&[0xa9, 0x14][..], &[1; 20], &[0x87]].concat();
    assert_eq!(World::run(&p2sh, &[0x51]), Err(PaymentFault::Script));
}

#[test]
fn scripts_that_would_take_long_are_given_up() {
    let steps = usize::try_from(LIMITS.script_work_of_input).expect("small");
    let many = [vec![0x61; steps], vec![0x51]].concat();
    assert_eq!(World::run(&many, &[]), Err(PaymentFault::TooMuchWork));
    // Doubles a value until it has more bytes than a stack may have, and hashes it again and again.
    let doubled = [vec![0x51], [0x76, 0x7e].repeat(30)].concat();
    assert_eq!(World::run(&doubled, &[]), Err(PaymentFault::TooMuchWork));
    let hashed = [vec![0x51], [0x76, 0x7e].repeat(16), [0x76, 0xa8, 0x75].repeat(1_000), vec![0x51]].concat();
    assert_eq!(World::run(&hashed, &[]), Err(PaymentFault::TooMuchWork));
    // Squares a number until it is longer than a script may compute with.
    let squared = [vec![0x02, 0xff, 0x7f], [0x76, 0x95].repeat(40)].concat();
    assert_eq!(World::run(&squared, &[]), Err(PaymentFault::Script));
}

#[test]
fn the_work_of_an_envelope_is_shared_by_its_inputs() {
    let script = [vec![0x61; 30_000], vec![0x51]].concat();
    for (count, is_valid) in [(1, true), (6, true), (8, false)] {
        let limits = VerificationLimits { bytes: 1_000_000, ..LIMITS };
        let world = World::paying(&vec![script.clone(); count]);
        let input = |coin: &Coin| Input { outpoint: coin.outpoint, script: Vec::new(), sequence: u32::MAX };
        let inputs: Vec<_> = world.coins[2..].iter().map(input).collect();
        let payment = RawTransaction::of(&inputs, &[output(1_000, &world.wallet.script())], 0);
        let beef = world.beef().unmined(&payment).v1();
        let verdict = BeefVerifier::new(Network::Regtest, limits).verify(&beef, &world.chain);
        assert_eq!(verdict.is_ok(), is_valid, "{count}: {verdict:?}");
    }
}

#[test]
fn what_may_not_be_mined_yet_is_refused() {
    let world = World::paying(&[vec![0x51]]);
    let time = world.chain.median_time_past().expect("there are blocks");
    let verdict = |lock_time: u32, sequence: u32| {
        let input = Input { outpoint: world.coins[2].outpoint, script: Vec::new(), sequence };
        let payment = RawTransaction::of(&[input], &[output(1_000, &world.wallet.script())], lock_time);
        world.verify(&world.beef().unmined(&payment).v1()).err()
    };
    let next = world.chain.height() + 1;
    assert_eq!(verdict(next - 1, 0), None);
    assert_eq!(verdict(next, 0), Some(PaymentFault::NotFinal));
    assert_eq!(verdict(next, u32::MAX), None);
    assert_eq!(verdict(time - 1, 0), None);
    assert_eq!(verdict(time, 0), Some(PaymentFault::NotFinal));
}

#[test]
fn a_coinbase_is_spent_after_a_hundred_blocks() {
    let World { mut chain, wallet, .. } = World::new();
    let (coinbase, reward) = chain.mine(&[], &wallet.script(), 0);
    let payment = wallet.spend(&[reward], &[output(1, &wallet.script())]).expect("signed");
    let beef = Beef::new().mined(&coinbase, chain.proof(&coinbase.id()).expect("it is in a block")).unmined(&payment);
    let verify = |chain: &PrivateChain| BeefVerifier::new(Network::Regtest, LIMITS).verify(&beef.v1(), chain);
    for _ in 0..98 {
        chain.mine(&[], &wallet.script(), 0);
    }
    assert_eq!(verify(&chain), Err(PaymentFault::NotFinal));
    chain.mine(&[], &wallet.script(), 0);
    assert!(verify(&chain).is_ok());
}

#[test]
fn two_hashes_of_a_tree_are_no_transaction() {
    let input = Input {
        outpoint: Outpoint { txid: TxId::from_wire([1; 32]), vout: 0 },
        script: vec![0x51; 3],
        sequence: u32::MAX,
    };
    let short = RawTransaction::of(&[input], &[output(1, &[0x51])], 0);
    assert_eq!(short.0.len(), TWO_HASHES);
    let wallet = Wallet::of(&[7; 32]).expect("a key");
    let mut chain = PrivateChain::new();
    chain.mine(std::slice::from_ref(&short), &wallet.script(), 0);
    let beef = Beef::new().mined(&short, chain.proof(&short.id()).expect("it is in a block"));
    let verdict = BeefVerifier::new(Network::Regtest, LIMITS).verify(&beef.v1(), &chain);
    assert!(matches!(verdict, Err(PaymentFault::Malformed(_))));
}
