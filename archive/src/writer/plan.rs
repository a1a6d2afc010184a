//! What a backup is to be, and how hard its attempt may press.

use std::sync::Arc;

use backstay_protocol::{AttemptId, ClusterName, ClusterUuid, MachineId, SlotId, SnapshotName};
use backstay_trust::SigningKey;

use crate::manifest::{Replaced, Sequence, Trigger};
use crate::seal::Recipient;

/// What a backup is to be called and whom it is for.
#[derive(Debug, Clone)]
pub struct Plan {
    pub cluster: ClusterName,
    pub cluster_uuid: ClusterUuid,
    pub machine: Option<MachineId>,
    pub attempt: AttemptId,
    pub slot: SlotId,
    pub snapshot: SnapshotName,
    pub trigger: Trigger,
    /// Who can open it; empty: compressed only.
    pub recipients: Vec<Recipient>,
    pub agent_version: String,
    /// Where this is the first backup of another etcd: what it takes the place of.
    pub replaces: Option<Replaced>,
    /// Where the backup is to be signed: by what, and its place among the signed ones.
    pub signing: Option<Signing>,
}

/// How a backup is signed by whoever makes it.
#[derive(Debug, Clone)]
pub struct Signing {
    /// Shared with the tries under other names.
    pub key: Arc<SigningKey>,
    /// Stands in the manifest.
    pub sequence: Sequence,
}

/// How hard an attempt may press.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Averaged over parts; `None`: as fast as it goes.
    pub upload_bytes_per_second: Option<u64>,
    /// 1 to 8; each costs the memory of a part.
    pub parts_in_flight: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { upload_bytes_per_second: None, parts_in_flight: 3 }
    }
}
