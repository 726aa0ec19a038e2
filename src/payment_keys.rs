//! The port `PaymentKeys`: private keys in this process. Nothing shows them, neither logs nor errors nor debug output.

use std::fmt;

use k256::ecdsa::SigningKey;
use penstock_actors::{
    model::{Derivation, IdentityKey},
    ports,
};
use ripemd::Ripemd160;
use sha2::{Digest as _, Sha256};

use crate::key_derivation::{SharedSecret, as_identity, identity_of, private_key_of};

/// Security level and name of the protocol (BRC-29).
const PROTOCOL: &str = "2-3241645161d8";

/// The most earlier keys: each is one more derivation for a payment that pays no later one.
const MOST_OLD_KEYS: usize = 16;

/// A payment key.
struct PaymentKey {
    root: SigningKey,
    identity: IdentityKey,
}

/// The key that payers are told, and earlier ones.
pub struct PaymentKeys {
    current: PaymentKey,
    old: Vec<PaymentKey>,
}

/// Shows the public keys.
impl fmt::Debug for PaymentKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let old: Vec<_> = self.old.iter().map(|key| key.identity).collect();
        f.debug_struct("PaymentKeys").field("current", &self.current.identity).field("old", &old).finish()
    }
}

impl PaymentKey {
    fn parse(text: &str) -> Option<Self> {
        let root = private_key_of(text.trim())?;
        Some(Self { identity: identity_of(&root)?, root })
    }

    /// The script that pays this key's derived key (P2PKH).
    fn script(&self, sender: &IdentityKey, invoice: &str) -> Option<[u8; 25]> {
        let secret = SharedSecret::between(&self.root, sender)?;
        let derived = as_identity(&secret.public_key(&self.identity, invoice)?)?;
        Some(pays_to(&derived))
    }
}

/// `OP_DUP OP_HASH160 <20 bytes> OP_EQUALVERIFY OP_CHECKSIG`.
fn pays_to(key: &IdentityKey) -> [u8; 25] {
    let mut script = [0; 25];
    script[..3].copy_from_slice(&[0x76, 0xa9, 0x14]);
    script[3..23].copy_from_slice(&Ripemd160::digest(Sha256::digest(key.as_bytes())));
    script[23..].copy_from_slice(&[0x88, 0xac]);
    script
}

impl PaymentKeys {
    /// Private keys as 64 hexadecimal characters: the current one, and earlier ones separated by commas or white space. `None` when one
    /// is not of this form, or there are more than 16 earlier ones.
    pub fn parse(current: &str, old: &str) -> Option<Self> {
        let old = old.split([',', ' ', '\n', '\r', '\t']).filter(|text| !text.is_empty());
        let old: Vec<_> = old.map(PaymentKey::parse).collect::<Option<_>>()?;
        Some(Self { current: PaymentKey::parse(current)?, old }).filter(|keys| keys.old.len() <= MOST_OLD_KEYS)
    }
}

impl ports::PaymentKeys for PaymentKeys {
    fn current(&self) -> IdentityKey {
        self.current.identity
    }

    fn payee(&self, script: &[u8], sender: &IdentityKey, derivation: &Derivation) -> Option<IdentityKey> {
        let invoice = format!("{PROTOCOL}-{} {}", derivation.prefix, derivation.suffix);
        let mut keys = std::iter::once(&self.current).chain(&self.old);
        keys.find(|key| key.script(sender, &invoice).is_some_and(|paid| paid == *script)).map(|key| key.identity)
    }
}

#[cfg(test)]
mod tests {
    use penstock_actors::ports::PaymentKeys as _;

    use super::*;

    const CURRENT: &str = "6a1751169c111b4667a6539ee1be6b7cd9f6e9c8fe011a5f2fe31e03a15e0ede";
    const OLD: &str = "cab2500e206f31bc18a8af9d6f44f0b9a208c32d5cca2b22acfe9d1a213b2f36";
    const SENDER: &str = "583755110a8c059de5cd81b8a04e1be884c46083ade3f779c1e022f6f89da94c";

    fn derivation() -> Derivation {
        Derivation { prefix: "cHJlZml4".into(), suffix: "MTc2NDU0NzIwMDAwMA==".into() }
    }

    /// As a payer makes it.
    fn script(sender: &SigningKey, payee: &IdentityKey, derivation: &Derivation) -> [u8; 25] {
        let secret = SharedSecret::between(sender, payee).expect("a secret");
        let invoice = format!("2-3241645161d8-{} {}", derivation.prefix, derivation.suffix);
        pays_to(&as_identity(&secret.public_key(payee, &invoice).expect("a key")).expect("a key"))
    }

    #[test]
    fn what_a_payer_derives_is_paid_to_the_key_that_it_was_told_or_was_told_once() {
        let keys = PaymentKeys::parse(CURRENT, OLD).expect("keys");
        let sender = private_key_of(SENDER).expect("a key");
        let identity = identity_of(&sender).expect("a key");
        for payee in [keys.current.identity, keys.old[0].identity] {
            let script = script(&sender, &payee, &derivation());
            assert_eq!(keys.payee(&script, &identity, &derivation()), Some(payee));
            let another = Derivation { suffix: "b".into(), ..derivation() };
            assert_eq!(keys.payee(&script, &identity, &another), None);
            assert_eq!(keys.payee(&script, &payee, &derivation()), None, "another sender");
            assert_eq!(keys.payee(&script[..24], &identity, &derivation()), None);
        }
        let forgotten = PaymentKeys::parse(CURRENT, "").expect("keys");
        let script = script(&sender, &keys.old[0].identity, &derivation());
        assert_eq!(forgotten.payee(&script, &identity, &derivation()), None);
    }

    #[test]
    fn the_script_of_a_known_key_is_the_one_of_its_address() {
        // The key of the generator has the address 1BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAMH.
        let one = identity_of(&private_key_of(&format!("{:064}", 1)).expect("a key")).expect("a key");
        let hex: String = pays_to(&one).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "76a914751e76e8199196d454941c45d1b3a323f1433bd688ac");
    }

    #[test]
    fn no_output_shows_a_private_key_and_what_is_no_key_is_refused() {
        let keys = PaymentKeys::parse(CURRENT, OLD).expect("keys");
        let shown = format!("{keys:?}");
        assert!(!shown.contains(CURRENT) && !shown.contains(OLD) && shown.contains(&keys.current.identity.to_string()));
        for (current, old) in [("", ""), ("5Kb8kLf9zgWQnogidDA76MzPL6TsZZY36hWXMssSzNydYXYB9KF", ""), (CURRENT, "x")] {
            assert!(PaymentKeys::parse(current, old).is_none(), "{current} {old}");
        }
        assert!(PaymentKeys::parse(CURRENT, &format!("{OLD},").repeat(16)).is_some());
        assert!(PaymentKeys::parse(CURRENT, &format!("{OLD},").repeat(17)).is_none());
    }
}
