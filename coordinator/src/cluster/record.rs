//! What is kept of a cluster, in one entry of the KV, and how it changes: pure transitions.
//!
//! Everything that decides on a cluster's backups stands in this one record, so each step is one
//! compare-and-set: a coordinator that dies between two steps leaves a state that its successor goes on from.

use std::collections::BTreeMap;
use std::time::Duration;

use backstay_archive::Manifest;
use backstay_protocol::own::RestorePhase;
use backstay_protocol::resource::{LABEL_CLUSTER_UUID, Metadata, Resource};
use backstay_protocol::spec::{BackupState, BackupStatusSpec, ClusterSpec, ClusterUuidSpec, ManualBackupSpec, Spec};
use backstay_protocol::{AttemptId, ClusterName, ClusterUuid, MachineId, NameError, SlotId, SnapshotName, Timestamp};
use serde::{Deserialize, Serialize};

use super::runs::{Proven, Runs};
use super::stored::Stored;
use crate::restore::Restore;
use crate::restore::unsettled::{self, Unsettled};
use crate::schedule::{Known, is_ahead};
use crate::verify::Verification;

/// The version of the record's meaning.
pub const FORMAT: u32 = 1;

/// Manual backups that wait for their turn; a further one is refused.
pub const PENDING_MAX: usize = 16;

/// An error in the status has at most about this many bytes.
const ERROR_MAX: usize = 2048;

/// A manual backup's time cannot come back after this many seconds: `apply` accepts one minute.
const HANDLED_SECONDS: u64 = 600;

/// A spec with what its resource's metadata needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept<S> {
    pub version: u64,
    pub created: Timestamp,
    pub updated: Timestamp,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub finalizers: Vec<String>,
    pub spec: S,
}

impl<S: Spec> Kept<S> {
    pub fn new(spec: S, now: Timestamp) -> Self {
        Self {
            version: 1,
            created: now,
            updated: now,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            finalizers: Vec::new(),
            spec,
        }
    }

    /// Changes the spec; the version rises only where something changed.
    pub fn set(&mut self, spec: S, now: Timestamp) -> bool {
        let changed = self.spec != spec;
        if changed {
            self.spec = spec;
            self.touch(now);
        }
        changed
    }

    /// The resource becomes what a file says; the version rises only where something changed.
    pub fn configure(&mut self, spec: S, meta: Meta, now: Timestamp) -> bool {
        let changed = self.spec != spec
            || (&self.labels, &self.annotations, &self.finalizers)
                != (&meta.labels, &meta.annotations, &meta.finalizers);
        if changed {
            self.spec = spec;
            (self.labels, self.annotations, self.finalizers) = (meta.labels, meta.annotations, meta.finalizers);
            self.touch(now);
        }
        changed
    }

    fn touch(&mut self, now: Timestamp) {
        self.version += 1;
        self.updated = now;
    }

    /// As people see it.
    pub fn resource(&self, id: impl Into<String>) -> Resource {
        let mut resource = Resource::of(id, &self.spec);
        resource.metadata.stamp(self.version, self.created, self.updated);
        resource.metadata.labels.clone_from(&self.labels);
        resource.metadata.annotations.clone_from(&self.annotations);
        resource.metadata.finalizers.clone_from(&self.finalizers);
        resource
    }
}

/// Why a backup is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    Manual { seconds: i64 },
    Interval,
}

/// The attempt that is under way for a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub id: AttemptId,
    pub machine: MachineId,
    pub started: Timestamp,
}

/// A backup that is wanted and not yet there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    pub id: SlotId,
    pub trigger: Trigger,
    pub snapshot: SnapshotName,
    pub opened: Timestamp,
    pub attempt: Option<Attempt>,
    /// Members that were asked and did not do it.
    pub tried: Vec<MachineId>,
    /// One of them could not work with the store.
    #[serde(default)]
    pub store_failed: bool,
    pub error: String,
}

