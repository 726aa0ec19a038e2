//! Encryption of the listener.

use std::path::Path;

use crate::{complaints, load};

#[test]
fn a_certificate_turns_tls_on_and_needs_its_key() {
    assert!(!load("", &[]).unwrap().tls.is_on());
    let config = load("[tls]\ncertificate = \"/c.pem\"", &[("PENSTOCK_TLS__KEY", "/k.pem")]).unwrap();
    assert!(config.tls.is_on());
    assert_eq!(config.tls.key, Path::new("/k.pem"));
    for alone in [("PENSTOCK_TLS__CERTIFICATE", "/c.pem"), ("PENSTOCK_TLS__KEY", "/k.pem")] {
        let told = complaints("", &[alone]);
        assert!(told[0].contains("must be given together with tls.key"), "{told:?}");
    }
}

#[test]
fn a_private_key_in_place_of_its_file_is_refused_and_not_shown() {
    let key = "-----BEGIN PRIVATE KEY-----\nsecret-word\n-----END PRIVATE KEY-----\n";
    let told = complaints("", &[("PENSTOCK_TLS__CERTIFICATE", "/c.pem"), ("PENSTOCK_TLS__KEY", key)]).join("\n");
    assert!(told.contains("tls.key = \"***\"") && told.contains("must name a file that holds the key"), "{told}");
    assert!(!told.contains("secret-word"), "{told}");
}
