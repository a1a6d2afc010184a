//! A restore as the cluster's record keeps it, and how it changes: pure transitions.

use std::collections::BTreeMap;
use std::time::Duration;

use backstay_protocol::bus::{EtcdAfter, RestoreGoal, RestoreState, RestoreStep};
use backstay_protocol::hex::to_hex;
use backstay_protocol::own::{RestoreMachineSpec, RestorePhase, RestoreSpec};
use backstay_protocol::resource::{LABEL_CLUSTER, Resource};
use backstay_protocol::{ClusterName, ClusterUuid, MachineId, RestoreId, SnapshotName, Timestamp};
use serde::{Deserialize, Serialize};

use super::compare::{self, Compared};

/// An error has at most so many characters.
const ERROR_MAX: usize = 1000;
/// So many folders of one machine are told.
const LEFT_MAX: usize = 16;

/// Every agent has told its member's new cluster id so long after the end.
const BEATS_FOLLOW: Duration = Duration::from_secs(60);

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Fetching and preparing, on all machines.
    pub prepare: Duration,
    /// From the first stop of etcd until all members agree; and going back.
    pub switch: Duration,
    /// A machine that does not answer for this long while the others prepare fails the restore.
    pub silence: Duration,
}

/// The backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The cluster that it is of.
    pub cluster: ClusterName,
    pub uuid: ClusterUuid,
    pub snapshot: SnapshotName,
    pub taken: Timestamp,
    pub revision: i64,
    /// Of the database, and of the sealed object.
    pub bytes: u64,
    pub sealed_bytes: u64,
    pub sha256: String,
    pub encrypted: bool,
    pub proof: String,
    /// The etcd that it was taken from, and the version that its database is marked with; empty: not known.
    #[serde(default)]
    pub etcd_version: String,
    #[serde(default)]
    pub storage_version: String,
    /// etcd's own id of that cluster; empty in records of older releases.
    #[serde(default)]
    pub etcd_cluster_id: String,
}

/// One machine's part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The name of its etcd member, and where its peers find it.
    pub member: String,
    pub peer_urls: Vec<String>,
    pub control: String,
    pub folder: String,
    /// The last step that it told, as the bus counts them; 0: none yet.
    pub step: i32,
    pub digest: String,
    pub new_cluster_id: u64,
    pub error: String,
    /// The version of its etcd, or the last that was known.
    #[serde(default)]
    pub etcd_version: String,
    /// How its etcd is after going back, as the bus counts it; 0: not told.
    #[serde(default)]
    pub etcd: i32,
    #[serde(default)]
    pub etcd_text: String,
    /// The folders of this restore that it has beside its data folder.
    #[serde(default)]
    pub left: Vec<String>,
}

impl Machine {
    pub fn step(&self) -> RestoreStep {
        RestoreStep::try_from(self.step).unwrap_or_default()
    }
}

/// One restore of one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    pub id: RestoreId,
    /// Of the resource.
    pub version: u64,
    pub updated: Timestamp,
    pub source: Source,
    pub phase: RestorePhase,
    pub phase_since: Timestamp,
    pub started: Timestamp,
    pub ended: Option<Timestamp>,
    pub error: String,
    pub bump: u64,
    pub aside_suffix: String,
    /// A template asked for it, and its machine set was not deleted since.
    #[serde(default)]
    pub by_template: bool,
    pub machines: BTreeMap<MachineId, Machine>,
}

/// What one machine answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    State(Box<RestoreState>),
    /// It will not do it.
    Refused(String),
    /// It did not answer, or is busy with something that ends: for how long now, and what was the last to be heard.
    Silent(Duration, String),
}

/// What all of them answered.
pub type Round = BTreeMap<MachineId, Heard>;

impl Restore {
    pub fn has_ended(&self) -> bool {
        self.phase.has_ended()
    }

    /// What the machines are told in this phase.
    pub fn goal(&self) -> Option<RestoreGoal> {
        match self.phase {
            RestorePhase::Waiting => None,
            RestorePhase::Preparing => Some(RestoreGoal::Prepare),
            RestorePhase::Switching => Some(RestoreGoal::Switch),
            RestorePhase::Keeping | RestorePhase::Restored => Some(RestoreGoal::Keep),
            RestorePhase::PuttingBack | RestorePhase::Failed => Some(RestoreGoal::PutBack),
        }
    }

