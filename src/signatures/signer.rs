//! Signing, on the client's side.

use std::{io, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use k256::ecdsa::{Signature, SigningKey, signature::Signer as _};
use penstock_actors::model::IdentityKey;

use super::{
    fields::{
        IDENTITY_FIELD, NONCE_FIELD, REQUEST_ID_FIELD, SIGNATURE_FIELD, TIMESTAMP, VERSION_FIELD, YOUR_NONCE_FIELD,
    },
    message::Message,
    proof::{Audience, VERSION, invoice},
};
use crate::{
    key_derivation::{SharedSecret, identity_of, private_key_of},
    words,
};

/// Why nothing can be signed. The key is never shown.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    #[error("the identity key cannot be read")]
    Unreadable(#[from] io::Error),
    #[error("an identity key is a file with 64 hexadecimal characters: a private key of secp256k1")]
    NoKey,
    #[error("the system provides no random bytes: {0}")]
    NoRandomness(#[from] getrandom::Error),
}

/// A request to be signed.
#[derive(Debug, Clone)]
pub struct Unsigned<'a> {
    pub method: &'a str,
    /// The path that the node sees.
    pub path: &'a str,
    pub query: Option<&'a str>,
    /// The fields that [`is_signed`](super::is_signed) names, except the time.
    pub fields: Vec<(&'a str, &'a [u8])>,
}

/// A private identity key.
pub struct Signer {
    root: SigningKey,
    identity: IdentityKey,
}

impl Signer {
    /// The key in a file, as 64 hexadecimal characters.
    ///
    /// # Errors
    /// When the file cannot be read or does not hold a key.
    pub fn from_file(path: &Path) -> Result<Self, SignerError> {
        Self::from_hex(words::text_of(path)?.trim()).ok_or(SignerError::NoKey)
    }

    /// A key as 64 hexadecimal characters; `None` if it is invalid.
    pub fn from_hex(text: &str) -> Option<Self> {
        let root = private_key_of(text)?;
        Some(Self { identity: identity_of(&root)?, root })
    }

    /// The public key.
    pub fn identity(&self) -> IdentityKey {
        self.identity
    }

    /// Signs a request for an audience; returns the fields to send with it.
    ///
    /// # Errors
    /// When the system provides no random bytes.
    pub fn sign(
        &self,
        request: &Unsigned<'_>,
        audience: Audience,
        at: Timestamp,
    ) -> Result<Vec<(&'static str, String)>, SignerError> {
        let (mut nonce, mut request_id) = ([0; 32], [0; 32]);
        getrandom::fill(&mut nonce)?;
        getrandom::fill(&mut request_id)?;
        let timestamp = at.as_millisecond().to_string();
        let mut fields = request.fields.clone();
        fields.push((TIMESTAMP, timestamp.as_bytes()));
        let &Unsigned { method, path, query, .. } = request;
        let message = Message { request_id, method, path, query, fields };
        // One nonce in 2^256 has no key: the next attempt uses another nonce.
        let secret = SharedSecret::with_anyone(&self.identity);
        let key = secret.private_key(&self.root, &invoice(&nonce, audience)).ok_or(SignerError::NoKey)?;
        let signature: Signature = key.sign(&message.bytes());
        let der = signature.normalize_s().to_der();
        let hex = der.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(vec![
            (VERSION_FIELD, VERSION.to_owned()),
            (IDENTITY_FIELD, self.identity.to_string()),
            (NONCE_FIELD, STANDARD.encode(nonce)),
            (YOUR_NONCE_FIELD, STANDARD.encode(audience.0)),
            (REQUEST_ID_FIELD, STANDARD.encode(request_id)),
            (SIGNATURE_FIELD, hex),
            (TIMESTAMP, timestamp),
        ])
    }
}
