//! A record must fit one entry of the KV, and with that one message of NATS: what is there for people alone goes first.

use super::record::ClusterRecord;

/// Forgets the oldest attempts until the record has at most `room` bytes as JSON; the latest one stays.
pub fn fit(record: &mut ClusterRecord, room: usize) {
    while bytes(record) > room && record.runs.forget_oldest() {}
}

fn bytes(record: &ClusterRecord) -> usize {
    serde_json::to_vec(record).map_or(0, |json| json.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::record::{Attempt, Trigger};
    use backstay_protocol::spec::ClusterSpec;
    use backstay_protocol::{AttemptId, ClusterUuid, MachineId, SnapshotName, Timestamp};
    use uuid::Uuid;

    /// Twenty attempts that failed with errors as long as they may be, of characters that JSON makes six of.
    fn worst() -> ClusterRecord {
        let now = Timestamp::from_seconds(1_800_000_000);
        let name = "c".parse().expect("a name");
        let mut record = ClusterRecord::new(name, ClusterUuid(Uuid::from_u128(1)), ClusterSpec::default(), now);
        for n in 0..25 {
            let (id, machine) = (AttemptId(Uuid::from_u128(n)), MachineId(Uuid::from_u128(9)));
            let snapshot = SnapshotName::from_unix_seconds(now.seconds).expect("a name");
            record.runs.begin(&Attempt { id, machine, started: now }, Trigger::Interval, snapshot);
            record.runs.fail(id, &"\u{1}".repeat(5_000), now);
        }
        record
    }

    #[test]
    fn the_oldest_attempts_go_and_the_latest_stay() {
        let whole = worst();
        let mut kept = whole.clone();
        fit(&mut kept, 1024 * 1024);
        assert_eq!(kept, whole, "there is room");
        for room in [63 * 1024, 31 * 1024, 7 * 1024] {
            let mut kept = whole.clone();
            fit(&mut kept, room);
            let ids = |record: &ClusterRecord| record.runs.latest_first().map(|run| run.id).collect::<Vec<_>>();
            let (left, all) = (ids(&kept), ids(&whole));
            assert!(bytes(&kept) <= room && !left.is_empty(), "{} runs in {} bytes", left.len(), bytes(&kept));
            assert_eq!(left, all[..left.len()]);
        }
        let mut kept = whole.clone();
        fit(&mut kept, 10);
        assert_eq!(kept.runs.latest_first().count(), 1);
    }
}
