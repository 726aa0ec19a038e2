//! What holds for every signed request.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    fields::{IDENTITY_FIELD, NONCE_FIELD, REQUEST_ID_FIELD, SIGNATURE_FIELD, YOUR_NONCE_FIELD},
    *,
};

/// # Panics
/// When two different requests have the same signed bytes.
pub(crate) fn check_messages(mut one: Message<'_>, mut other: Message<'_>) {
    let same_bytes = one.bytes() == other.bytes();
    one.fields.sort_unstable();
    other.fields.sort_unstable();
    let parts = |message: &Message<'_>| format!("{message:?}");
    assert_eq!(same_bytes, parts(&one) == parts(&other), "{one:?} {other:?}");
}

/// # Panics
/// When a proof or a time is taken in a second spelling.
pub(crate) fn check_proof(fields: &[(&str, &[u8])]) {
    for (_, value) in fields {
        if let Ok(at) = signed_at(value) {
            let digits = value.iter().skip_while(|digit| **digit == b'0').copied().collect::<Vec<_>>();
            let written = at.as_millisecond().to_string();
            assert!(written.as_bytes() == digits || (digits.is_empty() && written == "0"));
        }
    }
    let Ok(proof) = Proof::read(fields.iter().copied()) else { return };
    let signature: String = proof.signature.to_der().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    for (name, written) in [
        (IDENTITY_FIELD, proof.identity.to_string()),
        (NONCE_FIELD, STANDARD.encode(proof.nonce)),
        (YOUR_NONCE_FIELD, STANDARD.encode(proof.audience.0)),
        (REQUEST_ID_FIELD, STANDARD.encode(proof.request_id)),
        (SIGNATURE_FIELD, signature),
    ] {
        let given: Vec<_> = fields.iter().filter(|(field, _)| *field == name).map(|(_, value)| *value).collect();
        assert_eq!(given, [written.as_bytes()], "{name}");
    }
}
