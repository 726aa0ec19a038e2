//! Test vectors of `@bsv/sdk`, and signatures that must not verify.

use k256::ecdsa::Signature;
use proptest::prelude::*;

use super::{
    proof::{Audience, MalformedProof, Proof, signed_at},
    *,
};
use crate::key_derivation::is_on_curve;

/// A private key, and the signature that `@bsv/sdk` 2.1.0 made with it: `ProtoWallet.createSignature` of the payload
/// with the protocol `[2, "auth message signature"]`, the two nonces as key id, and `anyone` as counterparty.
const KEY: &str = "1f2e3d4c5b6a79880102030405060708090a0b0c0d0e0f101112131415161718";
const SIGNED: [(&str, &str); 6] = [
    ("x-bsv-auth-version", "0.1"),
    ("x-bsv-auth-identity-key", "02961a58f7ce58ec61de395e8d2dd056acb29a21992c84814e381a2580891de975"),
    ("x-bsv-auth-nonce", "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="),
    ("x-bsv-auth-your-nonce", "hbUB6fx4EEMgiHVtXctpszuFr5F1pUaVxNeYsI61VQY="),
    ("x-bsv-auth-request-id", "yMfGxcTDwsHAv769vLu6ubi3trW0s7KxsK+urayrqqk="),
    (
        "x-bsv-auth-signature",
        "30440220009b681a5002cd2901caf1eca3fe9bdf4b87ecf92ee2e3313528fc4f1f367a8a02205da1dcf267bf4c22978394a93616b113ab7e59918\
         fdc9bf6c9e553ef4b32697f",
    ),
];
const FIELDS: [(&str, &str); 3] = [
    ("content-digest", "sha-256=:GlnAPqnI3d4M7KIx5hb7WkT9hjcOQm6mKZeI9d4sE14=:"),
    ("content-type", "application/json"),
    ("x-bsv-timestamp", "1795510800000"),
];
const PAYLOAD_HEAD: &str = "c8c7c6c5c4c3c2c1c0bfbebdbcbbbab9b8b7b6b5b4b3b2b1b0afaeadacabaaa904504f53540a2f76312f617373657473ff\
                            ffffffffffffffff030e636f6e74656e742d646967657374";

fn fields(of: &'static [(&'static str, &'static str)]) -> Vec<(&'static str, &'static [u8])> {
    of.iter().map(|(name, value)| (*name, value.as_bytes())).collect()
}

fn vector() -> (Proof, Message<'static>) {
    let proof = Proof::read(fields(&SIGNED)).expect("a proof");
    let request_id = proof.request_id;
    (proof, Message { request_id, method: "POST", path: "/v1/assets", query: None, fields: fields(&FIELDS) })
}

#[test]
fn what_a_wallet_of_the_ecosystem_signs_verifies() {
    let (proof, message) = vector();
    let head: String = message.bytes()[..PAYLOAD_HEAD.len() / 2].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(head, PAYLOAD_HEAD);
    assert_eq!(proof.audience, Audience::of("https://node.example.com"));
    assert!(proof.verifies(&message));
    assert_eq!(Signer::from_hex(KEY).expect("a key").identity(), proof.identity);
}

#[test]
fn the_order_of_fields_does_not_matter() {
    let (proof, mut message) = vector();
    message.fields.reverse();
    assert!(proof.verifies(&message));
}

#[test]
fn what_the_client_signs_verifies_for_its_audience_alone() {
    let (signer, audience) = (Signer::from_hex(KEY).expect("a key"), Audience::of("https://one.example"));
    let about = [("content-type", &b"text/plain"[..])];
    let unsigned = Unsigned { method: "PUT", path: "/v1/x", query: Some("a=1"), fields: about.to_vec() };
    let sent = signer.sign(&unsigned, audience, jiff::Timestamp::now()).expect("signed");
    let sent: Vec<_> = sent.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    let proof = Proof::read(sent.iter().copied()).expect("a proof");
    let signed = sent.iter().copied().filter(|(name, _)| is_signed(name)).chain(about).collect();
    let message =
        Message { request_id: proof.request_id, method: "PUT", path: "/v1/x", query: Some("a=1"), fields: signed };
    assert!(proof.verifies(&message));
    assert!(!Proof { audience: Audience::of("https://other.example"), ..proof }.verifies(&message));
}

#[test]
fn of_the_two_forms_of_a_signature_one_counts() {
    let (proof, message) = vector();
    let (r, s) = proof.signature.split_scalars();
    let high = Signature::from_scalars(r.to_bytes(), (-*s).to_bytes()).expect("a signature");
    assert!(!Proof { signature: high, ..proof }.verifies(&message));
    let hex: String = high.to_der().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut sent = fields(&SIGNED);
    sent[5].1 = hex.as_bytes();
    assert_eq!(Proof::read(sent), Err(MalformedProof::Signature));
}

#[test]
fn a_key_that_is_no_point_verifies_nothing() {
    let (proof, message) = vector();
    // x = 5 is not on the curve.
    let identity = format!("02{}5", "0".repeat(63)).parse().expect("the form of a key");
    assert!(!is_on_curve(&identity));
    assert!(!Proof { identity, ..proof }.verifies(&message));
}

