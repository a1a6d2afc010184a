//! Decisions that the model of all interleavings (in the crate `tests`) does not check one by one.

use super::super::model::{Live, Source};
use super::*;
use backstay_protocol::backstay_types::RestoreSpec;
use backstay_protocol::bus::{ListedMember, MemberCheck, RestoreGoal, RestoreState};
use backstay_protocol::{ClusterUuid, RestoreId, SnapshotName};
use uuid::Uuid;

const LIMITS: Limits =
    Limits { prepare: Duration::from_secs(100), switch: Duration::from_secs(50), silence: Duration::from_secs(20) };

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_000 + seconds)
}

pub(crate) fn id(n: u128) -> MachineId {
    MachineId(Uuid::from_u128(n))
}

/// Two machines, told to prepare.
pub(crate) fn restore() -> Restore {
    let machine = |n: u128| Machine {
        member: format!("m{n}"),
        peer_urls: vec![format!("http://h{n}")],
        control: "systemd".into(),
        folder: "/var/lib/etcd".into(),
        ..Machine::default()
    };
    let mut restore = Restore {
        id: RestoreId(Uuid::from_u128(9)),
        version: 1,
        updated: at(0),
        source: Source {
            cluster: "one".parse().expect("a name"),
            uuid: ClusterUuid(Uuid::from_u128(5)),
            snapshot: SnapshotName::from_unix_seconds(900).expect("in range"),
            taken: at(0),
            revision: 3,
            bytes: 1,
            sealed_bytes: 1,
            sha256: "ab".into(),
            encrypted: false,
            etcd_cluster_id: "cdf818194e3a8c32".into(),
            proof: String::new(),
            etcd_version: "3.7.1".into(),
            storage_version: "3.7.0".into(),
        },
        phase: RestorePhase::Waiting,
        phase_since: at(0),
        started: at(0),
        ended: None,
        error: String::new(),
        bump: 1,
        aside_suffix: ".old".into(),
        by_template: false,
        machines: [1, 2].map(|n| (id(n), machine(n))).into(),
    };
    restore.begin(at(0));
    restore
}

pub(crate) fn says(step: RestoreStep, change: impl FnOnce(&mut RestoreState)) -> Heard {
    let members = [1, 2].map(|n| ListedMember {
        name: format!("m{n}"),
        peer_urls: vec![format!("http://h{n}")],
        ..ListedMember::default()
    });
    let check = MemberCheck {
        healthy: true,
        cluster_id: 7,
        members: members.to_vec(),
        revision: 20,
        hash_revision: 20,
        hash: 5,
        ..MemberCheck::default()
    };
    let mut state = RestoreState {
        restore: Uuid::from_u128(9).to_string(),
        step: step.into(),
        digest: vec![1; 32].into(),
        new_cluster_id: 7,
        check: Some(check),
        ..RestoreState::default()
    };
    change(&mut state);
    Heard::State(Box::new(state))
}

pub(crate) fn both(step: RestoreStep, second: impl FnOnce(&mut RestoreState)) -> Round {
    [(id(1), says(step, |_| ())), (id(2), says(step, second))].into()
}

fn switching() -> Restore {
    let mut restore = restore();
    restore.fold(&both(RestoreStep::Ready, |_| ()), LIMITS, at(1));
    assert_eq!(restore.phase, RestorePhase::Switching);
    restore
}

#[test]
fn machines_that_prepared_different_databases_do_not_switch() {
    let mut restore = restore();
    restore.fold(&both(RestoreStep::Ready, |s| s.digest = vec![2; 32].into()), LIMITS, at(1));
    assert_eq!(
        (restore.phase, restore.error.as_str()),
        (RestorePhase::PuttingBack, "the machines prepared different databases")
    );
}

#[test]
fn nobody_switches_by_what_was_ready_earlier() {
    let mut restore = restore();
    let one = |n: u128| Round::from([(id(n), says(RestoreStep::Ready, |_| ()))]);
    restore.fold(&one(1), LIMITS, at(1));
    let mut second = one(2);
    second.insert(id(1), Heard::Silent(Duration::from_secs(9), "nothing".into()));
    restore.fold(&second, LIMITS, at(2));
    restore.fold(&one(2), LIMITS, at(3));
    assert_eq!(restore.phase, RestorePhase::Preparing);
    restore.fold(&both(RestoreStep::Ready, |_| ()), LIMITS, at(4));
    assert_eq!(restore.phase, RestorePhase::Switching);
}

#[test]
fn a_machine_that_is_late_or_silent_while_others_prepare_ends_it() {
    let mut late = restore();
    let round: Round =
        [(id(1), says(RestoreStep::Ready, |_| ())), (id(2), says(RestoreStep::Preparing, |_| ()))].into();
    late.fold(&round, LIMITS, at(99));
    assert_eq!(late.phase, RestorePhase::Preparing);
    late.fold(&round, LIMITS, at(102));
    assert!(late.phase == RestorePhase::PuttingBack && late.error.contains("machine m2 (preparing)"), "{}", late.error);
    let mut silent = restore();
    let heard = |seconds| Heard::Silent(Duration::from_secs(seconds), "it does not answer".into());
    silent.fold(&[(id(2), heard(20))].into(), LIMITS, at(30));
    assert_eq!(silent.phase, RestorePhase::Preparing);
    silent.fold(&[(id(2), heard(21))].into(), LIMITS, at(30));
    assert!(silent.error.contains("machine m2: it does not answer"), "{}", silent.error);
}

