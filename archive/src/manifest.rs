//! The manifest: describes a backup, as JSON beside the sealed object. A backup without a manifest is not visible.

use backstay_protocol::hex::to_hex;
use backstay_protocol::{AttemptId, ClusterName, ClusterUuid, MachineId, SlotId, SnapshotName, Timestamp};
use backstay_snapshot::inspect;
use backstay_snapshot::release::Release;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// The manifest's format version that this build writes. Fields may be added without a new version; a reader refuses
/// other versions.
pub const FORMAT_VERSION: u32 = 1;

/// Limit for the size of a manifest, in bytes.
pub const MANIFEST_MAX: usize = 64 * 1024;

/// Why a backup was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// Someone requested it from the coordinator.
    Manual,
    /// The coordinator's schedule was due.
    Interval,
    /// `backstay-agent once`, without a coordinator.
    Once,
}

/// Which etcd the snapshot comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Origin {
    /// etcd's own cluster ID, 16 hexadecimal digits.
    pub etcd_cluster_id: String,
    /// ID of the member that sent the snapshot, 16 hexadecimal digits.
    pub member_id: String,
    /// Version of that member, such as `3.6.14`; empty if unknown.
    pub etcd_version: String,
    /// The revision of a linearizable read before the snapshot. The snapshot contains at least this revision.
    pub revision: i64,
}

/// How the object was made from the snapshot file: compressed with zstd, then encrypted with age unless `recipients`
/// is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SealInfo {
    /// Always `zstd` so far.
    pub compression: String,
    /// `age`, or `none`.
    pub encryption: String,
    /// The age recipients that can decrypt it (`age1…`).
    pub recipients: Vec<String>,
}

/// Whether another member of the cluster has the same data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Its HashKV equals that of the snapshot.
    Equal,
    /// Its HashKV is different. Such a backup is not stored; only failed attempts report this.
    Differs,
    /// It is unknown. Also used for verdicts of a later version that this one does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

impl Verdict {
    /// The word in the manifest: `equal`, `differs` or `unknown`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Differs => "differs",
            Self::Unknown => "unknown",
        }
    }
}

/// What the inspection of the database found while the backup was made.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Inspection {
    /// Whether another member has the same data.
    pub verdict: Verdict,
    /// ID of the member that was asked for HashKV, 16 hexadecimal digits. If the cluster has no other voting member,
    /// the one that sent the snapshot. `None` if nobody was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compared_with: Option<String>,
    /// Why the verdict is unknown; otherwise `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// HashKV at the origin's revision, 8 hexadecimal digits; `None` if unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash_kv: Option<String>,
    /// The compact revision for which `hash_kv` is valid; -1 if etcd was never compacted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash_compact_revision: Option<i64>,
    /// What the database contains; `None` if it could not be checked from the root to every leaf.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contents: Option<Contents>,
    /// Voting members that the database lists as learners, 16 hexadecimal digits each: see [`Inspection::warning`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub promoted_learners: Vec<String>,
    /// Fields that this build does not know; kept when the manifest is written again.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Inspection {
    /// Whether the cluster has no other voting member, and the member's own HashKV equals that of the file.
    pub fn is_own(&self, origin: &Origin) -> bool {
        self.verdict == Verdict::Equal && self.compared_with.as_ref() == Some(&origin.member_id)
    }

    /// What an operator should know about this backup although it is good; `None` if there is nothing.
    pub fn warning(&self) -> Option<String> {
        let members = self.promoted_learners.join(" and ");
        (!members.is_empty()).then(|| {
            format!(
                "etcd's database still lists {members} as a learner, although the cluster has promoted it (a bug in \
                 etcd 3.5.1 to 3.5.19). A restore with Backstay fixes this. The cluster itself may break when it is \
                 upgraded to etcd 3.6, which trusts the database: upgrade to the newest 3.5 first"
            )
        })
    }
}

/// The text for people if [`Inspection::is_own`].
pub const NO_OTHER_MEMBER: &str = "there is no other member to compare with; the member's own HashKV matches the file";

