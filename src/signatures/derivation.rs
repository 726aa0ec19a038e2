//! The key that signs one message (BRC-42, with the protocol and key id of BRC-43): the identity key plus an offset
//! that anyone can compute. So a wallet never signs with the identity key itself, and a signature made for another
//! purpose is not valid here.

use hmac::{Hmac, KeyInit as _, Mac as _};
use k256::{
    ProjectivePoint, PublicKey, Scalar,
    ecdsa::{SigningKey, VerifyingKey},
    elliptic_curve::ops::Reduce,
};
use penstock_actors::model::IdentityKey;
use sha2::Sha256;

/// Security level and name of the protocol, as in the general messages of BRC-103.
const PROTOCOL: &str = "2-auth message signature";

/// Whether a key is a point of the curve. A key that only has the right form verifies nothing.
pub fn is_on_curve(identity: &IdentityKey) -> bool {
    PublicKey::from_sec1_bytes(identity.as_bytes()).is_ok()
}

/// The key that verifies an identity's signatures under a key id; `None` when there is none.
pub(super) fn verifying_key(identity: &IdentityKey, key_id: &str) -> Option<VerifyingKey> {
    let root = PublicKey::from_sec1_bytes(identity.as_bytes()).ok()?;
    let moved = root.to_projective() + ProjectivePoint::GENERATOR * offset(identity, key_id)?;
    VerifyingKey::from_affine(moved.to_affine()).ok()
}

/// The key that signs under a key id; `None` when there is none.
pub(super) fn signing_key(root: &SigningKey, key_id: &str) -> Option<SigningKey> {
    let moved = *root.as_nonzero_scalar().as_ref() + offset(&identity_of(root)?, key_id)?;
    SigningKey::from_bytes(&moved.to_bytes()).ok()
}

/// The public key.
pub(super) fn identity_of(root: &SigningKey) -> Option<IdentityKey> {
    let point = root.verifying_key().to_sec1_point(true);
    IdentityKey::from_bytes(point.as_bytes().try_into().ok()?).ok()
}

/// The offset of the key. The secret shared by the signer and "anyone" (whose private key is 1) is the identity key
/// itself.
fn offset(identity: &IdentityKey, key_id: &str) -> Option<Scalar> {
    let mut mac = Hmac::<Sha256>::new_from_slice(identity.as_bytes()).ok()?;
    mac.update(PROTOCOL.as_bytes());
    mac.update(b"-");
    mac.update(key_id.as_bytes());
    Some(Scalar::reduce(&mac.finalize().into_bytes()))
}