/// Everything about one cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterRecord {
    pub format: u32,
    pub name: ClusterName,
    pub uuid: ClusterUuid,
    /// Whether the UUID is final: it was found in the store, or a backup was begun under it.
    pub uuid_final: bool,
    pub cluster: Kept<ClusterSpec>,
    pub manual: Option<Kept<ManualBackupSpec>>,
    pub status: Option<Kept<BackupStatusSpec>>,
    /// Seconds of manual backups that were accepted and not yet begun, oldest first.
    pub pending: Vec<i64>,
    /// Seconds of manual backups that were begun lately: the same time is never begun twice.
    pub handled: Vec<i64>,
    pub slot: Option<Slot>,
    /// The latest attempts.
    #[serde(default)]
    pub runs: Runs,
    /// The time that the newest backup in the store stands for.
    pub last_backup: Option<Timestamp>,
    /// Automatic backups that failed since the last good one.
    pub failures: u32,
    pub last_failure: Option<Timestamp>,
    /// The snapshot name that was given out last, in seconds.
    pub last_name: i64,
    /// etcd's own cluster id, as the last good backup had it.
    #[serde(default)]
    pub etcd_cluster_id: Option<u64>,
    /// The latest restore, under way or ended.
    #[serde(default)]
    pub restore: Option<Restore>,
    /// When somebody deleted the control plane's machine set: a template may restore the cluster once after that.
    #[serde(default)]
    pub control_planes_deleted: Option<Timestamp>,
    /// Machines that missed the end of an earlier restore.
    #[serde(default)]
    pub unsettled: Unsettled,
    /// The latest proof of a backup, under way or ended.
    #[serde(default)]
    pub verification: Option<Verification>,
}

/// What a file says of a resource besides its spec.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Meta {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub finalizers: Vec<String>,
}

impl Meta {
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            labels: metadata.labels.clone(),
            annotations: metadata.annotations.clone(),
            finalizers: metadata.finalizers.clone(),
        }
    }
}

/// How a slot ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlotEnd {
    /// The backup is in the store, completed at that time.
    Done {
        completed: Timestamp,
        /// `None` where the store could not be asked.
        proven: Option<Proven>,
    },
    Failed {
        error: String,
    },
}

