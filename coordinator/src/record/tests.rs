//! Transitions of the whole record.

use backstay_protocol::backstay_types::RestorePhase;
use backstay_protocol::spec::{BackupState, ClusterSpec};
use backstay_protocol::{AttemptId, ClusterUuid, MachineId, SlotId, Timestamp};
use proptest::prelude::*;
use uuid::Uuid;

use super::stored::Stored;
use super::*;
use crate::restore::Restore;
use backstay_protocol::limits;

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
    assert_eq!((status.status, status.error.as_str(), status.lastbackuptime), (BackupState::Ok, "", Some(at(3_101))));
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
    let stored = |seconds| Some(Stored { at: at(seconds), once: false, etcd_cluster_id: None, revision: 1 });
    r.note_stored(stored(2_000), at(2_010));
    r.note_stored(stored(90_000_000), at(3_000));
    assert_eq!(r.last_backup, Some(at(2_000)));
    r.last_name = 90_000_000;
    r.last_backup = Some(at(90_000_000));
    r.open_slot(Trigger::Interval, slot(1), at(4_000)).expect("a name");
    assert_eq!(r.slot.as_ref().map(|s| s.snapshot.unix_seconds()), Some(4_000), "named for now, not for then");
    r.end_slot(slot(1), SlotEnd::Done { completed: at(80_000_000), proven: None }, at(4_005));
    assert_eq!(r.last_backup, Some(at(4_000)));
    assert_eq!(r.status.as_ref().and_then(|s| s.spec.lastbackuptime), Some(at(4_005)));
}

#[test]
fn a_manual_backup_is_named_for_now_whatever_was_given_out_before() {
    for wrong in [61, 3_600, 86_400, 20 * 365 * 86_400] {
        let mut r = record();
        r.open_slot(Trigger::Interval, slot(1), at(5_000 + wrong)).expect("a name");
        r.begin_attempt(Attempt { id: attempt(1), machine: MachineId(Uuid::from_u128(1)), started: at(5_000 + wrong) });
        r.end_slot(slot(1), SlotEnd::Done { completed: at(5_003 + wrong), proven: None }, at(5_005 + wrong));
        for n in 2..5 {
            r.open_slot(Trigger::Manual { seconds: 5_000 + n as i64 }, slot(n), at(5_000)).expect("a name");
            let name = r.slot.as_ref().map(|s| s.snapshot.unix_seconds());
            assert_eq!(name, Some(4_998 + n as i64), "{wrong} s");
            r.end_slot(slot(n), SlotEnd::Done { completed: at(5_000), proven: None }, at(5_000));
        }
        let shown = r.status.as_ref().and_then(|s| s.spec.lastbackuptime);
        assert_eq!((r.last_backup, shown), (Some(at(5_000)), Some(at(5_000))), "{wrong} s");
    }
}

#[test]
fn a_name_that_the_record_remembers_is_not_given_out_again() {
    let mut r = record();
    for (n, now) in [(1, 5_000), (2, 5_001), (3, 90_000), (4, 5_000)] {
        r.open_slot(Trigger::Interval, slot(n), at(now)).expect("a name");
        r.begin_attempt(Attempt { id: attempt(n), machine: MachineId(Uuid::from_u128(1)), started: at(now) });
        r.end_slot(slot(n), SlotEnd::Failed { error: "no".into() }, at(now));
    }
    let names: Vec<i64> = r.runs.latest_first().map(|run| run.snapshot.unix_seconds()).collect();
    assert_eq!(names, [5_002, 90_000, 5_001, 5_000]);
}

#[test]
fn what_was_asked_for_by_a_wrong_clock_is_forgotten_in_time() {
    let mut r = record();
    for (n, now) in [(1, 900_000), (2, 5_000), (3, 5_500), (4, 5_700)] {
        r.accept_manual(now, at(now)).expect("there is room");
        r.open_slot(Trigger::Manual { seconds: now }, slot(n), at(now)).expect("a name");
    }
    assert_eq!(r.handled, [5_500, 5_700]);
}

#[test]
fn each_member_s_reason_is_kept_once() {
    let mut r = record();
    r.open_slot(Trigger::Interval, slot(1), at(1_001)).expect("a name");
    for (n, name, cause) in [(1, "a", "silent"), (2, "b", "disk full"), (3, "a", "silent"), (4, "c", "silent")] {
        let machine = MachineId(Uuid::from_u128(n));
        r.begin_attempt(Attempt { id: attempt(n), machine, started: at(1_002) });
        assert!(r.attempt_failed(attempt(n), name, cause, at(1_003)));
    }
    assert_eq!(r.slot.as_ref().expect("open").error, "machine a: silent; machine b: disk full; machine c: silent");
    assert_eq!(r.status.as_ref().expect("running").spec.error, "machine c: silent", "the latest, while it goes on");
    assert_eq!(r.runs.latest_first().count(), 4);
    assert_eq!(r.runs.latest_first().next().expect("four").error, "silent", "a run names its machine beside it");
}

#[test]
fn an_error_of_any_length_fits() {
    let mut r = record();
    r.open_slot(Trigger::Interval, slot(1), at(4_000)).expect("a name");
    r.end_slot(slot(1), SlotEnd::Failed { error: "ä".repeat(1_000_000) }, at(4_005));
    assert!(r.status.as_ref().is_some_and(|s| s.spec.error.len() <= limits::TEXT));
}

#[derive(Debug, Clone)]
enum Operation {
    Accept(i64),
    OpenManual,
    Begin(u8),
    AttemptFailed(u8),
    Done(u8),
    Failed(u8),
}

fn steps() -> impl Strategy<Value = Vec<Operation>> {
    let step = prop_oneof![
        (990_i64..1_010).prop_map(Operation::Accept),
        Just(Operation::OpenManual),
        (0_u8..4).prop_map(Operation::Begin),
        (0_u8..4).prop_map(Operation::AttemptFailed),
        (0_u8..6).prop_map(Operation::Done),
        (0_u8..6).prop_map(Operation::Failed),
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
                Operation::Accept(seconds) => if r.accept_manual(seconds, now) == Ok(true) { accepted.push(seconds) },
                Operation::OpenManual if r.slot.is_none() => if let Some(seconds) = r.pending.first().copied() {
                    next += 1;
                    r.open_slot(Trigger::Manual { seconds }, slot(next.into()), now)?;
                    begun.push(seconds);
                },
                Operation::OpenManual => {}
                Operation::Begin(n) => r.begin_attempt(Attempt { id: attempt(u128::from(n) + 1), machine: MachineId(Uuid::from_u128(5)), started: now }),
                Operation::AttemptFailed(n) => { r.attempt_failed(attempt(u128::from(n) + 1), "m", "x", now); }
                Operation::Done(n) => if r.end_slot(slot(u128::from(n)), SlotEnd::Done { completed: now, proven: None }, now) {
                    ended.push(n);
                    let status = r.status.as_ref().expect("it ended").spec.clone();
                    prop_assert_eq!((status.status, status.error.as_str()), (BackupState::Ok, ""));
                    prop_assert!(status.lastbackuptime.is_some() && status.lastbackupattempt.is_some());
                },
                Operation::Failed(n) => {
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
