//! What a store holds, and what unfinished attempts left in it.
//!
//! A backup is an object with a manifest. An object without one is either about to get it or was left by an
//! attempt that died in between; the owner's intent, written before the object became visible, holds the
//! manifest to be.

use std::collections::HashSet;

use backstay_protocol::{AttemptId, ClusterName, ClusterUuid, SnapshotName, Timestamp};
use futures::TryStreamExt;

use crate::manifest::{MANIFEST_MAX, Manifest, ManifestError};
use crate::store::{ErrorKind, Key, ObjectInfo, Store, StoreError, Unfinished};

/// How many of a cluster's newest backups are tried for a manifest that can be read.
const NAME_TRIES: usize = 5;

/// What holds a name.
#[derive(Debug)]
pub enum Settled {
    Free,
    Done(Box<Manifest>),
    /// Something that is no backup: an object with neither a manifest that can be read nor its owner's
    /// intent, or a manifest without object. Nothing is ever overwritten, so the name cannot be used.
    Orphan(ObjectInfo),
}

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

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    pub uploads: usize,
    pub intents: usize,
    /// Objects that got the manifest which they lacked.
    pub promoted: usize,
}

/// Why a manifest could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("failed to read {key}: {cause}")]
    Manifest { key: Key, cause: ManifestError },
}

/// What holds the name. Where an object stands without its manifest (its attempt died between completion
/// and manifest), the owner's intent is promoted to the manifest.
pub async fn settle(store: &dyn Store, cluster: ClusterUuid, name: SnapshotName) -> Result<Settled, StoreError> {
    Ok(settle_counted(store, cluster, name).await?.0)
}

/// The same, and whether a manifest was put.
async fn settle_counted(
    store: &dyn Store,
    cluster: ClusterUuid,
    name: SnapshotName,
) -> Result<(Settled, bool), StoreError> {
    let object = store.head(&Key::snapshot(cluster, name)).await?;
    let Some(object) = object else { return without_object(store, cluster, name).await };
    match manifest(store, cluster, name).await {
        Ok(Some(manifest)) => return Ok((described(manifest, object), false)),
        Ok(None) => {}
        Err(CatalogError::Store(error)) => return Err(error),
        Err(error) => return Ok((unreadable(error, object), false)),
    }
    if let Some(owner) = object.owner
        && let Some(manifest) = promote(store, cluster, name, owner, object.size).await?
    {
        return Ok((Settled::Done(Box::new(manifest)), true));
    }
    // Somebody else may have promoted it meanwhile, and then removed the intent.
    match manifest(store, cluster, name).await {
        Ok(Some(manifest)) => Ok((described(manifest, object), false)),
        Ok(None) => Ok((Settled::Orphan(object), false)),
        Err(CatalogError::Store(error)) => Err(error),
        Err(error) => Ok((unreadable(error, object), false)),
    }
}

/// A manifest proves only the object that it was written for: where a store does not keep to create-only,
/// another attempt's may stand beside it.
fn described(manifest: Manifest, object: ObjectInfo) -> Settled {
    let owned = object.owner.is_none_or(|owner| owner == manifest.attempt);
    if owned && object.size == manifest.sealed_bytes {
        return Settled::Done(Box::new(manifest));
    }
    tracing::warn!(key = %object.key, "an object is not the one that its manifest describes");
    Settled::Orphan(object)
}

fn unreadable(error: CatalogError, object: ObjectInfo) -> Settled {
    tracing::warn!(%error, "a name is held by an object whose manifest cannot be read");
    Settled::Orphan(object)
}

async fn without_object(
    store: &dyn Store,
    cluster: ClusterUuid,
    name: SnapshotName,
) -> Result<(Settled, bool), StoreError> {
    let manifest = store.head(&Key::manifest(cluster, name)).await?;
    Ok((manifest.map_or(Settled::Free, Settled::Orphan), false))
}

