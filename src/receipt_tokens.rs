//! Receipt tokens: ids of receipts that this installation has signed.
//!
//! The id of a receipt is a secret of 122 random bits, so it is not guessed; but each guess costs a look-up. With tokens, a
//! node computes whether the installation issued an id, and a forged one reaches neither the caches nor the database.
//!
//! A token is `ID.KEY.MAC`: the id of the receipt, the name of a signing key, and the first 16 bytes of an HMAC-SHA256, in
//! base64url without padding. The first key signs; all keys verify. So a key is replaced by putting a new one before it, and
//! its tokens are valid until it is removed.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use penstock_actors::ids::{InvalidId, ReceiptId};
use serde::{Deserialize, Deserializer, de::Error as _};
use sha2::Sha256;

/// Separates what is signed here from all that another use of the same key would sign.
const DOMAIN: &[u8] = b"penstock receipt token 1";

/// The bytes of a signature: 128 bits, as many as the id has.
const MAC_BYTES: usize = 16;

/// The bytes of a key: as many as the hash has that it is used with.
const KEY_BYTES: usize = 32;

/// The longest name of a key.
const NAME_CHARS: usize = 16;

/// Why a client's text names no receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    #[error(transparent)]
    Malformed(#[from] InvalidId),
    /// An id without a signature, where one is required.
    #[error("the receipt has no signature")]
    Unsigned,
    /// Not signed by one of the keys.
    #[error("the signature of the receipt is not valid")]
    Forged,
}

/// The keys, and whether receipts must be signed.
#[derive(Clone, Default)]
pub struct ReceiptTokens {
    keys: Vec<SigningKey>,
    required: bool,
}

#[derive(Clone)]
struct SigningKey {
    name: String,
    mac: Hmac<Sha256>,
}

/// Never shows a key.
impl fmt::Debug for ReceiptTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.keys.iter().map(|key| &key.name).collect();
        f.debug_struct("ReceiptTokens").field("keys", &names).field("required", &self.required).finish()
    }
}

impl ReceiptTokens {
    /// Keys as `NAME:SECRET`, separated by commas. `None` when one has not this form, or two have one name.
    pub fn parse(keys: &str, required: bool) -> Option<Self> {
        let keys: Vec<_> = keys.split(',').map(SigningKey::parse).collect::<Option<_>>()?;
        let named_twice =
            keys.iter().enumerate().any(|(at, key)| keys[..at].iter().any(|other| other.name == key.name));
        (!named_twice).then_some(Self { keys, required })
    }

    /// Whether this node signs receipts.
    pub fn signs(&self) -> bool {
        !self.keys.is_empty()
    }

    /// The token of a receipt; `None` when this node signs none.
    pub fn token(&self, id: ReceiptId) -> Option<String> {
        let key = self.keys.first()?;
        let mac = key.of(id).finalize().into_bytes();
        Some(format!("{id}.{}.{}", key.name, URL_SAFE_NO_PAD.encode(&mac[..MAC_BYTES])))
    }

    /// The receipt that a client without a key names.
    ///
    /// # Errors
    /// Why it names none.
    pub fn open(&self, text: &str) -> Result<ReceiptId, TokenRefusal> {
        self.read(text, self.required)
    }

    /// The receipt that a producer or an admin names. Their key gives the right, so the id is enough.
    ///
    /// # Errors
    /// Why it names none.
    pub fn open_for_key_holder(&self, text: &str) -> Result<ReceiptId, TokenRefusal> {
        self.read(text, false)
    }

    fn read(&self, text: &str, required: bool) -> Result<ReceiptId, TokenRefusal> {
        let Some((id, signature)) = text.split_once('.').filter(|_| !self.keys.is_empty()) else {
            let id = ReceiptId::from_str(text)?;
            return if required { Err(TokenRefusal::Unsigned) } else { Ok(id) };
        };
        let id = ReceiptId::from_str(id)?;
        let signed = signature.split_once('.').is_some_and(|(name, mac)| self.has_signed(id, name, mac));
        if signed { Ok(id) } else { Err(TokenRefusal::Forged) }
    }

    fn has_signed(&self, id: ReceiptId, name: &str, mac: &str) -> bool {
        let Some(key) = self.keys.iter().find(|key| key.name == name) else { return false };
        let Ok(given) = URL_SAFE_NO_PAD.decode(mac.as_bytes()) else { return false };
        // A shorter one would verify as well. The comparison takes constant time.
        given.len() == MAC_BYTES && key.of(id).verify_truncated_left(&given).is_ok()
    }
}