/// What the pages of an intact database contain. See [`backstay_snapshot::inspect::Contents`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Contents {
    /// Page size in bytes.
    pub page_bytes: u32,
    /// Bytes of the pages that are in use.
    pub bytes_in_use: u64,
    /// Number of keys in all buckets: `totalKey` of `etcdutl snapshot status` up to 3.5.
    pub entries: u64,
    /// `totalKey` of `etcdutl snapshot status` in the release of the member. Up to 3.5 it counts the keys of all
    /// buckets; from 3.6 on it counts user keys that are not deleted (plus one if a restore raised the revision).
    /// `None` if unknown, and in older manifests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_key: Option<u64>,
    /// The version that the database is marked with (`storageVersion`, from 3.6 on). A release from 3.6 on refuses a
    /// database whose mark is later than its own version; older releases ignore it. `None` if there is no mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_version: Option<String>,
    /// Number of user keys that are not deleted; `None` if unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_keys: Option<u64>,
    /// The current revision of the key space: at least the origin's revision.
    pub revision: i64,
    /// The revision up to which the database may be compacted; `None` if it never was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compact_revision: Option<i64>,
    /// `hash` of `etcdutl snapshot status`, 8 hexadecimal digits.
    pub status_hash: String,
    /// Fields that this build does not know; kept when the manifest is written again.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Contents {
    /// The result of an inspection, for the database of a member of version `etcd_version`. `None` if the pages could
    /// not be checked from the root to every leaf.
    pub fn of(inspection: &inspect::Inspection, etcd_version: &str) -> Option<Self> {
        let contents = inspection.contents.as_ref().ok()?;
        let total_key = match Release::parse(etcd_version).map(Release::counts_user_keys) {
            Some(true) => contents.seen_keys,
            Some(false) => Some(contents.entries),
            None => None,
        };
        Some(Self {
            page_bytes: inspection.page_bytes,
            bytes_in_use: contents.bytes_in_use,
            entries: contents.entries,
            total_key,
            storage_version: contents.about.storage_version.clone(),
            live_keys: contents.live_keys,
            revision: contents.revision,
            compact_revision: contents.about.compacted(),
            status_hash: format!("{:08x}", contents.status_hash),
            ..Self::default()
        })
    }
}

/// The backup that another one replaces: until then the newest of the series, but of another etcd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// etcd's cluster ID in its manifest, 16 hexadecimal digits.
    pub etcd_cluster_id: String,
    /// The revision in its manifest.
    pub revision: i64,
    /// Its name.
    pub snapshot: SnapshotName,
}

impl From<&Manifest> for Replaced {
    fn from(manifest: &Manifest) -> Self {
        Self {
            etcd_cluster_id: manifest.origin.etcd_cluster_id.clone(),
            revision: manifest.origin.revision,
            snapshot: manifest.snapshot,
        }
    }
}

/// The place of a backup among the signed ones of its cluster. Names are times that some clock told; this is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// From 1; each signed backup has the next one. Where the backup before it was removed there is a gap.
    pub number: u64,
    /// sha256 in hexadecimal of the manifest with the number before, as it is stored; `None` in the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_sha256: Option<String>,
    /// Fields that this build does not know; kept when the manifest is written again.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Sequence {
    /// The place after `previous`, whose manifest has these bytes; the first place where there is none.
    pub fn after(previous: Option<(&Manifest, &[u8])>) -> Self {
        let number = previous.and_then(|(manifest, _)| manifest.sequence.as_ref()).map_or(0, |place| place.number);
        Self {
            number: number.saturating_add(1),
            previous_sha256: previous.map(|(_, json)| to_hex(&Sha256::digest(json))),
            extra: Map::new(),
        }
    }
}

