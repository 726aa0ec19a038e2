//! Values that must not be shown.

use std::fmt;

use percent_encoding::percent_decode_str;
use serde::Deserialize;

/// Shown in place of a secret.
pub(super) const MASK: &str = "***";

/// A text that no log line, error or debug output shows.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { MASK })
    }
}

/// A URL without its password. A text that does not look like a URL, or may contain a password elsewhere, is masked
/// entirely.
pub(super) fn mask_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return MASK.to_owned() };
    // The driver decodes the names of parameters too.
    if percent_decode_str(rest).decode_utf8_lossy().to_ascii_lowercase().contains("password") {
        return format!("{scheme}://{MASK}");
    }
    // The last `@`: an unescaped one in the password must not reveal the password's end.
    let Some((user, server)) = rest.rsplit_once('@') else { return url.to_owned() };
    match user.split_once(':') {
        Some((name, _)) => format!("{scheme}://{name}:{MASK}@{server}"),
        None => url.to_owned(),
    }
}

/// URLs separated by commas, each without its password. If a part is not a URL, the comma may be in a password.
pub(super) fn mask_urls(urls: &str) -> String {
    let masked: Vec<String> = urls.split(',').map(|url| mask_url(url.trim())).collect();
    if masked.iter().any(|url| url == MASK) { MASK.to_owned() } else { masked.join(",") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", Secret::from("hunter2".to_owned())), "***");
        assert_eq!(format!("{:?}", Secret::default()), "none");
    }

    #[test]
    fn a_url_keeps_all_but_its_password() {
        for (url, masked) in [
            ("postgres://me:pw@db:5432/x?sslmode=require", "postgres://me:***@db:5432/x?sslmode=require"),
            ("postgres://me:p@w@db/x", "postgres://me:***@db/x"),
            ("postgres://me:p/w@db/x", "postgres://me:***@db/x"),
            ("postgres://me@db/x", "postgres://me@db/x"),
            ("postgres://db/x", "postgres://db/x"),
            ("postgres://db/x?PassWord=pw", "postgres://***"),
            ("postgres://db/x?p%61ssword=pw", "postgres://***"),
            ("host=db password=pw", "***"),
        ] {
            assert_eq!(mask_url(url), masked);
        }
    }

    #[test]
    fn each_url_of_a_list_is_masked_and_a_comma_in_a_password_masks_all() {
        assert_eq!(mask_urls("postgres://a:pw@one/x, postgres://two"), "postgres://a:***@one/x,postgres://two");
        assert_eq!(mask_urls("postgres://a:p,w@one/x"), MASK);
    }
}
