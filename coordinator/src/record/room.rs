//! A record must fit into one entry of the KV, and thus into one message of NATS: what is only for people is dropped first.

use super::cluster::ClusterRecord;

/// How much of an error remains when it is cut: enough to see what it is about.
const CUT_ERROR: usize = 100;

/// Drops data until the record has at most `room` bytes as JSON: the oldest attempts except the latest one, failed
/// verifications except one, quotes of etcd's log, and the ends of errors. `false` if it is still too large: then only
/// resources that people apply are left, and what decisions depend on.
pub fn fit(record: &mut ClusterRecord, room: usize) -> bool {
    let fits = |record: &ClusterRecord| bytes(record) <= room;
    while !fits(record) && record.runs.forget_oldest() {}
    while !fits(record) && record.verification.as_mut().is_some_and(|proof| proof.failed.forget_one()) {}
    if !fits(record) {
        forget_quotes(record);
    }
    if !fits(record) {
        cut_errors(record);
    }
    fits(record)
}

fn forget_quotes(record: &mut ClusterRecord) {
    for machine in record.restore.iter_mut().flat_map(|restore| restore.machines.values_mut()) {
        machine.etcd_text.clear();
        machine.left.clear();
    }
}

fn cut_errors(record: &mut ClusterRecord) {
    let cut = |error: &mut String| {
        if let Some((end, _)) = error.char_indices().nth(CUT_ERROR) {
            error.truncate(end);
            error.push('…');
        }
    };
    record.runs.shorten(cut);
    if let Some(restore) = &mut record.restore {
        cut(&mut restore.error);
        restore.machines.values_mut().for_each(|machine| cut(&mut machine.error));
    }
    if let Some(proof) = &mut record.verification {
        cut(&mut proof.error);
        proof.failed.shorten(cut);
    }
    record.slot.iter_mut().for_each(|slot| cut(&mut slot.error));
    record.status.iter_mut().for_each(|status| cut(&mut status.spec.error));
}

fn bytes(record: &ClusterRecord) -> usize {
    serde_json::to_vec(record).map_or(0, |json| json.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Attempt, SlotEnd, Trigger};
    use crate::restore::state::tests::restore;
    use crate::verify::{FailedProof, Verification};
    use backstay_protocol::spec::ClusterSpec;
    use backstay_protocol::{AttemptId, ClusterUuid, MachineId, SlotId, SnapshotName, Timestamp, VerifyId};
    use uuid::Uuid;

    /// A text as long as records take it, of characters that JSON makes six of.
    fn text(chars: usize) -> String {
        "\u{1}".repeat(chars)
    }

    /// Everything that can be long is, and there is as much of it as there may be.
    fn everything() -> ClusterRecord {
        let mut record = worst();
        let now = Timestamp::from_seconds(1_800_000_000);
        let name = |n| SnapshotName::from_unix_seconds(now.seconds + n).expect("a name");
        record.open_slot(Trigger::Interval, SlotId(Uuid::from_u128(1)), now).expect("a name");
        record.end_slot(SlotId(Uuid::from_u128(1)), SlotEnd::Failed { error: text(5_000) }, now);
        let mut proof = Verification::new(VerifyId(Uuid::from_u128(1)), name(0), String::new(), true, true, now);
        for n in 0..20 {
            let error = text(1_000);
            proof.failed.note(FailedProof { at: now, snapshot: name(n), error, damaged: true, settled: false });
        }
        (proof.error, proof.ended) = (text(1_000), Some(now));
        record.verification = Some(proof);
        let mut restore = restore();
        restore.error = text(1_000);
        let machine = restore.machines.values().next().expect("one").clone();
        for n in 0..16 {
            let mut machine = machine.clone();
            (machine.error, machine.etcd_text) = (text(1_000), text(1_000));
            machine.left = vec![text(1_000); 16];
            restore.machines.insert(MachineId(Uuid::from_u128(100 + n)), machine);
        }
        record.restore = Some(restore);
        record
    }

    #[test]
    fn whatever_a_record_holds_it_fits_where_nothing_was_applied() {
        let whole = everything();
        assert!(bytes(&whole) > 1024 * 1024, "{} bytes", bytes(&whole));
        for room in [1024 * 1024, 256 * 1024, 63 * 1024, 31 * 1024] {
            let mut kept = whole.clone();
            assert!(fit(&mut kept, room), "{} bytes in {room}", bytes(&kept));
            assert!(bytes(&kept) <= room);
            // What decides is whole.
            let decides = |record: &ClusterRecord| (record.known(), record.last_name, record.failures, record.late());
            assert_eq!(decides(&kept), decides(&whole));
            let standing = |record: &ClusterRecord| record.verification.as_ref().and_then(Verification::standing);
            assert_eq!(standing(&kept).map(|failed| failed.damaged), Some(true), "a failed proof stands");
        }
    }

    #[test]
    fn a_resource_that_leaves_no_room_is_noticed() {
        let mut record = everything();
        record.cluster.annotations.insert("note".into(), "x".repeat(40 * 1024));
        assert!(!fit(&mut record.clone(), 31 * 1024) && fit(&mut record, 80 * 1024));
    }

    /// Twenty attempts that failed with errors as long as they may be.
    fn worst() -> ClusterRecord {
        let now = Timestamp::from_seconds(1_800_000_000);
        let name = "c".parse().expect("a name");
        let mut record = ClusterRecord::new(name, ClusterUuid(Uuid::from_u128(1)), ClusterSpec::default(), now);
        for n in 0..25 {
            let (id, machine) = (AttemptId(Uuid::from_u128(n)), MachineId(Uuid::from_u128(9)));
            let snapshot = SnapshotName::from_unix_seconds(now.seconds).expect("a name");
            record.runs.begin(&Attempt { id, machine, started: now }, Trigger::Interval, snapshot);
            record.runs.fail(id, &text(5_000), now);
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
