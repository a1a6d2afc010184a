//! What is stored of a cluster, in one entry of the KV.
//!
//! Everything on which decisions about a cluster's backups depend is in this record, so each step is one compare-and-set. A
//! coordinator that dies between two steps leaves a state from which its successor continues.

use backstay_protocol::backstay_types::RestorePhase;
use backstay_protocol::resource::{LABEL_CLUSTER_UUID, Resource};
use backstay_protocol::spec::{BackupStatusSpec, ClusterSpec, ClusterUuidSpec, ManualBackupSpec};
use backstay_protocol::{ClusterName, ClusterUuid, Timestamp};
use serde::{Deserialize, Serialize};

use super::kept::{Kept, Meta};
use super::runs::Runs;
use super::slot::Slot;
use super::stored::Missing;
use crate::restore::Restore;
use crate::restore::unsettled::{self, Unsettled};
use crate::schedule::Known;
use crate::verify::Verification;

/// The version of the record's format.
pub const FORMAT: u32 = 1;

/// Everything that is stored about one cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterRecord {
    pub format: u32,
    pub name: ClusterName,
    pub uuid: ClusterUuid,
    /// Whether the UUID is final: it was found in the store, or a backup was begun with it.
    pub uuid_final: bool,
    pub cluster: Kept<ClusterSpec>,
    pub manual: Option<Kept<ManualBackupSpec>>,
    pub status: Option<Kept<BackupStatusSpec>>,
    /// Times of manual backups that were accepted but not begun yet, in Unix seconds, oldest first.
    pub pending: Vec<i64>,
    /// Times of manual backups that were begun recently, in Unix seconds: the same time is never begun twice.
    pub handled: Vec<i64>,
    pub slot: Option<Slot>,
    /// The latest attempts.
    #[serde(default)]
    pub runs: Runs,
    /// The time in the name of the newest backup in the store.
    pub last_backup: Option<Timestamp>,
    /// How many automatic backups failed since the last good one.
    pub failures: u32,
    pub last_failure: Option<Timestamp>,
    /// The last snapshot name that was used, in Unix seconds.
    pub last_name: i64,
    /// etcd's own cluster id in the last good backup.
    #[serde(default)]
    pub etcd_cluster_id: Option<u64>,
    /// The latest restore, running or ended.
    #[serde(default)]
    pub restore: Option<Restore>,
    /// When somebody deleted the control plane's machine set: a template may restore the cluster once after that.
    #[serde(default)]
    pub control_planes_deleted: Option<Timestamp>,
    /// Machines that missed the end of an earlier restore.
    #[serde(default)]
    pub unsettled: Unsettled,
    /// The latest verification of a backup, running or ended.
    #[serde(default)]
    pub verification: Option<Verification>,
    /// The address of the store that has the last good backup; empty where that is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stored_in: String,
    /// See [`ClusterRecord::missing`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<Missing>,
}

/// The KV entry of a cluster's record.
pub fn entry(name: &ClusterName) -> String {
    format!("cluster.{name}")
}

/// The KV entry of a deleted cluster's machines that missed the end of a restore.
pub fn late_entry(name: &ClusterName) -> String {
    format!("unsettled.{name}")
}

impl ClusterRecord {
    pub fn new(name: ClusterName, uuid: ClusterUuid, spec: ClusterSpec, now: Timestamp) -> Self {
        Self {
            format: FORMAT,
            name,
            uuid,
            uuid_final: false,
            cluster: Kept::new(spec, now),
            manual: None,
            status: None,
            pending: Vec::new(),
            handled: Vec::new(),
            slot: None,
            runs: Runs::default(),
            last_backup: None,
            failures: 0,
            last_failure: None,
            last_name: 0,
            etcd_cluster_id: None,
            restore: None,
            control_planes_deleted: None,
            unsettled: Unsettled::new(),
            verification: None,
            stored_in: String::new(),
            missing: None,
        }
    }

    /// The restore that is running.
    pub fn restoring(&self) -> Option<&Restore> {
        self.restore.as_ref().filter(|restore| !restore.has_ended())
    }

    /// Why nothing else may be done to the cluster while a restore is running.
    pub fn under_way(&self) -> String {
        let id = self.restoring().map(|restore| restore.id.to_string()).unwrap_or_default();
        format!("restore {id} of cluster {:?} is running", self.name.as_str())
    }

    /// Makes this the latest restore. If a template requested it, no template can do so again until the control plane's
    /// machine set is deleted once more.
    pub fn begin_restore(&mut self, restore: Restore) {
        self.unsettled = self.late();
        if restore.by_template {
            self.control_planes_deleted = None;
        }
        self.restore = Some(restore);
    }

    /// The control plane's machine set was deleted: the next template with a bootstrap spec restores the cluster.
    pub fn delete_control_planes(&mut self, now: Timestamp) {
        self.control_planes_deleted = Some(now);
        if let Some(restore) = &mut self.restore {
            restore.by_template = false;
        }
    }

    /// Whether a template's restore of that backup was begun already for the machine set that it creates.
    pub fn was_begun_by_template(&self, uuid: &str, snapshot: &str) -> bool {
        self.restore.as_ref().is_some_and(|restore| {
            let same = restore.source.uuid.to_string() == uuid && restore.source.snapshot.to_string() == snapshot;
            same && (!restore.has_ended() || (restore.by_template && restore.phase != RestorePhase::Failed))
        })
    }

    /// The machines that missed the end of a restore, the latest or an earlier one.
    pub fn late(&self) -> Unsettled {
        let mut late = self.unsettled.clone();
        if let Some(restore) = self.restore.as_ref().filter(|restore| restore.has_ended()) {
            unsettled::note(&mut late, restore);
        }
        late
    }

    /// What the schedule needs to decide, as far as the record has it.
    pub fn known(&self) -> Known {
        Known {
            interval: self.cluster.spec.backup_interval(),
            last_backup: self.last_backup,
            failures: self.failures,
            last_failure: self.last_failure,
            since_backup: None,
            since_failure: None,
            manual: self.pending.first().copied().map(Timestamp::from_seconds),
        }
    }

    /// Changes the cluster resource to what a file says.
    pub fn configure(&mut self, spec: ClusterSpec, meta: Meta, now: Timestamp) {
        let interval = self.cluster.spec.backup_interval();
        self.cluster.configure(spec, meta, now);
        if self.cluster.spec.backup_interval() != interval {
            // A new interval starts without the old one's pauses.
            self.failures = 0;
            self.last_failure = None;
        }
    }

    pub(super) fn set_status(&mut self, now: Timestamp, change: impl FnOnce(&mut BackupStatusSpec)) {
        let mut spec = self.status.as_ref().map(|s| s.spec.clone()).unwrap_or_default();
        change(&mut spec);
        match &mut self.status {
            Some(status) => {
                status.set(spec, now);
            }
            None => self.status = Some(Kept::new(spec, now)),
        }
    }

    /// The `ClusterUUIDs` resource.
    pub fn uuid_resource(&self) -> Resource {
        let kept = Kept {
            version: 1,
            updated: self.cluster.created,
            ..Kept::new(ClusterUuidSpec { uuid: Some(self.uuid) }, self.cluster.created)
        };
        let mut resource = kept.resource(self.name.as_str());
        resource.metadata.labels.insert(LABEL_CLUSTER_UUID.into(), self.uuid.to_string());
        resource
    }
}
