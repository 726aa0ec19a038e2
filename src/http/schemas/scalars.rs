//! The forms of single values in the document: hashes, ids and moments. The actors' types stay free of any description.

use std::borrow::Cow;

use serde_json::{Value, json};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr,
        schema::{ObjectBuilder, Schema, SchemaType, Type},
    },
};

/// A type that stands for the form of a text.
macro_rules! text_form {
    ($(#[doc = $doc:literal])* $name:ident, $pattern:expr, $example:literal) => {
        $(#[doc = $doc])*
        pub struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let text = ObjectBuilder::new()
                    .schema_type(SchemaType::Type(Type::String))
                    .description(Some(concat!($($doc),*).trim()))
                    .pattern($pattern)
                    .examples([json!($example)]);
                text.into()
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($name))
            }
        }
    };
}

const UUID: &str = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$";

text_form!(
    /// The SHA-256 of a content in hexadecimal characters: its name.
    Hash,
    Some("^[0-9a-fA-F]{64}$"),
    "e642a933a29ad18d55062e98861ae637ba0ff68e08e9ab4797c6f46fc7f4bbeb"
);
text_form!(
    /// An id: a UUID.
    Id,
    Some(UUID),
    "67e55044-10b1-426f-9247-bb680e5fe0c8"
);
text_form!(
    /// The id of a receipt, or its token.
    ReceiptName,
    Some(
        "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}(\\.[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+)?$"
    ),
    "2134c0d7-7c0d-475f-8115-09ed04fd2b5e"
);
text_form!(
    /// A moment in RFC 3339; answers have UTC.
    Moment,
    Some("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$"),
    "2026-11-24T10:26:13Z"
);
text_form!(
    /// The name of a quota policy or of a governance policy.
    PlainName,
    Some("^[a-z0-9-]{1,64}$"),
    "standard"
);
text_form!(
    /// A compressed public key of secp256k1.
    PublicKey,
    Some("^0[23][0-9a-f]{64}$"),
    "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
);
text_form!(
    /// The place where a page ends: the `nextCursor` of the page before. Its form may change.
    Cursor,
    Some("^[A-Za-z0-9_-]+$"),
    "AAZhA3AXATQBog0rB-926pvzPDHBJlml"
);

/// Any JSON object: metadata, facets.
pub struct Object;

impl PartialSchema for Object {
    fn schema() -> RefOr<Schema> {
        let object = ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::Object))
            .examples([json!({ "license": "CC-BY-4.0", "classification": "public" })]);
        object.into()
    }
}

impl ToSchema for Object {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Object")
    }
}

/// Any JSON.
pub struct Json;

impl PartialSchema for Json {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(SchemaType::AnyValue).default(None::<Value>).into()
    }
}

impl ToSchema for Json {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Json")
    }
}

/// The version of the protocol for resumable uploads.
#[derive(ToSchema)]
pub enum TusVersion {
    #[schema(rename = "1.0.0")]
    One,
}

/// The method that a client means which can only send POST.
#[derive(ToSchema)]
#[schema(rename_all = "UPPERCASE")]
pub enum MeantMethod {
    Patch,
    Delete,
}

/// The status of a receipt.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum ReceiptStatus {
    Pending,
    Confirmed,
    Settled,
    Consumed,
    Expired,
    Refunded,
}

/// A storage tier.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum Tier {
    Hot,
    Warm,
    Cold,
}

/// Why stored bytes were verified.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum VerificationKind {
    OnDemand,
    Walk,
    Read,
    Move,
    Repair,
}
