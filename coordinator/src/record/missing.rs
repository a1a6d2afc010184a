//! Backups that were made in the store and are not there any more: an empty folder where a mount is gone, another disk at the
//! same place.

use backstay_protocol::backstay_types::RunState;
use backstay_protocol::{SnapshotName, Timestamp};

use super::cluster::ClusterRecord;
use super::stored::Missing;

impl ClusterRecord {
    /// The backup that must be in this store: the newest good one, where it was made there. Of another store nothing is
    /// known.
    pub fn must_have(&self, store: &str) -> Option<SnapshotName> {
        let good = self.runs.latest_first().find(|run| run.state == RunState::Ok);
        good.filter(|_| self.stored_in == store).map(|run| run.snapshot)
    }

    /// The backup that was missed at the last look, for as long as its attempt is remembered.
    pub fn missing(&self) -> Option<&Missing> {
        let remembered = |missing: &&Missing| self.runs.latest_first().any(|run| run.snapshot == missing.snapshot);
        self.missing.as_ref().filter(remembered)
    }

    /// A backup is missed, or none is any more.
    pub fn note_missing(&mut self, snapshot: Option<SnapshotName>, now: Timestamp) {
        self.missing = snapshot.map(|snapshot| Missing { snapshot, noticed: now });
    }

    /// What people are told of the backup that is missed.
    pub fn missing_text(&self) -> Option<String> {
        let Missing { snapshot, noticed } = self.missing()?;
        Some(format!(
            "{} no longer has {snapshot} of cluster {}, which was the newest backup there (noticed at {}): check that the \
             right folder or bucket is in use, and that it is mounted; unless somebody deleted the backup, earlier ones may be \
             missing too",
            self.stored_in,
            self.name,
            noticed.rfc3339()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Attempt, SlotEnd, Trigger};
    use backstay_protocol::spec::ClusterSpec;
    use backstay_protocol::{AttemptId, ClusterUuid, MachineId, SlotId};
    use uuid::Uuid;

    fn back_up(record: &mut ClusterRecord, n: u128) {
        let now = Timestamp::from_seconds(1_000 * n as i64);
        let (slot, attempt) = (SlotId(Uuid::from_u128(n)), AttemptId(Uuid::from_u128(n)));
        record.open_slot(Trigger::Interval, slot, now).expect("a name");
        record.begin_attempt(Attempt { id: attempt, machine: MachineId(Uuid::from_u128(9)), started: now });
        record.end_slot(slot, SlotEnd::Done { completed: now, proven: None }, now);
    }

    #[test]
    fn a_backup_is_missed_only_in_the_store_that_had_it_and_for_as_long_as_it_is_remembered() {
        let uuid = ClusterUuid(Uuid::from_u128(1));
        let now = Timestamp::from_seconds(1);
        let mut record = ClusterRecord::new("one".parse().expect("a name"), uuid, ClusterSpec::default(), now);
        assert_eq!(record.must_have(""), None, "nothing was ever made");
        back_up(&mut record, 1);
        record.stored_in = "file:///a".into();
        let first = record.must_have("file:///a").expect("it was made there");
        assert_eq!(record.must_have("file:///b"), None);
        record.note_missing(Some(first), now);
        let text = record.missing_text().expect("it is missed");
        assert!(text.starts_with(&format!("file:///a no longer has {first} of cluster one")), "{text}");
        for n in 2..22 {
            assert!(record.missing().is_some(), "{n}");
            back_up(&mut record, n);
        }
        assert_eq!(record.missing_text(), None, "its attempt is forgotten");
        record.note_missing(None, now);
        assert_eq!(record.missing, None);
    }
}