    /// The cluster's backup that was under way has ended.
    pub fn begin(&mut self, now: Timestamp) {
        if self.phase == RestorePhase::Waiting {
            self.enter(RestorePhase::Preparing, now);
            self.version += 1;
        }
    }

    /// Whether agents may tell another etcd cluster id than before: until the beats after its end have come, too.
    pub fn changes_cluster_id(&self, now: Timestamp) -> bool {
        self.ended.is_none_or(|ended| since(ended, now) < BEATS_FOLLOW)
    }

    /// Folds what the machines answered, and decides. The answer is the revision at which members are to be compared.
    pub fn fold(&mut self, round: &Round, limits: Limits, now: Timestamp) -> i64 {
        let before = self.clone();
        // What is said of another restore is not about this one.
        let id = self.id.to_string();
        let ours = |heard: &Heard| !matches!(heard, Heard::State(state) if state.restore != id);
        let round: Round = round.iter().filter(|(_, heard)| ours(heard)).map(|(id, h)| (*id, h.clone())).collect();
        let round = &round;
        for (machine, heard) in round {
            self.hear(machine, heard);
        }
        let mut compare_at = 0;
        match self.phase {
            RestorePhase::Waiting | RestorePhase::Restored | RestorePhase::Failed => {}
            RestorePhase::Preparing => self.after_preparing(round, limits, now),
            RestorePhase::Switching => compare_at = self.after_switching(round, limits, now),
            RestorePhase::Keeping => self.end_when(RestoreStep::Kept, RestorePhase::Restored, round, limits, now),
            RestorePhase::PuttingBack => {
                self.end_when(RestoreStep::Returned, RestorePhase::Failed, round, limits, now);
            }
        }
        if *self != before {
            self.version += 1;
            self.updated = now;
        }
        compare_at
    }

    fn hear(&mut self, id: &MachineId, heard: &Heard) {
        let Some(machine) = self.machines.get_mut(id) else { return };
        match heard {
            Heard::State(state) => {
                machine.step = state.step;
                machine.error = capped(&state.error);
                if !state.digest.is_empty() {
                    machine.digest = to_hex(&state.digest);
                }
                if state.new_cluster_id != 0 {
                    machine.new_cluster_id = state.new_cluster_id;
                }
                if state.etcd() != EtcdAfter::Unspecified {
                    (machine.etcd, machine.etcd_text) = (state.etcd, capped(&state.etcd_text));
                }
                if ended(state) {
                    machine.left = left(state);
                }
            }
            Heard::Refused(text) => machine.error = capped(text),
            // While it is silent, what it said last stands.
            Heard::Silent(..) => {}
        }
    }

    fn after_preparing(&mut self, round: &Round, limits: Limits, now: Timestamp) {
        if let Some(error) = self.trouble(round) {
            return self.put_back(error, now);
        }
        let silent = round.iter().find_map(|(id, heard)| match heard {
            Heard::Silent(time, text) if *time > limits.silence => Some(self.named(id, text)),
            _ => None,
        });
        if let Some(error) = silent {
            return self.put_back(error, now);
        }
        // As all say it now: who was ready earlier may have lost it since.
        let ready = |id| matches!(round.get(id), Some(Heard::State(state)) if state.step() == RestoreStep::Ready);
        if self.machines.keys().all(ready) {
            return match self.same_for_all() {
                true => self.enter(RestorePhase::Switching, now),
                false => self.put_back("the machines prepared different databases".into(), now),
            };
        }
        if since(self.phase_since, now) > limits.prepare {
            let late = self.not_at(RestoreStep::Ready);
            self.put_back(format!("not ready in time: {late}"), now);
        }
    }

