//! A number of bytes in a file or on the command line: 4096, "4 KiB" or 4KiB.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, de};

const UNITS: [(&str, u32); 4] = [("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub(crate) u64);

#[derive(Debug, thiserror::Error)]
#[error("a number of bytes looks like 4096 or \"4 KiB\" (B, KiB, MiB, GiB)")]
pub(crate) struct NoSize;

impl FromStr for Size {
    type Err = NoSize;

    fn from_str(text: &str) -> Result<Self, NoSize> {
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let unit = if unit.trim().is_empty() { "B" } else { unit.trim() };
        let (_, shift) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or(NoSize)?;
        number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift)).map(Size).ok_or(NoSize)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, shift): &(&str, u32)| self.0 >= 1 << shift && self.0.is_multiple_of(1 << shift);
        let (name, shift) = UNITS.into_iter().find(whole).unwrap_or(("B", 0));
        f.pad(&format!("{} {name}", self.0 >> shift))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes, such as 4096 or \"4 KiB\" (B, KiB, MiB, GiB)")
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
                u64::try_from(bytes).map(Size).map_err(|_| E::invalid_value(de::Unexpected::Signed(bytes), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(|NoSize| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        from.deserialize_any(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_read_and_shown() {
        for (text, bytes, shown) in [
            ("4096", 4096, "4 KiB"),
            ("4 KiB", 4096, "4 KiB"),
            ("64MiB", 64 << 20, "64 MiB"),
            ("1500 B", 1500, "1500 B"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, shown));
        }
        assert!("64 kB".parse::<Size>().is_err() && "-1".parse::<Size>().is_err() && "".parse::<Size>().is_err());
        assert!("99999999999 GiB".parse::<Size>().is_err());
    }
}
