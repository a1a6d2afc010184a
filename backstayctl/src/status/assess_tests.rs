//! Every combination has exactly one word, and worse facts never give a better one.

use super::*;
use backstay_protocol::backstay_types::{PROOF_NOT_TRIED, PROOF_OF_DAMAGE, RunState};
use backstay_protocol::spec::BackupStatusSpec;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp { seconds: 1_000_000, nanos: 0 };
const HOUR: Duration = Duration::from_secs(3600);

fn facts(state: BackupState, error: &str, age: Option<i64>, interval: Option<Duration>, agents: usize) -> Facts {
    let status = BackupStatusSpec {
        status: state,
        error: error.into(),
        lastbackuptime: age.map(|age| Timestamp::from_seconds(NOW.seconds - age)),
        lastbackupattempt: None,
    };
    let schedule = interval.map_or(Schedule::None, Schedule::Every);
    Facts { cluster: "c".into(), schedule, status, agents, ..Facts::default() }
}

/// Backed up a minute ago, and everybody is there.
fn well() -> Facts {
    facts(BackupState::Ok, "", Some(60), Some(HOUR), 1)
}

fn word(facts: Facts) -> (Word, String) {
    let health = assess(facts, None, NOW);
    (health.word, health.reason)
}

#[test]
fn each_word_has_its_reason() {
    use BackupState::{Error, Ok as Good, Running, Unknown};
    let hour = Some(HOUR);
    assert_eq!(word(facts(Good, "", Some(60), hour, 1)), (Word::Ok, String::new()));
    assert_eq!(word(facts(Running, "", Some(60), hour, 1)), (Word::Ok, String::new()));
    let stale = "older than the interval of 1h0m0s plus a grace period of 6m0s";
    assert_eq!(word(facts(Good, "", Some(3961), hour, 1)), (Word::Stale, stale.into()));
    assert_eq!(word(facts(Good, "", Some(3960), hour, 1)).0, Word::Ok);
    assert_eq!(
        word(facts(Error, "no bucket", Some(60), hour, 1)),
        (Word::Failing, "the last backup failed: no bucket".into())
    );
    assert_eq!(
        word(facts(Running, "no bucket", Some(60), hour, 1)),
        (Word::Failing, "the last backup failed: no bucket".into())
    );
    assert_eq!(word(facts(Unknown, "", None, hour, 1)), (Word::Never, "there is no backup".into()));
    assert_eq!(
        word(facts(Error, "no bucket", None, hour, 1)),
        (Word::Never, "the last backup failed: no bucket".into())
    );
    assert_eq!(word(facts(Running, "", None, hour, 1)), (Word::Never, "the first backup is running".into()));
    for age in [None, Some(60)] {
        assert_eq!(word(facts(Good, "", age, hour, 0)), (Word::NoAgent, "no agent is connected".into()));
    }
}

