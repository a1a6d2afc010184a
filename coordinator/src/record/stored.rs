//! A backup in the store, as far as it matters for the schedule: whether it is new. Also a backup that the store no longer has.

use backstay_archive::Manifest;
use backstay_archive::manifest::Trigger;
use backstay_protocol::{SnapshotName, Timestamp};
use serde::{Deserialize, Serialize};

/// What its manifest says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// The time in its name.
    pub at: Timestamp,
    /// Whether it was made by `backstay-agent once`.
    pub once: bool,
    /// etcd's own cluster id, if it can be parsed.
    pub etcd_cluster_id: Option<u64>,
    pub revision: i64,
}

impl From<&Manifest> for Stored {
    fn from(manifest: &Manifest) -> Self {
        Self {
            at: manifest.snapshot.time(),
            once: manifest.trigger == Trigger::Once,
            etcd_cluster_id: u64::from_str_radix(&manifest.origin.etcd_cluster_id, 16).ok(),
            revision: manifest.origin.revision,
        }
    }
}

/// The newest backup that the store had and does not have any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    pub snapshot: SnapshotName,
    pub noticed: Timestamp,
}
