//! Which backup is meant: by its name or as the latest, of a cluster that is named or the only one.

use backstay_archive::catalog::{self, Progress, Skipped};
use backstay_archive::latest::{self, LatestError, Scope};
use backstay_archive::{Manifest, Store};
use backstay_protocol::{ClusterUuid, NameError, SnapshotName, Timestamp};

use super::error::RestoreFailure;

/// What `--snapshot` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Latest,
    Named(SnapshotName),
}

impl Wanted {
    pub fn parse(text: &str) -> Result<Self, NameError> {
        match text {
            "latest" => Ok(Self::Latest),
            name => name.parse().map(Self::Named),
        }
    }
}

/// The manifest of the backup that is meant, and which others could not be read while it was looked for.
pub async fn choose(
    store: &dyn Store,
    cluster: Option<ClusterUuid>,
    wanted: Wanted,
    now: Timestamp,
    progress: &Progress,
) -> Result<(Manifest, Skipped), RestoreFailure> {
    let cluster = match cluster {
        Some(cluster) => cluster,
        None => only_cluster(store).await?,
    };
    let Wanted::Named(snapshot) = wanted else { return latest(store, cluster, now, progress).await };
    let manifest = catalog::own_manifest(store, cluster, snapshot).await?;
    let manifest = manifest.ok_or_else(|| RestoreFailure::NoSnapshot { store: store.url(), cluster, snapshot })?;
    Ok((manifest, Skipped::default()))
}

async fn latest(
    store: &dyn Store,
    cluster: ClusterUuid,
    now: Timestamp,
    progress: &Progress,
) -> Result<(Manifest, Skipped), RestoreFailure> {
    let found = latest::find(store, cluster, &Scope::default(), now, progress).await.map_err(|error| match error {
        LatestError::Store(error) => RestoreFailure::Store(error),
        LatestError::Catalog(error) => RestoreFailure::Catalog(error),
        LatestError::Ambiguous(ambiguous) => RestoreFailure::Ambiguous(ambiguous),
    })?;
    let manifest = found.manifest.ok_or_else(|| RestoreFailure::NoBackup { store: store.url(), cluster })?;
    Ok((manifest, found.skipped))
}

async fn only_cluster(store: &dyn Store) -> Result<ClusterUuid, RestoreFailure> {
    match catalog::clusters(store).await?[..] {
        [] => Err(RestoreFailure::Empty { store: store.url() }),
        [only] => Ok(only),
        ref several => {
            let mut named = Vec::new();
            for cluster in several {
                let newest = catalog::newest(store, *cluster).await?;
                named.push(newest.map_or_else(|| cluster.to_string(), |m| format!("{cluster} ({})", m.cluster)));
            }
            Err(RestoreFailure::SeveralClusters { store: store.url(), clusters: named.join(", ") })
        }
    }
}
