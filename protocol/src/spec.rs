//! The spec of each resource type of Omni, with Omni's fields and spelling, so that existing scripts keep working.
//!
//! Reading is lenient: a coordinator may be newer than the program that asks it, and send more fields. What people apply is
//! compared with [`Spec::every_field`] before it is read (see [`crate::validate::unknown_fields`]).
//!
//! ```
//! use backstay_protocol::spec::{HIDDEN, S3ConfigSpec};
//!
//! let stored = S3ConfigSpec { secretaccesskey: "s3cr3t".into(), ..S3ConfigSpec::default() };
//! let shown = stored.redacted();
//! assert_eq!(shown.secretaccesskey, HIDDEN);
//! // Applied as it was shown, it keeps the secret.
//! assert_eq!(shown.unhidden(Some(&stored))?, stored);
//! # Ok::<(), backstay_protocol::validate::Invalid>(())
//! ```

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
    /// The resource type that this is the spec of.
    fn definition() -> &'static TypeDefinition;

    /// A spec with every field present: any other field is refused when it is applied.
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

/// Where backups go if the backend is `s3`. Its id is [`S3_CONFIG_ID`].
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct S3ConfigSpec {
    /// The bucket's name; it must not be empty.
    pub bucket: String,
    /// Empty: AWS_REGION of the coordinator, or us-east-1.
    pub region: String,
    /// A URL with http:// or https://. Empty: AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL of the coordinator, or Amazon's.
    pub endpoint: String,
    /// Empty, together with the secret: each machine's own credentials.
    pub accesskeyid: String,
    /// Shown as [`HIDDEN`].
    pub secretaccesskey: String,
    /// Shown as [`HIDDEN`]; empty unless the credentials are temporary.
    pub sessiontoken: String,
}
spec!(S3ConfigSpec, ETCD_BACKUP_S3_CONFIGS, S3ConfigSpec::default());

/// The id of the only S3 configuration.
pub const S3_CONFIG_ID: &str = "etcd-backup-s3-conf";

impl S3ConfigSpec {
    /// The same with its secrets replaced by [`HIDDEN`]; an empty secret stays empty.
    pub fn redacted(&self) -> Self {
        let hide = |secret: &str| if secret.is_empty() { String::new() } else { HIDDEN.to_owned() };
        Self { secretaccesskey: hide(&self.secretaccesskey), sessiontoken: hide(&self.sessiontoken), ..self.clone() }
    }

    /// The same with each [`HIDDEN`] replaced by the secret that is stored.
    ///
    /// # Errors
    /// [`Invalid::NothingHidden`] if no such secret is stored.
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

/// A request for a backup now. The id is the cluster's name; another time means another backup.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ManualBackupSpec {
    /// A whole second, at most a minute off. Applying a spec without it is an error.
    pub backupat: Option<Timestamp>,
}
spec!(ManualBackupSpec, ETCD_MANUAL_BACKUPS, ManualBackupSpec { backupat: Some(Timestamp::default()) });

/// How the latest attempt went. Written as a number, as in Omni.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BackupState {
    /// 0: there was none yet, or it is not known.
    #[default]
    Unknown,
    /// 1.
    Ok,
    /// 2.
    Error,
    /// 3.
    Running,
}

impl BackupState {
    /// 0 to 3.
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

/// The status of one cluster's backups. The id is the cluster's name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BackupStatusSpec {
    /// How the latest attempt went.
    pub status: BackupState,
    /// Why the latest attempt failed; empty if it did not.
    pub error: String,
    /// The time of the newest backup; absent if there is none.
    pub lastbackuptime: Option<Timestamp>,
    /// When an attempt last began or ended; absent if there was none.
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

/// The status of the storage, and of the most recent attempt in any cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OverallStatusSpec {
    /// `s3` or `local`.
    pub configurationname: String,
    /// Why the storage cannot be used; empty if it can.
    pub configurationerror: String,
    /// How often a storage configuration was applied, failures included; absent while it is 0.
    pub configurationattempt: Option<u64>,
    /// The most recent attempt in any cluster; absent if there was none.
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

/// The id of the only overall status.
pub const OVERALL_STATUS_ID: &str = "etcdbackup-overall-status";

/// A backup in the store.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BackupSpec {
    /// The time in its name.
    pub createdat: Option<Timestamp>,
    /// Its name, with `.snapshot`.
    pub snapshot: String,
    /// Bytes of the stored object, which is compressed and encrypted.
    pub size: u64,
}
spec!(BackupSpec, ETCD_BACKUPS, BackupSpec { createdat: Some(Timestamp::default()), ..BackupSpec::default() });

