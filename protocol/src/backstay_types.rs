//! The specs of Backstay's own types: agents, coordinator, attempts, stored backups, restores and verifications.
//!
//! Most fields only show something. What a program may set is said at the types that can be applied, [`RestoreSpec`] and
//! [`VerificationSpec`].

use serde::{Deserialize, Serialize};

use crate::spec::{Spec, spec};
use crate::time::Timestamp;

/// An agent that is connected. The id is its machine's UUID.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentSpec {
    /// The cluster's name.
    pub cluster: String,
    /// The version of backstay-agent.
    pub agentversion: String,
    /// Empty while etcd does not answer.
    pub etcdversion: String,
    /// `leader`, `follower` or `learner`; empty while etcd does not answer.
    pub role: String,
    /// Bytes of etcd's database file; 0 while etcd does not answer.
    pub dbsize: u64,
    /// etcd's revision at the agent's last beat; 0 while it does not answer.
    pub revision: u64,
    /// The UUID of the attempt that it is working on; empty while it is idle.
    pub attempt: String,
    /// Why etcd does not answer; empty while it does.
    pub error: String,
    /// What is wrong with its machine's clock; empty if nothing is known to be wrong.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub clock: String,
    /// When its last beat arrived, by the coordinator's clock.
    pub lastseen: Option<Timestamp>,
    /// The name of its etcd member, as the agent last knew it; empty: not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub member: String,
    /// Its host name; empty: not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// The names of etcd's members of the same cluster that have no connected agent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<String>,
    /// Which other agent uses the same machine UUID; empty where none is known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub twin: String,
}
spec!(
    AgentSpec,
    AGENTS,
    AgentSpec {
        clock: "off".into(),
        lastseen: Some(Timestamp::default()),
        member: "any".into(),
        host: "any".into(),
        absent: vec![String::new()],
        twin: "any".into(),
        ..AgentSpec::default()
    }
);

/// The coordinator that leads. There is one, with the id [`COORDINATOR_STATUS_ID`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CoordinatorStatusSpec {
    /// The UUID under which it holds the lease; each process has its own.
    pub holder: String,
    /// The epoch of its lease: every new leader has a higher one.
    pub epoch: u64,
    /// The host name of its machine.
    pub host: String,
    /// The version of backstay-coordinator.
    pub version: String,
    /// When it began to lead.
    pub started: Option<Timestamp>,
    /// Its own time at the moment of the answer.
    pub now: Option<Timestamp>,
    /// How many milliseconds its clock is ahead of NATS's, negative if it is behind; absent while that is not known.
    pub natsoffsetms: Option<i64>,
    /// The same, compared with the store's clock.
    pub storeoffsetms: Option<i64>,
    /// What is wrong with its clock; empty if nothing is known to be wrong.
    pub clock: String,
    /// What it found out about the active store, one fact in each text.
    pub storage: Vec<String>,
    /// What a person should look at, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}
spec!(
    CoordinatorStatusSpec,
    COORDINATOR_STATUSES,
    CoordinatorStatusSpec {
        started: Some(Timestamp::default()),
        now: Some(Timestamp::default()),
        natsoffsetms: Some(0),
        storeoffsetms: Some(0),
        warnings: vec![String::new()],
        ..CoordinatorStatusSpec::default()
    }
);

/// The id of the only coordinator status.
pub const COORDINATOR_STATUS_ID: &str = "coordinator";

/// How an attempt or a verification stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// It has not ended yet.
    #[default]
    Running,
    /// It has succeeded.
    Ok,
    /// It has failed; the error is beside it.
    Failed,
}

