//! Keys that two parties derive from their identity keys (BRC-42, with the invoice numbers of BRC-43): a key plus an offset, which
//! both parties of a secret can compute. So no identity key signs or is paid itself, and what was made for one purpose is worth
//! nothing for another.

use hmac::{Hmac, KeyInit as _, Mac as _};
use k256::{
    ProjectivePoint, PublicKey, Scalar,
    ecdsa::{SigningKey, VerifyingKey},
    elliptic_curve::{ops::Reduce, sec1::ToSec1Point as _},
};
use penstock_actors::model::IdentityKey;
use sha2::Sha256;

/// A secret that two parties share: a compressed point.
pub(crate) struct SharedSecret([u8; 33]);

impl SharedSecret {
    /// Between an identity and "anyone", whose private key is 1: the identity key itself, so everybody knows it.
    pub(crate) const fn with_anyone(identity: &IdentityKey) -> Self {
        Self(*identity.as_bytes())
    }

    /// Between the holder of a private key and another party; `None` when the other key is no point of the curve.
    pub(crate) fn between(own: &SigningKey, other: &IdentityKey) -> Option<Self> {
        let other = PublicKey::from_sec1_bytes(other.as_bytes()).ok()?;
        compressed(&(other.to_projective() * own.as_nonzero_scalar().as_ref())).map(Self)
    }

    fn offset(&self, invoice: &str) -> Option<Scalar> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(invoice.as_bytes());
        Some(Scalar::reduce(&mac.finalize().into_bytes()))
    }

    /// The public key that belongs to an identity under this secret; `None` when there is none.
    pub(crate) fn public_key(&self, identity: &IdentityKey, invoice: &str) -> Option<VerifyingKey> {
        let root = PublicKey::from_sec1_bytes(identity.as_bytes()).ok()?;
        let moved = root.to_projective() + ProjectivePoint::GENERATOR * self.offset(invoice)?;
        VerifyingKey::from_affine(moved.to_affine()).ok()
    }

    /// The private key that belongs to a root under this secret; `None` when there is none.
    pub(crate) fn private_key(&self, root: &SigningKey, invoice: &str) -> Option<SigningKey> {
        let moved = *root.as_nonzero_scalar().as_ref() + self.offset(invoice)?;
        SigningKey::from_bytes(&moved.to_bytes()).ok()
    }
}

/// Whether a key is a point of the curve. A key that only has the right form verifies nothing.
pub(crate) fn is_on_curve(identity: &IdentityKey) -> bool {
    PublicKey::from_sec1_bytes(identity.as_bytes()).is_ok()
}

/// The public key of a private key.
pub(crate) fn identity_of(root: &SigningKey) -> Option<IdentityKey> {
    as_identity(root.verifying_key())
}

/// A public key in its compressed form.
pub(crate) fn as_identity(key: &VerifyingKey) -> Option<IdentityKey> {
    let point = key.to_sec1_point(true);
    IdentityKey::from_bytes(point.as_bytes().try_into().ok()?).ok()
}

fn compressed(point: &ProjectivePoint) -> Option<[u8; 33]> {
    point.to_affine().to_sec1_point(true).as_bytes().try_into().ok()
}

