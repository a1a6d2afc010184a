//! Clocks that are off by years, go back and jump: no storm of backups, no silence, no name twice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use backstay_protocol::spec::{BackupConfiguration, ClusterSpec};
use backstay_protocol::time::CLOCK_TOLERANCE;
use backstay_protocol::{AttemptId, ClusterUuid, MachineId, SlotId, Timestamp};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::record::Attempt;
use crate::record::stored::Stored;
use crate::schedule::{self, Decision, Policy};

const POLICY: Policy = Policy { jitter: Duration::from_secs(600), retry_pause: Duration::from_secs(30) };
/// 2023-11-14: the true time at which each story begins.
const BEGIN: i64 = 1_700_000_000;
/// The schedule is looked at again after so many seconds at the latest.
const LOOK: i64 = 60;
/// Any attempt's machine: which one is of no matter here.
const MACHINE: MachineId = MachineId(Uuid::from_u128(5));

/// A cluster's task without its IO: a store that refuses names that are taken, and a wall clock that is off.
struct World {
    record: ClusterRecord,
    rest: Rest,
    monotonic: Instant,
    /// True seconds since the beginning, and by how many the wall clock is ahead.
    passed: i64,
    ahead: i64,
    interval: i64,
    /// The names that are there, and whether somebody else took each.
    store: BTreeMap<i64, bool>,
    /// When each good backup was begun, in true seconds.
    begun: Vec<i64>,
    /// How many seconds a backup takes, and how many of the next attempts fail.
    takes: i64,
    failing: u32,
    slots: u128,
}

impl World {
    fn new(interval: i64) -> Self {
        let backup = BackupConfiguration { interval: Some(Duration::from_secs(interval as u64).into()), enabled: None };
        let spec = ClusterSpec { backupconfiguration: Some(backup), ..ClusterSpec::default() };
        let name = "one".parse().expect("a name");
        let record = ClusterRecord::new(name, ClusterUuid(Uuid::from_u128(7)), spec, Timestamp::from_seconds(BEGIN));
        Self {
            record,
            rest: Rest::default(),
            monotonic: Instant::now(),
            passed: 0,
            ahead: 0,
            interval,
            store: BTreeMap::new(),
            begun: Vec::new(),
            takes: 5,
            failing: 0,
            slots: 0,
        }
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_seconds(BEGIN.saturating_add(self.passed).saturating_add(self.ahead))
    }

    fn now(&self) -> Instant {
        self.monotonic + Duration::from_secs(self.passed as u64)
    }

    /// A coordinator that was just started asks the store.
    fn restart(&mut self) {
        self.rest = Rest::default();
        let by_now = schedule::latest_true(self.wall()).seconds;
        let newest = self.store.range(..=by_now).next_back().or(self.store.last_key_value());
        self.record.note_stored(newest.map(Self::stored), self.wall());
    }

    fn stored((name, once): (&i64, &bool)) -> Stored {
        Stored { at: Timestamp::from_seconds(*name), once: *once, etcd_cluster_id: None, revision: 1 }
    }

