//! What is known about a cluster, and the words for its state.

use std::time::Duration;

use backstay_protocol::backstay_types::VerificationSpec;
use backstay_protocol::spec::BackupStatusSpec;

/// The word, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Word {
    NoStorage,
    NoAgent,
    /// A verification found a damaged backup.
    Damaged,
    Never,
    Failing,
    /// The time of its last backup is in the future.
    Clock,
    Stale,
    /// A restore of it is running: that members do not answer is part of it.
    Restoring,
    /// An agent is connected, but its etcd does not answer.
    MemberDown,
    /// etcd has more members than there are agents.
    FewAgents {
        connected: usize,
        members: usize,
    },
    /// A verification was requested, but could not be carried out.
    Unproven,
    NoSchedule,
    /// It has no schedule because somebody set it so, which is fine.
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
            Self::NoSchedule => "no schedule".into(),
            Self::NotScheduled => "off".into(),
            Self::Ok => "ok".into(),
        }
    }

    /// Whether there is nothing to do.
    pub fn is_fine(self) -> bool {
        matches!(self, Self::Ok | Self::NotScheduled)
    }
}

/// When backups are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Schedule {
    Every(Duration),
    /// Nothing is configured.
    #[default]
    None,
    /// Only manual ones, as configured by `enabled: false`.
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

/// What is known about a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    pub cluster: String,
    pub schedule: Schedule,
    pub status: BackupStatusSpec,
    /// How many agents are connected.
    pub agents: usize,
    pub down: Vec<Down>,
    /// The members without a connected agent.
    pub absent: Vec<String>,
    /// Agents that cannot be told apart, a sentence for each machine UUID.
    pub twins: Vec<String>,
    /// Whether the coordinator may not have received beats of every agent yet: then no agent counts as missing.
    pub settling: bool,
    /// Why there is no storage for backups; empty if there is.
    pub storage: String,
    /// How far the running restore is; empty if there is none.
    pub restoring: String,
    /// The latest verification of a stored backup.
    pub verification: VerificationSpec,
}
