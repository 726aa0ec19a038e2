//! API keys: how they are generated, hashed and looked up, and where the first admin key comes from.
//!
//! Only the BLAKE3 hash of a secret is stored. A generated secret has 256 random bits, so a slow hash would add
//! nothing.

mod admin;
mod ring;

pub use admin::{ADMIN, ADMIN_KEY, AdminKey, ensure_admin};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
pub use ring::KeyRing;

/// The BLAKE3 hash of a secret, which is stored and looked up.
pub type SecretHash = [u8; 32];

/// The prefix of every generated secret, so that scanners recognise a leaked one.
const PREFIX: &str = "pk_";

/// The secret of a new key. It is shown once; afterwards only its hash is known.
pub struct NewSecret {
    pub text: String,
    pub hash: SecretHash,
}

/// Generates a secret: `pk_` and 32 random bytes in base64url.
///
/// # Errors
/// When the system provides no random bytes.
pub fn generate() -> Result<NewSecret, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
    let hash = hash(&text);
    Ok(NewSecret { text, hash })
}

/// The hash under which a secret is stored.
pub fn hash(secret: &str) -> SecretHash {
    *blake3::hash(secret.as_bytes()).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_secrets_differ_and_carry_256_bits() {
        let (first, second) = (generate().expect("randomness"), generate().expect("randomness"));
        assert_ne!(first.text, second.text);
        assert_eq!(first.text.len(), PREFIX.len() + 43);
        assert_eq!(first.hash, hash(&first.text));
    }
}
