//! Arguments that only `restore CLUSTER` has.

use std::time::Duration;

use backstay_protocol::duration;
use clap::Args;

use super::SnapshotSelector;

/// A cluster is restored by its agents.
#[derive(Debug, Args)]
#[command(next_help_heading = "With CLUSTER")]
pub struct OfCluster {
    /// Restore the newest backup taken at or before this time, such as 2026-11-22T10:00:00Z
    #[arg(long, value_name = "TIME", value_parser = SnapshotSelector::parse_time, conflicts_with = "snapshot", help_heading = None::<&str>)]
    pub before: Option<SnapshotSelector>,
    /// Restore a backup of this other cluster instead, replacing the data of CLUSTER
    #[arg(long, value_name = "OTHER", default_value = "", hide_default_value = true)]
    pub data_of_another_cluster: String,
    /// Skip the confirmation
    #[arg(short, long)]
    pub yes: bool,
    /// How long to wait for the end of the restore
    #[arg(long, default_value = "3h", value_name = "DURATION", value_parser = duration::parse)]
    pub timeout: Duration,
}
