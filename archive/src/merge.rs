//! Merges several series of one cluster into one: copies the backups of some UUIDs to another UUID.
//!
//! A copy is a backup of its own: the sealed bytes are unchanged and the manifest has the new address. The bytes are
//! verified against the manifest's digest while they are sent, and again where they arrived. The sources are neither
//! changed nor deleted. A merge that was interrupted can be repeated: a backup that was already copied, recognised by
//! its attempt and digest, is not copied twice.

use std::collections::HashSet;

use backstay_protocol::hex::to_hex;
use backstay_protocol::{ClusterName, ClusterUuid, SnapshotName};
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::catalog::{self, CatalogError, ListedBackup, Progress, Reading, Settled, Skipped, Vouched};
use crate::keys::{KEY_MAX, key_files};
use crate::manifest::Manifest;
use crate::store::{ErrorKind, Key, PART_BYTES, Store, StoreError, Upload};
use crate::writer::publish::{self, Landed};

/// By how many seconds a copy's name is moved at most.
const NAME_TRIES: usize = 60;

/// The field in a copy's manifest that names its source.
const FROM: &str = "copied_from";

/// Why series could not be merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// One of the UUIDs contains backups of another cluster, or none.
    #[error("{uuid} contains {found}: only backups of cluster {wanted} can be merged")]
    Foreign {
        /// The UUID.
        uuid: ClusterUuid,
        /// The cluster that was to be merged.
        wanted: ClusterName,
        /// What it contains, as text: the backups of another cluster, or none that can be read.
        found: String,
    },
    /// The object of a source does not match its manifest. It was not copied.
    #[error("{key} does not match its manifest ({what}); it was not copied")]
    Damaged {
        /// The object.
        key: Key,
        /// What differs, as text.
        what: String,
    },
    /// The copy differs from what was sent, so it was removed.
    #[error("the copy {key} differs from what was sent; it was removed again")]
    Changed {
        /// The copy.
        key: Key,
    },
    /// The names of the next 60 seconds are all taken.
    #[error("there is no free name for {from} in the next {NAME_TRIES} seconds")]
    NoName {
        /// The object that was to be copied.
        from: Key,
    },
    /// A cluster's key could not be read, so it was not copied.
    #[error("the key {from} was not copied: {cause}")]
    UnreadKey {
        /// The key's object.
        from: Key,
        /// Why it could not be read.
        cause: StoreError,
    },
    /// A different key was already copied under this name.
    #[error("the key {from} was not copied: {to} already exists and is different")]
    OtherKey {
        /// The key's object.
        from: Key,
        /// The existing one.
        to: Key,
    },
}

/// A backup to copy.
#[derive(Debug, Clone)]
pub struct Copy {
    /// The manifest of the source.
    pub backup: Manifest,
    /// The name of the copy: the source's own, or that of the next free second if it is taken.
    pub name: SnapshotName,
}

/// What a merge has to do.
#[derive(Debug, Default)]
pub struct Plan {
    /// The backups to copy, in this order.
    pub copies: Vec<Copy>,
    /// Number of backups that are already there, or are copied from another source.
    pub done: usize,
    /// The backups that cannot be copied, with reasons.
    pub problems: Skipped,
}

/// The UUIDs under which the store has backups of a cluster with this name, by the newest readable manifest of each.
///
/// # Errors
/// [`StoreError`] if the store fails.
pub async fn series_of(store: &dyn Store, name: &ClusterName) -> Result<Vec<ClusterUuid>, StoreError> {
    let mut found = Vec::new();
    for uuid in catalog::clusters(store).await? {
        if catalog::newest(store, uuid).await?.is_some_and(|newest| newest.cluster == *name) {
            found.push(uuid);
        }
    }
    Ok(found)
}

