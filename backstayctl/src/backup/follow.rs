//! Whether the backup that was requested has ended, and how. Pure.
//!
//! The run of a manual backup has the time of its request, and no two requests have the same time: so it is known which
//! runs belong to this one. A backup that could not even be started has no run; it shows only in the status.

use backstay_protocol::Timestamp;
use backstay_protocol::backstay_types::{BackupRunSpec, RunState};
use backstay_protocol::spec::{BackupState, BackupStatusSpec};

/// The state at one query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// It has not begun, or is between two members.
    Pending,
    Running(BackupRunSpec),
    /// It is in the store. `None` if the run itself is not known (any more).
    Done(Option<BackupRunSpec>),
    Failed(String),
}

/// The request, the state before it, and the state at the last query.
#[derive(Debug, Clone)]
pub struct Follow {
    at: Timestamp,
    /// The latest attempt's time before the request.
    attempt: Option<Timestamp>,
    /// The status at the last query, if that had ended without a run of this request.
    settled: Option<BackupStatusSpec>,
}

/// How far the coordinator's clock may differ from this machine's, in seconds: what it tolerates for a manual backup.
const CLOCKS_DIFFER_SECONDS: i64 = 60;

impl Follow {
    /// Follows the backup that was requested with the time `at`; `before` is the status before that.
    pub fn new(before: Option<&BackupStatusSpec>, at: Timestamp) -> Self {
        Self { at, attempt: before.and_then(|s| s.lastbackupattempt), settled: None }
    }

    /// What the status and the latest runs say about the requested backup.
    pub fn look(&mut self, status: Option<&BackupStatusSpec>, runs: &[BackupRunSpec]) -> Seen {
        let mut mine: Vec<_> = runs.iter().filter(|run| run.backupat == Some(self.at)).collect();
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

    /// A backup that could not even begin shows only in the status; but so does another one that was running before.
    /// After that one's end, the requested one begins immediately: so a status that is the same at two queries is the
    /// end of the requested one.
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
                let ours = newest >= self.at.seconds.saturating_sub(CLOCKS_DIFFER_SECONDS);
                if ours { Seen::Done(None) } else { Seen::Pending }
            }
        }
    }
}

/// The attempt failed. While the status is still running, another member is asked, unless the running attempt began
/// later.
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

    /// A manual run with the time `at`, or one by the interval.
    fn run(by: Option<i64>, started: i64, state: RunState) -> BackupRunSpec {
        BackupRunSpec {
            trigger: if by.is_some() { "manual".into() } else { "interval".into() },
            backupat: by.map(Timestamp::from_seconds),
            state,
            snapshot: format!("{started}.snapshot"),
            started: at(started),
            ended: (state != RunState::Running).then(|| Timestamp::from_seconds(started + 5)),
            error: if state == RunState::Failed { format!("failed at {started}") } else { String::new() },
            ..BackupRunSpec::default()
        }
    }

    use BackupState::{Error, Ok as Good, Running};

    /// Requested at 100, while the interval's backup of 90 was running.
    fn asked() -> Follow {
        Follow::new(Some(&status(Running, 90, "")), Timestamp::from_seconds(100))
    }

    #[test]
    fn only_a_run_for_our_time_is_ours() {
        let mut follow = asked();
        let others =
            [run(Some(10), 10, RunState::Ok), run(None, 90, RunState::Ok), run(Some(99), 102, RunState::Failed)];
        assert_eq!(follow.look(Some(&status(Running, 90, "")), &others), Seen::Pending);
        assert_eq!(follow.look(Some(&status(Good, 99, "")), &others), Seen::Pending);
        let ours = run(Some(100), 104, RunState::Running);
        let all = [&others[..], std::slice::from_ref(&ours)].concat();
        assert_eq!(follow.look(Some(&status(Running, 104, "")), &all), Seen::Running(ours));
        let ours = run(Some(100), 104, RunState::Ok);
        assert_eq!(follow.look(Some(&status(Running, 110, "")), std::slice::from_ref(&ours)), Seen::Done(Some(ours)));
    }

    #[test]
    fn a_failed_attempt_is_the_end_only_when_the_backup_is() {
        let mut follow = asked();
        let runs = [run(Some(100), 101, RunState::Failed)];
        assert_eq!(follow.look(Some(&status(Running, 100, "failed at 101")), &runs), Seen::Pending);
        let second = [runs[0].clone(), run(Some(100), 107, RunState::Failed)];
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
        let mut follow = Follow::new(Some(&status(Error, 50, "old")), Timestamp::from_seconds(500));
        for old in [status(Error, 50, "old"), status(Good, 60, "")] {
            for _ in 0..3 {
                assert_eq!(follow.look(Some(&old), &[]), Seen::Pending);
            }
        }
        assert_eq!(follow.look(None, &[]), Seen::Pending);
    }

    proptest! {
        #[test]
        fn anothers_backup_never_ends_ours(
            looks in prop::collection::vec((0_i64..50, 0_usize..3, prop::option::of(101_i64..150)), 0..20),
        ) {
            let mut follow = asked();
            for (started, state, by) in looks {
                let state = [RunState::Running, RunState::Ok, RunState::Failed][state];
                let seen = follow.look(Some(&status(Running, 101, "")), &[run(by, 100 + started, state)]);
                prop_assert_eq!(seen, Seen::Pending);
            }
        }
    }
}
