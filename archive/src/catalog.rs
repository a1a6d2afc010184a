//! What a store holds, and what unfinished attempts left in it.
//!
//! A backup is an object with a manifest. An object without one is either about to get it or was left by an
//! attempt that died in between; the owner's intent, written before the object became visible, holds the
//! manifest to be.
//!
//! One object's trouble is its own: what is archived, refused by a policy, too large or no manifest at all is
//! skipped with a warning that names it. What is the whole store's (no answer, no login, no listing) is an error.

mod reading;
mod settle;
mod skipped;
mod sweep;

use std::collections::HashSet;

use backstay_protocol::time::latest_true;
use backstay_protocol::{AttemptId, ClusterName, ClusterUuid, SnapshotName, Timestamp};
use bytes::Bytes;
use futures::TryStreamExt;
use uuid::Uuid;

pub use self::reading::{Progress, Reading};
pub use self::settle::{Settled, settle};
pub use self::skipped::Skipped;
pub use self::sweep::{Swept, sweep, sweep_slot};
use crate::manifest::{MANIFEST_MAX, Manifest, ManifestError};
use crate::store::{ErrorKind, Key, Store, StoreError};

/// How many of a cluster's newest backups are tried for a manifest that can be read.
const NAME_TRIES: usize = 5;

/// A backup as the listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub cluster: ClusterUuid,
    pub snapshot: SnapshotName,
    /// Bytes of the sealed object.
    pub size: u64,
    /// When the store wrote it, by its clock.
    pub modified: Option<Timestamp>,
}

/// Why a manifest could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error("{0}")]
    Store(#[from] StoreError),
    /// This object's own trouble: archived, refused by a policy, damaged.
    #[error("{0}")]
    Object(StoreError),
    #[error("failed to read {key}: {cause}")]
    Manifest { key: Key, cause: ManifestError },
    #[error("the manifest beside {snapshot} of cluster {cluster} is another backup's: it is not usable")]
    Foreign { cluster: ClusterUuid, snapshot: SnapshotName },
    #[error("the manifest of {snapshot} of cluster {cluster} is gone: somebody removed it after the store was listed")]
    Gone { cluster: ClusterUuid, snapshot: SnapshotName },
}

/// The manifest of a backup; `None` where there is none.
pub async fn manifest(
    store: &dyn Store,
    cluster: ClusterUuid,
    name: SnapshotName,
) -> Result<Option<Manifest>, CatalogError> {
    let key = Key::manifest(cluster, name);
    match get_if_there(store, &key, MANIFEST_MAX).await {
        Ok(Some(json)) => Manifest::from_json(&json).map(Some).map_err(|cause| CatalogError::Manifest { key, cause }),
        Ok(None) => Ok(None),
        // That backup's trouble, not the store's: others are listed all the same.
        Err(error) if error.is(ErrorKind::TooLarge) => {
            Err(CatalogError::Manifest { key, cause: ManifestError::TooLarge })
        }
        Err(error) if error.is_one_object_s() => Err(CatalogError::Object(error)),
        Err(error) => Err(error.into()),
    }
}

/// The same, of what is said to be a backup of this cluster with this name: a manifest that was copied here from another
/// place is no answer.
///
/// # Errors
/// [`CatalogError::Foreign`]: it is of another place.
pub async fn own_manifest(
    store: &dyn Store,
    cluster: ClusterUuid,
    snapshot: SnapshotName,
) -> Result<Option<Manifest>, CatalogError> {
    let found = manifest(store, cluster, snapshot).await?;
    match found.as_ref().map(|found| (found.cluster_uuid, found.snapshot)) {
        Some(place) if place != (cluster, snapshot) => Err(CatalogError::Foreign { cluster, snapshot }),
        _ => Ok(found),
    }
}

/// The same, of a backup that was listed.
///
/// # Errors
/// [`CatalogError::Gone`] as well: there is none any more.
pub async fn listed_manifest(
    store: &dyn Store,
    cluster: ClusterUuid,
    snapshot: SnapshotName,
) -> Result<Manifest, CatalogError> {
    own_manifest(store, cluster, snapshot).await?.ok_or(CatalogError::Gone { cluster, snapshot })
}