#[test]
fn a_silent_machine_is_not_waited_for_once_all_others_serve() {
    let silent = |seconds| Heard::Silent(Duration::from_secs(seconds), "nothing".into());
    let round = |step, seconds| Round::from([(id(1), says(step, |_| ())), (id(2), silent(seconds))]);
    let mut restore = switching();
    restore.fold(&round(RestoreStep::Starting, 30), LIMITS, at(30));
    restore.fold(&round(RestoreStep::Switched, 20), LIMITS, at(30));
    assert_eq!(restore.phase, RestorePhase::Switching);
    restore.fold(&round(RestoreStep::Switched, 21), LIMITS, at(31));
    assert!(
        restore.phase == RestorePhase::PuttingBack && restore.error.contains("machine m2: nothing"),
        "{}",
        restore.error
    );
}

#[test]
fn members_that_do_not_agree_are_asked_again_until_the_time_is_up() {
    for (part, change) in [
        ("is not serving", (|c| c.healthy = false) as fn(&mut MemberCheck)),
        ("belongs to cluster", |c| c.cluster_id = 8),
        ("member list", |c| c.members.truncate(1)),
        ("members disagree", |c| c.hash = 6),
        ("members disagree", |c| c.compact_revision = 3),
        ("not been compared yet", |c| c.hash_revision = 0),
    ] {
        let mut restore = switching();
        let round = both(RestoreStep::Switched, |s| change(s.check.as_mut().expect("there")));
        restore.fold(&round, LIMITS, at(40));
        assert_eq!(restore.phase, RestorePhase::Switching, "{part}");
        restore.fold(&round, LIMITS, at(60));
        assert!(
            restore.phase == RestorePhase::PuttingBack && restore.error.contains(part),
            "{part}: {}",
            restore.error
        );
    }
    let mut restore = switching();
    restore.fold(&both(RestoreStep::Switched, |_| ()), LIMITS, at(40));
    assert_eq!((restore.phase, restore.new_cluster_id()), (RestorePhase::Keeping, Some(7)));
}

#[test]
fn the_end_does_not_wait_for_ever_for_a_machine_that_is_gone() {
    let mut restore = switching();
    restore.fold(&[(id(1), says(RestoreStep::Starting, |s| s.error = "no".into()))].into(), LIMITS, at(2));
    let gone: Round =
        [(id(1), says(RestoreStep::Returned, |_| ())), (id(2), Heard::Silent(Duration::from_secs(90), "gone".into()))]
            .into();
    restore.fold(&gone, LIMITS, at(30));
    assert_eq!(restore.phase, RestorePhase::PuttingBack);
    restore.fold(&gone, LIMITS, at(60));
    assert!(
        restore.phase == RestorePhase::Failed && restore.error.contains("will keep telling it"),
        "{}",
        restore.error
    );
    assert_eq!(restore.goal(), Some(RestoreGoal::PutBack), "whoever comes back is told this");
}

#[test]
fn the_end_does_not_wait_for_ever_for_a_machine_that_cannot_follow() {
    let trouble = |s: &mut RestoreState| s.error = "etcd does not start".into();
    for second in [
        says(RestoreStep::Returning, trouble),
        Heard::Refused("etcd does not start".into()),
        says(RestoreStep::Switched, |s| (s.restore, s.error) = (String::new(), "etcd does not start".into())),
    ] {
        let mut restore = switching();
        restore.fold(&[(id(1), says(RestoreStep::Starting, |s| s.error = "no".into()))].into(), LIMITS, at(2));
        let working: Round =
            [(id(1), says(RestoreStep::Returned, |_| ())), (id(2), says(RestoreStep::Returning, |_| ()))].into();
        restore.fold(&working, LIMITS, at(60));
        assert_eq!(restore.phase, RestorePhase::PuttingBack, "it is on its way");
        let round: Round = [(id(1), says(RestoreStep::Returned, |_| ())), (id(2), second.clone())].into();
        let mut early = restore.clone();
        early.fold(&round, LIMITS, at(30));
        assert_eq!(early.phase, RestorePhase::PuttingBack);
        restore.fold(&round, LIMITS, at(61));
        assert!(
            restore.phase == RestorePhase::Failed && restore.error.contains("machine m2: it is returning: "),
            "{second:?}"
        );
    }
    let mut kept = switching();
    kept.fold(&both(RestoreStep::Switched, |_| ()), LIMITS, at(2));
    let round: Round =
        [(id(1), says(RestoreStep::Kept, |_| ())), (id(2), Heard::Refused("it has no journal".into()))].into();
    kept.fold(&round, LIMITS, at(60));
    assert!(kept.phase == RestorePhase::Restored && kept.error.contains("it has no journal"), "{}", kept.error);
}

