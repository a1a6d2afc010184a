//! The spec of each resource type, with the fields and the spelling that existing scripts know.
//!
//! Reading is lenient: a coordinator may be newer than who asks it, and tells more. What people apply is held against
//! [`Spec::every_field`] before it is read (see [`crate::validate::unknown_fields`]).

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt::Debug;
use std::time::Duration;

use crate::invalid::Invalid;
use crate::names::{ClusterName, ClusterUuid, SnapshotName};
use crate::time::Timestamp;
use crate::types::TypeDefinition;

pub use crate::invalid::HIDDEN;

/// The spec of one resource type.
pub trait Spec: Serialize + DeserializeOwned + Default + Clone + PartialEq + Debug {
    fn definition() -> &'static TypeDefinition;

    /// A spec with every field present: what unknown fields are measured against.
    fn every_field() -> Value;
}

macro_rules! spec {
    ($name:ident, $definition:ident, $full:expr) => {
        impl Spec for $name {
            fn definition() -> &'static $crate::types::TypeDefinition {
                &$crate::types::$definition
            }

            fn every_field() -> serde_json::Value {
                let full: $name = $full;
                serde_json::to_value(full).expect("a spec is plain data")
            }
        }
    };
}
pub(crate) use spec;

/// Where backups go when the backend is `s3`.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct S3ConfigSpec {
    pub bucket: String,
    pub region: String,
    pub endpoint: String,
    pub accesskeyid: String,
    pub secretaccesskey: String,
    pub sessiontoken: String,
}
spec!(S3ConfigSpec, ETCD_BACKUP_S3_CONFIGS, S3ConfigSpec::default());

/// The id of the one S3 configuration.
pub const S3_CONFIG_ID: &str = "etcd-backup-s3-conf";

impl S3ConfigSpec {
    /// The same with secrets replaced by [`HIDDEN`]; an empty secret stays empty.
    pub fn redacted(&self) -> Self {
        let hide = |secret: &str| if secret.is_empty() { String::new() } else { HIDDEN.to_owned() };
        Self { secretaccesskey: hide(&self.secretaccesskey), sessiontoken: hide(&self.sessiontoken), ..self.clone() }
    }

    /// What was hidden in this spec, filled in again from what was stored.
    ///
    /// # Errors
    /// Nothing is stored that could have been hidden.
    pub fn unhidden(mut self, stored: Option<&Self>) -> Result<Self, Invalid> {
        for (field, mine, theirs) in [
            ("secretaccesskey", &mut self.secretaccesskey, stored.map(|s| &s.secretaccesskey)),
            ("sessiontoken", &mut self.sessiontoken, stored.map(|s| &s.sessiontoken)),
        ] {
            if mine == HIDDEN {
                *mine = theirs.filter(|kept| !kept.is_empty()).ok_or(Invalid::NothingHidden(field))?.clone();
            }
        }
        Ok(self)
    }
}

impl Debug for S3ConfigSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = self.redacted();
        f.debug_struct("S3ConfigSpec")
            .field("bucket", &shown.bucket)
            .field("region", &shown.region)
            .field("endpoint", &shown.endpoint)
            .field("accesskeyid", &shown.accesskeyid)
            .field("secretaccesskey", &shown.secretaccesskey)
            .field("sessiontoken", &shown.sessiontoken)
            .finish()
    }
}

/// "Back up this cluster now": the id is the cluster's name, a new time is a new backup.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ManualBackupSpec {
    pub backupat: Option<Timestamp>,
}
spec!(ManualBackupSpec, ETCD_MANUAL_BACKUPS, ManualBackupSpec { backupat: Some(Timestamp::default()) });

/// How the latest attempt went. Written as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BackupState {
    #[default]
    Unknown,
    Ok,
    Error,
    Running,
}

impl BackupState {
    pub fn number(self) -> u32 {
        self as u32
    }
}

impl Serialize for BackupState {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.number())
    }
}

impl<'de> Deserialize<'de> for BackupState {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(deserializer)?;
        Ok(match number as u32 {
            1 => Self::Ok,
            2 => Self::Error,
            3 => Self::Running,
            _ => Self::Unknown,
        })
    }
}

/// The status of one cluster's backups.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BackupStatusSpec {
    pub status: BackupState,
    pub error: String,
    pub lastbackuptime: Option<Timestamp>,
    pub lastbackupattempt: Option<Timestamp>,
}
spec!(
    BackupStatusSpec,
    ETCD_BACKUP_STATUSES,
    BackupStatusSpec {
        lastbackuptime: Some(Timestamp::default()),
        lastbackupattempt: Some(Timestamp::default()),
        ..BackupStatusSpec::default()
    }
);

/// The status of the whole: the storage configuration, and the most recent attempt in any cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OverallStatusSpec {
    pub configurationname: String,
    pub configurationerror: String,
    /// Attempts to apply a storage configuration, failed ones too; absent while 0.
    pub configurationattempt: Option<u64>,
    pub lastbackupstatus: Option<BackupStatusSpec>,
}
spec!(
    OverallStatusSpec,
    ETCD_BACKUP_OVERALL_STATUSES,
    OverallStatusSpec {
        configurationattempt: Some(0),
        lastbackupstatus: serde_json::from_value(BackupStatusSpec::every_field()).ok(),
        ..OverallStatusSpec::default()
    }
);