/// A small object, or `None` where there is none: some providers say "forbidden" of what is not there.
pub async fn get_if_there(store: &dyn Store, key: &Key, limit: usize) -> Result<Option<Bytes>, StoreError> {
    match store.get(key, limit).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.is(ErrorKind::NotFound) => Ok(None),
        Err(error) if error.is(ErrorKind::Denied) && matches!(store.head(key).await, Ok(None)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Backups that have both object and manifest, newest first, all pages.
pub async fn list(store: &dyn Store, cluster: ClusterUuid) -> Result<Vec<Entry>, StoreError> {
    let prefix = folder(cluster);
    let mut objects = store.list(&prefix);
    let (mut entries, mut described) = (Vec::new(), HashSet::new());
    while let Some(object) = objects.try_next().await? {
        match FileName::parse(&prefix, &object.key) {
            Some(FileName::Object(snapshot)) => {
                entries.push(Entry { cluster, snapshot, size: object.size, modified: object.modified });
            }
            Some(FileName::Manifest(snapshot)) => {
                described.insert(snapshot);
            }
            Some(FileName::Intent(..)) => {}
            None => tracing::debug!(key = %object.key, "not a backup's name: skipped"),
        }
    }
    entries.retain(|entry| described.contains(&entry.snapshot));
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.snapshot.unix_seconds()));
    Ok(entries)
}

/// The clusters that have a folder here.
pub async fn clusters(store: &dyn Store) -> Result<Vec<ClusterUuid>, StoreError> {
    let folders = store.folders().await?;
    Ok(folders.iter().filter_map(|folder| exactly(folder)).collect())
}

/// A cluster's backups, as [`list`] has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    pub cluster: ClusterUuid,
    pub entries: Vec<Entry>,
}

/// Finds the backups of a cluster by name, from the newest manifest of each folder. Where several clusters
/// had the name, it is the one with the newest backup. A backup whose name lies ahead of `now` was named by a wrong
/// clock: it decides only where there is no other.
///
/// A folder of which no manifest can be read (archived, or refused by a policy) cannot be asked for its name. It is
/// skipped with a warning and the answer may be `None`: who asks then begins a new series. That is the better of two
/// evils: the backup is made, and two series of one name can be told and put together later; an error here would
/// keep every new cluster from its first backup for as long as one old object is archived.
///
/// Where not one manifest can be read, the fault may be the store's: then an object that cannot be there is asked
/// for. A store that refuses even that lets nobody read, and that is the error.
pub async fn find_by_name(store: &dyn Store, name: &ClusterName, now: Timestamp) -> Result<Option<Series>, StoreError> {
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
        match look_for_newest_true(store, &entries, now, &mut skipped).await? {
            Newest::Manifest(manifest) => {
                read_one = true;
                let place = (Rank::of(manifest.snapshot, now), cluster);
                let is_newer = found.as_ref().is_none_or(|(rank, series)| (*rank, series.cluster) < place);
                if manifest.cluster == *name && is_newer {
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
            tracing::warn!(cluster = %name, "some backups cannot be read, so they may be of this cluster as well: taken for another's");
            Ok(None)
        }
        (None, None) => Ok(None),
    }
}

/// Whether the store lets anybody read at all, told by an object that cannot be there: refused means that
/// everything is.
pub async fn is_reading_allowed(store: &dyn Store) -> Result<bool, StoreError> {
    let absent = Key::cluster_key(ClusterUuid(Uuid::new_v4()));
    match store.get(&absent, MANIFEST_MAX).await {
        Err(error) if error.is(ErrorKind::Denied) => Ok(false),
        Err(error) if !error.is(ErrorKind::NotFound) => Err(error),
        _ => Ok(true),
    }
}

/// How much a backup's name says of what is newest: a time that can be true before one that cannot, then the later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    can_be_true: bool,
    seconds: i64,
}

impl Rank {
    pub fn of(snapshot: SnapshotName, now: Timestamp) -> Self {
        let seconds = snapshot.unix_seconds();
        Self { can_be_true: seconds <= latest_true(now).seconds, seconds }
    }
}

/// The manifest of the newest backup whose name does not lie ahead of `now`; where there is none such, of the newest.
pub async fn newest_true(
    store: &dyn Store,
    cluster: ClusterUuid,
    now: Timestamp,
) -> Result<Option<Manifest>, StoreError> {
    let Ok(entries) = list_or_skip(store, cluster, &mut Skipped::default()).await? else { return Ok(None) };
    newest_true_among(store, &entries, now).await
}

/// The same of backups that were listed already.
pub async fn newest_true_among(
    store: &dyn Store,
    entries: &[Entry],
    now: Timestamp,
) -> Result<Option<Manifest>, StoreError> {
    let mut skipped = Skipped::default();
    let newest = look_for_newest_true(store, entries, now, &mut skipped).await?;
    skipped.end();
    Ok(newest.manifest())
}

/// The manifest of the newest backup whose manifest can be read.
pub async fn newest(store: &dyn Store, cluster: ClusterUuid) -> Result<Option<Manifest>, StoreError> {
    let Ok(entries) = list_or_skip(store, cluster, &mut Skipped::default()).await? else { return Ok(None) };
    newest_among(store, &entries).await
}

/// The same of backups that were listed already.
pub async fn newest_among(store: &dyn Store, entries: &[Entry]) -> Result<Option<Manifest>, StoreError> {
    let mut skipped = Skipped::default();
    let newest = look_for_newest(store, entries, &mut skipped).await?;
    skipped.end();
    Ok(newest.manifest())
}