/// Describes a backup. Fields that this build does not know are kept when a manifest is read and written again.
///
/// ```
/// use backstay_archive::manifest::{FORMAT_VERSION, Manifest};
///
/// # let json = br#"{
/// #   "format_version": 1, "cluster": "prod", "cluster_uuid": "3f2c1e9a-8f0b-4d55-9d6e-6a1f0c7b2a10",
/// #   "snapshot": "FFFFFFFF9A99FBF6.snapshot", "slot": "a8098c1a-f86e-41da-bd1a-00112444be1e",
/// #   "attempt": "c9bf9e57-1685-4c89-bafb-ff5af830be8a", "trigger": "once",
/// #   "created_at": {"seconds": 1701184523, "nanos": 0},
/// #   "origin": {"etcd_cluster_id": "cdf818194e3a8c32", "member_id": "8e9e05c52164694d", "etcd_version": "3.6.14",
/// #   "revision": 42}, "seal": {"compression": "zstd", "encryption": "none", "recipients": []}, "snapshot_bytes": 1,
/// #   "snapshot_sha256": "", "sealed_bytes": 1, "sealed_sha256": "", "agent_version": "0.1.0", "written_by": "later"
/// # }"#;
/// let manifest = Manifest::from_json(json)?;
/// assert_eq!(manifest.format_version, FORMAT_VERSION);
/// assert_eq!(manifest.origin.revision, 42);
/// // A field of a later version is not lost.
/// assert_eq!(manifest.extra["written_by"], "later");
/// assert_eq!(Manifest::from_json(&manifest.to_json())?, manifest);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT_VERSION`] in every manifest that this build can read.
    pub format_version: u32,
    /// The cluster's name when the backup was made.
    pub cluster: ClusterName,
    /// The cluster's UUID, which is the name of its folder in the store.
    pub cluster_uuid: ClusterUuid,
    /// The machine that made the backup; `None` for `backstay-agent once`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineId>,
    /// The backup's name.
    pub snapshot: SnapshotName,
    /// The slot that the backup fills: all attempts for a slot make one backup.
    pub slot: SlotId,
    /// The attempt that made it.
    pub attempt: AttemptId,
    /// Why it was made.
    pub trigger: Trigger,
    /// When the upload started, by the clock of the machine that made the backup.
    pub created_at: Timestamp,
    /// The etcd that it comes from.
    pub origin: Origin,
    /// How the object is compressed and encrypted.
    pub seal: SealInfo,
    /// Size of the database in bytes, without etcd's trailer.
    pub snapshot_bytes: u64,
    /// SHA-256 of the database in hexadecimal, which equals etcd's trailer.
    pub snapshot_sha256: String,
    /// Size of the sealed object in bytes.
    pub sealed_bytes: u64,
    /// SHA-256 of the sealed object in hexadecimal.
    pub sealed_sha256: String,
    /// Version of the agent that made it.
    pub agent_version: String,
    /// What the inspection found; `None` if it was turned off, and in manifests from before there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inspection: Option<Inspection>,
    /// The backup that this one replaces; only in the first backup of another etcd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<Replaced>,
    /// Where it was made to be signed: its place among the signed backups of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<Sequence>,
    /// Fields that this build does not know; kept when the manifest is written again.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Why bytes are not a manifest that this build can read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is not JSON, or a field is missing or has the wrong type.
    #[error("not a manifest: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The format version, which this is, is not [`FORMAT_VERSION`].
    #[error("the manifest has format version {0}, but this version supports {FORMAT_VERSION}: update Backstay")]
    UnknownVersion(u32),
    /// It is larger than [`MANIFEST_MAX`].
    #[error("it is larger than {MANIFEST_MAX} bytes, so it is not a manifest of Backstay")]
    TooLarge,
}

impl Manifest {
    /// Encodes the manifest as indented JSON, because people read manifests.
    pub fn to_json(&self) -> Vec<u8> {
        // Plain data with text keys: JSON can hold every manifest.
        let mut json = serde_json::to_vec_pretty(self).expect("a manifest is plain data");
        json.push(b'\n');
        json
    }

    /// Decodes a manifest.
    ///
    /// # Errors
    /// [`ManifestError::Malformed`] or [`ManifestError::UnknownVersion`]. The version is checked first, so a later
    /// format is reported as that.
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

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