#[test]
fn a_field_that_is_missing_doubled_or_unknown_is_reported() {
    for place in 0..SIGNED.len() {
        let name = SIGNED[place].0;
        let mut sent = fields(&SIGNED);
        sent.push(sent[place]);
        assert_eq!(Proof::read(sent.iter().copied()), Err(MalformedProof::Twice(name)));
        sent.retain(|(other, _)| *other != name);
        assert_eq!(Proof::read(sent.iter().copied()), Err(MalformedProof::Missing(name)));
    }
    let more = fields(&SIGNED).into_iter().chain([("x-bsv-auth-message-type", &b"general"[..])]);
    assert_eq!(Proof::read(more), Err(MalformedProof::Unknown));
}

#[test]
fn times_have_one_form() {
    assert_eq!(signed_at(b"1795510800000").expect("a time").as_second(), 1_795_510_800);
    for text in [&b""[..], b"-1", b"+1", b"1.5", b"179551080000000", b"2026-11-24T07:00:00Z", b"\xff"] {
        assert_eq!(signed_at(text), Err(MalformedProof::Timestamp), "{text:?}");
    }
}

#[test]
fn keys_that_are_none_sign_nothing() {
    for text in ["", "12", &"0".repeat(64), &"f".repeat(64), &"1".repeat(63), &"1".repeat(66), &"g".repeat(64)] {
        assert!(Signer::from_hex(text).is_none(), "{text}");
    }
}

/// A part of the request.
#[derive(Debug, Clone, Copy)]
enum Part {
    Method,
    Path,
    Query,
    Name(usize),
    Value(usize),
    Proof(usize),
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        Just(Part::Method),
        Just(Part::Path),
        Just(Part::Query),
        (0..FIELDS.len()).prop_map(Part::Name),
        (0..FIELDS.len()).prop_map(Part::Value),
        (0..SIGNED.len()).prop_map(Part::Proof),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_byte_of_a_request_is_changed_it_does_not_verify(part in part(), at: prop::sample::Index, to in 0x21_u8..0x7f) {
        let own = |list: &[(&str, &str)]| -> Vec<(String, Vec<u8>)> {
            list.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect()
        };
        let change = |text: &mut String| {
            let mut bytes = std::mem::take(text).into_bytes();
            let at = at.index(bytes.len());
            let changed = bytes[at] != to;
            bytes[at] = to;
            *text = String::from_utf8(bytes).expect("ASCII");
            changed
        };
        let (mut method, mut path, mut query) = ("POST".to_owned(), "/v1/assets".to_owned(), None);
        let (mut about, mut proof) = (own(&FIELDS), own(&SIGNED));
        let changed = match part {
            Part::Method => change(&mut method),
            Part::Path => change(&mut path),
            Part::Query => { query = Some(char::from(to).to_string()); true }
            Part::Name(place) => change(&mut about[place].0),
            Part::Value(place) => {
                let mut text = String::from_utf8(about[place].1.clone()).expect("ASCII");
                let changed = change(&mut text);
                about[place].1 = text.into_bytes();
                changed
            }
            Part::Proof(place) => {
                let mut text = String::from_utf8(proof[place].1.clone()).expect("ASCII");
                let changed = change(&mut text);
                proof[place].1 = text.into_bytes();
                changed
            }
        };
        prop_assume!(changed);
        let read = Proof::read(proof.iter().map(|(name, value)| (name.as_str(), value.as_slice())));
        let verifies = read.is_ok_and(|proof| {
            let fields = about.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
            proof.verifies(&Message { request_id: proof.request_id, method: &method, path: &path, query: query.as_deref(), fields })
        });
        prop_assert!(!verifies);
    }

    #[test]
    fn no_field_that_is_taken_away_or_added_verifies(place in 0..FIELDS.len(), name in "x-bsv-[a-z]{1,8}", value in "[ -~]{0,20}") {
        let (proof, message) = vector();
        let mut fewer = message.clone();
        fewer.fields.remove(place);
        prop_assert!(!proof.verifies(&fewer));
        let mut more = message;
        more.fields.push((&name, value.as_bytes()));
        prop_assert!(!proof.verifies(&more));
    }

    #[test]
    fn no_bytes_make_the_parser_fail_otherwise_than_by_an_error(place in 0..SIGNED.len(), value in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut sent = fields(&SIGNED);
        sent[place].1 = &value;
        let _ = Proof::read(sent);
        let _ = signed_at(&value);
    }

    #[test]
    fn different_requests_are_different_bytes(
        one in ("[A-Z]{1,5}", "/[a-z?&]{0,6}", prop::option::of("[a-z?&]{0,4}"), prop::collection::vec(("[a-z]{1,4}", "[a-z:]{0,5}"), 0..3)),
        other in ("[A-Z]{1,5}", "/[a-z?&]{0,6}", prop::option::of("[a-z?&]{0,4}"), prop::collection::vec(("[a-z]{1,4}", "[a-z:]{0,5}"), 0..3)),
    ) {
        let bytes = |(method, path, query, fields): &(String, String, Option<String>, Vec<(String, String)>)| {
            let fields = fields.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
            Message { request_id: [0; 32], method, path, query: query.as_deref(), fields }.bytes()
        };
        let sorted = |(method, path, query, fields): &(String, String, Option<String>, Vec<(String, String)>)| {
            let mut fields = fields.clone();
            fields.sort();
            (method.clone(), path.clone(), query.clone(), fields)
        };
        prop_assert_eq!(bytes(&one) == bytes(&other), sorted(&one) == sorted(&other));
    }
}
