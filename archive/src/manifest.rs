//! The manifest: what a backup is, as JSON beside the sealed object. A backup without one is not visible.

use backstay_protocol::{AttemptId, ClusterName, ClusterUuid, MachineId, SlotId, SnapshotName, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The version of the manifest's meaning that this build writes.
pub const FORMAT_VERSION: u32 = 1;

/// No manifest is larger than this many bytes.
pub const MANIFEST_MAX: usize = 64 * 1024;

/// Why an attempt started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    Manual,
    Interval,
    /// `backstay-agent once`, without a coordinator.
    Once,
}

/// Where the snapshot was read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Origin {
    /// etcd's own cluster id, 16 hexadecimal digits.
    pub etcd_cluster_id: String,
    /// The member that was read, 16 hexadecimal digits.
    pub member_id: String,
    pub etcd_version: String,
    /// The revision of the linearizable read before the snapshot: the snapshot holds at least this.
    pub revision: i64,
}

/// How the bytes are sealed: compressed with zstd, then encrypted with age unless `recipients` is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SealInfo {
    /// `zstd`.
    pub compression: String,
    /// `age`, or `none`.
    pub encryption: String,
    /// The age recipients that can open it.
    pub recipients: Vec<String>,
}

/// What a backup is. Fields that this build does not know survive reading and writing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format_version: u32,
    pub cluster: ClusterName,
    pub cluster_uuid: ClusterUuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineId>,
    pub snapshot: SnapshotName,
    pub slot: SlotId,
    pub attempt: AttemptId,
    pub trigger: Trigger,
    pub created_at: Timestamp,
    pub origin: Origin,
    pub seal: SealInfo,
    /// Bytes of the database, without etcd's trailer.
    pub snapshot_bytes: u64,
    /// sha256 of the database in hexadecimal: equal to etcd's trailer.
    pub snapshot_sha256: String,
    /// Bytes of the sealed object.
    pub sealed_bytes: u64,
    /// sha256 of the sealed object in hexadecimal.
    pub sealed_sha256: String,
    pub agent_version: String,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Why bytes are no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("not a manifest: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("the manifest has format version {0}, this build knows {FORMAT_VERSION}: update Backstay")]
    UnknownVersion(u32),
}

impl Manifest {
    /// Pretty-printed JSON: people read manifests.
    pub fn to_json(&self) -> Vec<u8> {
        // Plain data with text keys: JSON can hold every manifest.
        let mut json = serde_json::to_vec_pretty(self).expect("a manifest is plain data");
        json.push(b'\n');
        json
    }

    pub fn from_json(bytes: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Head {
            format_version: u32,
        }
        let head: Head = serde_json::from_slice(bytes)?;
        if head.format_version != FORMAT_VERSION {
            return Err(ManifestError::UnknownVersion(head.format_version));
        }
        Ok(serde_json::from_slice(bytes)?)
    }
}
