//! `observe`: what is told of the daemon besides its log and its metrics.

use serde::{Deserialize, Serialize};

use super::error::Faults;

/// What is told of the daemon besides its log and its metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Observe {
    /// Where spans of requests, passes and calls are sent by OTLP over gRPC; absent: nowhere.
    pub otlp_endpoint: Option<String>,
}

impl Observe {
    pub(super) fn check(&self, f: &mut Faults) {
        let Some(endpoint) = &self.otlp_endpoint else { return };
        let key = "observe.otlp_endpoint";
        // Spans tell no secret, and a collector is next door: TLS is its proxy's.
        let rest = endpoint.strip_prefix("http://").unwrap_or_default();
        let host = rest.strip_suffix('/').unwrap_or(rest);
        let good = !host.is_empty() && host.bytes().all(|c| c.is_ascii_alphanumeric() || b".-:[]".contains(&c));
        f.unless(good, key, "write the collector's address as http://HOST:4317");
    }
}
