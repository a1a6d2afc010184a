//! `[jetstream]`: how NATS stores the coordinator's data.

use serde::{Deserialize, Serialize};

use super::error::ConfigError;

/// A stream that is smaller holds nothing to speak of.
const STREAM_BYTES_MIN: u64 = 1024 * 1024;

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct JetStreamSettings {
    /// On how many servers JetStream keeps what it is given: 1, or 3 in a NATS cluster.
    pub replicas: usize,
    /// Bytes that the stream of the KV may have; unset, what the account has room for, at most 256 MiB.
    pub kv_max_bytes: Option<u64>,
    /// The same for the stream of reports.
    pub reports_max_bytes: Option<u64>,
}

impl Default for JetStreamSettings {
    fn default() -> Self {
        Self { replicas: 1, kv_max_bytes: None, reports_max_bytes: None }
    }
}

impl JetStreamSettings {
    /// Refuses values that JetStream cannot have.
    ///
    /// # Errors
    /// [`ConfigError::Range`], with the key.
    pub fn check(&self) -> Result<(), ConfigError> {
        let range = |key, text: String| Err(ConfigError::Range { key, text });
        if !matches!(self.replicas, 1 | 3 | 5) {
            return range("jetstream.replicas", format!("replicas must be 1, 3 or 5, got {}", self.replicas));
        }
        let too_small = |size: Option<u64>| size.is_some_and(|bytes| bytes < STREAM_BYTES_MIN);
        let text = |name: &str| format!("{name} must be at least {STREAM_BYTES_MIN} bytes");
        if too_small(self.kv_max_bytes) {
            return range("jetstream.kv_max_bytes", text("kv_max_bytes"));
        }
        if too_small(self.reports_max_bytes) {
            return range("jetstream.reports_max_bytes", text("reports_max_bytes"));
        }
        Ok(())
    }
}