/// One attempt at a backup. Only the latest attempts of a cluster are kept. The id is the attempt's UUID.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BackupRunSpec {
    /// The cluster's name.
    pub cluster: String,
    /// The machine's UUID.
    pub machine: String,
    /// `manual` or `interval`.
    pub trigger: String,
    /// The time that a request for a manual backup names; absent for the interval.
    pub backupat: Option<Timestamp>,
    /// How it stands.
    pub state: RunState,
    /// The name of the backup.
    pub snapshot: String,
    /// When it began, by the coordinator's clock.
    pub started: Option<Timestamp>,
    /// Absent while it is running.
    pub ended: Option<Timestamp>,
    /// Bytes of the database read so far.
    pub bytesread: u64,
    /// Bytes of the database; 0 while unknown.
    pub bytestotal: u64,
    /// Bytes in the store, compressed and encrypted.
    pub bytesstored: u64,
    /// How many parts had to be sent again.
    pub partsretried: u32,
    /// The revision that the backup contains at least; 0 until it has succeeded.
    pub revision: u64,
    /// sha256 of the database in hexadecimal; empty until it has succeeded.
    pub sha256: String,
    /// Whether another member has the same data: `equal`, `differs` or `unknown`; empty if it was not compared.
    pub verdict: String,
    /// The id of the member that was asked, in hexadecimal.
    pub comparedwith: String,
    /// Why the verdict is `unknown`. With `equal`: that there is no other member.
    pub verdictreason: String,
    /// Keys in the database that are not deleted; 0 while that is not known.
    pub livekeys: u64,
    /// What an operator should know although the backup is good; absent if there is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// Why it failed; empty if it did not.
    pub error: String,
    /// The name of that machine's etcd member, as its agent last reported it; empty: not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub member: String,
    /// The host name of that machine; empty: not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
}
spec!(
    BackupRunSpec,
    BACKUP_RUNS,
    BackupRunSpec {
        warning: Some(String::new()),
        member: "any".into(),
        host: "any".into(),
        backupat: Some(Timestamp::default()),
        started: Some(Timestamp::default()),
        ended: Some(Timestamp::default()),
        ..BackupRunSpec::default()
    }
);

/// A backup in the store, with what its manifest says. The id is that of the cluster's
/// [`BackupSpec`](crate::spec::BackupSpec). A time, size or revision that is absent is not known.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredBackupSpec {
    /// The cluster's name.
    pub cluster: String,
    /// Its name, as `restore --snapshot` takes it.
    pub snapshot: String,
    /// The time in its name.
    pub createdat: Option<Timestamp>,
    /// Bytes of the stored object, which is compressed and encrypted.
    pub stored: u64,
    /// Bytes of the database.
    pub size: Option<u64>,
    /// The revision that it contains at least.
    pub revision: Option<u64>,
    /// What was checked before it became visible: `checksum`, `pages` (the checksum and every page of the database) or
    /// `pages+member` (another member had the same data, too); empty if its manifest cannot be read.
    pub proven: String,
    /// The same in words, for people.
    pub proof: String,
    /// sha256 of the database in hexadecimal.
    pub sha256: String,
    /// Absent if the manifest cannot be read.
    pub encrypted: Option<bool>,
    /// The version of the etcd that it was taken from; empty: not known.
    pub etcdversion: String,
    /// etcd's own id of the cluster, in hexadecimal; empty: not known.
    pub etcdclusterid: String,
    /// Why its manifest cannot be read; empty if it can.
    pub error: String,
}
spec!(
    StoredBackupSpec,
    STORED_BACKUPS,
    StoredBackupSpec {
        createdat: Some(Timestamp::default()),
        size: Some(0),
        revision: Some(0),
        encrypted: Some(true),
        ..StoredBackupSpec::default()
    }
);

/// How a restore stands as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestorePhase {
    /// A backup of the cluster is running; the restore begins when it has ended.
    #[default]
    Waiting,
    /// Every machine reads the backup and prepares its new data folder. etcd keeps running.
    Preparing,
    /// Every machine is ready. Each stops etcd, exchanges the folders and starts etcd; then the members are compared.
    Switching,
    /// The members agree; the machines confirm that they stay on the restored data.
    Keeping,
    /// Something failed: every machine returns to the data that it had.
    PuttingBack,
    /// The cluster runs on the restored data.
    Restored,
    /// The restore was undone; each machine reports the state of its etcd.
    Failed,
}