/// Determines which backups of `sources` have to be copied to `into`. Changes nothing; `progress` is updated
/// meanwhile. A signature is for one UUID only, so signed backups are problems unless `allow_unsigned`.
///
/// # Errors
/// [`MergeError::Foreign`] if one of the UUIDs belongs to another cluster; [`MergeError::NoName`] or
/// [`MergeError::Store`].
pub async fn plan(
    store: &dyn Store,
    name: &ClusterName,
    into: ClusterUuid,
    sources: &[ClusterUuid],
    allow_unsigned: bool,
    progress: &Progress,
) -> Result<Plan, MergeError> {
    let there = listed(store, name, into).await?;
    let mut backups = Vec::new();
    for source in sources {
        backups.extend(listed(store, name, *source).await?);
    }
    let mut plan = Plan::default();
    let (mut known, mut taken) = (HashSet::new(), HashSet::new());
    Reading::new(store, progress)
        .each(there, |entry, Vouched { manifest, .. }| {
            known.insert((manifest.attempt, manifest.sealed_sha256));
            taken.insert(entry.snapshot);
        })
        .await?;
    let (mut reading, mut found, mut signed) = (Reading::new(store, progress), Vec::new(), Vec::new());
    let take = |entry: ListedBackup, Vouched { manifest, .. }| match entry.has_signature && !allow_unsigned {
        true => signed.push((entry, manifest)),
        false => found.push(manifest),
    };
    reading.each(backups, take).await?;
    for (ListedBackup { cluster, snapshot, .. }, manifest) in signed {
        match known.contains(&(manifest.attempt, manifest.sealed_sha256)) {
            true => plan.done += 1,
            false => reading.skipped.note(CatalogError::SignedHere { cluster, snapshot }),
        }
    }
    plan.problems = reading.end();
    for backup in found {
        // It may also be in two sources, if an earlier merge copied it.
        if !known.insert((backup.attempt, backup.sealed_sha256.clone())) {
            plan.done += 1;
            continue;
        }
        let from = Key::snapshot(backup.cluster_uuid, backup.snapshot);
        let name = free(backup.snapshot, &taken).ok_or(MergeError::NoName { from })?;
        taken.insert(name);
        plan.copies.push(Copy { backup, name });
    }
    Ok(plan)
}

/// The backups of a series, which must belong to this cluster, oldest first.
async fn listed(store: &dyn Store, name: &ClusterName, uuid: ClusterUuid) -> Result<Vec<ListedBackup>, MergeError> {
    let mut entries = catalog::list(store, uuid).await?;
    match catalog::newest_among(store, &entries).await? {
        Some(newest) if newest.cluster == *name => {}
        found => {
            let found = found
                .map_or_else(|| "no backups".to_owned(), |newest| format!("backups of cluster {}", newest.cluster));
            return Err(MergeError::Foreign { uuid, wanted: name.clone(), found });
        }
    }
    entries.reverse();
    Ok(entries)
}

/// The first name from this one on that is not taken.
fn free(name: SnapshotName, taken: &HashSet<SnapshotName>) -> Option<SnapshotName> {
    let mut names = std::iter::successors(Some(name), |name| name.next().ok()).take(NAME_TRIES);
    names.find(|name| !taken.contains(name))
}

/// Copies one backup to the series `into`, and returns the copy's name.
///
/// # Errors
/// [`MergeError`] by its cause. Copying can then be repeated.
pub async fn copy(store: &dyn Store, copy: &Copy, into: ClusterUuid) -> Result<SnapshotName, MergeError> {
    let source = &copy.backup;
    let from = Key::snapshot(source.cluster_uuid, source.snapshot);
    let mut name = copy.name;
    for _ in 0..NAME_TRIES {
        match catalog::settle(store, into, name).await? {
            Settled::Done(found) if found.attempt == source.attempt => {
                // An interrupted copy had come so far; whether all of it arrived was still to be seen.
                return prove(store, source, into, name).await.map(|()| name);
            }
            // Removes what an interrupted copy left.
            Settled::Free => drop(catalog::sweep_slot(store, into, name).await?),
            _ => {
                name = name.next().map_err(|_| MergeError::NoName { from: from.clone() })?;
                continue;
            }
        }
        if copy_as(store, source, &from, into, name).await? {
            return Ok(name);
        }
        name = name.next().map_err(|_| MergeError::NoName { from: from.clone() })?;
    }
    Err(MergeError::NoName { from })
}

/// Returns whether the name was free.
async fn copy_as(
    store: &dyn Store,
    source: &Manifest,
    from: &Key,
    into: ClusterUuid,
    name: SnapshotName,
) -> Result<bool, MergeError> {
    let key = Key::snapshot(into, name);
    let upload = store.begin(&key, source.attempt).await?;
    let intent = Key::intent(into, name, source.attempt);
    let json = Bytes::from(moved(source, into, name).to_json());
    let sent = async {
        let parts = send(store, source, from, &*upload).await?;
        store.put_new(&intent, json.clone()).await?;
        Ok::<_, MergeError>(parts)
    };
    let parts = match sent.await {
        Ok(parts) => parts,
        Err(error) => {
            // The first error is reported; the next try finds what is left.
            publish::abort(&*upload).await;
            let _ = store.delete(&intent).await;
            return Err(error);
        }
    };
    if let Err(error) = upload.complete(parts).await
        && !landed(store, source, &*upload, &key, &error).await?
    {
        let _ = store.delete(&intent).await;
        return if error.is(ErrorKind::AlreadyExists) { Ok(false) } else { Err(error.into()) };
    }
    if let Err(error) = prove(store, source, into, name).await {
        // The intent of an object that may be there is kept: the next try verifies it.
        if let MergeError::Changed { .. } = error {
            store.delete(&intent).await?;
        }
        return Err(error);
    }
    store.put_new(&Key::manifest(into, name), json).await?;
    store.delete(&intent).await?;
    Ok(true)
}