/// Puts the owner's intent as the manifest; `None` where there is no intent that describes the object.
async fn promote(
    store: &dyn Store,
    cluster: ClusterUuid,
    name: SnapshotName,
    owner: AttemptId,
    size: u64,
) -> Result<Option<Manifest>, StoreError> {
    let key = Key::intent(cluster, name, owner);
    let json = match store.get(&key, MANIFEST_MAX).await {
        Ok(json) => json,
        Err(error) if error.is(ErrorKind::NotFound) => return Ok(None),
        Err(error) if error.is(ErrorKind::TooLarge) => {
            tracing::warn!(%key, %error, "an intent cannot be read");
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let intent = match Manifest::from_json(&json) {
        Ok(intent) => intent,
        Err(error) => {
            tracing::warn!(%key, %error, "an intent cannot be read");
            return Ok(None);
        }
    };
    if (intent.cluster_uuid, intent.snapshot, intent.attempt, intent.sealed_bytes) != (cluster, name, owner, size) {
        tracing::warn!(%key, "an intent does not describe its object");
        return Ok(None);
    }
    match store.put_new(&Key::manifest(cluster, name), json).await {
        Ok(()) => {}
        // Another one stands there: the caller looks again.
        Err(error) if error.is(ErrorKind::AlreadyExists) => return Ok(None),
        Err(error) => return Err(error),
    }
    tracing::info!(%cluster, snapshot = %name, "promoted the intent of an attempt that died after completion");
    if let Err(error) = store.delete(&key).await {
        tracing::warn!(%error, "an intent stays until the next sweep");
    }
    Ok(Some(intent))
}

/// The manifest of a backup; `None` where there is none.
pub async fn manifest(
    store: &dyn Store,
    cluster: ClusterUuid,
    name: SnapshotName,
) -> Result<Option<Manifest>, CatalogError> {
    let key = Key::manifest(cluster, name);
    match store.get(&key, MANIFEST_MAX).await {
        Ok(json) => Manifest::from_json(&json).map(Some).map_err(|cause| CatalogError::Manifest { key, cause }),
        Err(error) if error.is(ErrorKind::NotFound) => Ok(None),
        // That backup's trouble, not the store's: others are listed all the same.
        Err(error) if error.is(ErrorKind::TooLarge) => {
            Err(CatalogError::Manifest { key, cause: ManifestError::TooLarge })
        }
        Err(error) => Err(error.into()),
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

/// Finds the UUID of a cluster by name, from the newest manifest of each folder. Where several clusters
/// had the name, it is the one with the newest backup.
pub async fn find_by_name(store: &dyn Store, name: &ClusterName) -> Result<Option<ClusterUuid>, StoreError> {
    let mut found: Option<(i64, ClusterUuid)> = None;
    for cluster in clusters(store).await? {
        if let Some(manifest) = newest(store, cluster).await?
            && manifest.cluster == *name
        {
            found = found.max(Some((manifest.snapshot.unix_seconds(), cluster)));
        }
    }
    Ok(found.map(|(_, cluster)| cluster))
}

/// The manifest of the newest backup whose manifest can be read.
pub async fn newest(store: &dyn Store, cluster: ClusterUuid) -> Result<Option<Manifest>, StoreError> {
    newest_until(store, cluster, Timestamp::from_seconds(i64::MAX)).await
}

/// The same among those that do not stand for a time after `until`.
pub async fn newest_until(
    store: &dyn Store,
    cluster: ClusterUuid,
    until: Timestamp,
) -> Result<Option<Manifest>, StoreError> {
    let entries = list(store, cluster).await?;
    for entry in entries.iter().filter(|entry| entry.snapshot.unix_seconds() <= until.seconds).take(NAME_TRIES) {
        match manifest(store, cluster, entry.snapshot).await {
            Ok(Some(manifest)) => return Ok(Some(manifest)),
            Ok(None) => {}
            Err(CatalogError::Store(error)) => return Err(error),
            Err(error) => tracing::warn!(%error, "skipped a backup"),
        }
    }
    Ok(None)
}

/// Removes what dead attempts left of one name: unfinished uploads, and intents whose object is not theirs.
/// Promotes what [`settle`] would promote. Attempts that still run for this name fail by it.
pub async fn sweep_slot(store: &dyn Store, cluster: ClusterUuid, name: SnapshotName) -> Result<Swept, StoreError> {
    // Intents are looked for before uploads are aborted: then no intent that is found can still be followed
    // by its completion, and one that is written later is not touched.
    let intents = intents(store, cluster).await?;
    let intents: Vec<_> = intents.into_iter().filter(|intent| intent.snapshot == name).collect();
    let key = Key::snapshot(cluster, name);
    let mut uploads = store.unfinished(key.as_str()).await?;
    uploads.retain(|upload| upload.key == key);
    sweep_these(store, cluster, uploads, intents).await
}

/// The same for everything of the cluster that was begun before `older_than`. What the store knows no time
/// of is left alone.
pub async fn sweep(store: &dyn Store, cluster: ClusterUuid, older_than: Timestamp) -> Result<Swept, StoreError> {
    let old = |time: Option<Timestamp>| time.is_some_and(|time| time < older_than);
    let mut intents = intents(store, cluster).await?;
    intents.retain(|intent| old(intent.modified));
    let mut uploads = store.unfinished(&folder(cluster)).await?;
    uploads.retain(|upload| old(upload.begun));
    sweep_these(store, cluster, uploads, intents).await
}

async fn sweep_these(
    store: &dyn Store,
    cluster: ClusterUuid,
    uploads: Vec<Unfinished>,
    intents: Vec<Intent>,
) -> Result<Swept, StoreError> {
    let mut swept = Swept::default();
    for upload in &uploads {
        store.abort_unfinished(upload).await?;
        swept.uploads += 1;
    }
    for intent in intents {
        let (settled, promoted) = settle_counted(store, cluster, intent.snapshot).await?;
        swept.promoted += usize::from(promoted);
        // An object without a manifest keeps its owner's intent, even one that cannot be read: it is all
        // that is known of it.
        if !matches!(&settled, Settled::Orphan(object) if object.owner == Some(intent.attempt)) {
            store.delete(&Key::intent(cluster, intent.snapshot, intent.attempt)).await?;
            swept.intents += 1;
        }
    }
    Ok(swept)
}

/// An intent as its key names it.
struct Intent {
    snapshot: SnapshotName,
    attempt: AttemptId,
    modified: Option<Timestamp>,
}

async fn intents(store: &dyn Store, cluster: ClusterUuid) -> Result<Vec<Intent>, StoreError> {
    let prefix = folder(cluster);
    let mut objects = store.list(&format!("{prefix}intents/"));
    let mut intents = Vec::new();
    while let Some(object) = objects.try_next().await? {
        match FileName::parse(&prefix, &object.key) {
            Some(FileName::Intent(snapshot, attempt)) => {
                intents.push(Intent { snapshot, attempt, modified: object.modified });
            }
            _ => tracing::debug!(key = %object.key, "not an intent's name: skipped"),
        }
    }
    Ok(intents)
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
