//! The system's figures about this process.

use prometheus::{
    core::{Collector, Desc},
    process_collector::ProcessCollector,
    proto::{Counter, MetricFamily},
};

const CPU_TIME: &str = "process_cpu_seconds_total";

/// The crate's collector without the CPU time, which it counts in whole seconds: a rate of that is either zero or a
/// whole CPU.
pub(super) struct Process(ProcessCollector);

impl Process {
    pub(super) fn this() -> Self {
        Self(ProcessCollector::for_self())
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.0.collect();
        if let Some(seconds) = cpu_seconds() {
            let cpu_time = families.iter_mut().filter(|family| family.name() == CPU_TIME);
            for metric in cpu_time.flat_map(MetricFamily::mut_metric) {
                let mut exact = Counter::default();
                exact.set_value(seconds);
                metric.set_counter(exact);
            }
        }
        families
    }
}

/// The CPU time of all threads of this process.
fn cpu_seconds() -> Option<f64> {
    let used = nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID).ok()?;
    Some(std::time::Duration::from(used).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_the_processors_has_fractions_and_grows() {
        let process = Process::this();
        let value = || {
            let families = process.collect();
            let family = families.iter().find(|family| family.name() == CPU_TIME).expect("Linux tells");
            family.get_metric()[0].get_counter().get_value()
        };
        let first = value();
        assert!(first > 0.0);
        // Work of less than a second shows.
        while value() <= first {}
    }
}
