//! Whether a condition holds, in three values.

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Truth {
    No,
    /// It is unknown.
    Unknown,
    Yes,
}

impl Truth {
    pub const fn of(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }

    /// The truth of several parts taken as one: it holds when all of them do, and does not hold when none does. A part
    /// that cannot be evaluated (`None`) may be either.
    pub fn of_all(parts: impl IntoIterator<Item = Option<bool>>) -> Self {
        let of = |part: Option<bool>| part.map_or(Self::Unknown, Self::of);
        let mut parts = parts.into_iter().map(of);
        let first = parts.next().unwrap_or(Self::Unknown);
        parts.fold(first, |all, part| if part == all { all } else { Self::Unknown })
    }

    /// Whether it is known to be `wanted`.
    pub fn is(self, wanted: bool) -> bool {
        self == Self::of(wanted)
    }
}

impl std::ops::Not for Truth {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Unknown => Self::Unknown,
            Self::Yes => Self::No,
        }
    }
}
