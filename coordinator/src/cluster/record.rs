//! What is kept of a cluster, in one entry of the KV, and how it changes: pure transitions.
//!
//! Everything that decides on a cluster's backups stands in this one record, so each step is one
//! compare-and-set: a coordinator that dies between two steps leaves a state that its successor goes on from.

use std::collections::BTreeMap;

use backstay_archive::Manifest;
use backstay_protocol::own::RestorePhase;
use backstay_protocol::resource::{LABEL_CLUSTER_UUID, Metadata, Resource};
use backstay_protocol::spec::{BackupState, BackupStatusSpec, ClusterSpec, ClusterUuidSpec, ManualBackupSpec, Spec};
use backstay_protocol::{AttemptId, ClusterName, ClusterUuid, MachineId, NameError, SlotId, SnapshotName, Timestamp};
use serde::{Deserialize, Serialize};

use super::runs::{Proven, Runs};
use crate::restore::Restore;
use crate::restore::unsettled::{self, Unsettled};
use crate::schedule::Known;
use crate::verify::Verification;

/// The version of the record's meaning.
pub const FORMAT: u32 = 1;

/// Manual backups that wait for their turn; a further one is refused.
pub const PENDING_MAX: usize = 16;

/// A backup that stands for a time further ahead than this was named by a clock that is wrong: the schedule
/// does not wait for that time.
const AHEAD_SECONDS_MAX: i64 = 60;

/// An error in the status has at most about this many bytes.
const ERROR_MAX: usize = 2048;

