//! A restore as the cluster's record stores it, and as people see it.

use std::collections::BTreeMap;
use std::time::Duration;

use backstay_protocol::backstay_types::{RestoreMachineSpec, RestorePhase, RestoreSpec};
use backstay_protocol::bus::{EtcdAfter, RestoreGoal, RestoreState, RestoreStep};
use backstay_protocol::limits::{self, cut};
use backstay_protocol::resource::{LABEL_CLUSTER, Resource};
use backstay_protocol::{ClusterName, ClusterUuid, MachineId, RestoreId, SnapshotName, Timestamp};
use serde::{Deserialize, Serialize};

/// How long after the end every agent has reported its member's new cluster id.
const BEATS_FOLLOW: Duration = Duration::from_secs(60);

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Downloading and preparing, on all machines.
    pub prepare: Duration,
    /// From the first stop of etcd until all members agree; also for undoing that.
    pub switch: Duration,
    /// A machine that does not answer for this long while the others prepare fails the restore.
    pub silence: Duration,
}

/// Which backup it is.
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
    /// The last step that it reported, as its number in the protobuf enum; 0: none yet.
    pub step: i32,
    pub digest: String,
    pub new_cluster_id: u64,
    pub error: String,
    /// The version of its etcd, or the last that was known.
    #[serde(default)]
    pub etcd_version: String,
    /// How its etcd is after the restore was undone, as its number in the protobuf enum; 0: not reported.
    #[serde(default)]
    pub etcd: i32,
    #[serde(default)]
    pub etcd_text: String,
    /// The folders of this restore that it has beside its data folder.
    #[serde(default)]
    pub left: Vec<String>,
    /// There was no data folder before the restore, so no old data was moved aside.
    #[serde(default, skip_serializing_if = "is_false")]
    pub had_no_data: bool,
}

fn is_false(value: &bool) -> bool {
    !value
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
    /// Whether a template requested it, and its machine set was not deleted since.
    #[serde(default)]
    pub by_template: bool,
    pub machines: BTreeMap<MachineId, Machine>,
}

/// The answer of one machine.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    State(Box<RestoreState>),
    /// It refuses.
    Refused(String),
    /// It did not answer, or is busy with something that will end: for how long, and its last answer.
    Silent(Duration, String),
}

/// The answers of all machines.
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

    /// Whether agents may report another etcd cluster id than before; still true until the beats after the end have
    /// arrived.
    pub fn changes_cluster_id(&self, now: Timestamp) -> bool {
        self.ended.is_none_or(|ended| now.since(ended) < BEATS_FOLLOW)
    }

    /// etcd's id of the cluster that was restored.
    pub fn new_cluster_id(&self) -> Option<u64> {
        self.machines.values().map(|m| m.new_cluster_id).find(|id| *id != 0)
    }

    /// As people see it; `live` is what agents have reported since.
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
            aside: match machine.had_no_data {
                true => String::new(),
                false => format!("{}{}", machine.folder, self.aside_suffix),
            },
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

/// What an agent's latest beat says about its machine and the restore there.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Live {
    pub host: String,
    pub state: Option<RestoreState>,
}

/// Whether it has ended there: only then the folders that it reports are final.
pub(super) fn ended(state: &RestoreState) -> bool {
    matches!(state.step(), RestoreStep::Returned | RestoreStep::Kept)
}

/// The folders that a machine reports, limited in number and length.
pub(super) fn left(state: &RestoreState) -> Vec<String> {
    let prepared = format!(".restore-{}", state.restore);
    let is_removed =
        |folder: &str| state.step() == RestoreStep::Kept && state.error.is_empty() && folder.ends_with(&prepared);
    let left = state.left.iter().filter(|folder| !is_removed(folder));
    left.take(limits::FOLDERS).map(|folder| cut(folder, limits::PATH)).collect()
}

/// How etcd is after the restore was undone, as people read it.
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

/// An error, cut for a record.
pub(crate) fn capped(error: &str) -> String {
    cut(error, limits::ERROR)
}
