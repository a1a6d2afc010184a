//! The specs of Backstay's own types: who is connected, what became of each attempt, and restores.

use serde::{Deserialize, Serialize};

use crate::spec::{Spec, spec};
use crate::time::Timestamp;

/// An agent that is connected. The id is its machine's UUID.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentSpec {
    pub cluster: String,
    pub agentversion: String,
    pub etcdversion: String,
    /// `leader`, `follower` or `learner`; empty while etcd does not answer.
    pub role: String,
    /// Bytes of etcd's database file.
    pub dbsize: u64,
    pub revision: u64,
    /// The attempt that it works for; empty while idle.
    pub attempt: String,
    /// Why nothing is known of its etcd; empty otherwise.
    pub error: String,
    /// What is wrong with its machine's clock; empty where nothing is known to be.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub clock: String,
    pub lastseen: Option<Timestamp>,
    /// The name of its etcd member, as its agent last knew it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub member: String,
    /// Its host name, as its agent tells it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// etcd's members of which no agent is connected.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<String>,
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
        ..AgentSpec::default()
    }
);

/// The coordinator that leads. There is one, under the id [`COORDINATOR_STATUS_ID`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CoordinatorStatusSpec {
    /// The UUID under which it holds the lease, and the lease's epoch.
    pub holder: String,
    pub epoch: u64,
    /// The machine that it runs on, as that names itself.
    pub host: String,
    pub version: String,
    /// When it began to lead.
    pub started: Option<Timestamp>,
    /// Its own time when it answered.
    pub now: Option<Timestamp>,
    /// How many milliseconds its clock is ahead of NATS's, and of the store's; absent while that is unknown.
    pub natsoffsetms: Option<i64>,
    pub storeoffsetms: Option<i64>,
    /// What is wrong with its clock; empty where nothing is known to be.
    pub clock: String,
    /// What it found out about the storage in force, a fact each.
    pub storage: Vec<String>,
}
spec!(
    CoordinatorStatusSpec,
    COORDINATOR_STATUSES,
    CoordinatorStatusSpec {
        started: Some(Timestamp::default()),
        now: Some(Timestamp::default()),
        natsoffsetms: Some(0),
        storeoffsetms: Some(0),
        ..CoordinatorStatusSpec::default()
    }
);

/// The id of the one coordinator status.
pub const COORDINATOR_STATUS_ID: &str = "coordinator";

/// How an attempt stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    #[default]
    Running,
    Ok,
    Failed,
}

/// One attempt at a backup, latest ones only. The id is the attempt's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BackupRunSpec {
    pub cluster: String,
    pub machine: String,
    /// `manual` or `interval`.
    pub trigger: String,
    /// The time that a manual backup was asked for by; absent where the interval asked.
    pub backupat: Option<Timestamp>,
    pub state: RunState,
    pub snapshot: String,
    pub started: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    /// Bytes of the database read so far; all of them once it is done.
    pub bytesread: u64,
    /// Bytes of the database; 0 while unknown.
    pub bytestotal: u64,
    /// Sealed bytes in the store.
    pub bytesstored: u64,
    /// How many times a part had to be sent again.
    pub partsretried: u32,
    pub revision: u64,
    /// sha256 of the database in hexadecimal, once it is proven.
    pub sha256: String,
    /// Whether another member holds the same data: `equal`, `differs` or `unknown`; empty where nobody looked.
    pub verdict: String,
    /// The member that was asked, in hexadecimal.
    pub comparedwith: String,
    /// Why the verdict is `unknown`; beside `equal`, that there was no other member to ask.
    pub verdictreason: String,
    /// Keys in the database that are not deleted; 0 while unknown.
    pub livekeys: u64,
    /// What an operator should know of the backup, though it is good; absent where there is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    pub error: String,
    /// The name of that machine's etcd member, and its host name, as its agent last told them; empty where nobody knows.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub member: String,
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

/// A backup in the store with what its manifest says. The id is that of the cluster's `EtcdBackups`. A time, size or
/// revision that is absent is not known.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredBackupSpec {
    pub cluster: String,
    /// Its name, which `restore --snapshot` takes.
    pub snapshot: String,
    pub createdat: Option<Timestamp>,
    /// Bytes of the sealed object.
    pub stored: u64,
    /// Bytes of the database.
    pub size: Option<u64>,
    pub revision: Option<u64>,
    /// What was checked before it became visible: `checksum`, `pages` (the checksum and every page of the database) or
    /// `pages+member` (another member held the same data, too); empty where its manifest cannot be read.
    pub proven: String,
    /// The same in words.
    pub proof: String,
    /// sha256 of the database in hexadecimal.
    pub sha256: String,
    pub encrypted: Option<bool>,
    pub etcdversion: String,
    /// etcd's own id of the cluster, in hexadecimal.
    pub etcdclusterid: String,
    /// Why its manifest cannot be read; empty otherwise.
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
    /// A backup of the cluster is under way: its end is waited for.
    #[default]
    Waiting,
    /// Every machine fetches and prepares; nothing live is touched.
    Preparing,
    /// All were ready: each stops etcd, changes folders, starts etcd; then they are compared.
    Switching,
    /// All is well; the machines close their books.
    Keeping,
    /// Something failed: every machine goes back to what it had.
    PuttingBack,
    /// The cluster serves what the backup held.
    Restored,
    /// It was put back; each machine says how it is.
    Failed,
}