/// The id of the one overall status.
pub const OVERALL_STATUS_ID: &str = "etcdbackup-overall-status";

/// A backup at rest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BackupSpec {
    pub createdat: Option<Timestamp>,
    pub snapshot: String,
    /// Bytes of the sealed object.
    pub size: u64,
}
spec!(BackupSpec, ETCD_BACKUPS, BackupSpec { createdat: Some(Timestamp::default()), ..BackupSpec::default() });

impl BackupSpec {
    /// The id of a backup: `CLUSTER-UNIXSECONDS`.
    pub fn id(cluster: &ClusterName, snapshot: SnapshotName) -> String {
        format!("{cluster}-{}", snapshot.unix_seconds())
    }
}

/// The UUID under which storage knows a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterUuidSpec {
    pub uuid: Option<ClusterUuid>,
}
spec!(ClusterUuidSpec, CLUSTER_UUIDS, ClusterUuidSpec::default());

/// A cluster, and how often it is backed up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterSpec {
    pub installimage: String,
    pub kubernetesversion: String,
    pub talosversion: String,
    pub features: Features,
    pub backupconfiguration: Option<BackupConfiguration>,
}
spec!(
    ClusterSpec,
    CLUSTERS,
    ClusterSpec {
        features: Features {
            enableworkloadproxy: true,
            diskencryption: true,
            useembeddeddiscoveryservice: true,
            enablenodeauditskip: true,
            disablepublicdiscoveryservice: true,
        },
        backupconfiguration: Some(BackupConfiguration { interval: Some(Interval::default()), enabled: Some(true) }),
        ..ClusterSpec::default()
    }
);

impl ClusterSpec {
    /// How often to back up; `None` where automatic backups are off. An interval without `enabled` is on.
    pub fn backup_interval(&self) -> Option<Duration> {
        let configuration = self.backupconfiguration.as_ref()?;
        let interval = configuration.interval?.as_duration();
        let enabled = configuration.enabled.unwrap_or(true) && !interval.is_zero();
        enabled.then_some(interval)
    }
}

/// What Omni knows of a cluster and Backstay only keeps.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Features {
    pub enableworkloadproxy: bool,
    pub diskencryption: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub useembeddeddiscoveryservice: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub enablenodeauditskip: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disablepublicdiscoveryservice: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BackupConfiguration {
    pub interval: Option<Interval>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// A duration as resources write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Interval {
    pub seconds: u64,
    pub nanos: u32,
}

impl Interval {
    pub fn as_duration(self) -> Duration {
        Duration::from_secs(self.seconds).saturating_add(Duration::from_nanos(u64::from(self.nanos)))
    }
}

impl From<Duration> for Interval {
    fn from(duration: Duration) -> Self {
        Self { seconds: duration.as_secs(), nanos: duration.subsec_nanos() }
    }
}

/// A group of machines of one cluster, as a template says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineSetSpec {
    pub bootstrapspec: Option<BootstrapSpec>,
}
spec!(MachineSetSpec, MACHINE_SETS, MachineSetSpec { bootstrapspec: Some(BootstrapSpec::default()) });

/// The backup that a control plane is to be started from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BootstrapSpec {
    pub clusteruuid: String,
    pub snapshot: String,
}

/// One machine of a machine set: the id is the machine's UUID.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineSetNodeSpec {}
spec!(MachineSetNodeSpec, MACHINE_SET_NODES, MachineSetNodeSpec {});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_hides_secrets() {
        let spec =
            S3ConfigSpec { secretaccesskey: "s3cr3t".into(), sessiontoken: "t0ken".into(), ..Default::default() };
        let shown = format!("{spec:?}");
        assert!(!shown.contains("s3cr3t") && !shown.contains("t0ken"), "{shown}");
    }

    #[test]
    fn hidden_applied_back_keeps_what_was_stored() {
        let stored = S3ConfigSpec { secretaccesskey: "s3cr3t".into(), ..Default::default() };
        assert_eq!(stored.redacted().unhidden(Some(&stored)), Ok(stored.clone()));
        let error = stored.redacted().unhidden(None).expect_err("nothing to keep").to_string();
        assert_eq!(
            error,
            "secretaccesskey is <hidden>, but no value is stored that could be kept: give the full value"
        );
    }

    #[test]
    fn an_interval_without_enabled_is_on() {
        let spec = |json: &str| serde_json::from_str::<ClusterSpec>(json).expect("a cluster").backup_interval();
        assert_eq!(spec(r#"{"backupconfiguration":{"interval":{"seconds":3600}}}"#), Some(Duration::from_secs(3600)));
        assert_eq!(spec(r#"{"backupconfiguration":{"interval":{"seconds":3600},"enabled":false}}"#), None);
        assert_eq!(spec(r#"{"backupconfiguration":{"enabled":true}}"#), None);
        assert_eq!(spec(r#"{"backupconfiguration":null}"#), None);
    }
}
