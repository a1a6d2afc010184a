//! Which backups there are, and what the names in a cluster's folder mean.

use std::collections::HashSet;

use backstay_protocol::{AttemptId, ClusterUuid, SnapshotName, Timestamp};
use futures::TryStreamExt;

use crate::store::{Key, ObjectInfo, Store, StoreError};

/// A backup as found in the listing; its manifest was not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedBackup {
    /// The cluster in whose folder it is.
    pub cluster: ClusterUuid,
    /// The backup's name, which encodes its time in whole seconds.
    pub snapshot: SnapshotName,
    /// Size of the sealed object in bytes.
    pub size: u64,
    /// When the object was written, by the store's clock; `None` if the store does not say.
    pub modified: Option<Timestamp>,
    /// Whether a signature is beside its manifest. What it is worth is not known yet.
    pub has_signature: bool,
}

/// Lists the backups of a cluster, newest name first: those that have both an object and a manifest. Manifests are
/// not read.
///
/// # Errors
/// [`StoreError`] if the folder cannot be listed. An unknown cluster is not an error; it has no backups.
pub async fn list(store: &dyn Store, cluster: ClusterUuid) -> Result<Vec<ListedBackup>, StoreError> {
    let prefix = folder(cluster);
    let mut objects = store.list(&prefix);
    let (mut entries, mut described, mut signed) = (Vec::new(), HashSet::new(), HashSet::new());
    while let Some(object) = objects.try_next().await? {
        match FileName::parse(&prefix, &object.key) {
            Some(FileName::Object(snapshot)) => {
                let ObjectInfo { size, modified, .. } = object;
                entries.push(ListedBackup { cluster, snapshot, size, modified, has_signature: false });
            }
            Some(FileName::Manifest(snapshot)) => {
                described.insert(snapshot);
            }
            Some(FileName::Signature(snapshot)) => {
                signed.insert(snapshot);
            }
            Some(FileName::Intent(..)) => {}
            None => tracing::debug!(key = %object.key, "skipped an object whose name is not that of a backup"),
        }
    }
    entries.retain(|entry| described.contains(&entry.snapshot));
    entries.iter_mut().for_each(|entry| entry.has_signature = signed.contains(&entry.snapshot));
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.snapshot.unix_seconds()));
    Ok(entries)
}

/// Lists the clusters that have a folder in the store. They need not have a backup.
///
/// # Errors
/// [`StoreError`] if the store cannot be listed.
pub async fn clusters(store: &dyn Store) -> Result<Vec<ClusterUuid>, StoreError> {
    let folders = store.folders().await?;
    Ok(folders.iter().filter_map(|folder| exactly(folder)).collect())
}

pub(super) fn folder(cluster: ClusterUuid) -> String {
    format!("{cluster}/")
}

/// What a key in a cluster's folder means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FileName {
    Object(SnapshotName),
    Manifest(SnapshotName),
    Signature(SnapshotName),
    /// An intent, or the signature of one.
    Intent(SnapshotName, AttemptId),
}

impl FileName {
    pub(super) fn parse(folder: &str, key: &Key) -> Option<Self> {
        let name = key.as_str().strip_prefix(folder)?;
        let snapshot = |stem: &str| exactly(&format!("{stem}.snapshot"));
        if let Some(intent) = name.strip_prefix("intents/") {
            let intent = intent.strip_suffix(".sig").unwrap_or(intent);
            let (stem, attempt) = intent.strip_suffix(".json")?.split_once('.')?;
            return Some(Self::Intent(snapshot(stem)?, exactly(attempt)?));
        }
        if let Some(stem) = name.strip_suffix(".manifest.json.sig") {
            return Some(Self::Signature(snapshot(stem)?));
        }
        match name.strip_suffix(".manifest.json") {
            Some(stem) => Some(Self::Manifest(snapshot(stem)?)),
            None => Some(Self::Object(exactly(name)?)),
        }
    }
}

/// Parses a name, which must be in the form in which it is printed.
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
            prop_assert_eq!(parse(Key::signature(cluster, name)), Some(FileName::Signature(name)));
            prop_assert_eq!(parse(Key::intent(cluster, name, attempt)), Some(FileName::Intent(name, attempt)));
            prop_assert_eq!(parse(Key::intent_signature(cluster, name, attempt)), Some(FileName::Intent(name, attempt)));
            prop_assert_eq!(parse(Key::cluster_key(cluster)), None);
        }

        #[test]
        fn other_names_are_no_backups(text in "[A-F0-9a-z./-]{1,60}") {
            if let Some(key) = Key::new(&format!("c/{text}")) {
                match FileName::parse("c/", &key) {
                    Some(FileName::Object(name)) => prop_assert_eq!(name.to_string(), text),
                    Some(other) => prop_assert!(text.ends_with(".json") || text.ends_with(".sig"), "{other:?}"),
                    None => {}
                }
            }
        }
    }
}