impl RestorePhase {
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Restored | Self::Failed)
    }

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
    pub machine: String,
    /// The name of its etcd member.
    pub member: String,
    /// How its etcd is stopped and started.
    pub control: String,
    /// The folder that is set aside, and under which name.
    pub folder: String,
    pub aside: String,
    /// `pending`, `preparing`, `ready`, `stopping`, `moving`, `starting`, `switched`, `returning`, `returned`, `kept`.
    pub step: String,
    /// sha256 of the database that it prepared, in hexadecimal.
    pub digest: String,
    pub bytesdone: u64,
    pub bytestotal: u64,
    pub error: String,
    /// The version of its etcd, or the last that was known; empty: never known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub etcdversion: String,
    /// How its etcd is after the restore was put back: `untouched`, `serves`, `runs` or `down`; empty: nobody has looked.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub etcd: String,
    /// What was seen of an etcd that does not serve, and its last lines or where they are.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub etcdtext: String,
    /// Every folder of this restore that is there beside the data folder.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
    /// Its host name, as its agent last told it; empty: nobody knows.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
}

/// A cluster's latest restore. The id is the cluster's name. Applied, the first fields ask for one; the rest is told.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RestoreSpec {
    /// Makes a request that is repeated the same request; empty: each is a new one.
    pub restore: String,
    /// Where the backup is; empty: the cluster's own.
    pub clusteruuid: String,
    /// Its name, or `latest`.
    pub snapshot: String,
    /// The latest that stands for this time or an earlier one is meant; absent: whatever its time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Timestamp>,
    /// The name of the cluster that the backup is of, where that is another one: without it such a backup is refused.
    pub dataofanothercluster: String,
    /// How far revisions move on; absent: [`RESTORE_BUMP`]; 0: not at all.
    pub bump: Option<u64>,
    /// From here on told, never asked for, but for `started`.
    pub phase: RestorePhase,
    pub error: String,
    /// Asked for it is that of a plan, by which the folders set aside are named: they are named as the plan said then.
    pub started: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    /// The cluster, the time and the revision that the backup is of.
    pub sourcecluster: String,
    pub takenat: Option<Timestamp>,
    pub revision: u64,
    /// Bytes of the database, and of the sealed object.
    pub bytes: u64,
    pub sealedbytes: u64,
    pub sha256: String,
    /// What is known of the backup beyond its digests.
    pub proof: String,
    pub machines: Vec<RestoreMachineSpec>,
    /// The etcd that the backup was taken from, and the version that its database is marked with; empty: not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub etcdversion: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub storageversion: String,
    /// etcd's own id of the cluster that the backup is of; empty: not known.
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

/// How far a restore moves revisions on where nobody says: further than any cluster writes between two backups.
pub const RESTORE_BUMP: u64 = 1_000_000_000;

/// The latest proof of one of a cluster's backups. The id is the cluster's name. Applied, the first fields ask for one;
/// the rest is told.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct VerificationSpec {
    /// Makes a request that is repeated the same request; empty: each is a new one.
    pub verify: String,
    /// Empty: the newest.
    pub snapshot: String,
    /// Also start an etcd on it.
    pub boot: bool,
    /// From here on told, never asked for.
    pub state: RunState,
    pub machine: String,
    pub error: String,
    pub started: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    pub bytesdone: u64,
    pub bytestotal: u64,
    /// What was found, in words.
    pub found: String,
    /// The last proof that was good: when, of which backup, and how (`inspected` or `booted`).
    pub lastproven: Option<Timestamp>,
    pub provensnapshot: String,
    pub provenhow: String,
    /// An earlier proof that failed and still stands: when, of which backup, why, and whether the backup is at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failedat: Option<Timestamp>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub failedsnapshot: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub failederror: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub faileddamaged: bool,
    /// The name of that machine's etcd member, and its host name, as its agent last told them; empty where nobody knows.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub member: String,
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

/// `found` of a proof that failed for what the backup holds. Other versions compare this very text.
pub const PROOF_OF_DAMAGE: &str = "the backup is at fault: it does not hold what it should";

/// `found` of a proof that failed for what was in its way: it says nothing of the backup. Other versions show this text.
pub const PROOF_NOT_TRIED: &str = "nothing is known of the backup: it could not be tried";

/// A failed proof that stands: no later one has made it good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StandingFailure<'a> {
    pub at: Option<Timestamp>,
    pub snapshot: &'a str,
    pub error: &'a str,
    /// The backup is at fault; else it could not be tried, or it is not said (as by older coordinators).
    pub damaged: bool,
}

impl VerificationSpec {
    /// The failed proof that stands, this one or an earlier one.
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
