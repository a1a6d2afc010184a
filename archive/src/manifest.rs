//! The manifest: what a backup is, as JSON beside the sealed object. A backup without one is not visible.

use backstay_protocol::hex::to_hex;
use backstay_protocol::{AttemptId, ClusterName, ClusterUuid, MachineId, SlotId, SnapshotName, Timestamp};
use backstay_snapshot::inspect;
use backstay_snapshot::release::Release;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

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

/// Whether another member of the cluster holds the same data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Its HashKV is that of the snapshot.
    Equal,
    /// It is not. No such backup is stored; failed attempts say it.
    Differs,
    /// It could not be told. Also what a later version may say.
    #[default]
    #[serde(other)]
    Unknown,
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Differs => "differs",
            Self::Unknown => "unknown",
        }
    }
}

/// What a look into the database found while it was verified.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Inspection {
    pub verdict: Verdict,
    /// The member that was asked, 16 hexadecimal digits: the one that was read where the cluster has no other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compared_with: Option<String>,
    /// Why the verdict is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// HashKV at the origin's revision, 8 hexadecimal digits, with the compact revision for which it was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash_kv: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash_compact_revision: Option<i64>,
    /// What the pages hold; `None` where they could not be checked from the root to every leaf.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contents: Option<Contents>,
    /// Members that vote and that the database calls learners, 16 hexadecimal digits each: see [`Inspection::warning`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub promoted_learners: Vec<String>,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Inspection {
    /// The cluster has no other voting member: the one that was read was asked for its own HashKV, and it is the file's.
    pub fn is_own(&self, origin: &Origin) -> bool {
        self.verdict == Verdict::Equal && self.compared_with.as_ref() == Some(&origin.member_id)
    }

    /// What an operator should know of a backup that is good; `None` where there is nothing to say.
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

/// What people are told where [`Inspection::is_own`].
pub const NO_OTHER_MEMBER: &str = "there is no other member to compare with; the member's own HashKV matches the file";

/// What the pages of a whole database hold.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Contents {
    pub page_bytes: u32,
    pub bytes_in_use: u64,
    /// Keys of all buckets: `totalKey` of `etcdutl snapshot status` up to 3.5.
    pub entries: u64,
    /// `totalKey` as the `etcdutl snapshot status` of the member's own release counts it: keys of all buckets up to 3.5, from
    /// 3.6 on user keys that are not deleted (and one for the jump of a restore). `None` where that is not known, and in
    /// backups from before this was written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_key: Option<u64>,
    /// The version of the storage, which etcd writes down from 3.6 on. Releases from 3.6 on refuse one that is
    /// later than their own; older ones do not look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_version: Option<String>,
    /// User keys that are not deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_keys: Option<u64>,
    /// Where the key space stands: at least the origin's revision.
    pub revision: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compact_revision: Option<i64>,
    /// `hash` of `etcdutl snapshot status`, 8 hexadecimal digits.
    pub status_hash: String,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Contents {
    /// As an inspection found them in the database of a member of that version; `None` where the pages could not be checked
    /// from the root to every leaf.
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

/// What a backup takes the place of: the newest that counted until then, which was of another etcd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// As in [`Origin`].
    pub etcd_cluster_id: String,
    pub revision: i64,
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
    /// `None` where inspection was turned off, and in backups from before there was any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inspection: Option<Inspection>,
    /// Where this is the first backup of another etcd: what it takes the place of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<Replaced>,
    /// Where it was made to be signed: its place among the signed backups of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<Sequence>,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Why bytes are no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("not a manifest: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("the manifest has format version {0}, but this version supports {FORMAT_VERSION}: update Backstay")]
    UnknownVersion(u32),
    #[error("it is larger than {MANIFEST_MAX} bytes, so it is not a manifest of Backstay")]
    TooLarge,
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
            sequence: None,
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
    fn a_place_among_the_signed_is_written_as_it_always_was() {
        const SIGNED: &str = include_str!("../tests/golden/manifest-signed.json");
        let sequence = Sequence { number: 7, previous_sha256: Some("c".repeat(64)), extra: Map::new() };
        let manifest = Manifest { sequence: Some(sequence), ..golden() };
        assert_eq!(String::from_utf8(manifest.to_json()).expect("text"), SIGNED);
        assert_eq!(Manifest::from_json(SIGNED.as_bytes()).expect("readable"), manifest);
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
        // A future version may look entirely different and is still named as such.
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
