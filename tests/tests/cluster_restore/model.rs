//! The coordinator's record and the agents' journals against each other, without a disk or a bus: every interleaving
//! of commands, answers, deaths, repetitions and failures ends with the new data on all machines or the old on all.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use backstay_agent::restore::folders::Folders;
use backstay_agent::restore::journal::{Action, ExistingFolders, Goal, Hands, Journal};
use backstay_coordinator::restore::model::{Heard, Limits, Machine, Restore, Round, Source};
use backstay_protocol::backstay_types::RestorePhase;
use backstay_protocol::bus::{ListedMember, MemberCheck, RestoreGoal, RestoreState, RestoreStep};
use backstay_protocol::{ClusterUuid, MachineId, RestoreId, SnapshotName, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use uuid::Uuid;

const MACHINES: u128 = 3;
const NEW_CLUSTER: u64 = 42;
const LIMITS: Limits =
    Limits { prepare: Duration::from_secs(100), switch: Duration::from_secs(50), silence: Duration::from_secs(20) };

fn id() -> RestoreId {
    RestoreId(Uuid::from_u128(1))
}

fn machine(n: u128) -> MachineId {
    MachineId(Uuid::from_u128(100 + n))
}

fn url(n: u128) -> Vec<String> {
    vec![format!("http://h{n}:1")]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Data {
    Old,
    New,
}

/// What can be wrong with a machine for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    CannotPrepare,
    NewDoesNotStart,
    /// It says that it started, and does not serve.
    NewDoesNotServe,
    CannotStop,
}

/// A machine: journal and disk survive its agent, hands and error do not.
#[derive(Debug, Clone)]
struct Host {
    flaw: Flaw,
    journal: Option<Journal>,
    live: Option<Data>,
    fresh: Option<Data>,
    /// What is prepared in.
    root: bool,
    aside: Option<Data>,
    runs: bool,
    hands: Hands,
    error: String,
}

impl Host {
    fn new(flaw: Flaw) -> Self {
        let (live, hands) = (Some(Data::Old), Hands::default());
        Self {
            flaw,
            journal: None,
            live,
            fresh: None,
            root: false,
            aside: None,
            runs: true,
            hands,
            error: String::new(),
        }
    }

    /// What the service does with a command.
    fn hear(&mut self, goal: RestoreGoal) -> Option<Heard> {
        let goal = Goal::from_wire(goal)?;
        match (&mut self.journal, goal) {
            (None, Goal::Prepare) => {
                self.journal = Some(Journal::new(id(), Folders::beside(Path::new("/d"), id(), ".old"), true));
            }
            (None, Goal::PutBack) => {
                let state = RestoreState {
                    restore: id().to_string(),
                    step: RestoreStep::Returned.into(),
                    ..RestoreState::default()
                };
                return Some(Heard::State(Box::new(state)));
            }
            (None, _) => return Some(Heard::Refused("never prepared".into())),
            (Some(journal), goal) => match journal.take(goal) {
                Ok(true) => (self.hands, self.error) = (Hands::default(), String::new()),
                Ok(false) => {}
                Err(error) => return Some(Heard::Refused(error.to_string())),
            },
        }
        Some(Heard::State(Box::new(self.state())))
    }

    fn state(&self) -> RestoreState {
        let journal = self.journal.as_ref().expect("there is one");
        let serves = self.runs && self.live == Some(Data::New) && self.flaw != Flaw::NewDoesNotServe;
        let members =
            (0..MACHINES).map(|n| ListedMember { name: format!("m{n}"), peer_urls: url(n), ..ListedMember::default() });
        let check = MemberCheck {
            healthy: serves,
            cluster_id: NEW_CLUSTER,
            members: members.collect(),
            revision: 9,
            hash_revision: 9,
            ..MemberCheck::default()
        };
        RestoreState {
            restore: id().to_string(),
            step: journal.step.to_wire().into(),
            error: self.error.clone(),
            digest: if journal.digest.is_empty() { Vec::new().into() } else { vec![7; 32].into() },
            check: Some(check),
            new_cluster_id: journal.new_cluster_id,
            ..RestoreState::default()
        }
    }

    /// One action of the service's task; `noted` is false where the agent dies before the journal has it.
    fn act(&mut self, noted: bool) {
        let Some(journal) = &self.journal else { return };
        if !self.error.is_empty() && journal.goal != Goal::PutBack {
            return;
        }
        let (fresh, aside) = (self.fresh.is_some(), self.aside.is_some());
        let seen = ExistingFolders { live: self.live.is_some(), fresh, aside, root: self.root, rest: false };
        let action = journal.next(seen, self.hands);
        let forward = journal.goal != Goal::PutBack;
        match (action, self.flaw) {
            (Action::Build, Flaw::CannotPrepare) => return self.error = "cannot prepare".into(),
            (Action::Start, Flaw::NewDoesNotStart) if forward => return self.error = "does not start".into(),
            (Action::Stop, Flaw::CannotStop) if forward => return self.error = "does not stop".into(),
            (Action::Build, _) => (self.fresh, self.root) = (Some(Data::New), true),
            (Action::Stop, _) => (self.runs, self.hands.stopped) = (false, true),
            (Action::Start, _) => (self.runs, self.hands.started) = (true, true),
            (Action::SetAside, _) => (self.aside, self.live) = (self.moved(self.live), None),
            (Action::Place, _) => (self.live, self.fresh) = (self.moved(self.fresh), None),
            (Action::Unplace, _) => (self.fresh, self.live) = (self.moved(self.live), None),
            (Action::Return, _) => (self.live, self.aside) = (self.moved(self.aside), None),
            (Action::Discard, _) => (self.fresh, self.root) = (None, false),
            (Action::MoveStranger | Action::Confused(_), _) => panic!("{action:?} in {self:?}"),
            (Action::Watch | Action::Rest | Action::Note(_), _) => {}
        }
        let journal = self.journal.as_mut().expect("there is one");
        if !noted {
            (self.hands, self.error) = (Hands::default(), String::new());
        } else if let Some(step) = journal.after(action) {
            if action == Action::Build {
                (journal.digest, journal.new_cluster_id) = ("ab".into(), NEW_CLUSTER);
            }
            journal.step = step;
        }
    }

    fn moved(&self, data: Option<Data>) -> Option<Data> {
        assert!(!self.runs, "etcd runs while its folder is moved: {self:?}");
        data
    }
}

fn restore() -> Restore {
    let now = Timestamp::from_seconds(1_000);
    let part = |n: u128| Machine {
        member: format!("m{n}"),
        peer_urls: url(n),
        control: "systemd".into(),
        folder: "/d".into(),
        ..Machine::default()
    };
    Restore {
        id: id(),
        version: 1,
        updated: now,
        source: Source {
            cluster: "one".parse().expect("a name"),
            uuid: ClusterUuid(Uuid::from_u128(5)),
            snapshot: SnapshotName::from_unix_seconds(900).expect("in range"),
            taken: now,
            revision: 3,
            bytes: 1,
            sealed_bytes: 1,
            sha256: "ab".into(),
            encrypted: false,
            proof: String::new(),
            etcd_version: String::new(),
            storage_version: String::new(),
            etcd_cluster_id: String::new(),
        },
        phase: RestorePhase::Waiting,
        phase_since: now,
        started: now,
        ended: None,
        error: String::new(),
        bump: 1,
        aside_suffix: ".old".into(),
        by_template: false,
        machines: (0..MACHINES).map(|n| (machine(n), part(n))).collect(),
    }
}

/// What happens next.
#[derive(Debug, Clone)]
enum Event {
    /// The coordinator tells a machine; its answer is on the way.
    Tell(usize),
    /// An earlier command comes once more.
    Again(usize),
    /// An answer arrives (and stays: it may come again).
    Hear(usize),
    /// All answers that are on the way arrive as one round.
    Round,
    Act(usize, bool),
    AgentDies(usize),
    /// What was on the way to it is lost; its record is not.
    CoordinatorDies,
    Wait(u64),
    Silence(usize),
}

/// With `delays` time passes as well, and machines are silent.
fn events(delays: bool) -> impl Strategy<Value = Vec<Event>> {
    let delay = u32::from(delays);
    let host = 0..MACHINES as usize;
    let event = prop_oneof![
        6 => host.clone().prop_map(Event::Tell),
        1 => (0..40_usize).prop_map(Event::Again),
        3 => (0..40_usize).prop_map(Event::Hear),
        4 => Just(Event::Round),
        8 => (host.clone(), prop::bool::weighted(0.8)).prop_map(|(n, noted)| Event::Act(n, noted)),
        1 => host.clone().prop_map(Event::AgentDies),
        1 => Just(Event::CoordinatorDies),
        delay => (0_u64..8).prop_map(Event::Wait),
        delay => host.prop_map(Event::Silence),
    ];
    prop::collection::vec(event, 0..200)
}

struct World {
    restore: Restore,
    hosts: Vec<Host>,
    sent: Vec<(usize, RestoreGoal)>,
    answers: Vec<(usize, Heard)>,
    now: i64,
}

impl World {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(self.now)
    }

    fn tell(&mut self, n: usize) {
        let Some(goal) = self.restore.goal() else { return };
        self.sent.push((n, goal));
        if let Some(heard) = self.hosts[n].hear(goal) {
            self.answers.push((n, heard));
        }
    }

    fn fold(&mut self, round: &Round) {
        let (before, now) = (self.restore.phase, self.now());
        self.restore.fold(round, LIMITS, now);
        let order = |phase| match phase {
            RestorePhase::Waiting => 0,
            RestorePhase::Preparing => 1,
            RestorePhase::Switching => 2,
            RestorePhase::Keeping | RestorePhase::PuttingBack => 3,
            RestorePhase::Restored | RestorePhase::Failed => 4,
        };
        assert!(order(self.restore.phase) >= order(before), "{before:?} to {:?}", self.restore.phase);
    }

    fn take(&mut self, event: &Event) {
        match event {
            Event::Tell(n) => self.tell(*n),
            Event::Again(at) => {
                // Whoever never heard of it is told by this coordinator's own words, which come in their order.
                let again = self.sent.get(*at % self.sent.len().max(1)).copied();
                if let Some((n, goal)) = again.filter(|(n, _)| self.hosts[*n].journal.is_some()) {
                    let _ = self.hosts[n].hear(goal);
                }
            }
            Event::Hear(at) => {
                if let Some((n, heard)) = self.answers.get(*at % self.answers.len().max(1)).cloned() {
                    self.fold(&BTreeMap::from([(machine(n as u128), heard)]));
                }
            }
            Event::Round => {
                let round = self.answers.iter().map(|(n, heard)| (machine(*n as u128), heard.clone())).collect();
                self.fold(&round);
            }
            Event::Act(n, noted) => self.hosts[*n].act(*noted),
            Event::AgentDies(n) => (self.hosts[*n].hands, self.hosts[*n].error) = (Hands::default(), String::new()),
            Event::CoordinatorDies => {
                self.answers.clear();
                let json = serde_json::to_vec(&self.restore).expect("plain data");
                self.restore = serde_json::from_slice(&json).expect("its own words");
            }
            Event::Wait(seconds) => self.now += *seconds as i64,
            Event::Silence(n) => {
                let silent = Heard::Silent(Duration::from_secs(30), "nothing".into());
                self.fold(&BTreeMap::from([(machine(*n as u128), silent)]));
            }
        }
        self.restore.begin(self.now());
    }

    /// From here on everybody lives and nothing is lost.
    fn settle(&mut self) {
        for _ in 0..400 {
            let ended = |host: &Host| host.journal.as_ref().is_none_or(|journal| journal.has_ended() && !host.root);
            if self.restore.has_ended() && self.hosts.iter().all(ended) {
                return;
            }
            self.answers.clear();
            (0..self.hosts.len()).for_each(|n| self.tell(n));
            self.take(&Event::Round);
            self.hosts.iter_mut().for_each(|host| host.act(true));
            self.now += 1;
        }
    }
}

