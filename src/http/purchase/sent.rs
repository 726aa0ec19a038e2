//! The payment in a request: in header fields, as BRC-121 has it; with the envelope as the body; or all of it in a JSON body. No limit on
//! heads can lose a payment that is signed already.

use std::time::Duration;

use actix_web::{
    HttpRequest,
    http::header,
    web::{BytesMut, Payload},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use penstock_actors::model::{Derivation, IdentityKey};
use serde::Deserialize;

use crate::http::{
    Problem, ProblemType,
    body::{check_coding, parse},
    middleware::signed_body::unreadable,
    paced_body::PacedBody,
};

/// How far the time of a payment may be from the node's clock, either way (BRC-121).
const FRESH: Duration = Duration::from_secs(30);

/// The longest derivation prefix. Wallets make 8 to 48 bytes.
const NONCE_CHARS: usize = 256;

/// The JSON around the envelope.
const JSON_REST: usize = 4 << 10;

/// The bounds on a body.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// Bytes of an envelope.
    pub envelope: usize,
    /// How long a client may send nothing, or next to nothing.
    pub idle_timeout: Duration,
}

/// What a request says of a payment.
pub(super) enum PaymentSent {
    Nothing,
    /// A part is missing or cannot be read.
    Incomplete(&'static str),
    Whole(Sent),
}

/// A payment as it was sent.
pub(super) struct Sent {
    pub(super) beef: Vec<u8>,
    pub(super) sender: IdentityKey,
    nonce: String,
    /// Milliseconds since 1970.
    time: u64,
    pub(super) vout: u32,
}

/// A payment as JSON: the header fields of BRC-121, without their prefix.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PaymentBody {
    /// A BEEF in base64
    beef: String,
    /// The payer's identity key
    #[schema(pattern = "^0[23][0-9a-f]{64}$")]
    sender: String,
    /// The derivation prefix, in base64
    #[schema(max_length = 256)]
    nonce: String,
    /// When the payment was made, in milliseconds since 1970: its text in base64 is the derivation suffix
    time: u64,
    /// The index of the output that pays
    vout: u32,
}

impl Sent {
    /// The derivation of the output's key: the suffix is the time's text in base64.
    pub(super) fn derivation(&self) -> Derivation {
        Derivation { prefix: self.nonce.clone(), suffix: STANDARD.encode(self.time.to_string()) }
    }

    /// Whether the payment was made just now, by the clock of the node.
    pub(super) fn is_fresh(&self, now: Timestamp) -> bool {
        let made = i64::try_from(self.time).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
        made.is_some_and(|made| made.duration_since(now).unsigned_abs() <= FRESH)
    }
}

impl PaymentSent {
    /// Reads the head, and the body if there is one.
    ///
    /// # Errors
    /// A body that is too large, too slow or of a media type that no payment has.
    pub(super) async fn read(request: &HttpRequest, body: Payload, limits: BodyLimits) -> Result<Self, Problem> {
        check_coding(request)?;
        let media_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = media_type.map(|text| text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
        let is_json = match essence.as_deref() {
            None | Some("application/json") => true,
            Some("application/octet-stream") => false,
            Some(_) => {
                let detail = "send a payment as application/json or as application/octet-stream";
                return Err(Problem::new(ProblemType::UnsupportedMediaType).detail(detail));
            }
        };
        let most = if is_json { limits.envelope.div_ceil(3) * 4 + JSON_REST } else { limits.envelope };
        let body = collect(PacedBody::new(body, limits.idle_timeout), most).await?;
        let in_head = Field::ALL.iter().any(|field| field.of(request).is_some());
        match (body.is_empty(), is_json) {
            (true, _) if !in_head => Ok(Self::Nothing),
            (true, _) => Ok(of_head(request, None)),
            (false, false) => Ok(of_head(request, Some(body.to_vec()))),
            (false, true) if in_head => Err(Problem::malformed("send the payment in header fields or in the body")),
            (false, true) => Ok(of_json(&parse(&body)?)),
        }
    }
}

/// A header field of BRC-121.
#[derive(Clone, Copy)]
enum Field {
    Beef,
    Sender,
    Nonce,
    Time,
    Vout,
}

impl Field {
    const ALL: [Self; 5] = [Self::Beef, Self::Sender, Self::Nonce, Self::Time, Self::Vout];