/// A cluster's backups; why not, where a policy keeps its folder to itself.
async fn list_or_skip(
    store: &dyn Store,
    cluster: ClusterUuid,
    skipped: &mut Skipped,
) -> Result<Result<Vec<Entry>, StoreError>, StoreError> {
    match list(store, cluster).await {
        Err(error) if error.is(ErrorKind::Denied) => {
            skipped.note(CatalogError::Object(error.clone()));
            Ok(Err(error))
        }
        result => result.map(Ok),
    }
}

/// What is known of a cluster's newest backup.
enum Newest {
    Manifest(Box<Manifest>),
    /// There are backups, and none of the newest can be read: why not the first of them.
    Unreadable(StoreError),
    None,
}

impl Newest {
    fn manifest(self) -> Option<Manifest> {
        match self {
            Self::Manifest(manifest) => Some(*manifest),
            Self::Unreadable(_) | Self::None => None,
        }
    }
}

/// Of entries from the newest on: those from the future come last.
async fn look_for_newest_true(
    store: &dyn Store,
    entries: &[Entry],
    now: Timestamp,
    skipped: &mut Skipped,
) -> Result<Newest, StoreError> {
    let true_ones = entries.partition_point(|entry| !Rank::of(entry.snapshot, now).can_be_true);
    let (ahead, true_ones) = entries.split_at(true_ones);
    let true_one = look_for_newest(store, true_ones, skipped).await?;
    if matches!(true_one, Newest::Manifest(_)) {
        return Ok(true_one);
    }
    match (look_for_newest(store, ahead, skipped).await?, true_one) {
        (Newest::None, true_one) => Ok(true_one),
        (any, _) => Ok(any),
    }
}

async fn look_for_newest(store: &dyn Store, entries: &[Entry], skipped: &mut Skipped) -> Result<Newest, StoreError> {
    let mut unreadable = None;
    for entry in entries.iter().take(NAME_TRIES) {
        match listed_manifest(store, entry.cluster, entry.snapshot).await {
            Ok(manifest) => return Ok(Newest::Manifest(Box::new(manifest))),
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

fn folder(cluster: ClusterUuid) -> String {
    format!("{cluster}/")
}

/// What a key in a cluster's folder stands for.
#[derive(Debug, PartialEq, Eq)]
enum FileName {
    Object(SnapshotName),
    Manifest(SnapshotName),
    Intent(SnapshotName, AttemptId),
}

impl FileName {
    fn parse(folder: &str, key: &Key) -> Option<Self> {
        let name = key.as_str().strip_prefix(folder)?;
        let snapshot = |stem: &str| exactly(&format!("{stem}.snapshot"));
        if let Some(intent) = name.strip_prefix("intents/") {
            let (stem, attempt) = intent.strip_suffix(".json")?.split_once('.')?;
            return Some(Self::Intent(snapshot(stem)?, exactly(attempt)?));
        }
        match name.strip_suffix(".manifest.json") {
            Some(stem) => Some(Self::Manifest(snapshot(stem)?)),
            None => Some(Self::Object(exactly(name)?)),
        }
    }
}

/// Parses a name that must be in the form in which it is printed.
fn exactly<T: std::str::FromStr + std::fmt::Display>(text: &str) -> Option<T> {
    text.parse::<T>().ok().filter(|name| name.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_are_read_as_they_are_built(cluster in 1..u128::MAX, attempt in 1..u128::MAX, seconds in 1..9_999_999_999_i64) {
            let cluster = ClusterUuid(uuid::Uuid::from_u128(cluster));
            let attempt = AttemptId(uuid::Uuid::from_u128(attempt));
            let name = SnapshotName::from_unix_seconds(seconds)?;
            let parse = |key: Key| FileName::parse(&folder(cluster), &key);
            prop_assert_eq!(parse(Key::snapshot(cluster, name)), Some(FileName::Object(name)));
            prop_assert_eq!(parse(Key::manifest(cluster, name)), Some(FileName::Manifest(name)));
            prop_assert_eq!(parse(Key::intent(cluster, name, attempt)), Some(FileName::Intent(name, attempt)));
            prop_assert_eq!(parse(Key::cluster_key(cluster)), None);
        }

        #[test]
        fn other_names_are_no_backups(text in "[A-F0-9a-z./-]{1,60}") {
            if let Some(key) = Key::new(&format!("c/{text}")) {
                match FileName::parse("c/", &key) {
                    Some(FileName::Object(name)) => prop_assert_eq!(name.to_string(), text),
                    Some(other) => prop_assert!(text.ends_with(".json"), "{other:?}"),
                    None => {}
                }
            }
        }
    }
}
