//! Which backup is selected: by its name, the latest, or the latest before a time, of a named cluster or the only one;
//! and what was probably meant if there is no such backup.

use backstay_archive::catalog::{self, Progress, Skipped, Vouched};
use backstay_archive::latest::{self, LatestError, Refused, Scope};
use backstay_archive::trust::{Signers, Trust};
use backstay_archive::{Store, merge, names};
use backstay_protocol::{ClusterName, ClusterUuid, NameError, SnapshotName, Timestamp, validate};

use super::error::RestoreFailure;
use super::open::Opened;
use crate::cluster_restore::choose::{SUFFIX, SnapshotSelector};

/// How many clusters an error names.
const SHOWN_MAX: usize = 20;

/// How many characters of a name may be mistyped.
const SLIPS_MAX: usize = 2;

/// Which cluster of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cluster {
    /// None is named.
    Any,
    Named(ClusterName),
    Uuid(ClusterUuid),
}

impl Cluster {
    /// From `--cluster` and `--cluster-uuid`, of which at most one is given.
    pub fn of(name: Option<ClusterName>, uuid: Option<ClusterUuid>) -> Self {
        match (name, uuid) {
            (_, Some(uuid)) => Self::Uuid(uuid),
            (Some(name), None) => Self::Named(name),
            (None, None) => Self::Any,
        }
    }

    async fn find(&self, store: &dyn Store, now: Timestamp, signers: &Signers) -> Result<ClusterUuid, RestoreFailure> {
        match self {
            Self::Any => only_cluster(store).await,
            Self::Uuid(uuid) => Ok(*uuid),
            Self::Named(name) => match names::find(store, name, now, signers).await? {
                Some(uuid) => Ok(uuid),
                None => Err(unknown(store, name).await?),
            },
        }
    }
}

/// The manifest of the selected backup, and which others could not be read on the way.
///
/// # Errors
/// The store does not answer, or has no such cluster or backup.
pub async fn choose(
    store: &Opened,
    cluster: &Cluster,
    which: &SnapshotSelector,
    now: Timestamp,
    trust: &Trust,
    progress: &Progress,
) -> Result<(Vouched, Skipped), RestoreFailure> {
    let cluster = cluster.find(&**store, now, &trust.signers).await?;
    let until = match which {
        SnapshotSelector::Latest => None,
        SnapshotSelector::Before(time) => Some(*time),
        SnapshotSelector::Named(snapshot) => return named(store, cluster, *snapshot, trust).await,
    };
    let scope = Scope { until, trust: trust.clone(), ..Scope::default() };
    latest(store, cluster, &scope, now, progress).await
}

async fn named(
    store: &Opened,
    cluster: ClusterUuid,
    snapshot: SnapshotName,
    trust: &Trust,
) -> Result<(Vouched, Skipped), RestoreFailure> {
    let Some(found) = catalog::vouched_manifest(&**store, cluster, snapshot, &trust.signers).await? else {
        let hint = hint(&snapshot.to_string(), store, cluster).await?;
        return Err(RestoreFailure::NoSnapshot { store: store.url(), cluster, snapshot, hint });
    };
    match trust.doubt(found.voucher.as_ref()) {
        None => Ok((found, Skipped::default())),
        Some(why) => Err(RestoreFailure::Refused { refused: Box::new(Refused { snapshot, why, good: None }) }),
    }
}

async fn latest(
    store: &Opened,
    cluster: ClusterUuid,
    scope: &Scope,
    now: Timestamp,
    progress: &Progress,
) -> Result<(Vouched, Skipped), RestoreFailure> {
    let found = latest::find(&**store, cluster, scope, now, progress).await.map_err(|error| match error {
        LatestError::Store(error) => RestoreFailure::Store(error),
        LatestError::Refused(refused) => RestoreFailure::Refused { refused },
        LatestError::Ambiguous(ambiguous) => RestoreFailure::Ambiguous(ambiguous),
    })?;
    let none = || match (scope.until, store.list_line()) {
        (Some(time), list) => RestoreFailure::NoneBefore { store: store.url(), cluster, time: time.rfc3339(), list },
        (None, list) => RestoreFailure::NoBackup { store: store.url(), cluster, list },
    };
    Ok((found.found.ok_or_else(none)?, found.skipped))
}

/// The error about a text that is no snapshot's name, with the one in the store that was probably meant.
pub async fn not_a_name(
    error: NameError,
    store: &Opened,
    cluster: &Cluster,
    now: Timestamp,
    signers: &Signers,
) -> RestoreFailure {
    let looked = async { hint(&error.given, store, cluster.find(&**store, now, signers).await?).await };
    // Without the store's word the name is wrong all the same.
    match looked.await {
        Ok(hint) => RestoreFailure::NotAName { error, hint },
        Err::<_, RestoreFailure>(failure) => RestoreFailure::NotAName { error, hint: failure.to_string() },
    }
}

