//! `[inspection]`: whether and how far snapshots are inspected.

use std::time::Duration;

use backstay_daemon::settings;
use backstay_snapshot::inspect::MEMORY_DEFAULT;
use serde::{Deserialize, Serialize};

/// How long another member may take for HashKV, for which it reads all its keys.
const PATIENCE: Duration = Duration::from_secs(60);

/// `[inspection]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct InspectionSettings {
    /// Whether to inspect each snapshot before it becomes a backup.
    pub enabled: bool,
    /// Whether to ask another member if it has the same data, for which that member reads all its keys.
    pub ask: bool,
    /// Bytes of memory that an inspection may use. What does not fit is unknown; nothing fails because of it.
    pub memory_limit: u64,
    /// How long the other member may take.
    #[serde(with = "settings::duration")]
    pub patience: Duration,
}

impl Default for InspectionSettings {
    fn default() -> Self {
        Self { enabled: true, ask: true, memory_limit: MEMORY_DEFAULT, patience: PATIENCE }
    }
}

impl InspectionSettings {
    /// No inspection at all.
    pub fn off() -> Self {
        Self { enabled: false, ..Self::default() }
    }
}