impl SlotEnd {
    /// The slot's backup is in the store.
    pub fn done(manifest: &Manifest) -> Self {
        Self::Done { completed: manifest.created_at, proven: Some(Proven::of(manifest)) }
    }
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
        }
    }

    /// The restore that is under way.
    pub fn restoring(&self) -> Option<&Restore> {
        self.restore.as_ref().filter(|restore| !restore.has_ended())
    }

    /// The latest restore is this one; what a template may do it has done.
    pub fn begin_restore(&mut self, restore: Restore) {
        self.unsettled = self.late();
        if restore.by_template {
            self.control_planes_deleted = None;
        }
        self.restore = Some(restore);
    }

    /// The control plane's machine set is deleted: the next template with a bootstrap spec restores the cluster.
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

    /// Who missed the end of a restore, the latest or an earlier one.
    pub fn late(&self) -> Unsettled {
        let mut late = self.unsettled.clone();
        if let Some(restore) = self.restore.as_ref().filter(|restore| restore.has_ended()) {
            unsettled::note(&mut late, restore);
        }
        late
    }

    /// What the schedule decides upon, as far as it is kept.
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

    /// The cluster resource becomes what a file says.
    pub fn configure(&mut self, spec: ClusterSpec, meta: Meta, now: Timestamp) {
        let interval = self.cluster.spec.backup_interval();
        self.cluster.configure(spec, meta, now);
        if self.cluster.spec.backup_interval() != interval {
            // A new interval starts without the old one's pauses.
            self.failures = 0;
            self.last_failure = None;
        }
    }

    /// Takes a manual backup for `seconds`. The same time again changes nothing.
    ///
    /// # Errors
    /// Where too many are waiting already.
    pub fn accept_manual(&mut self, seconds: i64, now: Timestamp) -> Result<bool, TooManyPending> {
        let known = self.pending.contains(&seconds) || self.handled.contains(&seconds);
        if !known {
            if self.pending.len() >= PENDING_MAX {
                return Err(TooManyPending);
            }
            self.pending.push(seconds);
        }
        let spec = ManualBackupSpec { backupat: Some(Timestamp::from_seconds(seconds)) };
        match &mut self.manual {
            Some(manual) => {
                manual.set(spec, now);
            }
            None => self.manual = Some(Kept::new(spec, now)),
        }
        Ok(!known)
    }

    /// The manual resource is deleted: what was begun goes on, what waits does not.
    pub fn drop_manual(&mut self) {
        self.manual = None;
        self.pending.clear();
    }

    /// Opens a slot: from here on the trigger is taken and cannot be lost or repeated.
    pub fn open_slot(&mut self, trigger: Trigger, id: SlotId, now: Timestamp) -> Result<(), NameError> {
        let snapshot = self.free_name(now)?;
        if let Trigger::Manual { seconds } = trigger {
            self.pending.retain(|s| *s != seconds);
            self.handled.retain(|s| s.abs_diff(now.seconds) < HANDLED_SECONDS);
            self.handled.push(seconds);
        }
        self.last_name = snapshot.unix_seconds();
        self.slot = Some(Slot {
            id,
            trigger,
            snapshot,
            opened: now,
            attempt: None,
            tried: Vec::new(),
            store_failed: false,
            error: String::new(),
        });
        self.set_status(now, |status| {
            status.status = BackupState::Running;
            status.lastbackupattempt = Some(now);
        });
        Ok(())
    }

    /// A name for now, or behind the last one where that is of this minute. A last name from the future was given by
    /// a clock that was wrong: names go back to the time that is true, past those that the record remembers. What it
    /// has forgotten, the store still knows, and refuses.
    fn free_name(&self, now: Timestamp) -> Result<SnapshotName, NameError> {
        let last = Some(self.last_name).filter(|last| !is_ahead(Timestamp::from_seconds(*last), now));
        let mut name = SnapshotName::from_unix_seconds(now.seconds.max(last.map_or(i64::MIN, |last| last + 1)))?;
        while self.runs.latest_first().any(|run| run.snapshot == name) {
            name = name.next()?;
        }
        Ok(name)
    }

    /// The slot's name is taken by another backup: the next second's is tried.
    pub fn move_name_on(&mut self) -> Result<(), NameError> {
        if let Some(slot) = &mut self.slot {
            slot.snapshot = slot.snapshot.next()?;
            self.last_name = slot.snapshot.unix_seconds();
        }
        Ok(())
    }

    /// A member was asked to take an attempt.
    pub fn begin_attempt(&mut self, attempt: Attempt) {
        self.uuid_final = true;
        if let Some(slot) = &mut self.slot {
            self.runs.begin(&attempt, slot.trigger, slot.snapshot);
            slot.attempt = Some(attempt);
        }
    }

    /// The attempt came to nothing; the slot stays open for the next member.
    pub fn attempt_failed(&mut self, id: AttemptId, error: &str, now: Timestamp) -> bool {
        let Some(slot) = &mut self.slot else { return false };
        let Some(attempt) = slot.attempt.take_if(|a| a.id == id) else { return false };
        slot.tried.push(attempt.machine);
        let error = capped(error);
        // Each member's reason, once: the last alone may be the least of them.
        slot.error = match slot.error.as_str() {
            "" => error.clone(),
            before if before.contains(&error) => before.to_owned(),
            before => capped(&format!("{before}; {error}")),
        };
        self.runs.fail(id, &error, now);
        self.set_status(now, |status| status.error = error);
        true
    }

    /// Ends the slot; nothing happens where it has ended already.
    pub fn end_slot(&mut self, id: SlotId, end: SlotEnd, now: Timestamp) -> bool {
        let Some(slot) = self.slot.take_if(|s| s.id == id) else { return false };
        match end {
            SlotEnd::Done { completed, proven } => {
                self.runs.done(proven, slot.attempt.map(|a| a.id), now);
                self.failures = 0;
                self.last_failure = None;
                let taken = Timestamp::from_seconds(slot.snapshot.unix_seconds());
                // A time from the future gives way to the true one.
                let before = self.last_backup.filter(|last| !is_ahead(*last, now));
                self.last_backup = before.max(Some(taken.min(now)));
                let completed = completed.clamp(slot.opened.min(now), now);
                self.set_status(now, |status| {
                    *status = BackupStatusSpec {
                        status: BackupState::Ok,
                        error: String::new(),
                        lastbackuptime: Some(completed),
                        lastbackupattempt: Some(completed),
                    };
                });
            }
            SlotEnd::Failed { error } => {
                if let Some(attempt) = &slot.attempt {
                    self.runs.fail(attempt.id, &capped(&error), now);
                }
                if slot.trigger == Trigger::Interval {
                    self.failures = self.failures.saturating_add(1);
                    self.last_failure = Some(now);
                }
                self.set_status(now, |status| {
                    status.status = BackupState::Error;
                    status.error = capped(&error);
                    status.lastbackupattempt = Some(now);
                });
            }
        }
        true
    }

    /// The store knows the cluster under this UUID: its backups go on there.
    pub fn adopt(&mut self, uuid: ClusterUuid) {
        self.uuid = uuid;
        self.uuid_final = true;
    }

    /// What the store says: its newest backup, or one from the future where it has no other. Where the status knows of
    /// none, it does now. One that is later by its name alone changes nothing.
    pub fn note_stored(&mut self, newest: Option<Stored>, now: Timestamp) {
        let later = |found: &Stored| self.last_backup.is_some_and(|last| found.at > last);
        if newest.is_some_and(|found| is_ahead(found.at, now) || (later(&found) && !self.is_news(&found))) {
            self.uuid_final = true;
            return;
        }
        self.take_for_last(newest.map(|found| found.at), now);
    }

    fn take_for_last(&mut self, newest: Option<Timestamp>, now: Timestamp) {
        self.last_backup = newest;
        if let Some(newest) = newest {
            self.uuid_final = true;
            self.last_name = self.last_name.max(newest.seconds);
            if self.status.as_ref().is_none_or(|s| s.spec.lastbackuptime.is_none()) && self.slot.is_none() {
                self.set_status(now, |status| {
                    status.lastbackuptime = Some(newest);
                    if status.status == BackupState::Unknown {
                        status.status = BackupState::Ok;
                        status.lastbackupattempt = Some(newest);
                    }
                });
            }
        }
    }

    /// The last backup was really taken so long ago: its time from the future gives way to that.
    pub fn correct_last_backup(&mut self, since: Duration, now: Timestamp) -> bool {
        if !self.last_backup.is_some_and(|last| is_ahead(last, now)) {
            return false;
        }
        let taken = Timestamp::from_millis(now.as_millis().saturating_sub(since.as_millis() as i64));
        self.last_backup = Some(taken);
        self.set_status(now, |status| {
            let wrong = |at: &Option<Timestamp>| at.is_some_and(|at| is_ahead(at, now));
            for time in [&mut status.lastbackuptime, &mut status.lastbackupattempt] {
                if wrong(time) {
                    *time = Some(taken);
                }
            }
        });
        true
    }

    /// Somebody else's backup came before the slot's: the slot is given back without an attempt.
    pub fn give_slot_back(&mut self, newest: Timestamp, now: Timestamp) {
        self.slot = None;
        self.take_for_last(Some(newest), now);
        self.set_status(now, |status| {
            status.status = BackupState::Ok;
            status.error = String::new();
            status.lastbackuptime = status.lastbackuptime.filter(|last| !is_ahead(*last, now)).max(Some(newest));
        });
    }

    fn set_status(&mut self, now: Timestamp, change: impl FnOnce(&mut BackupStatusSpec)) {
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

/// An error text that fits the status, cut at a character.
fn capped(error: &str) -> String {
    match error.char_indices().find(|(at, _)| *at >= ERROR_MAX) {
        Some((at, _)) => format!("{}…", &error[..at]),
        None => error.to_owned(),
    }
}

/// Too many manual backups of one cluster wait already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{PENDING_MAX} manual backups of this cluster wait for their turn already: wait until one has ended")]
pub struct TooManyPending;

#[cfg(test)]
mod tests;
