//! What a scenario's file must keep to. Each message names the key that is wrong.

use anyhow::ensure;

use super::{FaultPlan, Kind, Operation, Part, PhasePlan, Plan};
/// The most instances: each has a pool, and PgBouncer serves 2,000 connections.
pub(crate) const MOST_INSTANCES: usize = 50;

/// The bounds of every scenario, whatever its file says.
const MOST_REQUESTS: u64 = 50_000_000;
const MOST_OPEN: usize = 20_000;
const MOST_SECONDS: f64 = 24.0 * 3600.0;
const MOST_PER_SECOND: f64 = 200_000.0;
/// Contents are held in memory, to be compared.
const MOST_CONTENT_BYTES: u64 = 4 << 30;

impl Plan {
    /// Checks every key.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.phases.is_empty(), "phases: there must be one at least");
        within("max_open", self.max_open as f64, 1.0, MOST_OPEN as f64)?;
        within("max_requests", self.max_requests as f64, 1.0, MOST_REQUESTS as f64)?;
        within("receipts_per_content", self.receipts_per_content as f64, 1.0, 10_000.0)?;
        within("zipf", self.zipf, 0.0, 5.0)?;
        within("assets", self.assets as f64, 0.0, 100_000.0)?;
        if let Some(instances) = self.instances {
            within("instances", instances as f64, 1.0, MOST_INSTANCES as f64)?;
        }
        if let Some(quota) = &self.quota {
            let limits = quota.requests_per_month.is_some() || quota.bytes_per_month.is_some();
            ensure!(limits, "quota: must limit something: requests_per_month or bytes_per_month");
        }
        let mut bytes = 0;
        for (at, contents) in self.contents.iter().enumerate() {
            within(&format!("contents[{at}].count"), contents.count as f64, 1.0, 100_000.0)?;
            within(&format!("contents[{at}].size"), contents.size.0 as f64, 1.0, MOST_CONTENT_BYTES as f64)?;
            bytes += contents.size.0 * contents.count as u64;
        }
        ensure!(bytes <= MOST_CONTENT_BYTES, "contents: {bytes} bytes are too many; at most {MOST_CONTENT_BYTES}");
        let (mut seconds, mut requests, mut has_knee) = (0.0, 0.0, false);
        for (at, phase) in self.phases.iter().enumerate() {
            phase.check(&format!("phases[{at}]"), self, has_knee)?;
            has_knee |= phase.ramp.is_some();
            seconds += phase.seconds;
            requests += phase.rate.map_or(0.0, |rate| rate * phase.seconds) + phase.burst.unwrap_or(0) as f64;
        }
        within("phases: all seconds together", seconds, 0.0, MOST_SECONDS)?;
        ensure!(
            requests <= self.max_requests as f64,
            "max_requests: the phases ask for {requests:.0} requests, and {} are allowed",
            self.max_requests
        );
        for (at, fault) in self.faults.iter().enumerate() {
            fault.check(&format!("faults[{at}]"), self, seconds)?;
        }
        for (at, target) in self.targets.iter().enumerate() {
            ensure!(
                target.at_most.is_some() != target.at_least.is_some(),
                "targets[{at}]: needs either at_most or at_least"
            );
            if let Some(name) = &target.phase {
                let there = self.phases.iter().any(|phase| phase.name == *name);
                ensure!(there, "targets[{at}].phase: there is no phase `{name}`");
            }
        }
        Ok(())
    }
}

