//! When the next backup of a cluster is due: a function of what is known, the policy and `now`.
//!
//! `now` and the stored times come from clocks that may be wrong, jump and go back. A time in the future is never
//! waited for, so a wrong clock cannot stop the backups. It cannot cause a storm of them either, since the time that
//! really passed is known from the monotonic clock, as long as this coordinator was running.

use std::time::Duration;

pub use backstay_protocol::time::{is_ahead, latest_true};
use backstay_protocol::{ClusterUuid, Timestamp};

/// What the schedule must know of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Known {
    /// How often to back up; `None` if automatic backups are off.
    pub interval: Option<Duration>,
    /// The time in the name of the newest backup in the store.
    pub last_backup: Option<Timestamp>,
    /// How many automatic backups failed since the last good one.
    pub failures: u32,
    pub last_failure: Option<Timestamp>,
    /// How long ago the last good backup, and the last failed automatic one, ended by the monotonic clock; `None` if
    /// this coordinator saw none.
    pub since_backup: Option<Duration>,
    pub since_failure: Option<Duration>,
    /// A manual backup that was requested and has not begun.
    pub manual: Option<Timestamp>,
}

/// How the schedule spreads and retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    pub jitter: Duration,
    pub retry_pause: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// No backup is due until something changes.
    Idle,
    /// An automatic backup is due at that time.
    At(Timestamp),
    Manual(Timestamp),
    Interval,
}

/// What to do now.
pub fn decide(known: &Known, policy: &Policy, cluster: ClusterUuid, now: Timestamp) -> Decision {
    if let Some(at) = known.manual {
        return Decision::Manual(at);
    }
    let Some(interval) = known.interval else {
        return Decision::Idle;
    };
    let last = known.last_backup.filter(|last| !is_ahead(*last, now));
    let regular = last.map(|last| due_after(last, interval, policy.jitter, cluster));
    // A time that a clock gave while it was a little ahead makes nobody wait for longer than the interval either.
    let whole = known.since_backup.map(|passed| add(now, interval.saturating_sub(passed)));
    let regular = regular.map(|due| whole.map_or(due, |whole| whole.min(due)));
    let retry = pause(known, policy, interval).and_then(|pause| retry_at(known, pause, now));
    let due = regular.max(retry).max(rested_at(known, policy, interval, now));
    due.filter(|due| *due > now).map_or(Decision::Interval, Decision::At)
}

/// The pause after `failures` in a row: it doubles with each, up to the interval.
fn pause(known: &Known, policy: &Policy, interval: Duration) -> Option<Duration> {
    let doublings = known.failures.checked_sub(1)?.min(20);
    Some(policy.retry_pause.saturating_mul(1 << doublings).min(interval))
}

/// A failure in the future means that the clock was set back: then it is not known when it happened.
fn retry_at(known: &Known, pause: Duration, now: Timestamp) -> Option<Timestamp> {
    Some(add(known.last_failure.filter(|failed| *failed <= now)?, pause))
}

/// When enough time will really have passed since the last backup, or since a failure, whatever the clock said then and
/// says now. If the store has no backup, there is nothing to keep a distance from.
fn rested_at(known: &Known, policy: &Policy, interval: Duration, now: Timestamp) -> Option<Timestamp> {
    let left = |gap: Duration, passed: Duration| add(now, gap.saturating_sub(passed));
    let backup = known.last_backup.and(known.since_backup).map(|passed| left(shortest_gap(interval), passed));
    let failure = pause(known, policy, interval).zip(known.since_failure).map(|(pause, passed)| left(pause, passed));
    backup.max(failure)
}

/// The shortest time between two backups.
fn shortest_gap(interval: Duration) -> Duration {
    interval - interval / 10
}