    fn pass(&mut self, seconds: i64) {
        let until = self.passed + seconds;
        while self.passed < until {
            if let Some(next) = self.rest.corrected(&self.record, self.wall(), self.now()) {
                self.record = next;
            }
            let known = self.rest.known(&self.record, self.now());
            match schedule::decide(&known, &POLICY, self.record.uuid, self.wall()) {
                Decision::Interval => self.back_up(),
                Decision::At(due) => {
                    let left = due.seconds.saturating_sub(self.wall().seconds).clamp(1, LOOK);
                    self.passed = (self.passed + left).min(until);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Somebody else takes a backup: `backstay-agent once`, say.
    fn somebody_else(&mut self) {
        self.store.insert(self.wall().seconds, true);
        self.begun.push(self.passed);
    }

    /// The look into the store before an automatic attempt.
    fn is_not_due(&mut self) -> bool {
        let by_now = schedule::latest_true(self.wall()).seconds;
        let newest = self.store.range(..=by_now).next_back().map(Self::stored);
        let newer = newest.filter(|newest| self.record.is_news(newest));
        if let Some(newest) = newer {
            self.record.give_slot_back(newest.at, self.wall());
            self.rest.forget_backup();
        }
        newer.is_some()
    }

    fn back_up(&mut self) {
        self.slots += 1;
        let (slot, attempt) = (SlotId(Uuid::from_u128(self.slots)), AttemptId(Uuid::from_u128(self.slots)));
        let given: BTreeSet<i64> = self.record.runs.latest_first().map(|run| run.snapshot.unix_seconds()).collect();
        self.record.open_slot(Trigger::Interval, slot, self.wall()).expect("every time here has a name");
        self.rest.open(self.now());
        if self.is_not_due() {
            return;
        }
        let name = |record: &ClusterRecord| record.slot.as_ref().expect("it is open").snapshot.unix_seconds();
        assert!(!given.contains(&name(&self.record)), "a name that is remembered is given out again");
        while self.store.contains_key(&name(&self.record)) {
            self.record.move_name_on().expect("every time here has a name");
        }
        self.record.begin_attempt(Attempt { id: attempt, machine: MACHINE, started: self.wall() });
        let (begun, name) = (self.passed, name(&self.record));
        self.passed += self.takes;
        let end = match self.failing {
            0 => {
                assert!(self.store.insert(name, false).is_none(), "two backups have one name");
                self.begun.push(begun);
                SlotEnd::Done { completed: self.wall(), proven: None }
            }
            _ => SlotEnd::Failed { error: "no".into() },
        };
        self.failing = self.failing.saturating_sub(1);
        self.rest.end(Trigger::Interval, &end, self.now());
        assert!(self.record.end_slot(slot, end, self.wall()));
    }
}

#[derive(Debug, Clone)]
enum Event {
    /// Seconds pass.
    Pass(i64),
    /// The wall clock is set so many seconds ahead of the true time, or behind it.
    Set(i64),
    /// The next attempts fail.
    Fail(u32),
    /// Backups take this long from now on.
    Take(i64),
    Restart,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    const YEAR: i64 = 365 * 86_400;
    let off = prop_oneof![-90_i64..90, -7_200_i64..7_200, -3 * 86_400..3 * 86_400_i64, -20 * YEAR..20 * YEAR, Just(0),];
    let event = prop_oneof![
        4 => (1_i64..20_000).prop_map(Event::Pass),
        4 => off.prop_map(Event::Set),
        1 => (1_u32..6).prop_map(Event::Fail),
        1 => (1_i64..300).prop_map(Event::Take),
        1 => Just(Event::Restart),
    ];
    prop::collection::vec(event, 1..40)
}

proptest! {
    #[test]
    fn no_storm_no_silence_no_name_twice(events in events(), interval in prop::sample::select(vec![600_i64, 3_600, 21_600])) {
        let mut world = World::new(interval);
        let mut restarts = 0;
        for event in events {
            match event {
                Event::Pass(seconds) => world.pass(seconds),
                Event::Set(ahead) => world.ahead = ahead,
                Event::Fail(times) => world.failing = times,
                Event::Take(seconds) => world.takes = seconds,
                Event::Restart => { restarts += 1; world.restart(); }
            }
        }
        // While a clock jumps, true time alone decides; a coordinator that was just started knows less.
        let shortest = world.interval - world.interval / 10;
        let close = world.begun.windows(2).filter(|pair| pair[1] - pair[0] < shortest).count();
        prop_assert!(close <= restarts, "{close} backups too close, {restarts} restarts: {:?}", world.begun);
        // The clock is right, and nothing fails any more.
        (world.ahead, world.failing) = (0, 0);
        let right = world.passed;
        world.pass(world.interval + LOOK + CLOCK_TOLERANCE.as_secs() as i64);
        let since: Vec<i64> = world.begun.iter().copied().filter(|at| *at >= right).collect();
        prop_assert!(!since.is_empty() && since.len() <= 2, "silence or a storm: {since:?} of {:?}", world.begun);
        // From then on the record says the truth.
        let (last, begun) = (world.record.last_backup.expect("there is one"), since.last().expect("not empty"));
        prop_assert!((last.seconds - BEGIN - begun).abs() <= world.takes + 60, "{last:?} for {begun}");
        let shown = world.record.status.clone().expect("a status").spec.lastbackuptime.expect("a time");
        prop_assert!(shown <= world.wall());
    }
}

#[test]
fn somebody_else_s_backup_counts_from_its_own_time_on() {
    let mut world = World::new(3_600);
    world.pass(3_000);
    world.somebody_else();
    world.pass(3_000);
    assert_eq!(world.begun, [0, 3_000], "the slot of the first hour is given back, and not opened again at once");
    world.pass(1_200);
    assert_eq!(world.begun.len(), 3, "{:?}", world.begun);
    assert!((6_240..=6_600 + LOOK).contains(&world.begun[2]), "{:?}", world.begun);
}

/// The names that a wrong clock gave are true times one day, and by then the record has forgotten them: no restart and no
/// look into the store takes them for backups of that day.
#[test]
fn names_that_a_wrong_clock_gave_are_no_backups_when_their_time_has_come() {
    for restarts in [false, true] {
        let mut world = World::new(3_600);
        world.ahead = 4 * 86_400;
        world.pass(2 * 86_400);
        world.ahead = 0;
        for _ in 0..60 {
            world.pass(2 * 3_600);
            if restarts {
                world.restart();
            }
        }
        let gaps: Vec<i64> = world.begun.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let most = 3_600 + LOOK + CLOCK_TOLERANCE.as_secs() as i64;
        assert!(gaps.iter().all(|gap| *gap <= most), "silence: {gaps:?}");
        assert!(world.begun.len() < 200, "a storm: {:?}", world.begun);
    }
}

#[test]
fn a_clock_that_is_set_right_while_nothing_runs_is_made_good_at_once() {
    let mut world = World::new(86_400);
    world.ahead = 3 * 86_400;
    world.pass(600);
    world.ahead = 0;
    world.pass(60);
    assert_eq!(world.begun, [0], "no backup is needed for it");
    let taken = Some(Timestamp::from_seconds(BEGIN));
    let shown = world.record.status.clone().expect("a status").spec.lastbackuptime.expect("a time");
    assert_eq!(world.record.last_backup, taken);
    assert!(shown <= world.wall() && shown.seconds >= BEGIN, "{shown:?}");
}

/// The clock ran a day ahead and was set right, as it was met.
#[test]
fn a_clock_that_was_a_day_ahead_costs_one_backup_and_no_more() {
    let mut world = World::new(3_600);
    world.pass(2 * 3_600);
    let before = world.begun.len();
    world.ahead = 86_400;
    world.pass(3 * 3_600);
    world.ahead = 0;
    let (right, during) = (world.passed, world.begun.len());
    assert!(during - before <= 4, "{:?}", world.begun);
    world.pass(3 * 3_600);
    let after: Vec<i64> = world.begun[during..].iter().map(|at| at - right).collect();
    assert!(after[0] <= 3_600 && after.len() <= 4, "{after:?}");
    let shown = |world: &World| world.record.status.clone().expect("a status").spec.lastbackuptime;
    assert!(shown(&world) <= Some(world.wall()));
    let names: Vec<i64> =
        world.record.runs.latest_first().take(after.len()).map(|run| run.snapshot.unix_seconds()).collect();
    assert!(names.iter().all(|name| *name <= world.wall().seconds), "named for tomorrow: {names:?}");
}
