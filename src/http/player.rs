//! `/player`, which `penstock demo` alone serves: a page that plays content under a receipt and shows the receipt's quota.
//!
//! The page is part of the binary, and its own policy lets it load nothing from elsewhere. It learns the content and the receipt from
//! the fragment of its address, which browsers do not send, so no log has the receipt.

use actix_web::web::ServiceConfig;

use super::pages::{self, CSS, HTML, JS, PageFile};

/// What the page may load and do: its own files, this node's answers, and this node's content.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; media-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const FILES: &[PageFile] = &[
    ("/player", HTML, include_str!("player/page/index.html")),
    ("/player/player.css", CSS, include_str!("player/page/player.css")),
    ("/player/player.js", JS, include_str!("player/page/player.js")),
];

pub(super) fn configure(cfg: &mut ServiceConfig) {
    pages::serve(cfg, FILES, POLICY);
}
