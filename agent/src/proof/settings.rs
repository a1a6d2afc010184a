//! `[inspection]`: whether and how far snapshots are inspected.

use std::time::Duration;

use backstay_daemon::settings;
use backstay_snapshot::inspect::MEMORY_DEFAULT;
use serde::{Deserialize, Serialize};

/// How long another member may take for its HashKV: it walks over all of its keys.
const PATIENCE: Duration = Duration::from_secs(60);

/// `[inspection]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct InspectionSettings {
    /// Look into each snapshot before it becomes a backup.
    pub enabled: bool,
    /// Ask another member whether it holds the same data. It costs that member a walk over its keys.
    pub ask: bool,
    /// Bytes of memory that a look may take. What does not fit is not known; nothing fails for it.
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
    /// No look at all.
    pub fn off() -> Self {
        Self { enabled: false, ..Self::default() }
    }
}