fn flaws() -> impl Strategy<Value = Vec<Flaw>> {
    let flaw = prop_oneof![
        9 => Just(Flaw::None),
        1 => Just(Flaw::CannotPrepare),
        1 => Just(Flaw::NewDoesNotStart),
        1 => Just(Flaw::NewDoesNotServe),
        1 => Just(Flaw::CannotStop),
    ];
    prop::collection::vec(flaw, MACHINES as usize)
}

/// How many cases there are, and of these how many at the least reach each of the two ends.
const CASES: u32 = 1_000;
const EACH_END_MIN: u32 = 100;

/// Whether a restore may fail: something is wrong with a machine for good, or time passes, or a machine is silent.
fn may_fail(events: &[Event], flaws: &[Flaw]) -> bool {
    let takes_time = |event: &Event| matches!(event, Event::Wait(_) | Event::Silence(_));
    flaws.iter().any(|flaw| *flaw != Flaw::None) || events.iter().any(takes_time)
}

/// Plays one case to its end, which is the answer.
fn play(events: &[Event], flaws: &[Flaw]) -> Result<RestorePhase, TestCaseError> {
    let hosts: Vec<Host> = flaws.iter().map(|flaw| Host::new(*flaw)).collect();
    let mut world = World { restore: restore(), hosts, sent: Vec::new(), answers: Vec::new(), now: 1_000 };
    world.restore.begin(world.now());
    for event in events {
        world.take(event);
        // Until all were ready no machine has stopped its etcd.
        if matches!(world.restore.phase, RestorePhase::Waiting | RestorePhase::Preparing) {
            prop_assert!(world.hosts.iter().all(|host| host.runs && host.live == Some(Data::Old)));
        }
    }
    world.settle();
    prop_assert!(world.restore.has_ended(), "{:?} {:?}", world.restore, world.hosts);
    let restored = world.restore.phase == RestorePhase::Restored;
    let expected = if restored { (Some(Data::New), Some(Data::Old)) } else { (Some(Data::Old), None) };
    for host in &world.hosts {
        prop_assert_eq!((host.live, host.aside), expected, "{:?}", host);
        prop_assert!(host.runs && host.fresh.is_none() && !host.root, "{:?}", host);
    }
    if flaws.iter().any(|flaw| *flaw != Flaw::None) {
        prop_assert!(!restored);
    }
    if restored {
        prop_assert_eq!(world.restore.new_cluster_id(), Some(NEW_CLUSTER));
    } else {
        prop_assert!(!world.restore.error.is_empty());
        prop_assert!(may_fail(events, flaws), "nothing was in the way: {}", world.restore.error);
    }
    Ok(world.restore.phase)
}