#[test]
fn what_holds_on_each_machine_after_going_back_is_kept() {
    let mut restore = switching();
    restore.fold(&[(id(1), says(RestoreStep::Starting, |s| s.error = "no".into()))].into(), LIMITS, at(2));
    let left = "/var/lib/etcd.old.restored-and-put-back";
    let down = |s: &mut RestoreState| {
        (s.etcd, s.etcd_text) = (EtcdAfter::Down.into(), "its unit is failed".into());
        s.left = vec![left.into()];
        s.check = None;
    };
    // What is told on the way is not what stays.
    restore.fold(
        &[(id(1), says(RestoreStep::Returning, |s| s.left = vec!["/elsewhere".into()]))].into(),
        LIMITS,
        at(3),
    );
    let serves = |s: &mut RestoreState| s.etcd = EtcdAfter::Serves.into();
    restore.fold(
        &[(id(1), says(RestoreStep::Returned, serves)), (id(2), says(RestoreStep::Returned, down))].into(),
        LIMITS,
        at(4),
    );
    assert_eq!(restore.phase, RestorePhase::Failed);
    // An agent that was started anew does not know it any more.
    restore.fold(&[(id(2), says(RestoreStep::Returned, |s| s.left = vec![left.into()]))].into(), LIMITS, at(5));
    let json = serde_json::to_vec(&restore).expect("plain data");
    let restore: Restore = serde_json::from_slice(&json).expect("its own words");
    let spec: RestoreSpec = restore.resource(&"one".parse().expect("a name"), |_| None).typed().expect("its spec");
    let [first, second] = &spec.machines[..] else { panic!("{spec:?}") };
    assert_eq!((first.etcd.as_str(), first.left.len()), ("serves", 0));
    assert_eq!((second.etcd.as_str(), second.etcdtext.as_str()), ("down", "its unit is failed"));
    assert_eq!(second.left, [left]);
    // What is left is as the machine says now: folders are removed by people.
    let now = restore.resource(&"one".parse().expect("a name"), |_| {
        let state = RestoreState { step: RestoreStep::Returned.into(), ..RestoreState::default() };
        let state = RestoreState { restore: restore.id.to_string(), ..state };
        Some(Live { host: "cp-1".into(), state: Some(state) })
    });
    let spec: RestoreSpec = now.typed().expect("its spec");
    assert!(spec.machines.iter().all(|machine| machine.host == "cp-1"), "{spec:?}");
    assert!(spec.machines.iter().all(|machine| machine.left.is_empty()), "{spec:?}");
}

#[test]
fn only_what_stays_of_a_good_restore_is_told() {
    let mut restore = switching();
    restore.fold(&both(RestoreStep::Switched, |_| ()), LIMITS, at(2));
    assert_eq!(restore.phase, RestorePhase::Keeping);
    let aside = format!("/var/lib/etcd{}", restore.aside_suffix);
    let prepared = format!("/var/lib/etcd.restore-{}", restore.id);
    let old = says(RestoreStep::Kept, |s| (s.aside, s.left) = (aside.clone(), vec![aside.clone(), prepared]));
    // The second machine had no data to set aside.
    restore.fold(&[(id(1), old), (id(2), says(RestoreStep::Kept, |_| ()))].into(), LIMITS, at(3));
    let spec: RestoreSpec = restore.resource(&"one".parse().expect("a name"), |_| None).typed().expect("its spec");
    assert_eq!((spec.phase, &spec.machines[0].left), (RestorePhase::Restored, &vec![aside]));
    assert!(!spec.machines[0].aside.is_empty());
    assert_eq!((spec.machines[1].aside.as_str(), spec.machines[1].left.len()), ("", 0));
}

#[test]
fn a_record_of_an_older_coordinator_is_read() {
    let mut json = serde_json::to_value(restore()).expect("plain data");
    let source = json["source"].as_object_mut().expect("fields");
    ["etcd_version", "storage_version"].iter().for_each(|field| drop(source.remove(*field)));
    for machine in json["machines"].as_object_mut().expect("machines").values_mut() {
        let machine = machine.as_object_mut().expect("fields");
        ["etcd_version", "etcd", "etcd_text", "left"].iter().for_each(|field| drop(machine.remove(*field)));
    }
    let read: Restore = serde_json::from_value(json).expect("readable");
    assert_eq!(read.machines, restore().machines);
}

#[test]
fn what_is_said_of_another_restore_changes_nothing() {
    let mut restore = restore();
    let before = restore.clone();
    let other = says(RestoreStep::Kept, |s| s.restore = Uuid::from_u128(1).to_string());
    restore.fold(&[(id(1), other.clone()), (id(2), other)].into(), LIMITS, at(1));
    assert_eq!(restore, before);
}
