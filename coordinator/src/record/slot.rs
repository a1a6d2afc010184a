//! A backup that is wanted but does not exist yet, and the attempt at it that is under way.

use backstay_protocol::{AttemptId, MachineId, SlotId, SnapshotName, Timestamp};
use serde::{Deserialize, Serialize};

/// Why a backup is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    Manual { seconds: i64 },
    Interval,
}

/// The attempt that is under way for a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub id: AttemptId,
    pub machine: MachineId,
    pub started: Timestamp,
}

/// A backup that is wanted but does not exist yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    pub id: SlotId,
    pub trigger: Trigger,
    pub snapshot: SnapshotName,
    pub opened: Timestamp,
    pub attempt: Option<Attempt>,
    /// Members that were asked without success.
    pub tried: Vec<MachineId>,
    /// Whether one of them could not use the store.
    #[serde(default)]
    pub store_failed: bool,
    pub error: String,
}
