//! However often the process dies, and whatever arrives late or twice, a machine ends with one of the two folders.

use super::*;
use proptest::prelude::*;
use uuid::Uuid;

/// What is on the disk, by whose data it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Data {
    Old,
    New,
}

/// A machine: its disk survives, its hands do not.
#[derive(Debug, Clone)]
struct Machine {
    journal: Journal,
    hands: Hands,
    live: Option<Data>,
    fresh: Option<Data>,
    aside: Option<Data>,
    root: bool,
    rest: bool,
    runs: bool,
}

impl Machine {
    fn new(had_data: bool) -> Self {
        let folders = Folders::beside(Path::new("/data"), RestoreId(Uuid::from_u128(1)), ".old");
        let live = had_data.then_some(Data::Old);
        let journal = Journal::new(RestoreId(Uuid::from_u128(1)), folders, had_data);
        Self {
            journal,
            hands: Hands::default(),
            live,
            fresh: None,
            aside: None,
            root: false,
            rest: false,
            runs: had_data,
        }
    }

    fn seen(&self) -> ExistingFolders {
        let fresh = self.fresh.is_some();
        ExistingFolders {
            live: self.live.is_some(),
            fresh,
            aside: self.aside.is_some(),
            root: self.root,
            rest: self.rest,
        }
    }

    /// One action; `noted` is false where the process dies before the journal says that it was done.
    fn act(&mut self, noted: bool) {
        let action = self.journal.next(self.seen(), self.hands);
        match action {
            Action::Build => (self.fresh, self.root) = (Some(Data::New), true),
            Action::Stop => (self.runs, self.hands.stopped) = (false, true),
            Action::Start => {
                assert!(self.live.is_some(), "etcd would make an empty folder");
                (self.runs, self.hands.started) = (true, true);
            }
            Action::SetAside => (self.aside, self.live) = (self.moved(self.live, self.aside), None),
            Action::Place => (self.live, self.fresh) = (self.moved(self.fresh, self.live), None),
            Action::Unplace => (self.fresh, self.live) = (self.moved(self.live, self.fresh), None),
            Action::Return => (self.live, self.aside) = (self.moved(self.aside, self.live), None),
            Action::Discard => {
                assert_ne!(self.fresh, Some(Data::Old), "old data is never removed");
                // Where it dies it has removed a part.
                (self.fresh, self.root, self.rest) = (None, false, !noted);
            }
            Action::MoveStranger | Action::Confused(_) => panic!("{action:?} in {self:?}"),
            Action::Watch | Action::Rest | Action::Note(_) => {}
        }
        if noted {
            if let Some(step) = self.journal.after(action) {
                self.journal.step = step;
            }
        } else {
            self.hands = Hands::default();
        }
    }

    fn moved(&self, from: Option<Data>, to: Option<Data>) -> Option<Data> {
        assert!(!self.runs && self.hands.stopped, "etcd runs: {self:?}");
        assert_eq!(to, None, "nothing is overwritten: {self:?}");
        from
    }

    fn settle(&mut self) {
        for _ in 0..20 {
            self.act(true);
        }
    }
}

fn goals() -> impl Strategy<Value = Goal> {
    prop::sample::select(vec![Goal::Prepare, Goal::Switch, Goal::PutBack, Goal::Keep])
}

