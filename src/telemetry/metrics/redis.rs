//! Metrics of the Redis link. A command is named by its script or its verb, never by a key.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Calls, round trips, and the state of the breakers.
pub struct RedisMetrics {
    commands: IntCounterVec,
    seconds: HistogramVec,
    round_trips: IntCounter,
    reconnects: IntCounter,
    nodes: IntGauge,
    open: IntGauge,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisOutcome {
    Ok,
    /// Redis did not answer in time.
    Timeout,
    /// Redis answered with an error.
    Error,
    /// The connection broke.
    Broken,
    /// It was not sent: the breaker is open, or the queue is full.
    Refused,
}

impl RedisOutcome {
    const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Timeout => "timeout",
            Self::Error => "error",
            Self::Broken => "broken",
            Self::Refused => "refused",
        }
    }
}

impl RedisMetrics {
    /// # Errors
    /// When the registry already has metrics of these names.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let commands = IntCounterVec::new(
            Opts::new("penstock_redis_commands_total", "Calls to Redis, by command and outcome."),
            &["command", "outcome"],
        )?;
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "penstock_redis_command_seconds",
                "Time from a call to its answer, including the wait for its round trip, by command.",
            )
            // A round trip on one machine takes 0.1 ms; the default time-out is 50 ms.
            .buckets(vec![0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 1.0]),
            &["command"],
        )?;
        let round_trips = IntCounter::new(
            "penstock_redis_round_trips_total",
            "Round trips to Redis; one carries many commands. Probes are not counted.",
        )?;
        let reconnects =
            IntCounter::new("penstock_redis_reconnects_total", "Connections to Redis that were opened again.")?;
        let nodes = IntGauge::new("penstock_redis_nodes", "Redis servers that this instance speaks to.")?;
        let open = IntGauge::new(
            "penstock_redis_breakers_open",
            "Redis servers whose breaker is open because they do not answer; should be 0.",
        )?;
        registry.register(Box::new(commands.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(round_trips.clone()))?;
        registry.register(Box::new(reconnects.clone()))?;
        registry.register(Box::new(nodes.clone()))?;
        registry.register(Box::new(open.clone()))?;
        Ok(Self { commands, seconds, round_trips, reconnects, nodes, open })
    }

    /// A call ended, `after` it was made.
    pub fn call_ended(&self, command: &'static str, outcome: RedisOutcome, after: Duration) {
        self.commands.with_label_values(&[command, outcome.label()]).inc();
        if outcome != RedisOutcome::Refused {
            self.seconds.with_label_values(&[command]).observe(after.as_secs_f64());
        }
    }

    pub fn round_trip(&self) {
        self.round_trips.inc();
    }

    /// Round trips so far.
    pub fn round_trips(&self) -> u64 {
        self.round_trips.get()
    }

    pub fn reconnected(&self) {
        self.reconnects.inc();
    }

    /// The number of servers, and of those whose breaker is open.
    /// The servers of a link, and how many of them have an open breaker.
    pub fn set_nodes(&self, nodes: usize, open: usize) {
        self.nodes.set(i64::try_from(nodes).unwrap_or(i64::MAX));
        self.open.set(i64::try_from(open).unwrap_or(i64::MAX));
    }
}