#[test]
fn it_ends_restored_on_all_machines_or_as_before_on_all() {
    let mut runner = TestRunner::new(ProptestConfig { cases: CASES, ..ProptestConfig::with_source_file(file!()) });
    // Each kind of trouble in half of the cases: with all of it in each, hardly one would be restored.
    let sound = Just(vec![Flaw::None; MACHINES as usize]);
    let cases = (prop_oneof![events(false), events(true)], prop_oneof![sound, flaws()]);
    let (restored, failed) = (Cell::new(0), Cell::new(0));
    let played = runner.run(&cases, |(events, flaws)| {
        let ended = if play(&events, &flaws)? == RestorePhase::Restored { &restored } else { &failed };
        ended.set(ended.get() + 1);
        Ok(())
    });
    played.unwrap_or_else(|error| panic!("{error}\n{runner}"));
    let (restored, failed) = (restored.get(), failed.get());
    assert!(restored >= EACH_END_MIN && failed >= EACH_END_MIN, "{restored} were restored, {failed} failed");
}

#[test]
fn undisturbed_it_is_restored() {
    let hosts = (0..MACHINES).map(|_| Host::new(Flaw::None)).collect();
    let mut world = World { restore: restore(), hosts, sent: Vec::new(), answers: Vec::new(), now: 1_000 };
    world.restore.begin(world.now());
    world.settle();
    assert_eq!(world.restore.phase, RestorePhase::Restored, "{}", world.restore.error);
}