/// Whether the copy is there although its completion failed, because the answer may have been lost.
///
/// # Errors
/// It is unknown. The intent is kept: the next try turns what is there into a backup, or removes what is left.
async fn landed(
    store: &dyn Store,
    source: &Manifest,
    upload: &dyn Upload,
    key: &Key,
    error: &StoreError,
) -> Result<bool, MergeError> {
    match publish::landed(store, upload, key, source.attempt, source.sealed_bytes).await {
        Landed::Own => Ok(true),
        // Not every provider says who uploaded an object. Its content tells.
        Landed::Nobodys => Ok(digest(store, key).await? == source.sealed_sha256),
        Landed::Not => Ok(false),
        Landed::Unknown => Err(error.clone().into()),
    }
}

/// Reads the copy back. If it differs from what was sent, it is removed.
async fn prove(store: &dyn Store, source: &Manifest, into: ClusterUuid, name: SnapshotName) -> Result<(), MergeError> {
    let key = Key::snapshot(into, name);
    if digest(store, &key).await? == source.sealed_sha256 {
        return Ok(());
    }
    store.delete(&Key::manifest(into, name)).await?;
    store.delete(&key).await?;
    Err(MergeError::Changed { key })
}

/// The manifest of the copy.
fn moved(source: &Manifest, into: ClusterUuid, name: SnapshotName) -> Manifest {
    // A place among signed backups is for one that is signed.
    let mut manifest = Manifest { cluster_uuid: into, snapshot: name, sequence: None, ..source.clone() };
    let from = Key::snapshot(source.cluster_uuid, source.snapshot).to_string();
    // A copy of a copy keeps the address of the first source.
    manifest.extra.entry(FROM).or_insert(Value::String(from));
    manifest
}

/// Sends the sealed bytes, which must match the manifest, and returns the number of parts.
async fn send(store: &dyn Store, source: &Manifest, from: &Key, upload: &dyn Upload) -> Result<u32, MergeError> {
    let mut body = store.read(from).await?;
    let (mut hash, mut bytes, mut parts) = (Sha256::new(), 0, 0);
    let mut held = BytesMut::new();
    while let Some(chunk) = body.try_next().await? {
        hash.update(&chunk);
        bytes += chunk.len() as u64;
        held.extend_from_slice(&chunk);
        // The last part is held back, because it may be a full one.
        while held.len() > PART_BYTES {
            parts += 1;
            upload.part(parts, held.split_to(PART_BYTES).freeze()).await?;
        }
    }
    let damaged = |what: String| MergeError::Damaged { key: from.clone(), what };
    if bytes != source.sealed_bytes {
        return Err(damaged(format!("it has {bytes} bytes, not {}", source.sealed_bytes)));
    }
    let digest = to_hex(&hash.finalize());
    if digest != source.sealed_sha256 {
        return Err(damaged(format!("its sha256 is {digest}, not {}", source.sealed_sha256)));
    }
    parts += 1;
    upload.part(parts, held.freeze()).await?;
    Ok(parts)
}

async fn digest(store: &dyn Store, key: &Key) -> Result<String, StoreError> {
    let (mut body, mut hash) = (store.read(key).await?, Sha256::new());
    while let Some(chunk) = body.try_next().await? {
        hash.update(&chunk);
    }
    Ok(to_hex(&hash.finalize()))
}

/// The place of a source's key in the series into which it was copied.
fn copied_key(into: ClusterUuid, source: &str) -> Key {
    Key::new(&format!("{into}/keys/{source}.age")).expect("UUIDs are segments of a key")
}

/// Copies the keys of a source, without which its backups could not be decrypted. Returns those that could not be
/// copied.
///
/// # Errors
/// [`StoreError`] if the store fails.
pub async fn copy_keys(
    store: &dyn Store,
    source: ClusterUuid,
    into: ClusterUuid,
) -> Result<Vec<MergeError>, StoreError> {
    let from = Key::cluster_key(source);
    let own = catalog::get_if_there(store, &from, KEY_MAX).await.transpose();
    let own = own.map(|read| (source.to_string(), from, read));
    let mut problems = Vec::new();
    for (name, from, read) in own.into_iter().chain(key_files(store, source).await?) {
        let key = match read {
            Ok(key) => key,
            Err(cause) if cause.is_one_object_s() => {
                problems.push(MergeError::UnreadKey { from, cause });
                continue;
            }
            Err(error) => return Err(error),
        };
        let to = copied_key(into, &name);
        match store.put_new(&to, key.clone()).await {
            // Fine if an earlier merge copied it; otherwise the source has the only one.
            Err(error) if error.is(ErrorKind::AlreadyExists) => match store.get(&to, KEY_MAX).await {
                Ok(there) if there == key => {}
                Err(error) if !error.is_one_object_s() => return Err(error),
                _ => problems.push(MergeError::OtherKey { from, to }),
            },
            result => result?,
        }
    }
    Ok(problems)
}
