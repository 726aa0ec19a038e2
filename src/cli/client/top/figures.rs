//! The figures of a look: what is now, and what happened since the look before.

use std::{fmt::Write as _, time::Duration};

use bytesize::ByteSize;
use serde_json::{Value, json};

use super::page::MetricsPage;

/// The figures. A rate is per second.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figures {
    streams: f64,
    begun: f64,
    refused: f64,
    cut: f64,
    bytes: f64,
    requests: f64,
    failed: f64,
    /// Seconds to the head of an answer; `None` without requests.
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
    quota_hits: Option<f64>,
    content_hits: Option<f64>,
    connections: (f64, f64),
    waiting: f64,
    unsettled: f64,
    memory: f64,
    processors: f64,
    files: f64,
}

impl Figures {
    pub(super) fn of(before: &MetricsPage, now: &MetricsPage, between: Duration) -> Self {
        let seconds = between.as_secs_f64();
        let since = |name: &str, labels: &str| (now.sum(name, labels) - before.sum(name, labels)).max(0.0);
        let rate = |name: &str, labels: &str| if seconds > 0.0 { since(name, labels) / seconds } else { 0.0 };
        let share = |hits: &str, misses: &str| {
            let (hits, misses) = (since(hits, ""), since(misses, ""));
            (hits + misses > 0.0).then(|| hits / (hits + misses))
        };
        let quantile = |share| quantile(&before.buckets(TIMES), &now.buckets(TIMES), share);
        let pool = |state: &str| now.sum("penstock_db_pool_connections", &format!("state=\"{state}\""));
        let rows = |name: &str| now.sum(name, "");
        let settled = rows("penstock_usage_settled_total") + rows("penstock_usage_set_aside_total");
        Self {
            streams: now.sum("penstock_streams_active", ""),
            begun: rate("penstock_streams_granted_total", ""),
            refused: rate("penstock_streams_refused_total", ""),
            cut: rate("penstock_streams_revoked_total", "") + rate("penstock_streams_cut_total", ""),
            bytes: rate("penstock_http_response_bytes_total", ""),
            requests: rate("penstock_http_requests_total", ""),
            failed: rate("penstock_http_requests_total", "status=\"5xx\""),
            p50: quantile(0.5),
            p95: quantile(0.95),
            p99: quantile(0.99),
            quota_hits: share("penstock_quota_hits_total", "penstock_quota_misses_total"),
            content_hits: share("penstock_content_cache_hits_total", "penstock_content_cache_misses_total"),
            connections: (pool("open") - pool("idle"), pool("open")),
            waiting: pool("waiting"),
            unsettled: (rows("penstock_usage_recorded_total") - settled).max(0.0),
            memory: now.sum("process_resident_memory_bytes", ""),
            processors: rate("process_cpu_seconds_total", ""),
            files: now.sum("process_open_fds", ""),
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "activeStreams": self.streams,
            "streamsBegunPerSecond": self.begun,
            "streamsRefusedPerSecond": self.refused,
            "streamsCutPerSecond": self.cut,
            "bytesPerSecond": self.bytes,
            "requestsPerSecond": self.requests,
            "failedRequestsPerSecond": self.failed,
            "p50Seconds": self.p50,
            "p95Seconds": self.p95,
            "p99Seconds": self.p99,
            "quotaFromMemory": self.quota_hits,
            "contentFromMemory": self.content_hits,
            "databaseConnectionsBusy": self.connections.0,
            "databaseConnectionsOpen": self.connections.1,
            "databaseCallsWaiting": self.waiting,
            "usageRowsNotSettled": self.unsettled,
            "residentBytes": self.memory,
            "processorsBusy": self.processors,
            "openFiles": self.files,
        })
    }

    /// The figures for a person.
    pub(super) fn screen(&self, server: &str, health: &Value) -> String {
        let mut screen = format!("{server}: {}\n", status(health));
        let mut line = |what: &str, text: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(screen, "{what:<20}{text}");
        };
        line("streams", format!("{} active, {:.1} begin a second", self.streams, self.begun));
        line("", format!("{:.1} refused a second, {:.1} cut a second", self.refused, self.cut));
        line("throughput", format!("{}/s", size(self.bytes)));
        line("requests", format!("{:.1} a second, {:.1} of them answered with 5xx", self.requests, self.failed));
        let times = [("p50", self.p50), ("p95", self.p95), ("p99", self.p99)];
        line("answers begin after", times.map(|(name, time)| format!("{name} {}", milliseconds(time))).join(", "));
        line("quota from memory", percent(self.quota_hits));
        line("content from memory", percent(self.content_hits));
        let (busy, open) = self.connections;
        line("database", format!("{busy} of {open} connections busy, {} calls wait", self.waiting));
        line("usage not settled", format!("{} rows", self.unsettled));
        line("memory", size(self.memory));
        line("process", format!("{:.2} processors busy, {} open files", self.processors, self.files));
        screen
    }
}

