//! Which backup is meant: by name, the latest, or the latest before a time.

use backstay_protocol::{NameError, SnapshotName, Timestamp};

/// As a request asks for the latest one.
pub const LATEST: &str = "latest";

/// Which backup of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotSelector {
    Latest,
    Named(SnapshotName),
    /// The latest that is not after this.
    Before(Timestamp),
}

impl SnapshotSelector {
    /// From `latest` or a snapshot's name.
    pub fn parse_snapshot(text: &str) -> Result<Self, NameError> {
        match text {
            LATEST => Ok(Self::Latest),
            name => name.parse().map(Self::Named),
        }
    }

    /// From a time such as `2026-11-22T10:00:00Z`.
    pub fn parse_time(text: &str) -> Result<Self, String> {
        let time = Timestamp::parse_rfc3339(text).map(Self::Before);
        time.ok_or_else(|| "must be a time with a time zone, such as 2026-11-22T10:00:00Z".into())
    }

    /// As a request says it: which one that is, the coordinator finds.
    pub fn asked_for(&self) -> (String, Option<Timestamp>) {
        match self {
            Self::Latest => (LATEST.into(), None),
            Self::Named(name) => (name.to_string(), None),
            Self::Before(time) => (LATEST.into(), Some(*time)),
        }
    }
}
