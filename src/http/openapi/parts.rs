//! The parts to which calls refer: who may call, and the fields of every answer.

use serde_json::{Value, json};

use crate::http::{
    auth::console::{PLAIN_COOKIE, SECURE_COOKIE},
    routes::Caller,
};

/// Who may call, in words.
pub(super) const fn who(caller: Caller) -> &'static str {
    match caller {
        Caller::Anyone => "Caller: anyone.",
        Caller::Holder => "Caller: every client that knows the id of the receipt or of the session.",
        Caller::Producer => "Caller: a producer, or an admin.",
        Caller::Owner => "Caller: the producer to which the object belongs, or an admin.",
        Caller::Admin => "Caller: an admin.",
        Caller::Local => "Caller: an admin, or a browser on the machine of a node that listens on loopback alone.",
    }
}

/// What proves who calls; `None` where it does not matter.
pub(super) fn security(caller: Caller) -> Option<Value> {
    match caller {
        Caller::Anyone | Caller::Holder => None,
        Caller::Producer | Caller::Owner => {
            Some(json!([{ "key": [] }, { "signature": [] }, { "session": [], "csrf": [] }]))
        }
        Caller::Admin => Some(json!([{ "key": [] }, { "session": [], "csrf": [] }])),
        Caller::Local => Some(json!([{ "key": [] }, { "session": [], "csrf": [] }, {}])),
    }
}

pub(super) fn security_schemes() -> Value {
    json!({
        "key": { "type": "http", "scheme": "bearer", "description": "The key of a producer or of an admin." },
        "signature": {
            "type": "apiKey",
            "in": "header",
            "name": "x-bsv-auth-signature",
            "description": "A request that is signed with the identity key of a producer. The signature covers the method, the path, the \
                            query, the digest of the body and the other `x-bsv-` fields; docs/api.md, \"Signed requests\", describes all \
                            fields.",
        },
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": SECURE_COOKIE,
            "description": format!("The session of an admin at the console. Over plain HTTP the cookie is `{PLAIN_COOKIE}`."),
        },
        "csrf": { "type": "apiKey", "in": "header", "name": "X-CSRF-Token", "description": "What the sign-in has given for this session." },
    })
}

pub(super) fn headers() -> Value {
    json!({
        "RequestId": {
            "description": "The id of the request in the log of the node",
            "required": true,
            "schema": { "type": "string", "pattern": "^[A-Za-z0-9_.:/+=-]{1,128}$" },
        },
        "NoSniff": { "description": "Browsers guess no other media type", "required": true, "schema": { "const": "nosniff" } },
        "RateLimit": { "description": "The calls that are left: `\"CLASS\";r=LEFT;t=SECONDS`", "schema": { "type": "string" } },
        "RateLimit-Policy": { "description": "The limit: `\"CLASS\";q=CALLS;w=SECONDS`", "schema": { "type": "string" } },
        "RetryAfter": { "description": "Whole seconds until the same request may succeed", "schema": { "type": "integer", "minimum": 1 } },
        "Authenticate": { "description": "`Bearer`", "required": true, "schema": { "const": "Bearer" } },
    })
}