    fn after_switching(&mut self, round: &Round, limits: Limits, now: Timestamp) -> i64 {
        if let Some(error) = self.trouble(round) {
            self.put_back(error, now);
            return 0;
        }
        let (reason, ask) = match compare::members(self, round) {
            Compared::Equal => {
                self.enter(RestorePhase::Keeping, now);
                return 0;
            }
            Compared::NotYet { reason, ask } => (reason, ask),
        };
        if let Some(error) = self.last_is_silent(round, limits.silence) {
            self.put_back(error, now);
            return 0;
        }
        if since(self.phase_since, now) > limits.switch {
            self.put_back(format!("the restored cluster did not come up in time: {reason}"), now);
            return 0;
        }
        ask
    }

    /// All others have switched and serve clients, whose writes go back with them: a silent machine gets no more
    /// than its own time then.
    fn last_is_silent(&self, round: &Round, silence: Duration) -> Option<String> {
        let mut error = None;
        for id in self.machines.keys() {
            match round.get(id) {
                Some(Heard::State(state)) if state.step() == RestoreStep::Switched => {}
                Some(Heard::Silent(time, text)) if *time > silence => error = Some(self.named(id, text)),
                _ => return None,
            }
        }
        error
    }

    /// What a machine says that will not go on.
    fn trouble(&self, round: &Round) -> Option<String> {
        round.iter().find_map(|(id, heard)| match heard {
            Heard::State(state) if !state.error.is_empty() => Some(self.named(id, &state.error)),
            Heard::State(state) if state.step() >= RestoreStep::Returning => {
                Some(self.named(id, "it is not where this restore left it"))
            }
            Heard::Refused(text) => Some(self.named(id, text)),
            _ => None,
        })
    }

    /// The decision stands. Whoever cannot follow it in time is told again when it can: the end does not wait for it.
    fn end_when(&mut self, step: RestoreStep, end: RestorePhase, round: &Round, limits: Limits, now: Timestamp) {
        let late = || self.machines.iter().filter(|(_, m)| m.step() != step);
        if late().next().is_none() {
            self.enter(end, now);
            self.ended = Some(now);
        } else if since(self.phase_since, now) > limits.switch {
            let Some(stuck) = late().map(|(id, m)| stuck(id, m, round.get(id))).collect::<Option<Vec<_>>>() else {
                return;
            };
            let text = format!("{}; will be told again whenever possible", stuck.join(", "));
            self.error = capped(&if self.error.is_empty() { text } else { format!("{}; {text}", self.error) });
            self.enter(end, now);
            self.ended = Some(now);
        }
    }

    fn same_for_all(&self) -> bool {
        let mut prepared = self.machines.values().map(|m| (&m.digest, m.new_cluster_id));
        let first = prepared.next();
        first.is_some_and(|(digest, id)| !digest.is_empty() && id != 0) && prepared.all(|other| Some(other) == first)
    }

    fn put_back(&mut self, error: String, now: Timestamp) {
        self.error = capped(&error);
        self.enter(RestorePhase::PuttingBack, now);
    }

    fn enter(&mut self, phase: RestorePhase, now: Timestamp) {
        (self.phase, self.phase_since, self.updated) = (phase, now, now);
    }

    fn named(&self, id: &MachineId, text: &str) -> String {
        let member = self.machines.get(id).map(|m| m.member.as_str()).unwrap_or_default();
        format!("machine {id} ({member}): {text}")
    }

    fn not_at(&self, step: RestoreStep) -> String {
        let late = self.machines.iter().filter(|(_, m)| m.step() != step);
        late.map(|(id, m)| format!("machine {id} ({}, {})", m.member, word(m.step()))).collect::<Vec<_>>().join(", ")
    }

    /// etcd's id of the cluster that was restored.
    pub fn new_cluster_id(&self) -> Option<u64> {
        self.machines.values().map(|m| m.new_cluster_id).find(|id| *id != 0)
    }

