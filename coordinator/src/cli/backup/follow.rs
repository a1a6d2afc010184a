//! Which attempt is the one that was asked for, and whether it has ended. Pure.
//!
//! A manual backup is a time, an attempt is a run, and nothing names the one in the other. What tells is the
//! order: a run by hand that was not there before the request began after it, and so has all that the cluster
//! held at that moment. Only the coordinator's own clock is compared with itself.

use std::collections::HashSet;

use backstay_protocol::Timestamp;
use backstay_protocol::own::{BackupRunSpec, RunState};
use backstay_protocol::spec::{BackupState, BackupStatusSpec};

/// What a look shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Not begun yet, or between two members.
    Pending,
    Running(BackupRunSpec),
    /// It is in the store. `None` where the run itself is not known (any more).
    Done(Option<BackupRunSpec>),
    Failed(String),
}

/// What was there before the request, and what the last look showed.
#[derive(Debug, Clone, Default)]
pub struct Follow {
    /// Snapshot and start of the runs that were there: these are others' backups.
    before: HashSet<(String, Option<Timestamp>)>,
    attempt: Option<Timestamp>,
    asked_at: Timestamp,
    /// The status of the last look, where that had ended without a run of ours.
    settled: Option<BackupStatusSpec>,
}

/// The coordinator's clock and ours may differ by what it allows a manual backup.
const CLOCKS_DIFFER_SECONDS: i64 = 60;

impl Follow {
    /// From what is there before the request is made.
    pub fn new(status: Option<&BackupStatusSpec>, runs: &[BackupRunSpec]) -> Self {
        Self {
            before: runs.iter().map(|run| (run.snapshot.clone(), run.started)).collect(),
            attempt: status.and_then(|s| s.lastbackupattempt),
            ..Self::default()
        }
    }

    pub fn asked_at(self, at: Timestamp) -> Self {
        Self { asked_at: at, ..self }
    }

    /// What the status and the latest runs say of the backup that was asked for.
    pub fn look(&mut self, status: Option<&BackupStatusSpec>, runs: &[BackupRunSpec]) -> Seen {
        let new = |run: &&BackupRunSpec| !self.before.contains(&(run.snapshot.clone(), run.started));
        let mut mine: Vec<_> = runs.iter().filter(|run| run.trigger == "manual").filter(new).collect();
        mine.sort_by_key(|run| run.started);
        if let Some(done) = mine.iter().find(|run| run.state == RunState::Ok) {
            return Seen::Done(Some((*done).clone()));
        }
        if let Some(running) = mine.iter().find(|run| run.state == RunState::Running) {
            return Seen::Running((*running).clone());
        }
        match (mine.last(), status) {
            (_, None) => Seen::Pending,
            (None, Some(status)) => self.without_a_run(status),
            (Some(run), Some(status)) => after_a_failure(run, status),
        }
    }

    /// A backup that could not even be begun leaves its mark in the status alone; but so does another's that was
    /// under way before it. That one's end is followed at once by the beginning of ours: what does not change from
    /// one look to the next is the end of ours.
    fn without_a_run(&mut self, status: &BackupStatusSpec) -> Seen {
        let ended = matches!(status.status, BackupState::Ok | BackupState::Error);
        if !ended || status.lastbackupattempt <= self.attempt {
            self.settled = None;
            return Seen::Pending;
        }
        if self.settled.as_ref() != Some(status) {
            self.settled = Some(status.clone());
            return Seen::Pending;
        }
        match status.status {
            BackupState::Error => Seen::Failed(status.error.clone()),
            _ => {
                let newest = status.lastbackuptime.map_or(i64::MIN, |at| at.seconds);
                // After a loss the status may come from backups that are older than the request.
                let ours = newest >= self.asked_at.seconds.saturating_sub(CLOCKS_DIFFER_SECONDS);
                if ours { Seen::Done(None) } else { Seen::Pending }
            }
        }
    }
}

