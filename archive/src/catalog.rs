//! What a store contains, and what unfinished attempts left in it.
//!
//! A backup is an object with a manifest. An object without a manifest is either about to get one, or was left by an
//! attempt that died in between. Its intent, written before the object became visible, contains the future manifest.
//!
//! If a single object cannot be used (archived, denied by a policy, too large, not a manifest), it is skipped with a
//! warning that names it. If the whole store fails (no answer, no login, no listing), that is an error.
//!
//! ```
#![doc = include_str!("example.txt")]
//! use backstay_archive::catalog;
//! use backstay_archive::trust::Signers;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let store = LocalStore::open(directory.path())?;
//! # backup(&store, &Identity::generate()).await?;
//! # let mut found = Vec::new();
//! for cluster in catalog::clusters(&store).await? {
//!     for backup in catalog::list(&store, cluster).await? {
//!         let manifest = catalog::listed_backup(&store, cluster, backup.snapshot, &Signers::default()).await?.manifest;
//!         println!("{} {} revision {}", manifest.cluster, backup.snapshot, manifest.origin.revision);
//! #       found.push(manifest.origin.revision);
//!     }
//! }
//! # assert_eq!(found, [8]);
//! # Ok(())
//! # }
//! ```

mod error;
mod intent;
mod listing;
mod lookup;
mod reading;
mod settle;
mod signature;
mod signed;
mod skipped;
mod sweep;

use backstay_protocol::time::is_ahead;
use backstay_protocol::{ClusterName, ClusterUuid, Timestamp};
use backstay_trust::Signers;
use uuid::Uuid;

pub use self::error::CatalogError;
pub use self::listing::{ListedBackup, clusters, list};
pub use self::lookup::{Vouched, get_if_there, listed_backup, manifest, own_manifest, vouched_manifest};
pub use self::reading::{Progress, Reading};
pub use self::settle::{Settled, settle};
pub use self::signature::put_signature;
pub use self::signed::newest_signed;
pub use self::skipped::Skipped;
pub use self::sweep::{Swept, sweep, sweep_slot};
use crate::manifest::{MANIFEST_MAX, Manifest};
use crate::store::{ErrorKind, Key, Store, StoreError};

/// For how many of a cluster's newest backups the manifest is tried, until one can be read.
const NAME_TRIES: usize = 5;

/// The backups of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// The cluster's UUID.
    pub cluster: ClusterUuid,
    /// Its backups, newest name first, as [`list`] returns them.
    pub entries: Vec<ListedBackup>,
}

/// Finds the backups of a cluster by its name, which is read from the newest manifest of each folder. If several
/// clusters have the name, the one with the newest backup is returned. A backup whose name is later than `now` was
/// named by a wrong clock; it counts only if there are no others.
///
/// If no manifest of a folder can be read (archived, or denied by a policy), the folder is skipped with a warning,
/// and the result may be `None`. The caller then starts a new series. This is the lesser evil: the backup is made,
/// and two series with one name can be recognised and merged later. With an error instead, no new cluster could make
/// its first backup while one old object is archived.
///
/// Backups that one of `signers` signed come first, however many later ones others put there.
///
/// # Errors
/// [`StoreError`] if the store fails. If not a single manifest can be read, an object that cannot exist is requested:
/// a store that denies even that allows no reading at all, and the denial is returned.
pub async fn find_by_name(
    store: &dyn Store,
    name: &ClusterName,
    now: Timestamp,
    signers: &Signers,
) -> Result<Option<Series>, StoreError> {
    let mut found: Option<(Rank, Series)> = None;
    let (mut skipped, mut nameless, mut read_one) = (Skipped::default(), None, false);
    for cluster in clusters(store).await? {
        let entries = match list_or_skip(store, cluster, &mut skipped).await? {
            Ok(entries) => entries,
            Err(error) => {
                nameless = nameless.or(Some(error));
                continue;
            }
        };
        match look_for_newest_true(store, &entries, now, signers, &mut skipped).await? {
            Newest::Found(newest) => {
                read_one = true;
                let place = (Rank::of(&newest, now), cluster);
                let is_newer = found.as_ref().is_none_or(|(rank, series)| (*rank, series.cluster) < place);
                if newest.manifest.cluster == *name && is_newer {
                    found = Some((place.0, Series { cluster, entries }));
                }
            }
            Newest::Unreadable(error) => nameless = nameless.or(Some(error)),
            Newest::None => {}
        }
    }
    skipped.end();
    match (found, nameless) {
        (Some((_, series)), _) => Ok(Some(series)),
        (None, Some(error)) if !read_one && !is_reading_allowed(store).await? => Err(error),
        (None, Some(_)) => {
            tracing::warn!(cluster = %name, "some backups cannot be read and may belong to this cluster; assuming that \
                they belong to another");
            Ok(None)
        }
        (None, None) => Ok(None),
    }
}

/// Whether the store allows reading at all. Tested with an object that cannot exist: if that is denied, everything
/// is.
///
/// # Errors
/// [`StoreError`] if the store fails for another reason.
pub async fn is_reading_allowed(store: &dyn Store) -> Result<bool, StoreError> {
    let absent = Key::cluster_key(ClusterUuid(Uuid::new_v4()));
    match store.get(&absent, MANIFEST_MAX).await {
        Err(error) if error.is(ErrorKind::Denied) => Ok(false),
        Err(error) if !error.is(ErrorKind::NotFound) => Err(error),
        _ => Ok(true),
    }
}

