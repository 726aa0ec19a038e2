//! A length of time in a file: "500ms", "20s", "2m".

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, de};

/// A length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(pub(crate) Duration);

impl Span {
    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let seconds = match unit.trim() {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok().map(Self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time, such as \"20s\" (ms, s, m, h)")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                Span::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        from.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_read() {
        for (text, millis) in [("500ms", 500), ("20s", 20_000), ("1.5 s", 1500), ("2m", 120_000), ("1h", 3_600_000)] {
            assert_eq!(Span::parse(text).unwrap().0.as_millis(), millis, "{text}");
        }
        for text in ["", "20", "s", "-1s", "1d", "1.2.3s"] {
            assert_eq!(Span::parse(text), None, "{text}");
        }
    }
}