impl RestorePhase {
    /// Whether this phase is final.
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Restored | Self::Failed)
    }

    /// As in JSON, such as `putting-back`.
    pub fn text(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Preparing => "preparing",
            Self::Switching => "switching",
            Self::Keeping => "keeping",
            Self::PuttingBack => "putting-back",
            Self::Restored => "restored",
            Self::Failed => "failed",
        }
    }
}

/// One machine's part of a restore.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RestoreMachineSpec {
    /// The machine's UUID.
    pub machine: String,
    /// The name of its etcd member.
    pub member: String,
    /// How its etcd is stopped and started: `systemd`, `static-pod` or `commands`.
    pub control: String,
    /// The path of the data folder that is set aside.
    pub folder: String,
    /// The path under which it is kept.
    pub aside: String,
    /// `pending`, `preparing`, `ready`, `stopping`, `moving`, `starting`, `switched`, `returning`, `returned`, `kept`.
    pub step: String,
    /// sha256 of the database that it prepared, in hexadecimal; empty until then.
    pub digest: String,
    /// Bytes of the database that are written.
    pub bytesdone: u64,
    /// Bytes of the database; 0 while that is not known.
    pub bytestotal: u64,
    /// Why it does not continue; empty while it does.
    pub error: String,
    /// How its etcd is after the restore was undone: `untouched`, `serves`, `runs` or `down`; empty: not looked at.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub etcdversion: String,
    /// How its etcd is after the restore was put back: `untouched`, `serves`, `runs` or `down`; empty: nobody has looked.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub etcd: String,
    /// What was seen of an etcd that does not serve, and its last log lines or where they are.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub etcdtext: String,
    /// The paths of all folders of this restore that exist beside the data folder.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
    /// The host name; empty: not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
}

/// A cluster's latest restore. The id is the cluster's name. Who applies one sets the fields up to `bump`, and sets
/// `started` to that of a plan to get the names of folders that the plan showed. The coordinator sets all other fields.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RestoreSpec {
    /// A UUID chosen by the caller: a request with the same one is the same request. Empty: every request is a new one.
    pub restore: String,
    /// The UUID of the cluster that the backup is of; empty: this cluster's.
    pub clusteruuid: String,
    /// The name of the backup, or `latest`.
    pub snapshot: String,
    /// Take the newest backup of this time or an earlier one; absent: of any time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Timestamp>,
    /// The name of the cluster that the backup is of, if it is another one. Without it, such a backup is refused.
    pub dataofanothercluster: String,
    /// By how much revisions are raised; absent: [`RESTORE_BUMP`]; 0: not at all.
    pub bump: Option<u64>,
    /// How far it is.
    pub phase: RestorePhase,
    /// Why it failed, or is failing; empty otherwise.
    pub error: String,
    /// When it began. The names of the folders that are set aside contain it.
    pub started: Option<Timestamp>,
    /// Absent until it has ended.
    pub ended: Option<Timestamp>,
    /// The name of the cluster that the backup is of.
    pub sourcecluster: String,
    /// When the backup was taken.
    pub takenat: Option<Timestamp>,
    /// The revision that the backup contains at least.
    pub revision: u64,
    /// Bytes of the database.
    pub bytes: u64,
    /// Bytes of the stored object, which is compressed and encrypted.
    pub sealedbytes: u64,
    /// sha256 of the database in hexadecimal.
    pub sha256: String,
    /// What else was checked of the backup, in words.
    pub proof: String,
    /// One for each of etcd's members.
    pub machines: Vec<RestoreMachineSpec>,
    /// The version of the etcd that the backup was taken from; empty: not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub etcdversion: String,
    /// The storage version that its database is marked with; empty: not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub storageversion: String,
    /// etcd's own id of the cluster that the backup is of, in hexadecimal; empty: not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub etcdclusterid: String,
}
spec!(
    RestoreSpec,
    RESTORES,
    RestoreSpec {
        etcdclusterid: "cdf818194e3a8c32".into(),
        before: Some(Timestamp::default()),
        bump: Some(0),
        started: Some(Timestamp::default()),
        ended: Some(Timestamp::default()),
        takenat: Some(Timestamp::default()),
        machines: vec![RestoreMachineSpec {
            etcdversion: "-".into(),
            etcd: "-".into(),
            etcdtext: "-".into(),
            left: vec!["-".into()],
            host: "-".into(),
            ..RestoreMachineSpec::default()
        }],
        etcdversion: "-".into(),
        storageversion: "-".into(),
        ..RestoreSpec::default()
    }
);