impl BackupSpec {
    /// The id of a backup: `CLUSTER-UNIXSECONDS`.
    ///
    /// # Examples
    /// ```
    /// use backstay_protocol::SnapshotName;
    /// use backstay_protocol::spec::BackupSpec;
    ///
    /// let id = BackupSpec::id(&"talos-default".parse()?, SnapshotName::from_unix_seconds(1_701_184_522)?);
    /// assert_eq!(id, "talos-default-1701184522");
    /// # Ok::<(), backstay_protocol::NameError>(())
    /// ```
    pub fn id(cluster: &ClusterName, snapshot: SnapshotName) -> String {
        format!("{cluster}-{}", snapshot.unix_seconds())
    }
}

/// The UUID of a cluster, which names its folder in the store. The id is the cluster's name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterUuidSpec {
    /// Absent: not known yet.
    pub uuid: Option<ClusterUuid>,
}
spec!(ClusterUuidSpec, CLUSTER_UUIDS, ClusterUuidSpec::default());

/// A cluster, and how often it is backed up. The id is the cluster's name. Only the backup configuration has an effect; the
/// rest comes from templates and is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterSpec {
    /// For Talos; kept only.
    pub installimage: String,
    /// Kept only.
    pub kubernetesversion: String,
    /// Kept only.
    pub talosversion: String,
    /// Kept only.
    pub features: Features,
    /// Absent: no automatic backups.
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
    /// How often to make a backup; `None` if automatic backups are off. An interval without `enabled` is on.
    pub fn backup_interval(&self) -> Option<Duration> {
        let configuration = self.backupconfiguration.as_ref()?;
        let interval = configuration.interval?.as_duration();
        let enabled = configuration.enabled.unwrap_or(true) && !interval.is_zero();
        enabled.then_some(interval)
    }
}

/// Switches of a cluster that mean something to Omni; Backstay only keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Features {
    /// Omni's workload proxy.
    pub enableworkloadproxy: bool,
    /// Omni's disk encryption.
    pub diskencryption: bool,
    /// Omni's own discovery service instead of the public one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub useembeddeddiscoveryservice: bool,
    /// As Omni's templates have it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub enablenodeauditskip: bool,
    /// No public discovery service.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disablepublicdiscoveryservice: bool,
}

/// How often automatic backups are made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BackupConfiguration {
    /// Absent or zero: no automatic backups.
    pub interval: Option<Interval>,
    /// Absent: on if there is an interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// A duration as resources write it: `{seconds: 3600, nanos: 0}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Interval {
    /// Whole seconds.
    pub seconds: u64,
    /// 0 to 999,999,999, in addition to the seconds; more is refused.
    pub nanos: u32,
}

impl Interval {
    /// Saturates instead of overflowing.
    pub fn as_duration(self) -> Duration {
        Duration::from_secs(self.seconds).saturating_add(Duration::from_nanos(u64::from(self.nanos)))
    }
}

impl From<Duration> for Interval {
    fn from(duration: Duration) -> Self {
        Self { seconds: duration.as_secs(), nanos: duration.subsec_nanos() }
    }
}

/// A group of machines of one cluster, from a template. The id is its name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineSetSpec {
    /// Absent for workers, and for a control plane that starts empty.
    pub bootstrapspec: Option<BootstrapSpec>,
}
spec!(MachineSetSpec, MACHINE_SETS, MachineSetSpec { bootstrapspec: Some(BootstrapSpec::default()) });

/// The backup from which a control plane is to be started.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BootstrapSpec {
    /// The UUID of the cluster that the backup is of.
    pub clusteruuid: String,
    /// Its name.
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