#[test]
fn what_is_not_as_it_should_be_has_a_word_a_reason_and_a_command() {
    let failed = |found: &str| VerificationSpec {
        snapshot: "N.snapshot".into(),
        state: RunState::Failed,
        error: "page 7".into(),
        found: found.into(),
        ended: Some(Timestamp::from_seconds(NOW.seconds - 120)),
        ..VerificationSpec::default()
    };
    // The next one runs already, or an older backup was proven.
    let earlier = |state| VerificationSpec {
        state,
        failedat: Some(Timestamp::from_seconds(NOW.seconds - 120)),
        failedsnapshot: "N.snapshot".into(),
        failederror: "page 7".into(),
        faileddamaged: true,
        ..VerificationSpec::default()
    };
    let down = |machine: &str| Down { machine: machine.into(), error: "refused".into() };
    let at_fault = "the verification of N.snapshot failed 2m ago: page 7";
    let prove = "backstayctl backup c --wait && backstayctl verify c";
    let absent = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    for (facts, text, reason, next) in [
        (
            Facts { storage: "not initialized".into(), ..well() },
            "no storage",
            "backup storage is not available: not initialized",
            "backstayctl apply -f etcd-backup-s3-conf.yaml",
        ),
        (
            Facts { storage: "AccessDenied".into(), agents: 0, ..well() },
            "no storage",
            "not available: AccessDenied",
            "backstayctl get etcdbackupoverallstatus",
        ),
        (Facts { agents: 0, ..well() }, "no agent", "no agent is connected", "systemctl status backstay-agent"),
        (
            Facts { agents: 2, absent: absent(&["m3"]), ..well() },
            "2/3 agents",
            "no agent is connected for etcd member m3: a restore needs one for every member",
            "systemctl status backstay-agent",
        ),
        (
            Facts { agents: 2, absent: absent(&["m3"]), twins: vec!["two agents use it".into()], ..well() },
            "2/3 agents",
            "two agents use it",
            "backstayctl agents c -o wide",
        ),
        (
            Facts { absent: absent(&["m2", "m3"]), ..well() },
            "1/3 agents",
            "no agent is connected for etcd members m2, m3",
            "systemctl status backstay-agent",
        ),
        (
            Facts {
                down: vec![down("m2")],
                absent: absent(&["m3"]),
                restoring: "switching: 1 of 3 moving".into(),
                ..well()
            },
            "restoring",
            "a restore is running: switching: 1 of 3 moving",
            "backstayctl get restore c",
        ),
        (
            Facts { down: vec![down("m2"), down("4c4c4544")], ..well() },
            "member down",
            "2 machines (m2, 4c4c4544): etcd does not answer: refused",
            "backstayctl agents c",
        ),
        (Facts { verification: failed(PROOF_OF_DAMAGE), ..well() }, "damaged", at_fault, prove),
        (Facts { verification: earlier(RunState::Running), ..well() }, "damaged", at_fault, prove),
        (Facts { verification: earlier(RunState::Ok), ..well() }, "damaged", at_fault, prove),
        (
            Facts { verification: failed(PROOF_NOT_TRIED), ..well() },
            "unproven",
            "the verification of N.snapshot could not be run 2m ago: page 7",
            "backstayctl verify c",
        ),
        // An older coordinator does not say where the fault is.
        (
            Facts { verification: failed(""), ..well() },
            "unproven",
            "the verification of N.snapshot could not be run 2m ago: page 7",
            "backstayctl verify c",
        ),
        (
            Facts { schedule: Schedule::None, ..well() },
            "no schedule",
            "no interval is set",
            "backstayctl schedule c 1h",
        ),
        (
            facts(BackupState::Unknown, "", None, Some(HOUR), 1),
            "never",
            "there is no backup",
            "backstayctl backup c --wait",
        ),
        (
            facts(BackupState::Running, "", None, Some(HOUR), 1),
            "never",
            "the first backup is running",
            "backstayctl get etcdbackupstatus c --watch",
        ),
        (facts(BackupState::Error, "no bucket", None, Some(HOUR), 1), "never", "no bucket", "backstayctl runs c"),
        (
            facts(BackupState::Error, "no bucket", Some(9), Some(HOUR), 1),
            "failing",
            "the last backup failed: no bucket",
            "backstayctl runs c",
        ),
        (
            facts(BackupState::Ok, "", Some(7200), Some(HOUR), 1),
            "stale",
            "older than the interval of 1h0m0s",
            "backstayctl backup c --wait",
        ),
    ] {
        let health = assess(facts, None, NOW);
        assert!(!health.word.is_fine(), "{health:?}");
        assert_eq!((health.word.text().as_str(), health.next.as_str()), (text, next));
        assert!(health.reason.contains(reason), "{}", health.reason);
    }
}

#[test]
fn what_is_meant_is_fine() {
    let off = assess(Facts { schedule: Schedule::Off, ..well() }, None, NOW);
    assert_eq!((off.word.text().as_str(), off.word.is_fine(), off.next.as_str()), ("off", true, ""));
    let worse = assess(Facts { schedule: Schedule::Off, agents: 0, ..well() }, None, NOW);
    assert_eq!(worse.word, Word::NoAgent);
}

#[test]
fn a_last_backup_in_the_future_is_not_ok_and_names_the_clocks() {
    use BackupState::{Error, Ok as Good, Running};
    for (ahead, text) in [(61, "1m1s"), (86_400, "24h0m0s"), (10 * 365 * 86_400, "87600h0m0s")] {
        for (state, interval) in [(Good, Some(HOUR)), (Good, None), (Running, Some(HOUR))] {
            let health = assess(facts(state, "", Some(-ahead), interval, 1), None, NOW);
            let said =
                format!(" is {text} ahead of this machine's clock: check the clocks of the coordinator, the agents");
            assert!(health.word == Word::Clock && health.age.is_none() && health.reason.contains(&said), "{health:?}");
        }
        assert_eq!(
            word(facts(Error, "no bucket", Some(-ahead), None, 1)),
            (Word::Failing, "the last backup failed: no bucket".into())
        );
        assert_eq!(word(facts(Good, "", Some(-ahead), None, 0)).0, Word::NoAgent);
    }
    assert_eq!(word(facts(Good, "", Some(-60), Some(HOUR), 1)).0, Word::Ok, "clocks differ by a little");
}

