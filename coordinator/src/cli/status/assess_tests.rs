//! Every combination has exactly one word; worse facts never give a better one.

use super::*;
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
    Facts { cluster: "c".into(), interval, status, agents, verification: VerificationSpec::default() }
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
    let stale = "older than the interval of 1h0m0s and a grace of 6m0s";
    assert_eq!(word(facts(Good, "", Some(3961), hour, 1)), (Word::Stale, stale.into()));
    assert_eq!(word(facts(Good, "", Some(3960), hour, 1)).0, Word::Ok);
    assert_eq!(word(facts(Error, "no bucket", Some(60), hour, 1)), (Word::Failing, "no bucket".into()));
    assert_eq!(word(facts(Running, "no bucket", Some(60), hour, 1)), (Word::Failing, "no bucket".into()));
    assert_eq!(word(facts(Unknown, "", None, hour, 1)), (Word::Never, "there is no backup".into()));
    assert_eq!(word(facts(Error, "no bucket", None, hour, 1)), (Word::Never, "no bucket".into()));
    assert_eq!(word(facts(Running, "", None, hour, 1)), (Word::Never, "the first backup is running".into()));
    for age in [None, Some(60)] {
        assert_eq!(word(facts(Good, "", age, hour, 0)), (Word::NoAgent, "no agent is connected".into()));
    }
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
        assert_eq!(word(facts(Error, "no bucket", Some(-ahead), None, 1)), (Word::Failing, "no bucket".into()));
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

fn any_facts() -> impl Strategy<Value = Facts> {
    let state =
        prop::sample::select(vec![BackupState::Unknown, BackupState::Ok, BackupState::Error, BackupState::Running]);
    let age = prop::option::of(prop_oneof![-1000_i64..200_000, any::<i64>().prop_map(|n| n / 4)]);
    let interval = prop::option::of(prop_oneof![
        (1_u64..200_000).prop_map(Duration::from_secs),
        any::<u64>().prop_map(Duration::from_secs)
    ]);
    ("[a-d]", state, "(error)?", age, interval, 0_usize..3).prop_map(
        |(cluster, state, error, age, interval, agents)| Facts {
            cluster,
            ..facts(state, &error, age, interval, agents)
        },
    )
}

proptest! {
    #[test]
    fn every_cluster_has_one_word_and_only_ok_has_no_reason(facts in any_facts(), grace in prop::option::of(0_u64..100_000)) {
        let health = assess(facts.clone(), grace.map(Duration::from_secs), NOW);
        prop_assert_eq!(health.word == Word::NoAgent, facts.agents == 0);
        prop_assert_eq!(health.word == Word::Ok && !health.reason.is_empty(), false);
        prop_assert!(health.word != Word::Stale || facts.interval.is_some(), "no interval, never stale");
        prop_assert!(!matches!(health.word, Word::Ok | Word::Stale | Word::Failing) || health.last.is_some());
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
