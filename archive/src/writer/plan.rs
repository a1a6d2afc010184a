//! Describes the backup to make, and how much an attempt may use.

use backstay_protocol::{AttemptId, ClusterName, ClusterUuid, MachineId, SlotId, SnapshotName};

use crate::manifest::{Replaced, Trigger};
use crate::seal::Recipient;

/// The backup to make: its name, its cluster, and who can decrypt it. Most fields are copied to the
/// [`Manifest`](crate::manifest::Manifest).
#[derive(Debug, Clone)]
pub struct Plan {
    /// The cluster's name.
    pub cluster: ClusterName,
    /// The cluster's UUID, in whose folder the backup is stored.
    pub cluster_uuid: ClusterUuid,
    /// The machine that makes the backup; `None` without an agent.
    pub machine: Option<MachineId>,
    /// This attempt; must be used only once.
    pub attempt: AttemptId,
    /// The slot that the backup fills: of all attempts for a slot, one makes the backup.
    pub slot: SlotId,
    /// The backup's name.
    pub snapshot: SnapshotName,
    /// Why it is made.
    pub trigger: Trigger,
    /// Who can decrypt it; if empty, the backup is only compressed.
    pub recipients: Vec<Recipient>,
    /// The version of the program that makes it.
    pub agent_version: String,
    /// The backup that this one replaces; only for the first backup of another etcd.
    pub replaces: Option<Replaced>,
}

/// How much an attempt may use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Limit for the upload in bytes per second, averaged over parts; `None` for no limit.
    pub upload_bytes_per_second: Option<u64>,
    /// How many parts are sent at the same time, from 1 to 8. Each needs [`PART_BYTES`](crate::store::PART_BYTES) of
    /// memory. The default is 3.
    pub parts_in_flight: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { upload_bytes_per_second: None, parts_in_flight: 3 }
    }
}