#[test]
fn the_grace_is_a_tenth_or_five_minutes_or_what_was_given() {
    let minutes = |n: u64| Duration::from_secs(n * 60);
    assert_eq!(grace(None, minutes(10)), minutes(5));
    assert_eq!(grace(None, minutes(600)), minutes(60));
    assert_eq!(grace(Some(minutes(1)), minutes(600)), minutes(1));
    let health = assess(facts(BackupState::Ok, "", Some(3660), Some(HOUR), 1), Some(Duration::ZERO), NOW);
    assert_eq!(health.word, Word::Stale);
}

fn any_proof() -> impl Strategy<Value = VerificationSpec> {
    let state = prop::sample::select(vec![RunState::Running, RunState::Ok, RunState::Failed]);
    let found = prop::sample::select(vec!["", PROOF_NOT_TRIED, PROOF_OF_DAMAGE]);
    (state, found).prop_map(|(state, found)| VerificationSpec {
        state,
        found: found.into(),
        ..VerificationSpec::default()
    })
}

fn any_facts() -> impl Strategy<Value = Facts> {
    let state =
        prop::sample::select(vec![BackupState::Unknown, BackupState::Ok, BackupState::Error, BackupState::Running]);
    let age = prop::option::of(prop_oneof![-1000_i64..200_000, any::<i64>().prop_map(|n| n / 4)]);
    let every = |seconds| Schedule::Every(Duration::from_secs(seconds));
    let schedule = prop_oneof![
        Just(Schedule::None),
        Just(Schedule::Off),
        (1_u64..200_000).prop_map(every),
        any::<u64>().prop_map(every)
    ];
    let members = (0_usize..3, prop::collection::vec("m[0-9]", 0..3), 0_usize..3);
    let troubles = ("(broken)?", "(switching)?");
    ("[a-d]", state, "(error)?", age, schedule, members, troubles, any_proof()).prop_map(
        |(cluster, state, error, age, schedule, (agents, absent, down), (storage, restoring), verification)| Facts {
            restoring,
            cluster,
            schedule,
            absent,
            twins: Vec::new(),
            down: vec![Down::default(); down.min(agents)],
            storage,
            verification,
            ..facts(state, &error, age, None, agents)
        },
    )
}

proptest! {
    #[test]
    fn every_cluster_has_one_word_and_all_but_the_fine_have_a_reason_and_a_command(
        facts in any_facts(), grace in prop::option::of(0_u64..100_000),
    ) {
        let health = assess(facts.clone(), grace.map(Duration::from_secs), NOW);
        prop_assert_eq!(health.word == Word::NoStorage, !facts.storage.is_empty());
        prop_assert_eq!(health.word <= Word::NoAgent, facts.agents == 0 || !facts.storage.is_empty());
        prop_assert_eq!(health.word.is_fine(), health.next.is_empty());
        // An error that says nothing is all that there is to say of some.
        prop_assert!(!health.word.is_fine() || health.reason.is_empty());
        prop_assert!(health.word != Word::Stale || health.interval.is_some(), "no interval, never stale");
        prop_assert!(!matches!(health.word, Word::Ok | Word::Stale | Word::Failing) || health.last.is_some());
        if health.word.is_fine() {
            prop_assert!(facts.restoring.is_empty() && facts.down.is_empty() && facts.absent.is_empty() && facts.verification.standing().is_none());
        }
    }

    #[test]
    fn a_coordinator_that_just_began_to_lead_misses_no_agent(facts in any_facts()) {
        let health = assess(Facts { settling: true, ..facts }, None, NOW);
        prop_assert!(!matches!(health.word, Word::NoAgent | Word::FewAgents { .. }), "{:?}", health.word);
    }

    #[test]
    fn the_list_holds_everybody_once_worst_first_in_whatever_order_they_come(
        mut facts in prop::collection::vec(any_facts(), 0..12), turn in any::<prop::sample::Index>(),
    ) {
        // Names are the coordinator's ids: no two are the same.
        facts.iter_mut().enumerate().for_each(|(n, facts)| facts.cluster = format!("{}{n}", facts.cluster));
        let listed = all(facts.clone(), None, NOW);
        prop_assert_eq!(listed.len(), facts.len());
        prop_assert!(listed.is_sorted_by_key(|health| health.word));
        if !facts.is_empty() {
            let turn = turn.index(facts.len());
            facts.rotate_left(turn);
        }
        prop_assert_eq!(all(facts, None, NOW), listed);
    }

    #[test]
    fn an_older_backup_is_never_better(facts in any_facts(), older in 0_i64..1_000_000) {
        // One from the future has no age.
        prop_assume!(facts.status.lastbackuptime.is_none_or(|at| at <= NOW));
        let mut worse = facts.clone();
        if let Some(at) = &mut worse.status.lastbackuptime {
            at.seconds = at.seconds.saturating_sub(older);
        }
        prop_assert!(assess(worse, None, NOW).word <= assess(facts, None, NOW).word);
    }
}
