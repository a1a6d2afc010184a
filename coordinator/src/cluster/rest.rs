//! How much time has really passed since backups began or failed, by the monotonic clock: only what this coordinator saw.

use backstay_protocol::Timestamp;
use tokio::time::Instant;

use crate::record::{ClusterRecord, SlotEnd, Trigger};
use crate::schedule::Known;

/// Times by the monotonic clock. A coordinator that has just started knows none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rest {
    /// When the open slot was opened.
    opened: Option<Instant>,
    /// When the slot of the last good backup was opened.
    backup: Option<Instant>,
    /// When the last automatic backup failed.
    failure: Option<Instant>,
}

impl Rest {
    /// A slot was opened.
    pub fn open(&mut self, now: Instant) {
        self.opened = Some(now);
    }

    /// The open slot has ended. If another coordinator opened it, it is not known when.
    pub fn end(&mut self, trigger: Trigger, end: &SlotEnd, now: Instant) {
        let opened = self.opened.take();
        match end {
            SlotEnd::Done { .. } => self.backup = opened,
            SlotEnd::Failed { .. } if trigger == Trigger::Interval => self.failure = Some(now),
            SlotEnd::Failed { .. } => {}
        }
    }

    /// The last backup is no longer the one that was seen here: somebody else made one, or the store is another one.
    pub fn forget_backup(&mut self) {
        self.backup = None;
    }

    /// The record with the true time of its last backup, if its time is in the future and this coordinator saw how long
    /// ago that really was.
    pub fn corrected(&self, record: &ClusterRecord, wall: Timestamp, now: Instant) -> Option<ClusterRecord> {
        let since = now.duration_since(self.backup?);
        let mut next = record.clone();
        next.correct_last_backup(since, wall).then_some(next)
    }

    /// What the schedule needs to decide.
    pub fn known(&self, record: &ClusterRecord, now: Instant) -> Known {
        let since = |at: Option<Instant>| at.map(|at| now.duration_since(at));
        Known { since_backup: since(self.backup), since_failure: since(self.failure), ..record.known() }
    }
}

#[cfg(test)]
#[path = "rest_tests.rs"]
mod tests;