/// By how much a restore raises revisions if nobody says: more than any cluster writes between two backups. It is the value
/// that the etcd documentation on disaster recovery recommends for `--bump-revision`.
pub const RESTORE_BUMP: u64 = 1_000_000_000;

/// The latest verification of one of a cluster's backups. The id is the cluster's name. Who applies one sets `verify`,
/// `snapshot` and `boot`; the coordinator sets all other fields.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct VerificationSpec {
    /// A UUID chosen by the caller: a request with the same one is the same request. Empty: every request is a new one.
    pub verify: String,
    /// The name of the backup; empty: the newest.
    pub snapshot: String,
    /// Also start an etcd on the data.
    pub boot: bool,
    /// How it stands.
    pub state: RunState,
    /// The UUID of the machine that does it; empty while none is chosen.
    pub machine: String,
    /// Why it failed; empty if it did not.
    pub error: String,
    /// When it began.
    pub started: Option<Timestamp>,
    /// Absent while it is running.
    pub ended: Option<Timestamp>,
    /// Bytes of the database that are read.
    pub bytesdone: u64,
    /// Bytes of the database; 0 while that is not known.
    pub bytestotal: u64,
    /// What was found, in words.
    pub found: String,
    /// When a verification last succeeded; absent if none has.
    pub lastproven: Option<Timestamp>,
    /// Which backup that was.
    pub provensnapshot: String,
    /// `inspected`, or `booted` if an etcd was started on it.
    pub provenhow: String,
    /// When an earlier verification failed, if that failure still counts; absent otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failedat: Option<Timestamp>,
    /// Which backup that was.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub failedsnapshot: String,
    /// Why it failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub failederror: String,
    /// Whether the backup is at fault.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub faileddamaged: bool,
    /// The name of that machine's etcd member, as its agent last reported it; empty: not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub member: String,
    /// The host name of that machine; empty: not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
}
spec!(
    VerificationSpec,
    VERIFICATIONS,
    VerificationSpec {
        started: Some(Timestamp::default()),
        ended: Some(Timestamp::default()),
        lastproven: Some(Timestamp::default()),
        failedat: Some(Timestamp::default()),
        failedsnapshot: "any".into(),
        failederror: "any".into(),
        faileddamaged: true,
        member: "any".into(),
        host: "any".into(),
        ..VerificationSpec::default()
    }
);

/// `found` of a verification that failed because of what the backup contains. Other versions compare this text.
pub const PROOF_OF_DAMAGE: &str = "the backup is at fault: it does not hold what it should";

/// `found` of a verification that could not be carried out: it says nothing about the backup. Other versions show this
/// text.
pub const PROOF_NOT_TRIED: &str = "nothing is known of the backup: it could not be tried";

/// A failed verification that still counts: no later one has succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StandingFailure<'a> {
    /// When it failed.
    pub at: Option<Timestamp>,
    /// Which backup it was.
    pub snapshot: &'a str,
    /// Why.
    pub error: &'a str,
    /// Whether the backup is at fault. Otherwise it could not be tried, or an older coordinator does not say.
    pub damaged: bool,
}

impl VerificationSpec {
    /// The failed verification that still counts, this one or an earlier one; `None` if there is none.
    pub fn standing(&self) -> Option<StandingFailure<'_>> {
        match (self.failedat, self.state) {
            (Some(_), _) => Some(StandingFailure {
                at: self.failedat,
                snapshot: &self.failedsnapshot,
                error: &self.failederror,
                damaged: self.faileddamaged,
            }),
            (None, RunState::Failed) => Some(StandingFailure {
                at: self.ended,
                snapshot: &self.snapshot,
                error: &self.error,
                damaged: self.found == PROOF_OF_DAMAGE,
            }),
            _ => None,
        }
    }
}