/// A private key as 64 hexadecimal characters; `None` if it is none.
pub(crate) fn private_key_of(text: &str) -> Option<SigningKey> {
    let digits: Vec<u8> =
        text.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks(2).filter(|pair| pair.len() == 2).map(|pair| pair[0] << 4 | pair[1]).collect();
    SigningKey::from_slice(&bytes).ok().filter(|_| digits.len() == 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of BRC-42: the sender's public key, the recipient's private key, the invoice number, and the private key that the
    /// recipient derives.
    const OF_THE_RECIPIENT: [[&str; 4]; 3] = [
        [
            "033f9160df035156f1c48e75eae99914fa1a1546bec19781e8eddb900200bff9d1",
            "6a1751169c111b4667a6539ee1be6b7cd9f6e9c8fe011a5f2fe31e03a15e0ede",
            "f3WCaUmnN9U=",
            "761656715bbfa172f8f9f58f5af95d9d0dfd69014cfdcacc9a245a10ff8893ef",
        ],
        [
            "027775fa43959548497eb510541ac34b01d5ee9ea768de74244a4a25f7b60fae8d",
            "cab2500e206f31bc18a8af9d6f44f0b9a208c32d5cca2b22acfe9d1a213b2f36",
            "2Ska++APzEc=",
            "09f2b48bd75f4da6429ac70b5dce863d5ed2b350b6f2119af5626914bdb7c276",
        ],
        [
            "0338d2e0d12ba645578b0955026ee7554889ae4c530bd7a3b6f688233d763e169f",
            "7a66d0896f2c4c2c9ac55670c71a9bc1bdbdfb4e8786ee5137cea1d0a05b6f20",
            "cN/yQ7+k7pg=",
            "7114cd9afd1eade02f76703cc976c241246a2f26f5c4b7a3a0150ecc745da9f0",
        ],
    ];

    /// The sender's private key, the recipient's public key, the invoice number, and the public key that the sender derives.
    const OF_THE_SENDER: [[&str; 4]; 3] = [
        [
            "583755110a8c059de5cd81b8a04e1be884c46083ade3f779c1e022f6f89da94c",
            "02c0c1e1a1f7d247827d1bcf399f0ef2deef7695c322fd91a01a91378f101b6ffc",
            "IBioA4D/OaE=",
            "03c1bf5baadee39721ae8c9882b3cf324f0bf3b9eb3fc1b8af8089ca7a7c2e669f",
        ],
        [
            "2c378b43d887d72200639890c11d79e8f22728d032a5733ba3d7be623d1bb118",
            "039a9da906ecb8ced5c87971e9c2e7c921e66ad450fd4fc0a7d569fdb5bede8e0f",
            "PWYuo9PDKvI=",
            "0398cdf4b56a3b2e106224ff3be5253afd5b72de735d647831be51c713c9077848",
        ],
        [
            "d5a5f70b373ce164998dff7ecd93260d7e80356d3d10abf928fb267f0a6c7be6",
            "02745623f4e5de046b6ab59ce837efa1a959a8f28286ce9154a4781ec033b85029",
            "X9pnS+bByrM=",
            "0273eec9380c1a11c5a905e86c2d036e70cbefd8991d9a0cfca671f5e0bbea4a3c",
        ],
    ];

    fn private(text: &str) -> SigningKey {
        private_key_of(text).expect("a private key")
    }

    fn public(text: &str) -> IdentityKey {
        text.parse().expect("a public key")
    }

    #[test]
    fn the_recipient_derives_the_private_keys_of_the_specification() {
        for [sender, recipient, invoice, derived] in OF_THE_RECIPIENT {
            let secret = SharedSecret::between(&private(recipient), &public(sender)).expect("a secret");
            let key = secret.private_key(&private(recipient), invoice).expect("a key");
            assert_eq!(key, private(derived), "{invoice}");
            let identity = identity_of(&private(recipient)).expect("a key");
            assert_eq!(secret.public_key(&identity, invoice).as_ref(), Some(key.verifying_key()), "{invoice}");
        }
    }

    #[test]
    fn the_sender_derives_the_public_keys_of_the_specification() {
        for [sender, recipient, invoice, derived] in OF_THE_SENDER {
            let secret = SharedSecret::between(&private(sender), &public(recipient)).expect("a secret");
            let key = secret.public_key(&public(recipient), invoice).expect("a key");
            assert_eq!(as_identity(&key), Some(public(derived)), "{invoice}");
        }
    }

    #[test]
    fn a_key_off_the_curve_shares_no_secret() {
        let off = IdentityKey::from_bytes([2; 33]).map(|_| [2_u8; 33]).expect("of the right form");
        let keys = (0..=255_u8).filter_map(|last| {
            let mut bytes = off;
            bytes[32] = last;
            IdentityKey::from_bytes(bytes).ok().filter(|key| !is_on_curve(key))
        });
        let own = private(OF_THE_SENDER[0][0]);
        let mut count = 0;
        for key in keys {
            assert!(SharedSecret::between(&own, &key).is_none(), "{key}");
            count += 1;
        }
        assert!(count > 50, "about every second one is off the curve: {count}");
    }

    #[test]
    fn only_64_hexadecimal_characters_that_are_below_the_order_of_the_curve_are_a_private_key() {
        for text in ["", "00", &"0".repeat(64), &"f".repeat(64), &"1".repeat(63), &"1".repeat(65), &"é".repeat(32)] {
            assert!(private_key_of(text).is_none(), "{text}");
        }
        assert!(private_key_of(&"1".repeat(64)).is_some());
    }
}
