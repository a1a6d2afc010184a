//! Which backup is meant: by name, the latest, or the latest before a time.

use backstay_protocol::api::GetRequest;
use backstay_protocol::resource::LABEL_CLUSTER;
use backstay_protocol::spec::BackupSpec;
use backstay_protocol::{NameError, SnapshotName, Timestamp, types};

use crate::cli::api::{Api, Transport};
use crate::cli::console::Failure;
use crate::cli::listing;

/// Which backup of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    Latest,
    Named(SnapshotName),
    /// The latest that is not after this.
    Before(Timestamp),
}

impl Which {
    /// From `latest` or a snapshot's name.
    pub fn parse_snapshot(text: &str) -> Result<Self, NameError> {
        match text {
            "latest" => Ok(Self::Latest),
            name => name.parse().map(Self::Named),
        }
    }

    /// From a time such as `2026-11-22T10:00:00Z`.
    pub fn parse_time(text: &str) -> Result<Self, String> {
        let time = Timestamp::parse_rfc3339(text).map(Self::Before);
        time.ok_or_else(|| "must be a time with its zone, such as 2026-11-22T10:00:00Z".into())
    }
}

/// The name of the backup that is meant.
pub async fn snapshot<T: Transport>(api: &Api<T>, cluster: &str, which: &Which) -> Result<String, Failure> {
    if let Which::Named(name) = which {
        return Ok(name.to_string());
    }
    let selector = format!("{LABEL_CLUSTER}={cluster}");
    let items = api.get(&types::ETCD_BACKUPS, &GetRequest { selector, ..GetRequest::default() }).await?;
    let mut backups: Vec<BackupSpec> = listing::typed::<BackupSpec>(&items).map(|(_, backup)| backup).collect();
    backups.sort_by_key(|backup| std::cmp::Reverse(backup.createdat));
    let fits = |backup: &&BackupSpec| match which {
        Which::Before(time) => backup.createdat.is_some_and(|at| at <= *time),
        _ => true,
    };
    let none = || Failure::RestoreCluster {
        cluster: cluster.to_owned(),
        reason: match which {
            Which::Before(time) => format!("it has no backup from {} or before", time.rfc3339()),
            _ => "it has no backup".into(),
        },
    };
    backups.iter().find(fits).map(|backup| backup.snapshot.clone()).ok_or_else(none)
}
