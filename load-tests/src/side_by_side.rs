//! What was measured side by side: a row for each server and size, and how the node compares with each rival.

use std::fmt;

use serde::Serialize;

use crate::{
    check::Check,
    size::Size,
    statistics::{Ratio, ratio},
};

/// From this size on, so few requests end within a round that their bytes are the measure.
const LARGE: u64 = 16 << 20;

/// Who serves the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Who {
    /// Sends files and decides nothing.
    Nginx,
    /// Asks Redis by one atomic script for each request.
    NginxRedis,
    /// Asks a service, which asks PostgreSQL by one statement for each request.
    NginxAuthRequest,
    #[value(skip)]
    Penstock,
}

impl Who {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::NginxRedis => "nginx+redis",
            Self::NginxAuthRequest => "nginx+auth_request",
            Self::Penstock => "penstock",
        }
    }
}

/// A server, a size, and its rounds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    pub(crate) who: Who,
    pub(crate) size: String,
    pub(crate) size_bytes: u64,
    pub(crate) rounds: Vec<Round>,
    /// Of the server and what it asks, for each request; `strace -c -f`.
    pub(crate) system_calls: Option<f64>,
}

/// One round of a row.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Round {
    pub(crate) requests_per_second: f64,
    pub(crate) mib_per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Processor time for each request: of the server with what it asks, and of the load generator.
    pub(crate) server_micros: f64,
    pub(crate) generator_micros: f64,
}

impl Row {
    /// What the ratio is made of.
    fn rates(&self) -> Vec<f64> {
        let of =
            |round: &Round| if self.size_bytes >= LARGE { round.mib_per_second } else { round.requests_per_second };
        self.rounds.iter().map(of).collect()
    }

    /// The means of the rounds, in the order of the columns, each with the digits that it is shown with.
    pub(crate) fn means(&self) -> [(f64, usize); 6] {
        let mean = |of: fn(&Round) -> f64| self.rounds.iter().map(of).sum::<f64>() / self.rounds.len().max(1) as f64;
        [
            (mean(|round| round.requests_per_second), 0),
            (mean(|round| round.mib_per_second), 1),
            (mean(|round| round.p50_ms), 2),
            (mean(|round| round.p99_ms), 2),
            (mean(|round| round.server_micros), 1),
            (mean(|round| round.generator_micros), 1),
        ]
    }
}

/// The node beside one rival at one size: ratios of the same round, so that what slows the machine for a while slows both.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Beside {
    pub(crate) rival: Who,
    pub(crate) size: String,
    /// Of the rates; above 1 the node is faster.
    pub(crate) rate: Ratio,
    /// Of the 99th percentiles of the latency; below 1 the node is faster.
    pub(crate) p99: Ratio,
    pub(crate) at_least: Option<f64>,
    pub(crate) p99_at_most: Option<f64>,
}

/// The whole comparison.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SideBySide {
    pub(crate) connections: usize,
    pub(crate) receipts: usize,
    pub(crate) seconds: f64,
    pub(crate) rows: Vec<Row>,
    pub(crate) ratios: Vec<Beside>,
}

impl SideBySide {
    /// Compares the rows of the node with those of the rivals.
    pub(crate) fn compare(&mut self) {
        let node = |size: u64| self.rows.iter().find(|row| row.who == Who::Penstock && row.size_bytes == size);
        let rivals = self.rows.iter().filter(|row| row.who != Who::Penstock);
        let found = rivals.filter_map(|rival| {
            let node = node(rival.size_bytes)?;
            let p99 = |row: &Row| -> Vec<f64> { row.rounds.iter().map(|round| round.p99_ms).collect() };
            let (at_least, p99_at_most) = promise(rival.who, Size(rival.size_bytes));
            Some(Beside {
                rival: rival.who,
                size: rival.size.clone(),
                rate: ratio(&node.rates(), &rival.rates())?,
                p99: ratio(&p99(node), &p99(rival))?,
                at_least,
                p99_at_most,
            })
        });
        self.ratios = found.collect();
    }

    /// A check for each promise.
    pub(crate) fn checks(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        for Beside { rival, size, rate, p99, at_least, p99_at_most } in &self.ratios {
            let rival = rival.name();
            if let Some(bound) = at_least {
                let promise = format!("{size}: at least {bound} of the rate of {rival}");
                checks.push(Check::new(promise, rate.mean >= *bound, rate.to_string()));
            }
            if let Some(bound) = p99_at_most {
                let promise = format!("{size}: a p99 of at most {bound} of that of {rival}");
                checks.push(Check::new(promise, p99.mean <= *bound, p99.to_string()));
            }
        }
        checks
    }
}

