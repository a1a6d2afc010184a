//! What a store holds, and what unfinished attempts left in it.
//!
//! A backup is an object with a manifest. An object without one is either about to get it or was left by an
//! attempt that died in between; the owner's intent, written before the object became visible, holds the
//! manifest to be.
//!
//! One object's trouble is its own: what is archived, refused by a policy, too large or no manifest at all is
//! skipped with a warning that names it. What is the whole store's (no answer, no login, no listing) is an error.

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
use backstay_protocol::{ClusterName, ClusterUuid, SnapshotName, Timestamp};
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

/// How many of a cluster's newest backups are tried for a manifest that can be read.
const NAME_TRIES: usize = 5;

/// A cluster's backups, as [`list`] has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    pub cluster: ClusterUuid,
    pub entries: Vec<ListedBackup>,
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
///
/// What somebody of `signers` vouches for comes first, however many later backups others planted.
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

/// How much a backup says of what is newest: one that somebody who is trusted vouches for before any other, then a time
/// that can be true before one that cannot, then the later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    is_signed: bool,
    can_be_true: bool,
    seconds: i64,
}

impl Rank {
    pub fn of(backup: &Vouched, now: Timestamp) -> Self {
        let snapshot = backup.manifest.snapshot;
        let is_signed = backup.is_signed();
        Self { is_signed, can_be_true: can_be_true(snapshot, now), seconds: snapshot.unix_seconds() }
    }
}

fn can_be_true(snapshot: SnapshotName, now: Timestamp) -> bool {
    !is_ahead(snapshot.time(), now)
}

/// The newest backup that one of `signers` vouches for; where there is none such, the newest whose name does not lie ahead
/// of `now`, and where there is none of these either, the newest.
pub async fn newest_true(
    store: &dyn Store,
    cluster: ClusterUuid,
    now: Timestamp,
    signers: &Signers,
) -> Result<Option<Vouched>, StoreError> {
    let Ok(entries) = list_or_skip(store, cluster, &mut Skipped::default()).await? else { return Ok(None) };
    newest_true_among(store, &entries, now, signers).await
}

/// The same of backups that were listed already.
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

/// The manifest of the newest backup whose manifest can be read.
pub async fn newest(store: &dyn Store, cluster: ClusterUuid) -> Result<Option<Manifest>, StoreError> {
    let Ok(entries) = list_or_skip(store, cluster, &mut Skipped::default()).await? else { return Ok(None) };
    newest_among(store, &entries).await
}

/// The same of backups that were listed already.
pub async fn newest_among(store: &dyn Store, entries: &[ListedBackup]) -> Result<Option<Manifest>, StoreError> {
    let mut skipped = Skipped::default();
    let newest = look_for_newest(store, entries, &mut skipped).await?;
    skipped.end();
    Ok(newest.found().map(|found| found.manifest))
}

/// A cluster's backups; why not, where a policy keeps its folder to itself.
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

/// What is known of a cluster's newest backup.
enum Newest {
    Found(Box<Vouched>),
    /// There are backups, and none of the newest can be read: why not the first of them.
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

/// Of entries from the newest on: those from the future come last.
async fn look_for_newest_true(
    store: &dyn Store,
    entries: &[ListedBackup],
    now: Timestamp,
    signers: &Signers,
    skipped: &mut Skipped,
) -> Result<Newest, StoreError> {
    let true_ones = entries.partition_point(|entry| !can_be_true(entry.snapshot, now));
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
