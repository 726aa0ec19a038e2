//! An amount of quota: bytes and requests, always moved together.

use std::ops::{Add, AddAssign, Sub, SubAssign};

/// Bytes and requests. Subtraction saturates at zero in release builds and is checked in debug builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Credit {
    pub bytes: u64,
    pub requests: u64,
}

impl Credit {
    pub const ZERO: Self = Self { bytes: 0, requests: 0 };

    pub const fn new(bytes: u64, requests: u64) -> Self {
        Self { bytes, requests }
    }

    pub const fn is_zero(self) -> bool {
        self.bytes == 0 && self.requests == 0
    }

    /// Whether `other` can be taken from this in both dimensions.
    pub const fn covers(self, other: Self) -> bool {
        self.bytes >= other.bytes && self.requests >= other.requests
    }

    /// The larger of each dimension.
    pub fn max(self, other: Self) -> Self {
        Self { bytes: self.bytes.max(other.bytes), requests: self.requests.max(other.requests) }
    }

    /// The smaller of each dimension.
    pub fn min(self, other: Self) -> Self {
        Self { bytes: self.bytes.min(other.bytes), requests: self.requests.min(other.requests) }
    }
}

impl Add for Credit {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(other.bytes), requests: self.requests.saturating_add(other.requests) }
    }
}

impl AddAssign for Credit {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Credit {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        debug_assert!(self.covers(other), "credit went below zero: {self:?} - {other:?}");
        Self { bytes: self.bytes.saturating_sub(other.bytes), requests: self.requests.saturating_sub(other.requests) }
    }
}

impl SubAssign for Credit {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}