/// The attempt came to nothing. While the status runs on, another member is asked; unless what runs began later.
fn after_a_failure(run: &BackupRunSpec, status: &BackupStatusSpec) -> Seen {
    match status.status {
        BackupState::Running if status.lastbackupattempt <= run.ended => Seen::Pending,
        BackupState::Error if !status.error.is_empty() => Seen::Failed(status.error.clone()),
        _ => Seen::Failed(run.error.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp::from_seconds(seconds))
    }

    fn status(state: BackupState, attempt: i64, error: &str) -> BackupStatusSpec {
        BackupStatusSpec {
            status: state,
            error: error.into(),
            lastbackuptime: (state == BackupState::Ok).then(|| Timestamp::from_seconds(attempt)),
            lastbackupattempt: at(attempt),
        }
    }

    fn run(trigger: &str, started: i64, state: RunState) -> BackupRunSpec {
        BackupRunSpec {
            trigger: trigger.into(),
            state,
            snapshot: format!("{started}.snapshot"),
            started: at(started),
            ended: (state != RunState::Running).then(|| Timestamp::from_seconds(started + 5)),
            error: if state == RunState::Failed { format!("failed at {started}") } else { String::new() },
            ..BackupRunSpec::default()
        }
    }

    use BackupState::{Error, Ok as Good, Running};

    fn asked() -> Follow {
        let before = [run("manual", 10, RunState::Ok), run("interval", 90, RunState::Running)];
        Follow::new(Some(&status(Running, 90, "")), &before).asked_at(Timestamp::from_seconds(100))
    }

    #[test]
    fn what_was_there_before_is_not_ours() {
        let mut follow = asked();
        let others = [run("manual", 10, RunState::Ok), run("interval", 90, RunState::Ok)];
        assert_eq!(follow.look(Some(&status(Running, 90, "")), &others), Seen::Pending);
        assert_eq!(follow.look(Some(&status(Good, 99, "")), &others), Seen::Pending);
        let ours = run("manual", 101, RunState::Running);
        let all = [others[0].clone(), others[1].clone(), ours.clone()];
        assert_eq!(follow.look(Some(&status(Running, 101, "")), &all), Seen::Running(ours));
        let ours = run("manual", 101, RunState::Ok);
        assert_eq!(follow.look(Some(&status(Running, 110, "")), std::slice::from_ref(&ours)), Seen::Done(Some(ours)));
    }

    #[test]
    fn a_failed_attempt_is_the_end_only_when_the_backup_is() {
        let mut follow = asked();
        let runs = [run("manual", 101, RunState::Failed)];
        assert_eq!(follow.look(Some(&status(Running, 100, "failed at 101")), &runs), Seen::Pending);
        let second = [runs[0].clone(), run("manual", 107, RunState::Failed)];
        let ended = status(Error, 113, "nobody could");
        assert_eq!(follow.look(Some(&ended), &second), Seen::Failed("nobody could".into()));
        // The next backup has begun meanwhile.
        assert_eq!(follow.look(Some(&status(Running, 120, "")), &second), Seen::Failed("failed at 107".into()));
    }

    #[test]
    fn an_end_without_a_run_counts_when_it_stays() {
        let mut follow = asked();
        let failed = status(Error, 101, "the store is away");
        assert_eq!(follow.look(Some(&failed), &[]), Seen::Pending);
        assert_eq!(follow.look(Some(&status(Running, 102, "")), &[]), Seen::Pending);
        assert_eq!(follow.look(Some(&failed), &[]), Seen::Pending);
        assert_eq!(follow.look(Some(&failed), &[]), Seen::Failed("the store is away".into()));
    }

    #[test]
    fn a_status_from_before_the_request_is_no_end() {
        let mut follow = Follow::new(Some(&status(Error, 50, "old")), &[]).asked_at(Timestamp::from_seconds(500));
        for old in [status(Error, 50, "old"), status(Good, 60, "")] {
            for _ in 0..3 {
                assert_eq!(follow.look(Some(&old), &[]), Seen::Pending);
            }
        }
        assert_eq!(follow.look(None, &[]), Seen::Pending);
    }

    proptest! {
        #[test]
        fn a_backup_by_the_clock_never_ends_one_by_hand(
            looks in prop::collection::vec((0_i64..50, 0_usize..3), 0..20),
        ) {
            let mut follow = asked();
            for (started, state) in looks {
                let state = [RunState::Running, RunState::Ok, RunState::Failed][state];
                let seen = follow.look(Some(&status(Running, 101, "")), &[run("interval", 100 + started, state)]);
                prop_assert_eq!(seen, Seen::Pending);
            }
        }
    }
}