/// Orders backups from old to new by their names. Names in the future, from a wrong clock, come before all others, and
/// unsigned backups before those that a trusted signer signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    is_signed: bool,
    can_be_true: bool,
    seconds: i64,
}

impl Rank {
    /// The rank of a backup at the time `now`.
    pub fn of(backup: &Vouched, now: Timestamp) -> Self {
        let snapshot = backup.manifest.snapshot;
        let is_signed = backup.is_signed();
        Self { is_signed, can_be_true: !is_ahead(snapshot.time(), now), seconds: snapshot.unix_seconds() }
    }
}

/// The newest backup that one of `signers` signed; if there is none, the newest whose name is not later than `now`; if
/// there is none either, the newest of all. `None` if no manifest can be read.
///
/// # Errors
/// [`StoreError`] if the store fails.
pub async fn newest_true(
    store: &dyn Store,
    cluster: ClusterUuid,
    now: Timestamp,
    signers: &Signers,
) -> Result<Option<Vouched>, StoreError> {
    let Ok(entries) = list_or_skip(store, cluster, &mut Skipped::default()).await? else { return Ok(None) };
    newest_true_among(store, &entries, now, signers).await
}

/// The same for backups that were already listed.
///
/// # Errors
/// [`StoreError`] if the store fails.
pub async fn newest_true_among(
    store: &dyn Store,
    entries: &[ListedBackup],
    now: Timestamp,
    signers: &Signers,
) -> Result<Option<Vouched>, StoreError> {
    let mut skipped = Skipped::default();
    let newest = look_for_newest_true(store, entries, now, signers, &mut skipped).await?;
    skipped.end();
    Ok(newest.found())
}

/// The manifest of the newest backup, by name, whose manifest can be read; `None` if there is none.
///
/// # Errors
/// [`StoreError`] if the store fails.
pub async fn newest(store: &dyn Store, cluster: ClusterUuid) -> Result<Option<Manifest>, StoreError> {
    let Ok(entries) = list_or_skip(store, cluster, &mut Skipped::default()).await? else { return Ok(None) };
    newest_among(store, &entries).await
}

/// The same for backups that were already listed.
///
/// # Errors
/// [`StoreError`] if the store fails.
pub async fn newest_among(store: &dyn Store, entries: &[ListedBackup]) -> Result<Option<Manifest>, StoreError> {
    let mut skipped = Skipped::default();
    let newest = look_for_newest(store, entries, &mut skipped).await?;
    skipped.end();
    Ok(newest.found().map(|found| found.manifest))
}

/// The backups of a cluster; the inner error if a policy denies listing its folder.
async fn list_or_skip(
    store: &dyn Store,
    cluster: ClusterUuid,
    skipped: &mut Skipped,
) -> Result<Result<Vec<ListedBackup>, StoreError>, StoreError> {
    match list(store, cluster).await {
        Err(error) if error.is(ErrorKind::Denied) => {
            skipped.note(CatalogError::Object(error.clone()));
            Ok(Err(error))
        }
        result => result.map(Ok),
    }
}

/// What is known about a cluster's newest backup.
enum Newest {
    Found(Box<Vouched>),
    /// There are backups, but none of the newest can be read; this is the error for the first of them.
    Unreadable(StoreError),
    None,
}

impl Newest {
    fn found(self) -> Option<Vouched> {
        match self {
            Self::Found(found) => Some(*found),
            Self::Unreadable(_) | Self::None => None,
        }
    }
}

/// Searches from the newest entry on. Those from the future come last.
async fn look_for_newest_true(
    store: &dyn Store,
    entries: &[ListedBackup],
    now: Timestamp,
    signers: &Signers,
    skipped: &mut Skipped,
) -> Result<Newest, StoreError> {
    let true_ones = entries.partition_point(|entry| is_ahead(entry.snapshot.time(), now));
    let (ahead, true_ones) = entries.split_at(true_ones);
    for entries in [true_ones, ahead] {
        if let Some(signed) = newest_signed(store, entries, signers).await? {
            return Ok(Newest::Found(Box::new(signed)));
        }
    }
    let true_one = look_for_newest(store, true_ones, skipped).await?;
    if matches!(true_one, Newest::Found(_)) {
        return Ok(true_one);
    }
    match (look_for_newest(store, ahead, skipped).await?, true_one) {
        (Newest::None, true_one) => Ok(true_one),
        (any, _) => Ok(any),
    }
}

async fn look_for_newest(
    store: &dyn Store,
    entries: &[ListedBackup],
    skipped: &mut Skipped,
) -> Result<Newest, StoreError> {
    let mut unreadable = None;
    for entry in entries.iter().take(NAME_TRIES) {
        match listed_backup(store, entry.cluster, entry.snapshot, &Signers::default()).await {
            Ok(found) => return Ok(Newest::Found(Box::new(found))),
            Err(CatalogError::Store(error)) => return Err(error),
            Err(error) => {
                if let CatalogError::Object(error) = &error {
                    unreadable.get_or_insert_with(|| error.clone());
                }
                skipped.note(error);
            }
        }
    }
    Ok(unreadable.map_or(Newest::None, Newest::Unreadable))
}
