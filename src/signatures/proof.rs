//! The content of the header fields that name the signer and the audience of a request, and hold the signature.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use k256::ecdsa::{Signature, signature::Verifier as _};
use penstock_actors::model::IdentityKey;
use sha2::{Digest as _, Sha256};

use super::{
    fields::{
        IDENTITY_FIELD, NONCE_FIELD, REQUEST_ID_FIELD, SIGNATURE_FIELD, VERSION_FIELD, YOUR_NONCE_FIELD, is_proof,
    },
    message::Message,
};
use crate::key_derivation::SharedSecret;

/// The version of BRC-103 that its implementations send.
pub(super) const VERSION: &str = "0.1";

/// Security level and name of the protocol, as in the general messages of BRC-103.
const PROTOCOL: &str = "2-auth message signature";

/// The longest signature: two numbers of 33 bytes in DER.
const SIGNATURE_BYTES: usize = 72;

/// Digits of a time in milliseconds; enough until the year 5138.
const TIMESTAMP_DIGITS: usize = 14;

/// The audience of a signed request: the SHA-256 of the origin that the signer calls, in place of a nonce of its
/// session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Audience(pub(super) [u8; 32]);

impl Audience {
    /// The audience of an origin such as `https://node.example.com`.
    pub fn of(origin: &str) -> Self {
        Self(Sha256::digest(origin.as_bytes()).into())
    }
}

/// Why a proof cannot be parsed. The text is for the signer's developer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MalformedProof {
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{0} occurs twice")]
    Twice(&'static str),
    #[error("there is a field of x-bsv-auth- that this node does not know")]
    Unknown,
    #[error("{0} is not 32 bytes in base64")]
    NoNonce(&'static str),
    #[error("x-bsv-auth-identity-key is not 66 lower-case hexadecimal characters: a compressed public key")]
    IdentityKey,
    #[error(
        "x-bsv-auth-signature is not an ECDSA signature, DER in lower-case hexadecimal characters, with the lower s"
    )]
    Signature,
    #[error("x-bsv-auth-version is not 0.1")]
    Version,
    #[error("x-bsv-timestamp is not a time in milliseconds since 1970")]
    Timestamp,
}

/// The content of the fields. Only [`verifies`](Self::verifies) checks the signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    pub identity: IdentityKey,
    /// Chosen by the signer for this request alone.
    pub nonce: [u8; 32],
    pub audience: Audience,
    pub request_id: [u8; 32],
    pub signature: Signature,
}

impl Proof {
    /// Parses the fields of the proof and ignores others. Names are in lower case.
    ///
    /// # Errors
    /// When a field is missing, occurs twice, or is malformed.
    pub fn read<'a>(fields: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Self, MalformedProof> {
        const FIELDS: [&str; 6] =
            [VERSION_FIELD, IDENTITY_FIELD, NONCE_FIELD, YOUR_NONCE_FIELD, REQUEST_ID_FIELD, SIGNATURE_FIELD];
        let mut found: [Option<&[u8]>; FIELDS.len()] = [None; FIELDS.len()];
        for (name, value) in fields.into_iter().filter(|(name, _)| is_proof(name)) {
            let place = FIELDS.iter().position(|field| *field == name).ok_or(MalformedProof::Unknown)?;
            if found[place].replace(value).is_some() {
                return Err(MalformedProof::Twice(FIELDS[place]));
            }
        }
        let field = |place: usize| found[place].ok_or(MalformedProof::Missing(FIELDS[place]));
        if field(0)? != VERSION.as_bytes() {
            return Err(MalformedProof::Version);
        }
        let identity = std::str::from_utf8(field(1)?).ok().and_then(|text| text.parse().ok());
        let nonce = |place: usize| nonce(field(place)?).ok_or(MalformedProof::NoNonce(FIELDS[place]));
        Ok(Self {
            identity: identity.ok_or(MalformedProof::IdentityKey)?,
            nonce: nonce(2)?,
            audience: Audience(nonce(3)?),
            request_id: nonce(4)?,
            signature: signature(field(5)?).ok_or(MalformedProof::Signature)?,
        })
    }

    /// Whether the identity has signed this message, with this nonce and for this audience. Nothing in it is secret.
    pub fn verifies(&self, message: &Message<'_>) -> bool {
        let secret = SharedSecret::with_anyone(&self.identity);
        let key = secret.public_key(&self.identity, &invoice(&self.nonce, self.audience));
        key.is_some_and(|key| key.verify(&message.bytes(), &self.signature).is_ok())
    }
}

/// The time at which a request claims to have been signed.
pub fn signed_at(value: &[u8]) -> Result<Timestamp, MalformedProof> {
    let digits = std::str::from_utf8(value)
        .ok()
        .filter(|text| (1..=TIMESTAMP_DIGITS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()));
    let millis = digits.and_then(|digits| digits.parse().ok());
    millis.and_then(|millis| Timestamp::from_millisecond(millis).ok()).ok_or(MalformedProof::Timestamp)
}

/// The invoice number of the signing key (BRC-43): its id is this request's nonce and the audience, as BRC-103 joins the nonces of two
/// peers.
pub(super) fn invoice(nonce: &[u8; 32], audience: Audience) -> String {
    format!("{PROTOCOL}-{} {}", STANDARD.encode(nonce), STANDARD.encode(audience.0))
}

/// 32 bytes in their only base64 form.
fn nonce(text: &[u8]) -> Option<[u8; 32]> {
    if text.len() != 44 {
        return None;
    }
    STANDARD.decode(text).ok()?.try_into().ok()
}

/// A signature in strict DER. Each signature has two forms; only the one with the lower s is accepted.
fn signature(text: &[u8]) -> Option<Signature> {
    if !text.len().is_multiple_of(2) || text.len() > 2 * SIGNATURE_BYTES {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let der: Option<Vec<u8>> = text.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect();
    let signature = Signature::from_der(&der?).ok()?;
    (signature.normalize_s() == signature).then_some(signature)
}