/// The times to the heads of answers.
const TIMES: &str = "penstock_http_response_seconds";

/// The status, and each dependency that is not well.
fn status(health: &Value) -> String {
    let status = health["status"].as_str().unwrap_or("no status");
    let dependencies = health["dependencies"].as_object().into_iter().flatten();
    let unwell: Vec<String> = dependencies
        .filter_map(|(name, state)| Some((name, state.as_str()?)))
        .filter(|(_, state)| *state != "ok")
        .map(|(name, state)| format!("{name} is {state}"))
        .collect();
    if unwell.is_empty() { status.to_owned() } else { format!("{status} ({})", unwell.join(", ")) }
}

/// The quantile of what came between two states of a histogram, as Prometheus reckons: linear within a bucket.
fn quantile(before: &[(f64, f64)], now: &[(f64, f64)], share: f64) -> Option<f64> {
    let old = |bound: f64| before.iter().find(|(known, _)| *known == bound).map_or(0.0, |(_, count)| *count);
    let since: Vec<(f64, f64)> = now.iter().map(|&(bound, count)| (bound, (count - old(bound)).max(0.0))).collect();
    let wanted = since.last().map(|(_, all)| all * share).filter(|wanted| *wanted > 0.0)?;
    let (mut lower, mut below) = (0.0, 0.0);
    for (bound, count) in since {
        if count >= wanted {
            let part = if count > below { (wanted - below) / (count - below) } else { 1.0 };
            return Some(if bound.is_finite() { lower + (bound - lower) * part } else { lower });
        }
        (lower, below) = (bound, count);
    }
    None
}

fn size(bytes: f64) -> String {
    ByteSize(bytes as u64).display().iec().to_string()
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

fn milliseconds(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{:.1} ms", seconds * 1e3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_shares_and_quantiles_are_of_the_time_between_two_looks() {
        let page = |streams: u32, requests: u32, fast: u32, all: u32, hits: u32| {
            MetricsPage::read(&format!(
                "penstock_streams_active {streams}\npenstock_http_requests_total{{route=\"/a\",status=\"2xx\"}} {requests}\n\
                 penstock_http_response_seconds_bucket{{class=\"a\",le=\"0.1\"}} {fast}\n\
                 penstock_http_response_seconds_bucket{{class=\"a\",le=\"+Inf\"}} {all}\n\
                 penstock_quota_hits_total {hits}\npenstock_quota_misses_total 1\n"
            ))
        };
        let (before, now) = (page(1, 100, 50, 100, 9), page(3, 140, 70, 120, 19));
        let figures = Figures::of(&before, &now, Duration::from_secs(2));
        assert_eq!((figures.streams, figures.requests, figures.quota_hits), (3.0, 20.0, Some(1.0)));
        // All twenty took at most 0.1 s.
        assert_eq!(figures.p50, Some(0.05));
        assert!(figures.p99.is_some_and(|time| (0.098..0.1).contains(&time)), "{figures:?}");
        assert_eq!(Figures::of(&now, &now, Duration::ZERO).p50, None);
        let screen =
            figures.screen("http://node", &json!({ "status": "degraded", "dependencies": { "sharedState": "down" } }));
        assert!(screen.starts_with("http://node: degraded (sharedState is down)\n"), "{screen}");
        assert!(screen.contains("p50 50.0 ms"), "{screen}");
    }
}