impl SigningKey {
    fn parse(text: &str) -> Option<Self> {
        let (name, secret) = text.trim().split_once(':')?;
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let named = (1..=NAME_CHARS).contains(&name.len()) && name.bytes().all(plain);
        if !named || secret.len() < KEY_BYTES {
            return None;
        }
        let mac = Hmac::new_from_slice(secret.as_bytes()).ok()?;
        Some(Self { name: name.to_owned(), mac })
    }

    /// The HMAC of a receipt. The name of the key is part of it, so that no token is valid under two names.
    fn of(&self, id: ReceiptId) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        mac.update(DOMAIN);
        mac.update(id.as_uuid().as_bytes());
        mac.update(self.name.as_bytes());
        mac
    }
}

/// A text that begins with the id of a receipt: an id, or a token that was not verified.
#[derive(Debug, Clone)]
pub struct ReceiptText(String);

impl ReceiptText {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ReceiptText {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        text.split_once('.').map_or(text, |(id, _)| id).parse::<ReceiptId>()?;
        Ok(Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for ReceiptText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OLD: &str = "a:0123456789abcdef0123456789abcdef";
    const NEW: &str = "b:fedcba9876543210fedcba9876543210";

    fn tokens(keys: &str, required: bool) -> ReceiptTokens {
        ReceiptTokens::parse(keys, required).expect("keys")
    }

    #[test]
    fn a_token_of_an_older_key_is_valid_until_the_key_is_removed() {
        let id = ReceiptId::random();
        let token = tokens(OLD, true).token(id).expect("a token");
        let both = tokens(&format!("{NEW}, {OLD}"), true);
        assert_eq!(both.open(&token), Ok(id));
        let newer = both.token(id).expect("a token");
        assert!(newer.contains(".b."), "{newer}");
        assert_eq!(tokens(NEW, true).open(&newer), Ok(id));
        assert_eq!(tokens(NEW, true).open(&token), Err(TokenRefusal::Forged));
    }

    #[test]
    fn an_id_without_a_signature_counts_unless_one_is_required() {
        let (id, off) = (ReceiptId::random(), ReceiptTokens::default());
        assert_eq!((off.token(id), off.open(&id.to_string())), (None, Ok(id)));
        assert_eq!(tokens(OLD, false).open(&id.to_string()), Ok(id));
        let required = tokens(OLD, true);
        assert_eq!(required.open(&id.to_string()), Err(TokenRefusal::Unsigned));
        assert_eq!(required.open_for_key_holder(&id.to_string()), Ok(id));
        let token = required.token(id).expect("a token");
        assert!(matches!(off.open(&token), Err(TokenRefusal::Malformed(_))), "this node cannot verify it");
        assert!(matches!(required.open("abc"), Err(TokenRefusal::Malformed(_))));
    }

    #[test]
    fn keys_are_named_once_and_long_enough() {
        for bad in ["", "a", "a:short", ":0123456789abcdef0123456789abcdef", "A:0123456789abcdef0123456789abcdef"] {
            assert!(ReceiptTokens::parse(bad, false).is_none(), "{bad}");
        }
        assert!(ReceiptTokens::parse(&format!("{OLD},{OLD}"), false).is_none());
        assert!(ReceiptTokens::parse(&format!("{OLD},"), false).is_none());
        let shown = format!("{:?}", tokens(OLD, true));
        assert!(!shown.contains("0123456789"), "{shown}");
    }

    proptest! {
        #[test]
        fn any_other_text_is_refused(at in 0_usize..100, to in "[0-9a-zA-Z_.-]", tail in "[A-Za-z0-9_.=-]{0,4}") {
            let id = ReceiptId::random();
            let required = tokens(&format!("{NEW},{OLD}"), true);
            let token = required.token(id).expect("a token");
            let mut forged = token.clone();
            let at = at % token.len();
            forged.replace_range(at..=at, &to);
            forged.push_str(&tail);
            // A hexadecimal digit of the id has two spellings.
            prop_assume!(forged != token);
            match required.open(&forged) {
                Ok(opened) => prop_assert!(opened == id && forged.eq_ignore_ascii_case(&token)),
                Err(TokenRefusal::Forged | TokenRefusal::Malformed(_) | TokenRefusal::Unsigned) => {}
            }
        }
    }
}