    /// As people see it; `live` is what agents said of their progress since.
    pub fn resource(&self, cluster: &ClusterName, live: impl Fn(&MachineId) -> Option<RestoreState>) -> Resource {
        let spec = RestoreSpec {
            restore: self.id.to_string(),
            clusteruuid: self.source.uuid.to_string(),
            snapshot: self.source.snapshot.to_string(),
            dataofanothercluster: String::new(),
            bump: Some(self.bump),
            phase: self.phase,
            error: self.error.clone(),
            started: Some(self.started),
            ended: self.ended,
            sourcecluster: self.source.cluster.to_string(),
            takenat: Some(self.source.taken),
            revision: u64::try_from(self.source.revision).unwrap_or(0),
            bytes: self.source.bytes,
            sealedbytes: self.source.sealed_bytes,
            sha256: self.source.sha256.clone(),
            proof: self.source.proof.clone(),
            etcdversion: self.source.etcd_version.clone(),
            storageversion: self.source.storage_version.clone(),
            machines: self.machines.iter().map(|(id, machine)| self.machine_spec(id, machine, live(id))).collect(),
            etcdclusterid: self.source.etcd_cluster_id.clone(),
        };
        let mut resource = Resource::of(cluster.as_str(), &spec);
        resource.metadata.stamp(self.version, self.started, self.updated);
        resource.metadata.labels.insert(LABEL_CLUSTER.into(), cluster.to_string());
        resource
    }

    fn machine_spec(&self, id: &MachineId, machine: &Machine, live: Option<RestoreState>) -> RestoreMachineSpec {
        let live = live.filter(|state| state.restore == self.id.to_string());
        let now = live.as_ref().filter(|state| ended(state)).map(left);
        RestoreMachineSpec {
            machine: id.to_string(),
            member: machine.member.clone(),
            control: machine.control.clone(),
            folder: machine.folder.clone(),
            aside: format!("{}{}", machine.folder, self.aside_suffix),
            step: word(machine.step()).into(),
            digest: machine.digest.clone(),
            bytesdone: live.as_ref().map_or(0, |state| state.bytes_done),
            bytestotal: live.as_ref().map_or(0, |state| state.bytes_total),
            error: machine.error.clone(),
            etcdversion: machine.etcd_version.clone(),
            etcd: after(machine.etcd).into(),
            etcdtext: machine.etcd_text.clone(),
            left: now.unwrap_or_else(|| machine.left.clone()),
        }
    }
}

/// Whether it has come to an end: only then the folders that it tells are those that stay.
fn ended(state: &RestoreState) -> bool {
    matches!(state.step(), RestoreStep::Returned | RestoreStep::Kept)
}

/// The folders that a machine tells, within bounds.
fn left(state: &RestoreState) -> Vec<String> {
    state.left.iter().take(LEFT_MAX).map(|folder| capped(folder)).collect()
}

/// How etcd is after going back, as people read it.
fn after(etcd: i32) -> &'static str {
    match EtcdAfter::try_from(etcd).unwrap_or_default() {
        EtcdAfter::Unspecified => "",
        EtcdAfter::Untouched => "untouched",
        EtcdAfter::Serves => "serves",
        EtcdAfter::Runs => "runs",
        EtcdAfter::Down => "down",
    }
}

/// Why a machine does not come to the end; `None` where it is on its way.
fn stuck(id: &MachineId, machine: &Machine, heard: Option<&Heard>) -> Option<String> {
    let why = match heard {
        Some(Heard::State(state)) if state.error.is_empty() => return None,
        Some(Heard::State(state)) => state.error.as_str(),
        Some(Heard::Refused(text)) => text.as_str(),
        Some(Heard::Silent(..)) | None => "it did not answer",
    };
    Some(format!("machine {id} ({}, {}): {why}", machine.member, word(machine.step())))
}

/// A step as people read it.
pub fn word(step: RestoreStep) -> &'static str {
    match step {
        RestoreStep::Unspecified => "pending",
        RestoreStep::Preparing => "preparing",
        RestoreStep::Ready => "ready",
        RestoreStep::Stopping => "stopping",
        RestoreStep::Moving => "moving",
        RestoreStep::Starting => "starting",
        RestoreStep::Switched => "switched",
        RestoreStep::Returning => "returning",
        RestoreStep::Returned => "returned",
        RestoreStep::Kept => "kept",
    }
}

/// How long ago; nothing where `then` is later.
pub(crate) fn since(then: Timestamp, now: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(now.as_millis().saturating_sub(then.as_millis())).unwrap_or(0))
}

/// An error as records keep it.
pub(crate) fn capped(error: &str) -> String {
    error.chars().take(ERROR_MAX).collect()
}

#[cfg(test)]
#[path = "state_tests.rs"]
pub(crate) mod tests;
