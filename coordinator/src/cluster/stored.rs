//! A backup that the store shows, as far as it matters for the schedule: whether it is news.

use backstay_archive::Manifest;
use backstay_archive::manifest::Trigger;
use backstay_protocol::Timestamp;
use backstay_protocol::own::RunState;

use super::record::ClusterRecord;

/// What its manifest says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// The time that it stands for.
    pub at: Timestamp,
    /// Somebody took it by `backstay-agent once`.
    pub once: bool,
    /// etcd's own cluster id, where it is one.
    pub etcd_cluster_id: Option<u64>,
    pub revision: i64,
}

impl From<&Manifest> for Stored {
    fn from(manifest: &Manifest) -> Self {
        Self {
            at: Timestamp::from_seconds(manifest.snapshot.unix_seconds()),
            once: manifest.trigger == Trigger::Once,
            etcd_cluster_id: u64::from_str_radix(&manifest.origin.etcd_cluster_id, 16).ok(),
            revision: manifest.origin.revision,
        }
    }
}

impl ClusterRecord {
    /// Whether a backup in the store was taken after the last one that the record knows. A good one of a coordinator's own
    /// is no news, whatever time a wrong clock named it by: the record had it when it ended, and may have forgotten it since.
    /// One that somebody else took counts, unless its revision says that it is older than the record's last.
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
    use crate::cluster::record::{Attempt, SlotEnd, Trigger};
    use crate::cluster::runs::Proven;
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
