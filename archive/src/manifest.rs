//! The manifest: describes a backup, as JSON beside the sealed object. A backup without a manifest is not visible.

use backstay_protocol::{AttemptId, ClusterName, ClusterUuid, MachineId, SlotId, SnapshotName, Timestamp};
use backstay_snapshot::inspect;
use backstay_snapshot::release::Release;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    /// What a manifest of version 1 looks like on disk: readers of every later version must read it.
    const GOLDEN: &str = include_str!("../tests/golden/manifest.json");

    fn golden() -> Manifest {
        Manifest {
            format_version: 1,
            cluster: "talos-default".parse().expect("a name"),
            cluster_uuid: "c0ffee00-1234-4abc-8def-0123456789ab".parse().expect("a UUID"),
            machine: Some("4c4c4544-0039-3010-8048-b7c04f384432".parse().expect("a UUID")),
            snapshot: "FFFFFFFF9A99FBF6.snapshot".parse().expect("a name"),
            slot: "11111111-2222-4333-8444-555555555555".parse().expect("a UUID"),
            attempt: "66666666-7777-4888-8999-aaaaaaaaaaaa".parse().expect("a UUID"),
            trigger: Trigger::Interval,
            created_at: Timestamp { seconds: 1_701_184_523, nanos: 250_000_000 },
            origin: Origin {
                etcd_cluster_id: "cdf818194e3a8c32".into(),
                member_id: "8e9e05c52164694d".into(),
                etcd_version: "3.4.23".into(),
                revision: 1234,
            },
            seal: SealInfo {
                compression: "zstd".into(),
                encryption: "age".into(),
                recipients: vec!["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p".into()],
            },
            snapshot_bytes: 20_480,
            snapshot_sha256: "a".repeat(64),
            sealed_bytes: 5_120,
            sealed_sha256: "b".repeat(64),
            agent_version: "0.1.0".into(),
            inspection: None,
            replaces: None,
            extra: Map::new(),
        }
    }

    fn inspected() -> Manifest {
        let contents = Contents {
            page_bytes: 4096,
            bytes_in_use: 16_384,
            entries: 321,
            total_key: None,
            storage_version: None,
            live_keys: Some(42),
            revision: 1240,
            compact_revision: Some(1200),
            status_hash: "0badcafe".into(),
            extra: Map::new(),
        };
        let inspection = Inspection {
            verdict: Verdict::Equal,
            compared_with: Some("91bc3c398fb3c146".into()),
            reason: None,
            hash_kv: Some("deadbeef".into()),
            hash_compact_revision: Some(1200),
            contents: Some(contents),
            promoted_learners: Vec::new(),
            extra: Map::new(),
        };
        Manifest { inspection: Some(inspection), ..golden() }
    }

    #[test]
    fn an_inspection_is_written_as_it_always_was_and_later_fields_survive() {
        const INSPECTED: &str = include_str!("../tests/golden/manifest-inspected.json");
        assert_eq!(String::from_utf8(inspected().to_json()).expect("text"), INSPECTED);
        let later = INSPECTED.replace("\"entries\"", "\"later\": 1, \"entries\"").replace("\"equal\"", "\"later\"");
        let read = Manifest::from_json(later.as_bytes()).expect("readable").inspection.expect("there");
        assert_eq!(read.verdict, Verdict::Unknown);
        assert_eq!(read.contents.expect("there").extra["later"], 1);
    }

    #[test]
    fn what_came_with_etcd_3_6_and_a_warning_are_written_and_left_out_where_there_is_nothing() {
        const LATER: &str = include_str!("../tests/golden/manifest-inspected-3.6.json");
        let mut manifest = inspected();
        let inspection = manifest.inspection.as_mut().expect("there");
        assert_eq!(inspection.warning(), None);
        inspection.promoted_learners = vec!["91bc3c398fb3c146".into()];
        let contents = inspection.contents.as_mut().expect("there");
        (contents.total_key, contents.storage_version) = (Some(42), Some("3.6.0".into()));
        assert_eq!(String::from_utf8(manifest.to_json()).expect("text"), LATER);
        assert_eq!(Manifest::from_json(LATER.as_bytes()).expect("readable"), manifest);
        let warning = manifest.inspection.expect("there").warning().expect("there is one");
        assert!(warning.contains("still lists 91bc3c398fb3c146 as a learner"), "{warning}");
    }

    #[test]
    fn what_takes_the_place_of_another_is_written_as_it_always_was() {
        const REPLACES: &str = include_str!("../tests/golden/manifest-replaces.json");
        let snapshot = "FFFFFFFF9A99FBF7.snapshot".parse().expect("a name");
        let replaces = Replaced { etcd_cluster_id: "0123456789abcdef".into(), revision: 99, snapshot };
        let manifest = Manifest { replaces: Some(replaces), ..golden() };
        assert_eq!(String::from_utf8(manifest.to_json()).expect("text"), REPLACES);
        assert_eq!(Manifest::from_json(REPLACES.as_bytes()).expect("readable"), manifest);
    }

    #[test]
    fn version_one_is_written_as_it_always_was() {
        assert_eq!(String::from_utf8(golden().to_json()).expect("text"), GOLDEN);
        assert_eq!(Manifest::from_json(GOLDEN.as_bytes()).expect("readable"), golden());
    }

    #[test]
    fn unknown_fields_survive_and_unknown_versions_are_refused() {
        let mut json: Value = serde_json::from_str(GOLDEN).expect("JSON");
        json["verdict"] = serde_json::json!({ "pages": "good", "depth": [1, 2] });
        let read = Manifest::from_json(json.to_string().as_bytes()).expect("readable");
        let written: Value = serde_json::from_slice(&read.to_json()).expect("JSON");
        assert_eq!(written, json);

        json["format_version"] = 2.into();
        let error = Manifest::from_json(json.to_string().as_bytes()).expect_err("of the future");
        assert!(error.to_string().contains("version 2"), "{error}");
        // A future version may look entirely different, and is still reported as such.
        let error = Manifest::from_json(br#"{"format_version": 3}"#).expect_err("of the future");
        assert!(matches!(error, ManifestError::UnknownVersion(3)), "{error}");
    }

    #[test]
    fn every_missing_field_is_an_error_but_the_machine() {
        let json: Map<String, Value> = serde_json::from_str(GOLDEN).expect("JSON");
        for field in json.keys() {
            let mut less = json.clone();
            less.remove(field);
            let read = Manifest::from_json(&serde_json::to_vec(&less).expect("JSON"));
            assert_eq!(read.is_ok(), field == "machine", "without {field}: {read:?}");
        }
    }

    prop_compose! {
        fn manifests()(
            ids in prop::array::uniform4(1..u128::MAX), machine: bool, seconds in 1..9_999_999_999_i64,
            trigger in prop::sample::select(vec![Trigger::Manual, Trigger::Interval, Trigger::Once]),
            name in "[A-Za-z0-9][A-Za-z0-9_-]{0,62}", texts in prop::collection::vec(".{0,30}", 5),
            numbers in prop::array::uniform2(any::<u64>()), revision: i64, millis in 0..4_000_000_000_000_i64,
            recipients in prop::collection::vec(".{0,70}", 0..4), extra in prop::collection::vec(("x[a-z]{1,8}", any::<i64>()), 0..3),
        ) -> Manifest {
            Manifest {
                cluster: name.parse().expect("made to be a name"),
                cluster_uuid: ClusterUuid(Uuid::from_u128(ids[0])),
                machine: machine.then(|| MachineId(Uuid::from_u128(ids[1]))),
                snapshot: SnapshotName::from_unix_seconds(seconds).expect("in range"),
                slot: SlotId(Uuid::from_u128(ids[2])),
                attempt: AttemptId(Uuid::from_u128(ids[3])),
                trigger,
                created_at: Timestamp::from_millis(millis),
                origin: Origin { etcd_cluster_id: texts[0].clone(), member_id: texts[1].clone(), etcd_version: texts[2].clone(), revision },
                seal: SealInfo { compression: "zstd".into(), encryption: "age".into(), recipients },
                snapshot_bytes: numbers[0],
                sealed_bytes: numbers[1],
                agent_version: texts[3].clone(),
                extra: extra.into_iter().map(|(key, value)| (key, value.into())).collect(),
                ..golden()
            }
        }
    }

    proptest! {
        #[test]
        fn manifests_round_trip(manifest in manifests()) {
            let json = manifest.to_json();
            prop_assert!(json.len() < MANIFEST_MAX);
            prop_assert_eq!(Manifest::from_json(&json)?, manifest);
        }

        #[test]
        fn any_bytes_are_a_manifest_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Manifest::from_json(&bytes);
        }
    }
}