/// What the node promises beside a rival: the least ratio of the rates, and the highest one of the p99.
fn promise(rival: Who, size: Size) -> (Option<f64>, Option<f64>) {
    let is_large = size.0 >= LARGE;
    match rival {
        Who::Nginx => (Some(if is_large { 1.3 } else { 0.95 }), None),
        Who::NginxRedis if size.0 <= 64 << 10 => (Some(1.6), Some(1.0)),
        Who::NginxAuthRequest if size.0 <= 64 << 10 => (Some(3.0), None),
        Who::NginxRedis | Who::NginxAuthRequest | Who::Penstock => (None, None),
    }
}

impl fmt::Display for SideBySide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, receipts, seconds, .. } = self;
        writeln!(
            f,
            "\nside by side: {connections} connections, {receipts} receipts, {seconds:.0} s in each round, means of rounds"
        )?;
        writeln!(
            f,
            "  {:<8} {:<18} {:>11} {:>9} {:>8} {:>8} {:>10} {:>10} {:>8}",
            "size", "server", "requests/s", "MiB/s", "p50 ms", "p99 ms", "server µs", "client µs", "calls"
        )?;
        for row in &self.rows {
            write!(f, "  {:<8} {:<18}", row.size, row.who.name())?;
            for ((mean, digits), width) in row.means().into_iter().zip([11, 9, 8, 8, 10, 10]) {
                write!(f, " {mean:>width$.digits$}")?;
            }
            writeln!(f, " {:>8}", row.system_calls.map_or_else(|| "-".to_owned(), |calls| format!("{calls:.1}")))?;
        }
        writeln!(f, "\n  {:<8} {:<18} {:<38} {:<38} promised", "size", "penstock beside", "rate", "p99")?;
        for Beside { rival, size, rate, p99, at_least, p99_at_most } in &self.ratios {
            let mut promised: Vec<String> = at_least.iter().map(|bound| format!("at least {bound}")).collect();
            promised.extend(p99_at_most.iter().map(|bound| format!("p99 at most {bound}")));
            let missed =
                at_least.is_some_and(|bound| rate.mean < bound) || p99_at_most.is_some_and(|most| p99.mean > most);
            let verdict = if promised.is_empty() {
                ""
            } else if missed {
                ": MISSED"
            } else {
                ": kept"
            };
            let (rate, p99) = (rate.to_string(), p99.to_string());
            writeln!(f, "  {size:<8} {:<18} {rate:<38} {p99:<38} {}{verdict}", rival.name(), promised.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn row(who: Who, size_bytes: u64, per_second: [f64; 3], p99_ms: f64) -> Row {
        let round = |requests_per_second| Round {
            requests_per_second,
            mib_per_second: requests_per_second * size_bytes as f64 / f64::from(1 << 20),
            p50_ms: 1.0,
            p99_ms,
            server_micros: 20.0,
            generator_micros: 5.0,
        };
        let rounds = per_second.map(round).to_vec();
        Row { who, size: Size(size_bytes).to_string(), size_bytes, rounds, system_calls: Some(2.5) }
    }

    /// The node is as fast as nginx in each round, and twice as fast as what asks Redis, whatever the machine does meanwhile.
    pub(crate) fn side_by_side() -> SideBySide {
        let mut found =
            SideBySide { connections: 64, receipts: 100, seconds: 3.0, rows: Vec::new(), ratios: Vec::new() };
        for size in [4 << 10, 64 << 20] {
            found.rows.push(row(Who::Nginx, size, [100.0, 50.0, 80.0], 2.0));
            found.rows.push(row(Who::NginxRedis, size, [50.0, 25.0, 40.0], 4.0));
            found.rows.push(row(Who::Penstock, size, [100.0, 50.0, 80.0], 6.0));
        }
        found.compare();
        found
    }

    #[test]
    fn the_ratio_is_that_of_the_rounds_and_each_promise_is_judged() {
        let found = side_by_side();
        assert_eq!(found.ratios.len(), 4);
        assert!((found.ratios[1].rate.mean - 2.0).abs() < 1e-9 && (found.ratios[1].rate.low - 2.0).abs() < 1e-9);
        let verdicts: Vec<bool> = found.checks().iter().map(|check| check.kept).collect();
        // As fast as nginx; 1.6 of Redis; its p99 is worse; 1.3 of nginx with large files is missed.
        assert_eq!(verdicts, [true, true, false, false], "{:?}", found.checks());
        let text = found.to_string();
        assert!(text.contains("at least 1.6, p99 at most 1: MISSED") && text.contains("at least 0.95: kept"), "{text}");
    }
}