/// Whether a text that is not a snapshot's name may be one with a typing error: then the store is searched for the
/// right one.
pub fn is_nearly_a_name(typed: &str) -> bool {
    let digits = typed.strip_suffix(SUFFIX).unwrap_or(typed);
    let is_plain = digits.bytes().all(|b| b.is_ascii_alphanumeric());
    is_plain
        && (8..=20).contains(&digits.len())
        && digits.bytes().filter(|b| !b.is_ascii_hexdigit()).count() <= SLIPS_MAX
}

/// What to do about a name that is not there.
async fn hint(typed: &str, store: &Opened, cluster: ClusterUuid) -> Result<String, RestoreFailure> {
    let names: Vec<SnapshotName> = catalog::list(&**store, cluster).await?.iter().map(|entry| entry.snapshot).collect();
    Ok(match nearest(typed, &names) {
        Some(name) => format!("did you mean {name}, taken {}?", name.time().rfc3339()),
        None => format!("run `{}` to see what it contains", store.list_line()),
    })
}

/// The only name that begins with it, otherwise the one that differs in the fewest characters, if these are few.
pub fn nearest(typed: &str, names: &[SnapshotName]) -> Option<SnapshotName> {
    let typed = typed.strip_suffix(SUFFIX).unwrap_or(typed).to_ascii_uppercase();
    let names: Vec<(String, SnapshotName)> =
        names.iter().map(|name| (name.to_string().trim_end_matches(SUFFIX).to_owned(), *name)).collect();
    let mut beginning = names.iter().filter(|(digits, _)| digits.starts_with(&typed));
    if let (Some((_, only)), None) = (beginning.next(), beginning.next()) {
        return Some(*only);
    }
    let slips = names.iter().map(|(digits, name)| (strsim::osa_distance(&typed, digits), *name));
    slips.filter(|(slips, _)| *slips <= SLIPS_MAX).min_by_key(|(slips, _)| *slips).map(|(_, name)| name)
}

/// All UUIDs under which the store has backups of a cluster with this name.
///
/// # Errors
/// There is none.
pub async fn series_of(store: &dyn Store, name: &ClusterName) -> Result<Vec<ClusterUuid>, RestoreFailure> {
    match merge::series_of(store, name).await? {
        none if none.is_empty() => Err(unknown(store, name).await?),
        series => Ok(series),
    }
}

async fn only_cluster(store: &dyn Store) -> Result<ClusterUuid, RestoreFailure> {
    match with_backups(store).await?[..] {
        [] => Err(RestoreFailure::Empty { store: store.url() }),
        [only] => Ok(only),
        ref several => {
            let text = |(uuid, name): (ClusterUuid, Option<ClusterName>)| match name {
                Some(name) => format!("{name} ({uuid})"),
                None => uuid.to_string(),
            };
            let clusters = shown(names_of(store, several).await?.into_iter().map(text));
            Err(RestoreFailure::SeveralClusters { store: store.url(), clusters })
        }
    }
}

/// The clusters that have a backup here. A folder may hold no more than the key of a cluster that never had one.
async fn with_backups(store: &dyn Store) -> Result<Vec<ClusterUuid>, RestoreFailure> {
    let mut clusters = catalog::clusters(store).await?;
    // One alone is the one that is meant: whatever it holds, the error about it names it.
    if clusters.len() < 2 {
        return Ok(clusters);
    }
    let mut kept = Vec::new();
    for cluster in clusters.drain(..) {
        if !catalog::list(store, cluster).await?.is_empty() {
            kept.push(cluster);
        }
    }
    Ok(kept)
}

/// Why there is no cluster of that name, with those that there are.
async fn unknown(store: &dyn Store, name: &ClusterName) -> Result<RestoreFailure, RestoreFailure> {
    let clusters = with_backups(store).await?;
    if clusters.is_empty() {
        return Ok(RestoreFailure::Empty { store: store.url() });
    }
    let mut known: Vec<String> = names_of(store, &clusters)
        .await?
        .into_iter()
        .filter_map(|(_, name)| name)
        .map(|name| name.to_string())
        .collect();
    known.sort();
    known.dedup();
    let meant = validate::nearest(name.as_str(), known.iter().map(String::as_str));
    let known = shown(known.into_iter());
    let hint = match meant {
        Some(meant) => format!("did you mean {meant}? It contains backups of {known}"),
        None => format!("it contains backups of {known}"),
    };
    Ok(RestoreFailure::UnknownCluster { store: store.url(), cluster: name.clone(), hint })
}

