use super::*;
use crate::adapters::bsv::miner::PrivateChain;

fn followed(rules: &NetworkRules, raw: RawHeader, before: &[ChainHeader]) -> Result<ChainHeader, HeaderFault> {
    rules.follow(&rules.check(&raw)?, before)
}

/// With another number, so that its work holds.
fn mined(rules: &NetworkRules, mut raw: RawHeader) -> RawHeader {
    for nonce in 0..u32::MAX {
        raw.0[76..].copy_from_slice(&nonce.to_le_bytes());
        if rules.check(&raw).is_ok() {
            break;
        }
    }
    raw
}

fn private(blocks: u32) -> Vec<ChainHeader> {
    let mut chain = PrivateChain::new();
    for _ in 0..blocks {
        chain.mine(&[], &[0x51], 1_700_000_000);
    }
    chain.headers_from(0)
}

#[test]
fn the_first_header_is_that_of_the_network() {
    for network in [Network::Main, Network::Test, Network::Regtest] {
        let rules = NetworkRules::of(network);
        let first = followed(&rules, rules.first_header(), &[]).expect("the first block");
        assert_eq!((first.height, first.total_work > ChainWork::default()), (0, true));
    }
    let (main, test) = (NetworkRules::of(Network::Main), NetworkRules::of(Network::Test));
    assert_eq!(followed(&main, test.first_header(), &[]), Err(HeaderFault::Checkpoint));
}

/// The blocks of the main network after the first.
const MAIN: [&str; 3] = [
    "010000006fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000982051fd1e4ba744bbbe680e1fee14677ba1a3c3540bf7b1cdb606e857233e0e61bc6649ffff001d01e36299",
    "010000004860eb18bf1b1620e37e9490fc8a427514416fd75159ab86688e9a8300000000d5fdcc541e25de1c7a5addedf24858b8bb665c9f36ef744ee42c316022c90f9bb0bc6649ffff001d08d2bd61",
    "01000000bddd99ccfda39da1b108ce1a5d70038d0a967bacb68b6b63065f626a0000000044f672226090d85db9a9f2fbfe5f0f9609b387af7be5b7fbb7a1767c831c9e995dbe6649ffff001d05e0ed6d",
];

#[test]
fn the_headers_of_the_main_network_fulfil_its_rules() {
    let rules = NetworkRules::of(Network::Main);
    let mut before = vec![followed(&rules, rules.first_header(), &[]).expect("the first block")];
    for text in MAIN {
        let raw = RawHeader(bsv_rs::from_hex(text).expect("hexadecimal").try_into().expect("80 bytes"));
        before.push(followed(&rules, raw, &before).expect("a block of the network"));
    }
    let third = "0000000082b5015589a3fdf2d4baff403e6f0be035a5d9742c1cae6295464449";
    assert_eq!(before[3].hash.to_string(), third);
}

#[test]
fn a_header_without_its_work_is_refused() {
    let rules = NetworkRules::of(Network::Main);
    let mut raw = rules.first_header();
    raw.0[76] ^= 1;
    assert_eq!(rules.check(&raw), Err(HeaderFault::Work));
    // With the easiest target there is, which the network does not accept.
    let private = NetworkRules::of(Network::Regtest);
    assert!(private.check(&private.first_header()).is_ok());
    assert_eq!(rules.check(&private.first_header()), Err(HeaderFault::Work));
}

#[test]
fn a_header_with_another_target_is_refused() {
    let rules = NetworkRules::of(Network::Regtest);
    let before = private(3);
    let mut raw = before[3].raw;
    raw.0[72..76].copy_from_slice(&0x207f_fffe_u32.to_le_bytes());
    assert_eq!(followed(&rules, mined(&rules, raw), &before[..3]), Err(HeaderFault::Target));
}

#[test]
fn a_header_is_later_than_the_median_before_it() {
    let rules = NetworkRules::of(Network::Regtest);
    let before = private(20);
    let median = before[15].raw.time();
    for (time, verdict) in [(median, Some(HeaderFault::Time)), (median + 1, None)] {
        let mut raw = before[20].raw;
        raw.0[4..36].copy_from_slice(before[20].hash.as_wire());
        raw.0[68..72].copy_from_slice(&time.to_le_bytes());
        assert_eq!(followed(&rules, mined(&rules, raw), &before).err(), verdict);
    }
}

#[test]
fn work_adds_up_along_a_chain() {
    let headers = private(5);
    for (height, pair) in (1..).zip(headers.windows(2)) {
        assert_eq!(pair[1].height, height);
        assert_eq!(pair[1].raw.previous(), pair[0].hash);
        assert!(pair[1].total_work > pair[0].total_work);
    }
}
