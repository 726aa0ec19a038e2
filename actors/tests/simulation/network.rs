//! The fate of a statement between a process and the database.

use std::time::Duration;

use penstock_actors::testkit::dice::Dice;

/// How bad the network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    Calm,
    Rough,
    Storm,
}

/// What happens to a statement.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    /// It is carried out and answered. It may arrive once more, as late as this.
    Answered { there: Duration, back: Duration, again: Option<Duration> },
    /// It is carried out, and its answer is lost.
    AnswerLost { there: Duration, again: Option<Duration> },
    /// It does not arrive, unless as late as this.
    Lost { late: Option<Duration> },
}

/// The longest delay of a statement that its sender no longer waits for.
const LATEST_MS: u64 = 25_000;

impl Weather {
    pub(crate) fn roll(dice: &mut Dice) -> Self {
        match dice.roll(4) {
            0 => Self::Calm,
            1 => Self::Storm,
            _ => Self::Rough,
        }
    }

    /// In a hundred statements so many are hit by each fault; and the longest delay.
    fn faults(self) -> (u64, u64) {
        match self {
            Self::Calm => (0, 20),
            Self::Rough => (8, 300),
            Self::Storm => (25, 1500),
        }
    }

    pub(crate) fn fate(self, is_cut: bool, dice: &mut Dice) -> Fate {
        let (faults, delay) = self.faults();
        let ms = |dice: &mut Dice, most: u64| Duration::from_millis(1 + dice.roll(most));
        let again = (dice.roll(100) < faults).then(|| ms(dice, LATEST_MS));
        let dimmed = dice.roll(100);
        if is_cut || dimmed < faults {
            return Fate::Lost { late: again };
        }
        let there = ms(dice, delay);
        if dimmed < 2 * faults {
            return Fate::AnswerLost { there, again };
        }
        Fate::Answered { there, back: ms(dice, delay), again }
    }
}