proptest! {
    #[test]
    fn a_machine_ends_with_one_of_the_two_folders(
        had_data in any::<bool>(),
        steps in prop::collection::vec((prop::option::weighted(0.3, goals()), any::<bool>()), 0..60),
        last in prop::sample::select(vec![Goal::PutBack, Goal::Keep]),
    ) {
        let mut machine = Machine::new(had_data);
        for (goal, noted) in steps {
            if let Some(goal) = goal {
                let before = machine.journal.clone();
                if machine.journal.take(goal).is_err() { prop_assert_eq!(&machine.journal, &before); }
                if machine.journal != before { machine.hands = Hands::default(); }
            }
            machine.act(noted);
        }
        machine.settle();
        let before = machine.journal.goal;
        if machine.journal.take(last).is_err() { let _ = machine.journal.take(Goal::PutBack); }
        if machine.journal.goal != before { machine.hands = Hands::default(); }
        machine.settle();
        let old = had_data.then_some(Data::Old);
        prop_assert!(machine.journal.has_ended(), "{:?}", machine);
        match machine.journal.step {
            JournalStep::Kept => prop_assert_eq!((machine.live, machine.aside, machine.runs), (Some(Data::New), old, true)),
            _ => prop_assert_eq!((machine.live, machine.aside, machine.runs), (old, None, had_data)),
        }
        prop_assert_eq!((machine.fresh, machine.root, machine.rest), (None, false, false));
    }

    #[test]
    fn whatever_folders_are_there_the_next_action_is_a_decision(
        (live, fresh, aside, root) in any::<(bool, bool, bool, bool)>(), had_data in any::<bool>(), touched in any::<bool>(),
        stopped in any::<bool>(), step in 0_usize..9,
    ) {
        let steps = [JournalStep::Preparing, JournalStep::Ready, JournalStep::Stopping, JournalStep::Moving, JournalStep::Starting, JournalStep::Switched, JournalStep::Returning, JournalStep::Returned, JournalStep::Kept];
        let journal = Journal { step: steps[step], touched, ..Machine::new(had_data).journal };
        let seen = ExistingFolders { live, fresh, aside, root: root || fresh, rest: false };
        let action = journal.next(seen, Hands { stopped, started: false });
        // What is moved is there, and nothing is in its way.
        match action {
            Action::SetAside => prop_assert!(live && !aside),
            Action::Place => prop_assert!(fresh && !live),
            Action::Unplace => prop_assert!(live && !fresh && root),
            Action::Return => prop_assert!(aside && !live),
            Action::MoveStranger => prop_assert!(live && aside),
            _ => {}
        }
        if !touched && journal.step == JournalStep::Returning {
            prop_assert!(matches!(action, Action::Discard | Action::Note(JournalStep::Returned)), "{:?} before the switch", action);
        }
    }
}

#[test]
fn what_was_put_back_stays_back_and_what_was_kept_stays() {
    let mut machine = Machine::new(true);
    machine.settle();
    assert_eq!(machine.journal.take(Goal::Keep), Err(GoalError::NotSwitched));
    assert_eq!(machine.journal.take(Goal::PutBack), Ok(true));
    assert_eq!(machine.journal.take(Goal::Switch), Err(GoalError::PutBack));
    assert_eq!(machine.journal.take(Goal::Prepare), Ok(false), "a repetition that comes late");
    let mut machine = Machine::new(true);
    machine.settle();
    assert_eq!(machine.journal.take(Goal::Switch), Ok(true));
    machine.settle();
    assert_eq!(machine.journal.take(Goal::Keep), Ok(true));
    assert_eq!(machine.journal.take(Goal::PutBack), Err(GoalError::Kept));
}

#[test]
fn what_appears_where_there_was_no_data_is_left_alone_with_the_etcd_that_runs_on_it() {
    let mut machine = Machine::new(false);
    machine.settle();
    (machine.live, machine.runs) = (Some(Data::Old), true);
    assert_eq!(machine.journal.take(Goal::Switch), Ok(true));
    let confused = machine.journal.next(machine.seen(), machine.hands);
    assert!(matches!(confused, Action::Confused(_)), "{confused:?}");
    assert_eq!(machine.journal.take(Goal::PutBack), Ok(true));
    // It dies while it removes what was prepared.
    for noted in [false, true, true] {
        machine.act(noted);
    }
    assert_eq!(machine.journal.step, JournalStep::Returned);
    assert_eq!((machine.live, machine.runs, machine.fresh), (Some(Data::Old), true, None));
}

#[test]
fn the_journal_reads_what_it_wrote_and_refuses_what_it_does_not_know() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("restore");
    assert_eq!(Journal::load(&path).expect("none"), None);
    let journal = Machine::new(true).journal;
    journal.save(&path).expect("writable");
    assert_eq!(Journal::load(&path).expect("readable"), Some(journal.clone()));
    Journal { version: 9, ..journal }.save(&path).expect("writable");
    assert!(Journal::load(&path).is_err_and(|e| e.to_string().contains("version 9")));
    let damaged = Journal { version: 1, digest: "abc".into(), ..Machine::new(true).journal };
    damaged.save(&path).expect("writable");
    assert!(Journal::load(&path).is_err_and(|e| e.to_string().contains("its digest is damaged")));
    std::fs::write(&path, "{").expect("writable");
    assert!(Journal::load(&path).is_err());
}