/// A manual backup's time cannot come back after this many seconds: `apply` accepts one minute.
const HANDLED_SECONDS: i64 = 600;

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
    /// The newest snapshot name that was ever given out, in seconds.
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

    /// What the schedule decides upon.
    pub fn known(&self) -> Known {
        Known {
            interval: self.cluster.spec.backup_interval(),
            last_backup: self.last_backup,
            failures: self.failures,
            last_failure: self.last_failure,
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
        let name = now.seconds.max(self.last_name + 1);
        let snapshot = SnapshotName::from_unix_seconds(name)?;
        if let Trigger::Manual { seconds } = trigger {
            self.pending.retain(|s| *s != seconds);
            self.handled.retain(|s| *s > now.seconds.saturating_sub(HANDLED_SECONDS));
            self.handled.push(seconds);
        }
        self.last_name = name;
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

    /// The slot's name is taken by another backup: the next second's is tried.
    pub fn move_name_on(&mut self) -> Result<(), NameError> {
        if let Some(slot) = &mut self.slot {
            slot.snapshot = slot.snapshot.next()?;
            self.last_name = self.last_name.max(slot.snapshot.unix_seconds());
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
                self.last_backup = self.last_backup.max(Some(taken.min(now)));
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

    /// What the store says: its newest backup. Where the status knows of none, it does now.
    pub fn note_stored(&mut self, newest: Option<Timestamp>, now: Timestamp) {
        if newest.is_some_and(|newest| is_ahead(newest, now)) {
            self.uuid_final = true;
            return;
        }
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

    /// Somebody else's backup came before the slot's: the slot is given back without an attempt.
    pub fn give_slot_back(&mut self, newest: Timestamp, now: Timestamp) {
        self.slot = None;
        self.note_stored(Some(newest), now);
        self.set_status(now, |status| {
            status.status = BackupState::Ok;
            status.error = String::new();
            status.lastbackuptime = status.lastbackuptime.max(Some(newest));
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

/// Whether a backup's time cannot be true.
pub fn is_ahead(backup: Timestamp, now: Timestamp) -> bool {
    backup.seconds > now.seconds.saturating_add(AHEAD_SECONDS_MAX)
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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn record() -> ClusterRecord {
        let name = "one".parse().expect("a name");
        ClusterRecord::new(name, ClusterUuid(Uuid::from_u128(1)), ClusterSpec::default(), at(1_000))
    }

    fn slot(n: u128) -> SlotId {
        SlotId(Uuid::from_u128(n))
    }

    fn attempt(n: u128) -> AttemptId {
        AttemptId(Uuid::from_u128(n))
    }

    #[test]
    fn the_same_time_is_one_backup_and_a_new_one_another() {
        let mut r = record();
        assert_eq!(r.accept_manual(1_000, at(1_000)), Ok(true));
        assert_eq!(r.accept_manual(1_000, at(1_001)), Ok(false));
        r.open_slot(Trigger::Manual { seconds: 1_000 }, slot(1), at(1_001)).expect("a name");
        assert_eq!(r.accept_manual(1_000, at(1_002)), Ok(false));
        assert_eq!(r.accept_manual(1_002, at(1_002)), Ok(true));
        assert_eq!(r.accept_manual(1_000, at(1_003)), Ok(false), "also after another one");
        assert_eq!(r.pending, [1_002]);
        assert_eq!(r.manual.as_ref().map(|m| m.version), Some(3));
    }

    #[test]
    fn a_failure_keeps_the_last_backup_s_time_and_success_clears_the_error() {
        let mut r = record();
        r.open_slot(Trigger::Interval, slot(1), at(2_000)).expect("a name");
        assert_eq!(r.status.as_ref().map(|s| s.spec.status), Some(BackupState::Running));
        r.end_slot(slot(1), SlotEnd::Done { completed: at(2_005), proven: None }, at(2_006));
        r.open_slot(Trigger::Interval, slot(2), at(3_000)).expect("a name");
        r.end_slot(slot(2), SlotEnd::Failed { error: "no".into() }, at(3_001));
        let status = r.status.clone().expect("a status").spec;
        assert_eq!(
            (status.status, status.error.as_str(), status.lastbackuptime, status.lastbackupattempt),
            (BackupState::Error, "no", Some(at(2_005)), Some(at(3_001)))
        );
        assert_eq!(r.failures, 1);
        r.open_slot(Trigger::Manual { seconds: 3_100 }, slot(3), at(3_100)).expect("a name");
        r.end_slot(slot(3), SlotEnd::Done { completed: at(3_101), proven: None }, at(3_101));
        let status = r.status.clone().expect("a status").spec;
        assert_eq!(
            (status.status, status.error.as_str(), status.lastbackuptime),
            (BackupState::Ok, "", Some(at(3_101)))
        );
        assert_eq!((r.failures, r.last_backup), (0, Some(at(3_100))));
    }

    #[test]
    fn a_template_restores_once_for_a_deleted_control_plane() {
        let mut r = record();
        let restore = Restore { by_template: true, ..crate::restore::state::tests::restore() };
        let (uuid, snapshot) = (restore.source.uuid.to_string(), restore.source.snapshot.to_string());
        assert!(!r.was_begun_by_template(&uuid, &snapshot));
        r.delete_control_planes(at(5));
        r.begin_restore(Restore { by_template: false, ..restore.clone() });
        assert_eq!(r.control_planes_deleted, Some(at(5)), "that of a person takes nothing from it");
        for (phase, begun) in [(RestorePhase::Restored, true), (RestorePhase::Failed, false)] {
            r.delete_control_planes(at(6));
            r.begin_restore(Restore { phase, ..restore.clone() });
            assert_eq!(r.control_planes_deleted, None);
            assert_eq!(r.was_begun_by_template(&uuid, &snapshot), begun, "the set was not kept, and comes again");
            assert!(!r.was_begun_by_template(&uuid, "another"));
            r.delete_control_planes(at(7));
            assert!(!r.was_begun_by_template(&uuid, &snapshot), "deleted: it is wanted once more");
        }
    }

    #[test]
    fn what_was_kept_before_there_were_templates_is_read() {
        let mut r = record();
        r.begin_restore(crate::restore::state::tests::restore());
        let mut old = serde_json::to_value(&r).expect("plain data");
        let fields = old.as_object_mut().expect("a map");
        assert!(fields.remove("unsettled").is_some() && fields.remove("control_planes_deleted").is_some());
        let restore = fields["restore"].as_object_mut().expect("a map");
        assert!(restore.remove("by_template").is_some());
        assert_eq!(serde_json::from_value::<ClusterRecord>(old).expect("an older record"), r);
    }

    #[test]
    fn names_never_repeat_within_a_second() {
        let mut r = record();
        for n in 1..4 {
            r.open_slot(Trigger::Interval, slot(n), at(5_000)).expect("a name");
            assert_eq!(r.slot.as_ref().map(|s| s.snapshot.unix_seconds()), Some(4_999 + n as i64));
        }
        r.move_name_on().expect("a name");
        r.open_slot(Trigger::Interval, slot(9), at(5_000)).expect("a name");
        assert_eq!(r.slot.as_ref().map(|s| s.snapshot.unix_seconds()), Some(5_004));
    }

    #[test]
    fn a_backup_from_the_future_does_not_stop_the_schedule() {
        let mut r = record();
        r.note_stored(Some(at(2_000)), at(2_010));
        r.note_stored(Some(at(90_000_000)), at(3_000));
        assert_eq!(r.last_backup, Some(at(2_000)));
        r.last_name = 90_000_000;
        r.open_slot(Trigger::Interval, slot(1), at(4_000)).expect("a name");
        r.end_slot(slot(1), SlotEnd::Done { completed: at(80_000_000), proven: None }, at(4_005));
        assert_eq!(r.last_backup, Some(at(4_005)));
        assert_eq!(r.status.as_ref().and_then(|s| s.spec.lastbackuptime), Some(at(4_005)));
    }

    #[test]
    fn each_member_s_reason_is_kept_once() {
        let mut r = record();
        r.open_slot(Trigger::Interval, slot(1), at(1_001)).expect("a name");
        for (n, error) in [(1, "a: silent"), (2, "b: disk full"), (3, "a: silent")] {
            let machine = MachineId(Uuid::from_u128(n));
            r.begin_attempt(Attempt { id: attempt(n), machine, started: at(1_002) });
            assert!(r.attempt_failed(attempt(n), error, at(1_003)));
        }
        assert_eq!(r.slot.as_ref().expect("open").error, "a: silent; b: disk full");
        assert_eq!(r.status.as_ref().expect("running").spec.error, "a: silent", "the latest, while it goes on");
        assert_eq!(r.runs.latest_first().count(), 3);
    }

    #[test]
    fn an_error_of_any_length_fits() {
        let mut r = record();
        r.open_slot(Trigger::Interval, slot(1), at(4_000)).expect("a name");
        r.end_slot(slot(1), SlotEnd::Failed { error: "ä".repeat(1_000_000) }, at(4_005));
        assert!(r.status.as_ref().is_some_and(|s| s.spec.error.len() < 2 * ERROR_MAX));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Accept(i64),
        OpenManual,
        Begin(u8),
        AttemptFailed(u8),
        Done(u8),
        Failed(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (990_i64..1_010).prop_map(Step::Accept),
            Just(Step::OpenManual),
            (0_u8..4).prop_map(Step::Begin),
            (0_u8..4).prop_map(Step::AttemptFailed),
            (0_u8..6).prop_map(Step::Done),
            (0_u8..6).prop_map(Step::Failed),
        ];
        prop::collection::vec(step, 0..60)
    }

    proptest! {
        /// Whatever order commands and reports come in, also repeated or for slots long gone: every accepted
        /// manual time waits or is begun exactly once, each slot ends at most once, the status says how the last one
        /// ended, and the record survives its own JSON.
        #[test]
        fn the_fold_is_exactly_once_in_effect(steps in steps()) {
            let (mut r, mut begun, mut ended, mut next) = (record(), Vec::new(), Vec::new(), 0_u8);
            let mut accepted = Vec::new();
            for step in steps {
                let now = at(1_000);
                match step {
                    Step::Accept(seconds) => if r.accept_manual(seconds, now) == Ok(true) { accepted.push(seconds) },
                    Step::OpenManual if r.slot.is_none() => if let Some(seconds) = r.pending.first().copied() {
                        next += 1;
                        r.open_slot(Trigger::Manual { seconds }, slot(next.into()), now)?;
                        begun.push(seconds);
                    },
                    Step::OpenManual => {}
                    Step::Begin(n) => r.begin_attempt(Attempt { id: attempt(u128::from(n) + 1), machine: MachineId(Uuid::from_u128(5)), started: now }),
                    Step::AttemptFailed(n) => { r.attempt_failed(attempt(u128::from(n) + 1), "x", now); }
                    Step::Done(n) => if r.end_slot(slot(u128::from(n)), SlotEnd::Done { completed: now, proven: None }, now) {
                        ended.push(n);
                        let status = r.status.as_ref().expect("it ended").spec.clone();
                        prop_assert_eq!((status.status, status.error.as_str()), (BackupState::Ok, ""));
                        prop_assert!(status.lastbackuptime.is_some() && status.lastbackupattempt.is_some());
                    },
                    Step::Failed(n) => {
                        let last = r.status.as_ref().and_then(|s| s.spec.lastbackuptime);
                        if r.end_slot(slot(u128::from(n)), SlotEnd::Failed { error: "e".into() }, now) {
                            ended.push(n);
                            let status = r.status.as_ref().expect("it ended").spec.clone();
                            prop_assert_eq!(status.status, BackupState::Error);
                            prop_assert!(!status.error.is_empty() && status.lastbackuptime == last);
                        }
                    }
                }
                let json = serde_json::to_vec(&r)?;
                prop_assert_eq!(&serde_json::from_slice::<ClusterRecord>(&json)?, &r);
            }
            let unique = |v: &[i64]| v.iter().collect::<std::collections::BTreeSet<_>>().len() == v.len();
            prop_assert!(unique(&begun), "{begun:?}");
            let lost: Vec<_> = accepted.iter().filter(|s| !begun.contains(*s) && !r.pending.contains(*s)).collect();
            prop_assert!(lost.is_empty(), "{lost:?}");
            prop_assert!(unique(&ended.iter().map(|n| i64::from(*n)).collect::<Vec<_>>()), "{ended:?}");
        }
    }
}
