//! The specs of Backstay's own types: who is connected, and what became of each attempt. Read only.

use serde::{Deserialize, Serialize};

use crate::spec::{Spec, spec};
use crate::time::Timestamp;

/// An agent that is connected. The id is its machine's UUID.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
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
    pub lastseen: Option<Timestamp>,
}
spec!(AgentSpec, AGENTS, AgentSpec { lastseen: Some(Timestamp::default()), ..AgentSpec::default() });

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
#[serde(default, deny_unknown_fields)]
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
    pub error: String,
}
spec!(
    BackupRunSpec,
    BACKUP_RUNS,
    BackupRunSpec {
        backupat: Some(Timestamp::default()),
        started: Some(Timestamp::default()),
        ended: Some(Timestamp::default()),
        ..BackupRunSpec::default()
    }
);
