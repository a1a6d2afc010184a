//! A restore as the cluster's record stores it, and as people see it.

use std::collections::BTreeMap;
use std::time::Duration;

use backstay_protocol::backstay_types::{RestoreMachineSpec, RestorePhase, RestoreSpec};
use backstay_protocol::bus::{EtcdAfter, RestoreGoal, RestoreState, RestoreStep};
use backstay_protocol::limits::{self, cut};
use backstay_protocol::resource::{LABEL_CLUSTER, Resource};
use backstay_protocol::{ClusterName, ClusterUuid, MachineId, RestoreId, SnapshotName, Timestamp};
use serde::{Deserialize, Serialize};

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

    /// Whether agents may tell another etcd cluster id than before: until the beats after its end have come, too.
    pub fn changes_cluster_id(&self, now: Timestamp) -> bool {
        self.ended.is_none_or(|ended| now.since(ended) < BEATS_FOLLOW)
    }

    /// etcd's id of the cluster that was restored.
    pub fn new_cluster_id(&self) -> Option<u64> {
        self.machines.values().map(|m| m.new_cluster_id).find(|id| *id != 0)
    }

    /// As people see it; `live` is what agents said since.
    pub fn resource(&self, cluster: &ClusterName, live: impl Fn(&MachineId) -> Option<Live>) -> Resource {
        let spec = RestoreSpec {
            before: None,
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

    fn machine_spec(&self, id: &MachineId, machine: &Machine, live: Option<Live>) -> RestoreMachineSpec {
        let Live { host, state } = live.unwrap_or_default();
        let live = state.filter(|state| state.restore == self.id.to_string());
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
            host,
        }
    }
}

/// What an agent's latest beat says of its machine and of the restore there.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Live {
    pub host: String,
    pub state: Option<RestoreState>,
}

/// Whether it has come to an end: only then the folders that it tells are those that stay.
pub(super) fn ended(state: &RestoreState) -> bool {
    matches!(state.step(), RestoreStep::Returned | RestoreStep::Kept)
}

/// The folders that a machine tells, within bounds.
pub(super) fn left(state: &RestoreState) -> Vec<String> {
    state.left.iter().take(limits::FOLDERS).map(|folder| cut(folder, limits::PATH)).collect()
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

/// An error as records keep it.
pub(crate) fn capped(error: &str) -> String {
    cut(error, limits::ERROR)
}
