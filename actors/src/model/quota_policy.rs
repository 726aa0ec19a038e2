//! Quota policies: the limits of a tier.

use serde::{Deserialize, Serialize};

use super::{Credit, WindowKind};

/// The limits of one window; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    pub bytes: Option<u64>,
    pub requests: Option<u64>,
}

/// The limits of a tier. An absent limit means none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QuotaPolicy {
    pub policy_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub bytes_per_hour: Option<u64>,
    pub bytes_per_day: Option<u64>,
    pub bytes_per_month: Option<u64>,
    pub requests_per_hour: Option<u64>,
    pub requests_per_day: Option<u64>,
    pub requests_per_month: Option<u64>,
    /// Streams of one receipt at the same time, over all instances.
    pub max_concurrent_streams: Option<u32>,
    /// Sustained rate of all streams of a receipt on one instance, in 10^6 bits a second.
    pub max_bandwidth_mbps: Option<f64>,
    /// Bytes that may be sent above the sustained rate; they refill evenly over `burst_duration_minutes`.
    pub burst_bytes_allowance: Option<u64>,
    pub burst_duration_minutes: Option<u32>,
    /// The largest content that the tier may stream.
    pub max_file_size_bytes: Option<u64>,
    /// Media types, or families such as `video/*`, that the tier may stream.
    pub allowed_content_types: Option<Vec<String>>,
}

impl QuotaPolicy {
    pub const fn limits(&self, window: WindowKind) -> Limits {
        match window {
            WindowKind::Hour => Limits { bytes: self.bytes_per_hour, requests: self.requests_per_hour },
            WindowKind::Day => Limits { bytes: self.bytes_per_day, requests: self.requests_per_day },
            WindowKind::Month => Limits { bytes: self.bytes_per_month, requests: self.requests_per_month },
        }
    }

    /// Whether any window has a limit: without a limit there is nothing to lease.
    pub fn is_metered(&self) -> bool {
        WindowKind::ALL.iter().any(|&kind| self.limits(kind) != Limits::default())
    }

    /// The part of `credit` that is leased: only the dimensions that some window limits.
    pub fn limited_part(&self, credit: Credit) -> Credit {
        let (mut bytes, mut requests) = (0, 0);
        for kind in WindowKind::ALL {
            let limits = self.limits(kind);
            bytes = limits.bytes.map_or(bytes, |_| credit.bytes);
            requests = limits.requests.map_or(requests, |_| credit.requests);
        }
        Credit::new(bytes, requests)
    }

    /// Whether the tier may stream content of this media type.
    pub fn allows(&self, media_type: &str) -> bool {
        let Some(allowed) = &self.allowed_content_types else { return true };
        allowed.iter().any(|range| is_of_media_range(media_type, range))
    }
}

/// Whether a media type equals `range`, or belongs to it if it is a family such as `video/*`. Parameters are ignored.
pub fn is_of_media_range(media_type: &str, range: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    match range.strip_suffix("/*") {
        Some(family) => essence.split('/').next().is_some_and(|kind| kind.eq_ignore_ascii_case(family)),
        None => essence.eq_ignore_ascii_case(range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_match_by_name_or_family() {
        let policy = QuotaPolicy {
            allowed_content_types: Some(vec!["video/*".into(), "text/plain".into()]),
            ..Default::default()
        };
        assert!(policy.allows("video/mp4"));
        assert!(policy.allows("Text/Plain; charset=utf-8"));
        assert!(!policy.allows("videos/mp4"));
        assert!(!policy.allows("text/html"));
        assert!(QuotaPolicy::default().allows("anything/at-all"));
    }
}
