//! What is known about a cluster, and the words for its state.

use std::time::Duration;

use backstay_protocol::backstay_types::VerificationSpec;
use backstay_protocol::spec::BackupStatusSpec;

/// The word, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Word {
    NoStorage,
    NoAgent,
    /// A proof found a backup damaged.
    Damaged,
    Never,
    Failing,
    /// Its last backup lies in the future.
    Clock,
    Stale,
    /// A restore of it is under way: members that do not answer are part of that.
    Restoring,
    /// An agent is connected, and its etcd does not answer.
    MemberDown,
    /// etcd has more members than there are agents.
    FewAgents {
        connected: usize,
        members: usize,
    },
    /// A proof was asked for and could not be tried.
    Unproven,
    NoSchedule,
    /// Without a schedule, and somebody said so: that is as it should be.
    NotScheduled,
    Ok,
}

impl Word {
    pub fn text(self) -> String {
        match self {
            Self::NoStorage => "no storage".into(),
            Self::NoAgent => "no agent".into(),
            Self::Damaged => "damaged".into(),
            Self::Never => "never".into(),
            Self::Failing => "failing".into(),
            Self::Clock => "clock".into(),
            Self::Stale => "stale".into(),
            Self::Restoring => "restoring".into(),
            Self::MemberDown => "member down".into(),
            Self::FewAgents { connected, members } => format!("{connected}/{members} agents"),
            Self::Unproven => "unproven".into(),
            Self::NoSchedule | Self::NotScheduled => "no schedule".into(),
            Self::Ok => "ok".into(),
        }
    }

    /// Whether there is nothing to be done.
    pub fn is_fine(self) -> bool {
        matches!(self, Self::Ok | Self::NotScheduled)
    }
}

/// When backups are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Schedule {
    Every(Duration),
    /// Nobody said anything.
    #[default]
    None,
    /// By hand alone, as was said: `enabled: false`.
    Off,
}

impl Schedule {
    pub fn interval(self) -> Option<Duration> {
        match self {
            Self::Every(interval) => Some(interval),
            Self::None | Self::Off => None,
        }
    }
}

/// An agent whose etcd does not answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Down {
    /// What its machine is called.
    pub machine: String,
    pub error: String,
}

/// What is known of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    pub cluster: String,
    pub schedule: Schedule,
    pub status: BackupStatusSpec,
    /// How many agents are connected.
    pub agents: usize,
    pub down: Vec<Down>,
    /// The members of which no agent is connected.
    pub absent: Vec<String>,
    /// The coordinator may not have heard every agent yet: none is missed.
    pub settling: bool,
    /// Why backups have nowhere to go; empty where they have.
    pub storage: String,
    /// How far the restore is that is under way; empty: none is.
    pub restoring: String,
    /// The latest proof of a backup at rest.
    pub verification: VerificationSpec,
}
