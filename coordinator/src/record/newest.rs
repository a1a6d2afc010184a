//! How the record follows the store and the time as to the last backup.

use std::time::Duration;

use backstay_protocol::backstay_types::RunState;
use backstay_protocol::spec::BackupState;
use backstay_protocol::{ClusterUuid, Timestamp};

use super::cluster::ClusterRecord;
use super::stored::Stored;
use crate::schedule::is_ahead;

impl ClusterRecord {
    /// The store has this UUID for the cluster: its backups continue there.
    pub fn adopt(&mut self, uuid: ClusterUuid) {
        self.uuid = uuid;
        self.uuid_final = true;
    }

    /// What the store says: its newest backup, or one with a time in the future if it has no other. If the status had
    /// none, it has this one now. A backup that is later only by its name changes nothing.
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

    /// Replaces the time of the last backup, if it is in the future, by the time when it was really taken.
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

    /// Somebody else has made a backup meanwhile: the slot is closed without an attempt.
    pub fn give_slot_back(&mut self, newest: Timestamp, now: Timestamp) {
        self.slot = None;
        self.take_for_last(Some(newest), now);
        self.set_status(now, |status| {
            status.status = BackupState::Ok;
            status.error = String::new();
            status.lastbackuptime = status.lastbackuptime.filter(|last| !is_ahead(*last, now)).max(Some(newest));
        });
    }

    /// Whether a backup in the store was taken after the last one that the record knows. A backup by a coordinator is
    /// not new, whatever time a wrong clock gave it: the record had it when it ended, and may have dropped it since. A
    /// backup by somebody else is new, unless its revision shows that it is older than the record's last.
    pub fn is_news(&self, found: &Stored) -> bool {
        let Some(last) = self.last_backup else { return true };
        if found.at <= last {
            return false;
        }
        let mut runs = self.runs.latest_first();
        match runs.find(|run| run.snapshot.unix_seconds() == found.at.seconds) {
            Some(run) => run.state != RunState::Ok,
            None => found.once && !self.is_beyond(found),
        }
    }

    /// Whether the last good attempt found the same etcd at a later revision.
    fn is_beyond(&self, found: &Stored) -> bool {
        let good = self.runs.latest_first().find(|run| run.state == RunState::Ok);
        let revision = good.and_then(|run| run.proven.as_ref()).map(|proven| proven.revision);
        self.etcd_cluster_id.is_some()
            && self.etcd_cluster_id == found.etcd_cluster_id
            && revision.is_some_and(|revision| revision > found.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::runs::Proven;
    use crate::record::{Attempt, SlotEnd, Trigger};
    use backstay_protocol::spec::ClusterSpec;
    use backstay_protocol::{AttemptId, ClusterUuid, MachineId, SlotId};
    use uuid::Uuid;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    /// One good attempt at 1,000 that found etcd 7 at revision 50, and then one that failed.
    fn record() -> ClusterRecord {
        let uuid = ClusterUuid(Uuid::from_u128(1));
        let mut record = ClusterRecord::new("one".parse().expect("a name"), uuid, ClusterSpec::default(), at(1));
        for (n, now) in [(1, 1_000), (2, 2_000)] {
            let (slot, attempt) = (SlotId(Uuid::from_u128(n)), AttemptId(Uuid::from_u128(n)));
            record.open_slot(Trigger::Interval, slot, at(now)).expect("a name");
            record.begin_attempt(Attempt { id: attempt, machine: MachineId(Uuid::from_u128(9)), started: at(now) });
            let proven = Proven {
                attempt,
                revision: 50,
                snapshot_bytes: 1,
                sealed_bytes: 1,
                sha256: String::new(),
                inspected: None,
            };
            let end = match n {
                1 => SlotEnd::Done { completed: at(now), proven: Some(proven) },
                _ => SlotEnd::Failed { error: "no".into() },
            };
            record.end_slot(slot, end, at(now));
        }
        record.etcd_cluster_id = Some(7);
        record
    }

    #[test]
    fn what_somebody_else_took_later_is_news_and_what_a_wrong_clock_named_is_not() {
        let stored = |seconds, once| Stored { at: at(seconds), once, etcd_cluster_id: Some(7), revision: 50 };
        let record = record();
        assert!(record.is_news(&stored(3_000, true)));
        assert!(!record.is_news(&stored(3_000, false)), "a coordinator's own, that is forgotten");
        assert!(!record.is_news(&stored(1_000, true)) && !record.is_news(&stored(900, true)), "older by its name");
        assert!(record.is_news(&stored(2_000, false)), "an attempt that counted as failed got there after all");
        let older = Stored { revision: 49, ..stored(3_000, true) };
        assert!(!record.is_news(&older), "older by its revision");
        assert!(record.is_news(&Stored { etcd_cluster_id: Some(8), ..older }), "of another etcd, nobody knows");
        let fresh = ClusterRecord { last_backup: None, ..record };
        assert!(fresh.is_news(&stored(3_000, false)), "whoever knows of none takes what is there");
    }

    #[test]
    fn what_the_store_shows_later_does_not_change_what_the_record_knows_better() {
        let mut record = record();
        let stored = |seconds, once| Some(Stored { at: at(seconds), once, etcd_cluster_id: Some(7), revision: 60 });
        record.note_stored(stored(3_000, false), at(3_500));
        assert_eq!(record.last_backup, Some(at(1_000)));
        record.note_stored(stored(3_100, true), at(3_500));
        assert_eq!(record.last_backup, Some(at(3_100)));
        record.note_stored(stored(900, false), at(3_500));
        assert_eq!(record.last_backup, Some(at(900)), "the newer ones are gone, or it is another store");
        record.note_stored(None, at(3_500));
        assert_eq!(record.last_backup, None);
    }
}
