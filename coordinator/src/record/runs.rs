//! The latest attempts of one cluster in its record: why each was made, and how it ended.

use std::collections::VecDeque;

use backstay_archive::Manifest;
use backstay_archive::manifest::{Inspection, NO_OTHER_MEMBER, Origin, Verdict};
use backstay_protocol::backstay_types::{BackupRunSpec, RunState};
use backstay_protocol::limits::{self, cut};
use backstay_protocol::resource::Resource;
use backstay_protocol::{AttemptId, ClusterName, MachineId, SnapshotName, Timestamp};
use serde::{Deserialize, Serialize};

use super::slot::{Attempt, Trigger};

/// How many attempts are remembered.
const RUNS_MAX: usize = 20;

/// What is known about a backup that was verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proven {
    pub attempt: AttemptId,
    pub revision: i64,
    pub snapshot_bytes: u64,
    pub sealed_bytes: u64,
    pub sha256: String,
    /// The result of the inspection; `None` if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inspected: Option<Inspected>,
}

/// The result of an inspection as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspected {
    pub verdict: Verdict,
    #[serde(default)]
    pub compared_with: String,
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub live_keys: u64,
    /// There was no other member to compare with.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own: bool,
    /// What an operator should know about the backup although it is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

impl Inspected {
    fn of(inspection: &Inspection, origin: &Origin) -> Self {
        let text = |text: &Option<String>| cut(text.as_deref().unwrap_or_default(), limits::RUN_ERROR);
        Self {
            verdict: inspection.verdict,
            compared_with: text(&inspection.compared_with),
            reason: text(&inspection.reason),
            live_keys: inspection.contents.as_ref().and_then(|contents| contents.live_keys).unwrap_or(0),
            own: inspection.is_own(origin),
            warning: inspection.warning(),
        }
    }
}

impl Proven {
    pub fn of(manifest: &Manifest) -> Self {
        Self {
            attempt: manifest.attempt,
            revision: manifest.origin.revision,
            snapshot_bytes: manifest.snapshot_bytes,
            sealed_bytes: manifest.sealed_bytes,
            sha256: manifest.snapshot_sha256.clone(),
            inspected: manifest.inspection.as_ref().map(|inspection| Inspected::of(inspection, &manifest.origin)),
        }
    }
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub id: AttemptId,
    pub machine: MachineId,
    pub trigger: Trigger,
    pub snapshot: SnapshotName,
    pub started: Timestamp,
    pub ended: Option<Timestamp>,
    pub state: RunState,
    pub error: String,
    pub proven: Option<Proven>,
    /// Whether it failed because two members have different data.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub differs: bool,
}

/// The latest attempts, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Runs(VecDeque<Run>);

impl Runs {
    pub fn begin(&mut self, attempt: &Attempt, trigger: Trigger, snapshot: SnapshotName) {
        if self.0.len() >= RUNS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Run {
            id: attempt.id,
            machine: attempt.machine,
            trigger,
            snapshot,
            started: attempt.started,
            ended: None,
            state: RunState::Running,
            error: String::new(),
            proven: None,
            differs: false,
        });
    }

    /// The attempt found that two members have different data.
    pub fn differs(&mut self, id: AttemptId) {
        if let Some(run) = self.0.iter_mut().find(|run| run.id == id) {
            run.differs = true;
        }
    }

    /// The attempt failed.
    pub fn fail(&mut self, id: AttemptId, error: &str, now: Timestamp) {
        if let Some(run) = self.0.iter_mut().find(|run| run.id == id) {
            let error = cut(error, limits::RUN_ERROR);
            (run.state, run.error, run.ended) = (RunState::Failed, error, Some(now));
        }
    }

    /// The slot has its backup. If the store did not say which attempt made it, the one under way counts.
    pub fn done(&mut self, proven: Option<Proven>, current: Option<AttemptId>, now: Timestamp) {
        let made_it = proven.as_ref().map(|p| p.attempt).or(current);
        if let Some(run) = self.0.iter_mut().find(|run| Some(run.id) == made_it) {
            (run.state, run.error, run.ended, run.proven) = (RunState::Ok, String::new(), Some(now), proven);
        }
        if let Some(id) = current.filter(|id| Some(*id) != made_it) {
            self.fail(id, "another attempt made the backup", now);
        }
    }

    /// Drops the oldest; `false` if only the latest is left, which stays.
    pub fn forget_oldest(&mut self) -> bool {
        self.0.len() > 1 && self.0.pop_front().is_some()
    }

    /// Shortens each error with `cut`.
    pub fn shorten(&mut self, cut: impl Fn(&mut String)) {
        self.0.iter_mut().for_each(|run| cut(&mut run.error));
    }

    /// Latest first.
    pub fn latest_first(&self) -> impl Iterator<Item = &Run> {
        self.0.iter().rev()
    }
}