/// The last backup's time plus the interval, moved forward towards the cluster's own place on the clock.
///
/// The place is a multiple of the interval plus a fixed offset that follows from the UUID. A backup moves
/// towards it by at most the jitter (and a tenth of the interval), so a fleet that started together
/// spreads within a few rounds and then keeps its places; no gap is longer than the interval.
fn due_after(last: Timestamp, interval: Duration, jitter: Duration, cluster: ClusterUuid) -> Timestamp {
    let millis = interval.as_millis().clamp(1, i64::MAX as u128 / 4) as i64;
    let target = last.as_millis().saturating_add(millis);
    let offset = (cluster.0.as_u128() % millis as u128) as i64;
    let past_place = target.saturating_sub(offset).rem_euclid(millis);
    let most = jitter.min(interval / 10).as_millis() as i64;
    Timestamp::from_millis(target - past_place.min(most))
}

fn add(at: Timestamp, duration: Duration) -> Timestamp {
    let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(at.as_millis().saturating_add(millis))
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstay_protocol::time::CLOCK_TOLERANCE;
    use proptest::prelude::*;
    use uuid::Uuid;

    const POLICY: Policy = Policy { jitter: Duration::from_secs(600), retry_pause: Duration::from_secs(30) };
    const HOUR: Duration = Duration::from_secs(3600);

    fn uuid(n: u128) -> ClusterUuid {
        ClusterUuid(Uuid::from_u128(n))
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn hourly() -> Known {
        Known { interval: Some(HOUR), ..Known::default() }
    }

    #[test]
    fn no_backup_yet_is_due_at_once() {
        assert_eq!(decide(&hourly(), &POLICY, uuid(7), at(1)), Decision::Interval);
    }

    #[test]
    fn a_manual_backup_comes_first_and_needs_no_interval() {
        let known = Known { manual: Some(at(5)), ..Known::default() };
        assert_eq!(decide(&known, &POLICY, uuid(7), at(1)), Decision::Manual(at(5)));
        let failing = Known { manual: Some(at(5)), failures: 9, last_failure: Some(at(1)), ..hourly() };
        assert_eq!(decide(&failing, &POLICY, uuid(7), at(1)), Decision::Manual(at(5)));
        assert_eq!(decide(&Known::default(), &POLICY, uuid(7), at(1)), Decision::Idle);
    }

    #[test]
    fn pauses_grow_up_to_the_interval() {
        let pause = |failures| match decide(
            &Known { failures, last_failure: Some(at(1000)), ..hourly() },
            &POLICY,
            uuid(7),
            at(1000),
        ) {
            Decision::At(t) => t.seconds - 1000,
            other => panic!("{other:?}"),
        };
        assert_eq!([pause(1), pause(2), pause(3), pause(12), pause(u32::MAX)], [30, 60, 120, 3600, 3600]);
    }

    #[test]
    fn a_restart_repeats_nothing() {
        let known = Known { last_backup: Some(at(10_000)), ..hourly() };
        assert!(matches!(decide(&known, &POLICY, uuid(7), at(10_001)), Decision::At(_)));
    }

    #[test]
    fn a_backup_in_the_future_is_no_reason_to_wait() {
        let known = |ahead| Known { last_backup: Some(at(10_000 + ahead)), ..hourly() };
        for ahead in [61, 3_600, 86_400, 10 * 365 * 86_400, i64::MAX - 10_000] {
            assert_eq!(decide(&known(ahead), &POLICY, uuid(7), at(10_000)), Decision::Interval, "{ahead} s");
        }
        for ahead in [0, 1, 60] {
            assert!(matches!(decide(&known(ahead), &POLICY, uuid(7), at(10_000)), Decision::At(_)), "{ahead} s");
        }
    }

    #[test]
    fn a_failure_in_the_future_is_no_reason_to_wait_but_the_pause_is_kept() {
        let known = Known { failures: 3, last_failure: Some(at(90_000)), ..hourly() };
        assert_eq!(decide(&known, &POLICY, uuid(7), at(10_000)), Decision::Interval);
        let just_now = Known { since_failure: Some(Duration::from_secs(20)), ..known };
        assert_eq!(decide(&just_now, &POLICY, uuid(7), at(10_000)), Decision::At(at(10_100)), "120 s after it");
    }

    #[test]
    fn a_fleet_that_started_together_spreads_and_then_keeps_its_places() {
        let places = |n: u128| {
            let mut last = at(1_700_000_000);
            let mut gaps = Vec::new();
            for _ in 0..40 {
                let due = due_after(last, HOUR, POLICY.jitter, uuid(n * 104_729_000));
                gaps.push(due.as_millis() - last.as_millis());
                last = due;
            }
            (last, gaps[39])
        };
        let fleet: Vec<_> = (1..50).map(places).collect();
        assert!(fleet.iter().all(|(_, gap)| *gap == 3_600_000), "each keeps its place");
        let distinct: std::collections::BTreeSet<_> =
            fleet.iter().map(|(last, _)| last.as_millis() % 3_600_000).collect();
        assert!(distinct.len() > 45, "{} places", distinct.len());
    }

    proptest! {
        #[test]
        fn a_gap_is_never_longer_than_the_interval_nor_shorter_than_nine_tenths(
            last in 0_i64..4_000_000_000, secs in 60_u64..90_000, jitter in 0_u64..90_000, id in 1_u128..,
        ) {
            let interval = Duration::from_secs(secs);
            let due = due_after(at(last), interval, Duration::from_secs(jitter), uuid(id));
            let gap = due.as_millis() - at(last).as_millis();
            let whole = interval.as_millis() as i64;
            prop_assert!(gap <= whole && gap >= whole - whole / 10, "{gap} of {whole}");
            prop_assert_eq!(due, due_after(at(last), interval, Duration::from_secs(jitter), uuid(id)));
        }

        #[test]
        fn what_is_due_stays_due_and_waiting_until_then_makes_it_due(
            last in proptest::option::of(0_i64..4_000_000_000), failures in 0_u32..40, failed in 0_i64..4_000_000_000, now in 0_i64..4_000_000_000, id in 1_u128..,
            since in proptest::array::uniform2(proptest::option::of(0_u64..9_000)),
        ) {
            let since = |n: usize| since[n].map(Duration::from_secs);
            let known = Known {
                last_backup: last.map(at), failures, last_failure: (failures > 0).then(|| at(failed)), since_backup: since(0), since_failure: since(1), ..hourly()
            };
            match decide(&known, &POLICY, uuid(id), at(now)) {
                Decision::At(due) => {
                    prop_assert!(due > at(now));
                    let waited = Duration::from_millis((due.as_millis() - at(now).as_millis()) as u64);
                    // Nothing that is kept makes anybody wait for longer than an interval and the minute that clocks may differ by.
                    prop_assert!(waited <= HOUR + CLOCK_TOLERANCE, "{waited:?}");
                    let later = |since: Option<Duration>| since.map(|since| since + waited);
                    let known = Known { since_backup: later(since(0)), since_failure: later(since(1)), ..known };
                    prop_assert_eq!(decide(&known, &POLICY, uuid(id), due), Decision::Interval);
                }
                decision => prop_assert_eq!(decision, Decision::Interval),
            }
        }

        /// A clock that is set wrong, or right, is no reason for a backup within the time that really has to pass.
        #[test]
        fn whatever_the_clock_says_backups_keep_their_distance(
            last in 0_i64..4_000_000_000, now in 0_i64..4_000_000_000, passed in 0_u64..3_240, id in 1_u128..,
        ) {
            let known = Known { last_backup: Some(at(last)), since_backup: Some(Duration::from_secs(passed)), ..hourly() };
            prop_assert!(matches!(decide(&known, &POLICY, uuid(id), at(now)), Decision::At(due) if due.seconds - now >= 3_240 - passed as i64));
        }
    }
}
