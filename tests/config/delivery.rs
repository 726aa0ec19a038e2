//! How content is delivered, as configured: what each mode needs, and how long its URLs are good.

use std::time::Duration;

use penstock::config::{Config, DeliveryMode, DeliveryTier};

use crate::{complaints, env, load};

#[test]
fn a_delivery_mode_has_all_that_it_needs_or_does_not_start() {
    let key = "delivery.signing_key = \"***\" (from ";
    let mode = |mode| ("DATA_DELIVERY_MODE", mode);
    assert_eq!(
        complaints("", &[mode("presigned")]),
        ["delivery.mode = \"presigned\" (from DATA_DELIVERY_MODE): must not be \"presigned\" when storage.backend is \
          \"fs\": only object storage accepts signed URLs"]
    );
    assert_eq!(
        complaints("", &[mode("accel")]),
        [
            "server.trusted_proxies = \"\" (from default): must name the nginx in front when delivery.mode is \"accel\": \
          only it understands the answer"
        ]
    );
    assert_eq!(
        complaints("", &[mode("direct")]),
        [
            "delivery.base_url = \"\" (from default): must be given when delivery.mode is \"direct\": \
             it is the address of the contents at the CDN",
            "delivery.signing_key = \"\" (from default): must be given when delivery.mode is \"direct\": \
             without it, anyone could make URLs",
        ]
    );
    let told = complaints("[delivery]\nsigning_key = \"hunter2\"", &[]);
    assert_eq!(told, [format!("{key}FILE): must have at least 32 bytes, such as `openssl rand -hex 32` makes")]);
    for url in
        ["cdn.example.com", "ftp://cdn/x", "https://cdn/x?y", "https://me@cdn/", "https://cdn/a b", "https://cdn/../x"]
    {
        assert!(complaints("", &[("PENSTOCK_DELIVERY__BASE_URL", url)])[0].contains("must be of the form"), "{url}");
    }
    let hot = ("S3_BUCKET_HOT", "hot");
    assert!(load("", &[mode("presigned"), hot]).is_ok());
    assert_eq!(
        complaints("", &[mode("presigned"), hot, ("DATA_DELIVERY_TIER", "cold")]),
        ["delivery.tier = \"cold\" (from DATA_DELIVERY_TIER): must be a tier that has a bucket"]
    );
    assert_eq!(
        complaints("", &[("DATA_DELIVERY_TIER", "warm")]),
        [
            "delivery.tier = \"warm\" (from DATA_DELIVERY_TIER): must be \"any\" or \"hot\" when storage.backend is \"fs\": \
          for files, there are URLs for the hot tier alone"
        ]
    );
    let cdn = "[delivery]\nbase_url = \"https://cdn.example.com\"\nsigning_key = \"0123456789abcdef0123456789abcdef\"";
    assert!(load(cdn, &[mode("direct"), hot]).is_ok());
    assert_eq!(
        complaints(cdn, &[mode("direct"), hot, ("S3_BUCKET_WARM", "warm")]),
        [
            "delivery.tier = \"any\" (from default): must name one tier when delivery.mode is \"direct\" and there are several \
          buckets: a CDN has one of them as its origin"
        ]
    );
    for prefix in ["", "/", "_penstock", "/a/", "/a b"] {
        let told = load(&format!("[delivery]\ninternal_prefix = {prefix:?}"), &[]);
        assert!(told.is_err(), "{prefix}");
    }
    let config = load(
        "[server]\ntrusted_proxies = \"10.0.0.0/8\"\n[delivery]\nbase_url = \"https://cdn.example.com/content/\"",
        &[
            mode("direct"),
            ("DATA_DELIVERY_TIER", "hot"),
            ("PRESIGN_TTL_SEC", "90"),
            ("PENSTOCK_DELIVERY__SIGNING_KEY", "hunter2 hunter2 hunter2 hunter2 "),
        ],
    )
    .unwrap();
    assert_eq!((config.delivery.mode, config.delivery.tier), (DeliveryMode::Direct, DeliveryTier::Hot));
    assert_eq!(config.delivery.url_ttl, Duration::from_secs(90));
    assert!(!config.masked().contains("hunter") && !format!("{config:?}").contains("hunter"));
}

#[test]
fn the_validity_of_a_url_is_set_in_seconds_or_with_a_unit_and_is_bounded() {
    let ttl = |text| Config::load(&env(&[("PRESIGN_TTL_SEC", text)])).map(|config| config.delivery.url_ttl.as_secs());
    for (text, seconds) in [("1", 1), ("300", 300), ("5min", 300), (" 7 ", 7), ("43200", 43_200), ("12h", 43_200)] {
        assert_eq!(ttl(text).ok(), Some(seconds), "{text}");
    }
    for text in ["0", "43201", "-1", "soon", "1.5", "500ms", "99999999999999999999"] {
        assert!(ttl(text).is_err(), "{text}");
    }
    assert_eq!(load("[delivery]\nurl_ttl = 60", &[]).unwrap().delivery.url_ttl.as_secs(), 60);
    assert_eq!(
        complaints("", &[("PRESIGN_TTL_SEC", "soon")]),
        ["delivery.url_ttl = \"soon\" (from PRESIGN_TTL_SEC): must be a time such as \"45s\" or \"2h\", \
          or a whole number of seconds"]
    );
}
