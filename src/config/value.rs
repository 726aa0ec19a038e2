//! Values in the form in which people write them: sizes, times, counts and addresses, with errors that say what is
//! allowed.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bytesize::ByteSize;
use ipnet::IpNet;
use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

use crate::words;

/// A size in bytes: a number, or a text such as `64MiB`.
pub(super) fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    struct SizeVisitor;

    impl Visitor<'_> for SizeVisitor {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a size such as 1048576 or \"64MiB\"")
        }

        fn visit_i64<E: Error>(self, bytes: i64) -> Result<u64, E> {
            u64::try_from(bytes).map_err(|_| must_be(&self))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
            text.trim().parse::<ByteSize>().map(|size| size.as_u64()).map_err(|_| must_be(&self))
        }
    }

    deserializer.deserialize_any(SizeVisitor)
}

/// A time with its unit, such as `45s`. A bare number is refused: it could be seconds or milliseconds.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    struct TimeVisitor;

    impl Visitor<'_> for TimeVisitor {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(words::DURATION)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
            humantime::parse_duration(text).map_err(|_| must_be(&self))
        }
    }

    deserializer.deserialize_any(TimeVisitor)
}

/// As [`duration`], but a bare number means seconds: for a key with a variable whose name says so.
pub(super) fn duration_or_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    struct SecondsVisitor;

    impl Visitor<'_> for SecondsVisitor {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a time such as \"45s\" or \"2h\", or a whole number of seconds")
        }

        fn visit_i64<E: Error>(self, seconds: i64) -> Result<Duration, E> {
            u64::try_from(seconds).map(Duration::from_secs).map_err(|_| must_be(&self))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
            match text.trim().parse() {
                Ok(seconds) => Ok(Duration::from_secs(seconds)),
                Err(_) => humantime::parse_duration(text).map_err(|_| must_be(&self)),
            }
        }
    }

    deserializer.deserialize_any(SecondsVisitor)
}

/// A whole number that is not negative.
pub(super) fn count<'de, D: Deserializer<'de>, T: TryFrom<i64>>(deserializer: D) -> Result<T, D::Error> {
    struct CountVisitor;

    impl Visitor<'_> for CountVisitor {
        type Value = i64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a whole number, not negative and not too large")
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<i64, E> {
            Ok(number)
        }
    }

    let number = deserializer.deserialize_any(CountVisitor)?;
    T::try_from(number).map_err(|_| must_be(&CountVisitor))
}

/// A share of a whole.
pub(super) fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    struct ShareVisitor;

    impl Visitor<'_> for ShareVisitor {
        type Value = f64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a share from 0 to 1, such as 0.1")
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<f64, E> {
            u8::try_from(number).map_err(|_| must_be(&self)).and_then(|number| self.visit_f64(number.into()))
        }

        fn visit_f64<E: Error>(self, number: f64) -> Result<f64, E> {
            Some(number).filter(|number| (0.0..=1.0).contains(number)).ok_or_else(|| must_be(&self))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<f64, E> {
            text.trim().parse().map_err(|_| must_be(&self)).and_then(|number| self.visit_f64(number))
        }
    }

    deserializer.deserialize_any(ShareVisitor)
}

/// An address to listen on.
pub(super) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.trim().parse().map_err(|_| D::Error::custom("must be an IP address and a port, such as \"0.0.0.0:8080\""))
}

/// Networks and single addresses, separated by commas.
pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let network = |text: &str| {
        let text = text.trim();
        let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        network.ok_or_else(|| D::Error::custom("must be networks by comma, such as \"10.0.0.0/8, 2001:db8::/32\""))
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(network).collect()
}

pub(super) fn must_be<E: Error>(expected: &dyn serde::de::Expected) -> E {
    E::custom(format_args!("must be {expected}"))
}
