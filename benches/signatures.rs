//! What a signed request costs a processor: reading the proof and verifying it, and refusing one whose signature is another's. What
//! is asked of the shared state comes on top, and is no processor's work.

use divan::{Bencher, black_box};
use jiff::Timestamp;
use penstock::signatures::{Audience, Message, Proof, Signer, Unsigned, is_signed};

const KEY: &str = "1f2e3d4c5b6a79880102030405060708090a0b0c0d0e0f101112131415161718";
const PATH: &str = "/v1/assets";

fn main() {
    divan::main();
}

fn audience() -> Audience {
    Audience::of("https://node.example.com")
}

/// The fields of a request that was signed now, those about its body among them.
fn fields() -> Vec<(&'static str, String)> {
    let digest = ("content-digest", format!("sha-256=:{}:", "A".repeat(43) + "="));
    let about = [("content-type", "application/json".to_owned()), digest];
    let unsigned = Unsigned {
        method: "POST",
        path: PATH,
        query: None,
        fields: about.iter().map(|(name, value)| (*name, value.as_bytes())).collect(),
    };
    let signer = Signer::from_hex(KEY).expect("a key");
    let proof = signer.sign(&unsigned, audience(), Timestamp::now()).expect("signed");
    about.into_iter().chain(proof).collect()
}

/// What the server does with them.
fn verify(fields: &[(&'static str, String)], path: &str) -> bool {
    let bytes = || fields.iter().map(|(name, value)| (*name, value.as_bytes()));
    let proof = Proof::read(bytes()).expect("a proof");
    let message = Message {
        request_id: proof.request_id,
        method: "POST",
        path,
        query: None,
        fields: bytes().filter(|(name, _)| is_signed(name)).collect(),
    };
    proof.verifies(&message)
}

#[divan::bench]
fn an_intact_message(bencher: Bencher<'_, '_>) {
    let fields = fields();
    assert!(verify(&fields, PATH));
    bencher.bench_local(|| verify(black_box(&fields), PATH));
}

#[divan::bench]
fn a_changed_message(bencher: Bencher<'_, '_>) {
    let fields = fields();
    assert!(!verify(&fields, "/v1/receipts"));
    bencher.bench_local(|| verify(black_box(&fields), "/v1/receipts"));
}

#[divan::bench]
fn signing(bencher: Bencher<'_, '_>) {
    bencher.bench_local(fields);
}