impl Run {
    /// As people see it. A running attempt has no sizes yet: they come from the agent's progress.
    pub fn spec(&self, cluster: &ClusterName) -> BackupRunSpec {
        let (trigger, backupat) = match self.trigger {
            Trigger::Manual { seconds } => ("manual", Some(Timestamp::from_seconds(seconds))),
            Trigger::Interval => ("interval", None),
        };
        let spec = BackupRunSpec {
            cluster: cluster.to_string(),
            machine: self.machine.to_string(),
            trigger: trigger.into(),
            backupat,
            state: self.state,
            snapshot: self.snapshot.to_string(),
            started: Some(self.started),
            ended: self.ended,
            error: self.error.clone(),
            verdict: if self.differs { Verdict::Differs.as_str().into() } else { String::new() },
            ..BackupRunSpec::default()
        };
        let Some(proven) = &self.proven else { return spec };
        let spec = match &proven.inspected {
            None => spec,
            Some(inspected) => BackupRunSpec {
                verdict: inspected.verdict.as_str().into(),
                comparedwith: inspected.compared_with.clone(),
                verdictreason: if inspected.own { NO_OTHER_MEMBER.into() } else { inspected.reason.clone() },
                livekeys: inspected.live_keys,
                warning: inspected.warning.clone(),
                ..spec
            },
        };
        BackupRunSpec {
            bytesread: proven.snapshot_bytes,
            bytestotal: proven.snapshot_bytes,
            bytesstored: proven.sealed_bytes,
            revision: u64::try_from(proven.revision).unwrap_or(0),
            sha256: proven.sha256.clone(),
            ..spec
        }
    }
}

/// The resource of a run.
pub fn resource(id: AttemptId, spec: &BackupRunSpec) -> Resource {
    Resource::of(id.to_string(), spec).in_cluster(&spec.cluster)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn id(n: u128) -> AttemptId {
        AttemptId(Uuid::from_u128(n))
    }

    fn begun(count: u128) -> Runs {
        let mut runs = Runs::default();
        for n in 1..=count {
            let started = Timestamp::from_seconds(n as i64);
            let attempt = Attempt { id: id(n), machine: MachineId(Uuid::from_u128(7)), started };
            let snapshot = SnapshotName::from_unix_seconds(n as i64).expect("in range");
            runs.begin(&attempt, Trigger::Interval, snapshot);
        }
        runs
    }

    fn states(runs: &Runs) -> Vec<(u128, RunState)> {
        runs.latest_first().map(|run| (run.id.0.as_u128(), run.state)).collect()
    }

    fn proven(n: u128) -> Proven {
        Proven {
            attempt: id(n),
            revision: 9,
            snapshot_bytes: 100,
            sealed_bytes: 30,
            sha256: "ab".into(),
            inspected: None,
        }
    }

    #[test]
    fn only_the_latest_are_kept() {
        let runs = begun(RUNS_MAX as u128 + 5);
        assert_eq!(runs.latest_first().count(), RUNS_MAX);
        assert_eq!(states(&runs).first(), Some(&(RUNS_MAX as u128 + 5, RunState::Running)));
        let json = serde_json::to_string(&runs).expect("plain data");
        assert_eq!(serde_json::from_str::<Runs>(&json).expect("readable"), runs);
    }

    #[test]
    fn a_run_by_hand_says_which_time_it_is_for() {
        let mut run = begun(1).latest_first().next().expect("one").clone();
        let cluster = "c".parse().expect("a name");
        let told = |run: &Run| (run.spec(&cluster).trigger, run.spec(&cluster).backupat);
        assert_eq!(told(&run), ("interval".into(), None));
        run.trigger = Trigger::Manual { seconds: 77 };
        assert_eq!(told(&run), ("manual".into(), Some(Timestamp::from_seconds(77))));
    }

    #[test]
    fn whoever_made_the_backup_is_the_one_that_did() {
        let now = Timestamp::from_seconds(50);
        let mut runs = begun(2);
        runs.fail(id(1), "fell silent", now);
        runs.done(Some(proven(1)), Some(id(2)), now);
        assert_eq!(states(&runs), [(2, RunState::Failed), (1, RunState::Ok)]);
        let spec = runs.latest_first().last().expect("two").spec(&"c".parse().expect("a name"));
        assert_eq!((spec.bytesread, spec.bytesstored, spec.revision, spec.error.as_str()), (100, 30, 9, ""));

        let mut runs = begun(1);
        runs.done(None, Some(id(1)), now);
        assert_eq!(states(&runs), [(1, RunState::Ok)]);
    }
}