impl FaultPlan {
    fn check(&self, key: &str, plan: &Plan, seconds: f64) -> anyhow::Result<()> {
        ensure!(self.stop.is_some() != self.pause.is_some(), "{key}: needs either stop or pause");
        let has_parts = plan.instances.is_some();
        if let Some((part, paused)) = self.part() {
            let what = if paused { "pause" } else { "stop" };
            let name = part.name();
            ensure!(
                has_parts || part == Part::Instance,
                "{key}.{what}: the run has no {name} of its own without `instances`"
            );
        }
        within(&format!("{key}.instance"), self.instance as f64, 1.0, plan.instances.unwrap_or(1) as f64)?;
        let end = (self.at.0 + self.r#for.0).as_secs_f64();
        ensure!(end <= seconds, "{key}: ends {end} s after the beginning, and the phases last {seconds} s");
        Ok(())
    }
}

impl PhasePlan {
    fn check(&self, key: &str, plan: &Plan, has_knee: bool) -> anyhow::Result<()> {
        let loads = [self.rate.is_some(), self.of_knee.is_some(), self.burst.is_some(), self.ramp.is_some()];
        ensure!(
            loads.iter().filter(|given| **given).count() == 1,
            "{key}: needs exactly one of rate, of_knee, burst and ramp"
        );
        let shortest = if self.burst.is_some() || self.ramp.is_some() { 0.0 } else { 0.1 };
        within(&format!("{key}.seconds"), self.seconds, shortest, MOST_SECONDS)?;
        if let Some(rate) = self.rate {
            within(&format!("{key}.rate"), rate, 0.01, MOST_PER_SECOND)?;
        }
        if let Some(part) = self.of_knee {
            within(&format!("{key}.of_knee"), part, 0.01, 20.0)?;
            ensure!(has_knee, "{key}.of_knee: a phase before must have a ramp, which finds the knee");
        }
        if let Some(burst) = self.burst {
            within(&format!("{key}.burst"), burst as f64, 1.0, plan.max_open as f64)?;
        }
        if let Some(ramp) = &self.ramp {
            within(&format!("{key}.ramp.from"), ramp.from, 0.01, MOST_PER_SECOND)?;
            within(&format!("{key}.ramp.to"), ramp.to, ramp.from, MOST_PER_SECOND)?;
            within(&format!("{key}.ramp.factor"), ramp.factor, 1.01, 10.0)?;
            within(&format!("{key}.ramp.step_seconds"), ramp.step_seconds, 0.1, 600.0)?;
            within(&format!("{key}.ramp.served"), ramp.served, 0.1, 1.0)?;
            within(&format!("{key}.ramp.first_byte_p99_ms"), ramp.first_byte_p99_ms, 0.1, 60_000.0)?;
        }
        ensure!(!self.operations.is_empty(), "{key}.operations: there must be one at least");
        for (at, operation) in self.operations.iter().enumerate() {
            operation.check(&format!("{key}.operations[{at}]"), plan)?;
        }
        Ok(())
    }
}

impl Operation {
    fn check(&self, key: &str, plan: &Plan) -> anyhow::Result<()> {
        within(&format!("{key}.weight"), f64::from(self.weight), 1.0, 1e6)?;
        let name = self.r#do.name();
        let allowed = |field: &str, given: bool, allowed: bool| {
            ensure!(!given || allowed, "{key}.{field}: is of no use to `{name}`");
            Ok(())
        };
        let needs_size = matches!(self.r#do, Kind::Range | Kind::RangeStorm | Kind::Upload);
        allowed("size", self.size.is_some(), needs_size)?;
        ensure!(self.size.is_some() || !needs_size, "{key}.size: `{name}` needs it");
        if let Some(size) = self.size {
            within(&format!("{key}.size"), size.0 as f64, 8.0, (1_u64 << 30) as f64)?;
        }
        allowed("pace", self.pace.is_some(), matches!(self.r#do, Kind::Stream | Kind::Abort))?;
        if let Some(pace) = self.pace {
            within(&format!("{key}.pace"), pace.0 as f64, 1024.0, 1e12)?;
        }
        allowed("count", self.count.is_some(), matches!(self.r#do, Kind::RangeStorm | Kind::Lineage))?;
        within(&format!("{key}.count"), f64::from(self.count.unwrap_or(1)), 1.0, 1000.0)?;
        ensure!(
            !self.r#do.needs_contents() || !plan.contents.is_empty(),
            "{key}.do: `{name}` needs contents, and there are none"
        );
        ensure!(self.r#do != Kind::Search || plan.assets > 0, "{key}.do: `search` needs assets, and there are none");
        Ok(())
    }
}

fn within(key: &str, value: f64, least: f64, most: f64) -> anyhow::Result<()> {
    ensure!(value >= least && value <= most, "{key}: {value} is not between {least} and {most}");
    Ok(())
}