    const fn name(self) -> &'static str {
        match self {
            Self::Beef => "x-bsv-beef",
            Self::Sender => "x-bsv-sender",
            Self::Nonce => "x-bsv-nonce",
            Self::Time => "x-bsv-time",
            Self::Vout => "x-bsv-vout",
        }
    }

    /// What must be there.
    const fn form(self) -> &'static str {
        match self {
            Self::Beef => "x-bsv-beef is not base64",
            Self::Sender => "x-bsv-sender is not 66 lower-case hexadecimal characters: a compressed public key",
            Self::Nonce => "x-bsv-nonce is not base64, or too long",
            Self::Time => "x-bsv-time is not a time in milliseconds since 1970",
            Self::Vout => "x-bsv-vout is not the index of an output",
        }
    }

    fn of(self, request: &HttpRequest) -> Option<&str> {
        let mut values = request.headers().get_all(self.name());
        let value = values.next().filter(|_| values.next().is_none())?;
        // What is no text is there, and of no form.
        Some(value.to_str().unwrap_or("\u{0}"))
    }
}

fn of_head(request: &HttpRequest, envelope: Option<Vec<u8>>) -> PaymentSent {
    let read = || {
        let field = |field: Field| field.of(request).ok_or(field.form());
        let beef = match envelope {
            Some(envelope) => envelope,
            None => STANDARD.decode(field(Field::Beef)?).map_err(|_| Field::Beef.form())?,
        };
        let digits = |which: Field| {
            let text = field(which)?;
            // One spelling: the payer's derivation has the text that it sent.
            let number: Option<u64> = text.parse().ok().filter(|number: &u64| number.to_string() == text);
            number.ok_or(which.form())
        };
        Ok(Sent {
            beef,
            sender: field(Field::Sender)?.parse().map_err(|_| Field::Sender.form())?,
            nonce: nonce(field(Field::Nonce)?)?,
            time: digits(Field::Time)?,
            vout: u32::try_from(digits(Field::Vout)?).map_err(|_| Field::Vout.form())?,
        })
    };
    read().map_or_else(PaymentSent::Incomplete, PaymentSent::Whole)
}

fn of_json(body: &PaymentBody) -> PaymentSent {
    let read = || {
        Ok(Sent {
            beef: STANDARD.decode(&body.beef).map_err(|_| Field::Beef.form())?,
            sender: body.sender.parse().map_err(|_| Field::Sender.form())?,
            nonce: nonce(&body.nonce)?,
            time: body.time,
            vout: body.vout,
        })
    };
    read().map_or_else(PaymentSent::Incomplete, PaymentSent::Whole)
}

/// A prefix as it was sent: its text is what the key was derived with.
fn nonce(text: &str) -> Result<String, &'static str> {
    let is_base64 = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
    if text.is_empty() || text.len() > NONCE_CHARS || !is_base64 {
        return Err(Field::Nonce.form());
    }
    Ok(text.to_owned())
}

async fn collect(mut body: PacedBody, most: usize) -> Result<BytesMut, Problem> {
    let mut bytes = BytesMut::new();
    while let Some(part) = body.next().await? {
        let part = part.map_err(|error| unreadable(&error))?;
        if bytes.len() + part.len() > most {
            return Err(Problem::new(ProblemType::UploadTooLarge).with("limit", most));
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payment_is_fresh_for_thirty_seconds_either_way() {
        let now = Timestamp::from_second(1_800_000_000).expect("a time");
        let sent = |time: i64| Sent {
            beef: Vec::new(),
            sender: IdentityKey::from_bytes([2; 33]).expect("a key"),
            nonce: "bm9uY2U=".into(),
            time: u64::try_from(time).expect("after 1970"),
            vout: 0,
        };
        let at = now.as_millisecond();
        for (time, fresh) in
            [(at, true), (at - 30_000, true), (at + 30_000, true), (at - 30_001, false), (at + 30_001, false)]
        {
            assert_eq!(sent(time).is_fresh(now), fresh, "{}", time - at);
        }
        assert!(!sent(i64::MAX).is_fresh(now));
        assert_eq!(sent(1_764_547_200_000).derivation().suffix, "MTc2NDU0NzIwMDAwMA==");
    }

    #[test]
    fn a_prefix_that_would_be_another_invoice_number_is_refused() {
        for text in ["", "two words", "a-b", "é", "line\n", &"a".repeat(257)] {
            assert!(nonce(text).is_err(), "{text}");
        }
        assert_eq!(nonce("cHJl+/=="), Ok("cHJl+/==".to_owned()));
    }
}
