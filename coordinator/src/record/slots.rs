//! How a backup proceeds in the record: the request, the slot that opens, its attempts and its end.

use backstay_archive::Manifest;
use backstay_protocol::bus::clipped;
use backstay_protocol::spec::{BackupState, BackupStatusSpec, ManualBackupSpec};
use backstay_protocol::{AttemptId, NameError, SlotId, SnapshotName, Timestamp, machines};

use super::cluster::ClusterRecord;
use super::kept::Kept;
use super::runs::Proven;
use super::slot::{Attempt, Slot, Trigger};
use crate::schedule::is_ahead;

/// How many manual backups may wait for their turn; another one is refused.
pub const PENDING_MAX: usize = 16;

/// After this many seconds, the time of a manual backup need not be remembered, since `apply` accepts only times within
/// one minute.
const HANDLED_SECONDS: u64 = 600;

/// How a slot ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlotEnd {
    /// The backup is in the store, and was completed at that time.
    Done {
        completed: Timestamp,
        /// `None` if the store could not be asked.
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
    /// Accepts a manual backup with the Unix time `seconds`. The same time again changes nothing.
    ///
    /// # Errors
    /// Too many are waiting already.
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

    /// The manual resource was deleted: a backup that has begun continues, those that wait are dropped.
    pub fn drop_manual(&mut self) {
        self.manual = None;
        self.pending.clear();
    }

    /// Opens a slot. Once the record is written, the trigger can be neither lost nor repeated.
    ///
    /// # Errors
    /// There is no snapshot name left, which would be after the year 9999.
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

    /// A name for `now`, or the second after the last name if that is later. If the last name is further ahead than
    /// clocks may differ, a clock was wrong: then names return to the true time, skipping those that the record
    /// remembers. A name that the record has dropped is still known to the store, which refuses it.
    fn free_name(&self, now: Timestamp) -> Result<SnapshotName, NameError> {
        let last = Some(self.last_name).filter(|last| !is_ahead(Timestamp::from_seconds(*last), now));
        let mut name = SnapshotName::from_unix_seconds(now.seconds.max(last.map_or(i64::MIN, |last| last + 1)))?;
        while self.runs.latest_first().any(|run| run.snapshot == name) {
            name = name.next()?;
        }
        Ok(name)
    }

    /// The slot's name is used by another backup: take that of the next second.
    ///
    /// # Errors
    /// As [`open_slot`](Self::open_slot).
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

    /// The attempt failed; the slot stays open for the next member. `machine` is what people call its machine.
    pub fn attempt_failed(&mut self, id: AttemptId, machine: &str, cause: &str, now: Timestamp) -> bool {
        let Some(slot) = &mut self.slot else { return false };
        let Some(attempt) = slot.attempt.take_if(|a| a.id == id) else { return false };
        slot.tried.push(attempt.machine);
        let error = clipped(&format!("machine {machine}: {cause}"));
        // Each member's reason, once: the last alone may be the least of them.
        if !slot.error.contains(&error) {
            slot.error = clipped(&machines::and(&slot.error, machine, cause));
        }
        self.runs.fail(id, cause, now);
        self.set_status(now, |status| status.error = error);
        true
    }

    /// The slot's backup was reported, and the store does not say whether it is there: it counts for nothing yet.
    pub fn unconfirmed(&mut self, cause: &str, now: Timestamp) {
        let error =
            clipped(&format!("the backup was reported as complete, but the store could not confirm it yet: {cause}"));
        self.set_status(now, |status| status.error = error);
    }

    /// Ends the slot; nothing happens if it has ended already.
    pub fn end_slot(&mut self, id: SlotId, end: SlotEnd, now: Timestamp) -> bool {
        let Some(slot) = self.slot.take_if(|s| s.id == id) else { return false };
        match end {
            SlotEnd::Done { completed, proven } => {
                self.runs.done(proven, slot.attempt.map(|a| a.id), now);
                self.failures = 0;
                self.last_failure = None;
                let taken = slot.snapshot.time();
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
                    self.runs.fail(attempt.id, &clipped(&error), now);
                }
                if slot.trigger == Trigger::Interval {
                    self.failures = self.failures.saturating_add(1);
                    self.last_failure = Some(now);
                }
                self.set_status(now, |status| {
                    status.status = BackupState::Error;
                    status.error = clipped(&error);
                    status.lastbackupattempt = Some(now);
                });
            }
        }
        true
    }
}

/// Too many manual backups of one cluster are waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{PENDING_MAX} manual backups of this cluster are already waiting: wait until one of them has ended")]
pub struct TooManyPending;
