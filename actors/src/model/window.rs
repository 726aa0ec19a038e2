//! Quota windows: the UTC-aligned hour, day and month that contain a moment.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::Credit;

/// The three windows of every policy, shortest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WindowKind {
    Hour,
    Day,
    Month,
}

impl WindowKind {
    pub const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Month];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    pub const fn index(self) -> usize {
        self as usize
    }

    /// The window of this kind that contains `at`.
    pub fn window(self, at: Timestamp) -> Window {
        let civil = TimeZone::UTC.to_datetime(at);
        let day = civil.date();
        let (start, end) = match self {
            Self::Hour => {
                let start = day.at(civil.hour(), 0, 0, 0);
                (start, start.saturating_add(jiff::Span::new().hours(1)))
            }
            Self::Day => (day.at(0, 0, 0, 0), day.saturating_add(jiff::Span::new().days(1)).at(0, 0, 0, 0)),
            Self::Month => {
                let first = day.first_of_month();
                (first.at(0, 0, 0, 0), first.saturating_add(jiff::Span::new().months(1)).at(0, 0, 0, 0))
            }
        };
        Window { kind: self, start: utc(start), end: utc(end) }
    }
}

/// UTC has no gaps or folds, so this only fails at the ends of representable time, where it saturates.
fn utc(civil: DateTime) -> Timestamp {
    TimeZone::UTC.to_timestamp(civil).unwrap_or(Timestamp::MAX)
}

/// One window: `start` inclusive, `end` exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    pub kind: WindowKind,
    pub start: Timestamp,
    pub end: Timestamp,
}

impl Window {
    pub fn contains(&self, at: Timestamp) -> bool {
        self.start <= at && at < self.end
    }
}

/// The hour, day and month that contain one moment. An hour lies within one day and one month, so the hour names the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WindowSet {
    windows: [Window; 3],
}

impl WindowSet {
    pub fn at(at: Timestamp) -> Self {
        Self { windows: WindowKind::ALL.map(|kind| kind.window(at)) }
    }

    pub const fn hour(&self) -> Window {
        self.windows[0]
    }

    pub const fn get(&self, kind: WindowKind) -> Window {
        self.windows[kind.index()]
    }

    pub fn iter(&self) -> impl Iterator<Item = Window> + '_ {
        self.windows.iter().copied()
    }
}

/// A window's row in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowUsage {
    pub window: Window,
    /// Settled: the sum of the usage rows of this window.
    pub used: Credit,
    /// Leased to instances and not settled yet.
    pub reserved: Credit,
}

impl WindowUsage {
    pub const fn empty(window: Window) -> Self {
        Self { window, used: Credit::ZERO, reserved: Credit::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn hour_day_and_month_roll_over_in_utc() {
        let leap = WindowSet::at(at("2028-02-29T23:59:59.999999Z"));
        assert_eq!(leap.get(WindowKind::Hour).end, at("2028-03-01T00:00:00Z"));
        assert_eq!(leap.get(WindowKind::Day).start, at("2028-02-29T00:00:00Z"));
        assert_eq!(leap.get(WindowKind::Day).end, at("2028-03-01T00:00:00Z"));
        assert_eq!(leap.get(WindowKind::Month).start, at("2028-02-01T00:00:00Z"));
        assert_eq!(leap.get(WindowKind::Month).end, at("2028-03-01T00:00:00Z"));
        let common = WindowKind::Month.window(at("2027-02-28T12:00:00Z"));
        assert_eq!(common.end, at("2027-03-01T00:00:00Z"));
        let year = WindowKind::Month.window(at("2026-12-31T23:00:00Z"));
        assert_eq!(year.end, at("2027-01-01T00:00:00Z"));
    }

    proptest! {
        #[test]
        fn every_moment_lies_in_its_windows_and_they_nest(seconds in 0_i64..4_000_000_000, micros in 0_i32..1_000_000) {
            let moment = Timestamp::new(seconds, micros * 1000).expect("in range");
            let set = WindowSet::at(moment);
            for window in set.iter() {
                prop_assert!(window.contains(moment));
                prop_assert_eq!(window.kind.window(window.start), window);
                prop_assert_eq!(window.kind.window(window.end).start, window.end);
            }
            let [hour, day, month] = WindowKind::ALL.map(|kind| set.get(kind));
            prop_assert!(month.start <= day.start && day.start <= hour.start);
            prop_assert!(hour.end <= day.end && day.end <= month.end);
        }
    }
}