/// Each cluster, with its name in its newest backup.
async fn names_of(
    store: &dyn Store,
    clusters: &[ClusterUuid],
) -> Result<Vec<(ClusterUuid, Option<ClusterName>)>, RestoreFailure> {
    let mut named = Vec::new();
    for cluster in clusters {
        named.push((*cluster, catalog::newest(store, *cluster).await?.map(|newest| newest.cluster)));
    }
    Ok(named)
}

/// The first ones in a line, and how many more there are.
fn shown(clusters: impl ExactSizeIterator<Item = String>) -> String {
    let others = clusters.len().saturating_sub(SHOWN_MAX);
    let text = clusters.take(SHOWN_MAX).collect::<Vec<_>>().join(", ");
    if others == 0 { text } else { format!("{text} and {others} more") }
}

#[cfg(test)]
mod tests {
    use backstay_archive::store::local::LocalStore;

    use super::*;

    fn name(seconds: i64) -> SnapshotName {
        SnapshotName::from_unix_seconds(seconds).expect("in range")
    }

    fn entries() -> Vec<SnapshotName> {
        // FFFFFFFF9A98E676, FFFFFFFF9A99F7E6 and FFFFFFFF9A9B4966.
        [1_701_255_562, 1_701_185_562, 1_701_099_162].map(name).into()
    }

    #[test]
    fn the_nearest_name_is_the_one_with_the_fewest_slips_or_the_only_one_that_begins_so() {
        let entries = entries();
        let digits = |at: usize| entries[at].to_string().replace(SUFFIX, "");
        let mut swapped: Vec<char> = digits(1).chars().collect();
        swapped.swap(12, 13);
        let swapped: String = swapped.into_iter().collect();
        assert_ne!(swapped, digits(1));
        for (typed, meant) in [
            (format!("{}.snapshot", &digits(1)[1..]), Some(1)),
            (format!("{}0", digits(2)), Some(2)),
            (swapped, Some(1)),
            (digits(0)[..13].to_owned(), Some(0)),
            (digits(2).to_lowercase(), Some(2)),
            (digits(0)[..9].to_owned(), None),
            ("FFFFFFFF00000000.snapshot".into(), None),
        ] {
            assert_eq!(nearest(&typed, &entries), meant.map(|at| entries[at]), "{typed}");
        }
        assert_eq!(nearest(&digits(0), &[]), None);
    }

    #[tokio::test]
    async fn a_folder_that_holds_only_a_key_is_no_cluster() {
        let folder = tempfile::tempdir().expect("a folder");
        let (backed_up, never) = ("7d3a5a4c-9a0d-4c39-9b3c-3a2f1d9c2f10", "3c704b4f-9a0d-4c39-9b3c-3a2f1d9c2f10");
        for file in ["FFFFFFFF9A98E676.snapshot", "FFFFFFFF9A98E676.manifest.json", "key.age"] {
            let at = folder.path().join(backed_up);
            std::fs::create_dir_all(&at).and_then(|()| std::fs::write(at.join(file), "x")).expect("writable");
        }
        let at = folder.path().join(never);
        std::fs::create_dir(&at).and_then(|()| std::fs::write(at.join("key.age"), "x")).expect("writable");
        let store = LocalStore::open(folder.path()).expect("it is there");
        assert_eq!(only_cluster(&store).await.expect("only one has a backup").to_string(), backed_up);
        let other = folder.path().join("2b704b4f-9a0d-4c39-9b3c-3a2f1d9c2f10");
        std::fs::rename(folder.path().join(backed_up), &other).expect("ours");
        std::fs::create_dir(folder.path().join(backed_up)).expect("ours");
        std::fs::remove_dir_all(&other).expect("ours");
        let none = only_cluster(&store).await.expect_err("nobody has a backup");
        assert!(matches!(none, RestoreFailure::Empty { .. }), "{none}");
    }

    #[test]
    fn only_what_looks_like_a_name_is_looked_for() {
        for typed in ["FFFFFFFF9A8AF98", "FFFFFFFF9A8AF980O.snapshot", "FFFFFFFF9A8AF9800"] {
            assert!(is_nearly_a_name(typed), "{typed}");
        }
        for typed in ["", "lastest", "nonsense", "abc", "2026-11-22", "FFFFFFFF9A8AF980FFFFFFFF9A8AF980"] {
            assert!(!is_nearly_a_name(typed), "{typed}");
        }
    }

    #[test]
    fn of_many_clusters_the_first_are_named() {
        assert_eq!(shown(["a".to_owned(), "b".to_owned()].into_iter()), "a, b");
        let many = (0..23).map(|n| n.to_string()).collect::<Vec<_>>();
        assert!(shown(many.into_iter()).ends_with("18, 19 and 3 more"));
    }
}
