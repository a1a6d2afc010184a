//! Which UUID belongs to a cluster's name: an object `names/<cluster>.json` for each name, which is created once and
//! not overwritten.
//!
//! So several machines that back up a cluster for the first time in the same second agree on one UUID. If there is no
//! such object, as in older stores, the manifests of the backups are searched for the name. If an object contradicts
//! the backups, the backups count: the object may be forged, or older than a change of the cluster's name.

use backstay_protocol::{ClusterName, ClusterUuid, Timestamp};
use backstay_trust::Signers;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::catalog::{self, ListedBackup, Series};
use crate::store::{ErrorKind, Key, Store, StoreError};

/// The folder of these objects. It is not a UUID, so the search for clusters ignores it.
const FOLDER: &str = "names";

/// The format version of these objects that this build writes.
const FORMAT_VERSION: u32 = 1;

/// Limit for the size of such an object, in bytes.
const NAME_MAX: usize = 4096;

/// The content of a name's object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    format_version: u32,
    cluster: ClusterName,
    cluster_uuid: ClusterUuid,
    /// etcd's own cluster ID, 16 hexadecimal digits, if the creator of the object knew it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etcd_cluster_id: Option<String>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

/// The UUID of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The cluster's UUID, which is the name of its folder in the store.
    pub uuid: ClusterUuid,
    /// Whether the name was free until now.
    pub is_new: bool,
    /// etcd's cluster ID (16 hexadecimal digits) that was recorded with the name; `None` if there are backups, whose
    /// manifests say more, or if it is unknown.
    pub etcd_cluster_id: Option<String>,
    /// The cluster's backups, newest first, if they were listed for this; otherwise `None`.
    pub listed: Option<Vec<ListedBackup>>,
}

/// The key of a name's object.
pub fn key(name: &ClusterName) -> Key {
    Key::new(&format!("{FOLDER}/{name}.json")).expect("a cluster's name is one segment of a key")
}

/// Looks up the UUID of a name; `None` if the store has none. `now` is the current time: backups named for a later
/// time count only if there are no others. Backups that one of `signers` signed count before all others.
///
/// # Errors
/// [`StoreError`] if the store does not answer or cannot be read.
pub async fn find(
    store: &dyn Store,
    name: &ClusterName,
    now: Timestamp,
    signers: &Signers,
) -> Result<Option<ClusterUuid>, StoreError> {
    Ok(look(store, name, now, signers).await?.known.map(|known| known.uuid))
}

/// Looks up the UUID of a name, or records `proposed` as its UUID. If another machine is faster, the result is that
/// machine's. `etcd_cluster_id` is etcd's own ID of the cluster (16 hexadecimal digits), if it is known; `now` is
/// used as in [`find`].
///
/// Without the permission to create the object, the backup still gets a UUID; only a warning is logged.
///
/// # Errors
/// [`StoreError`] if the store does not answer, cannot be read, or cannot be written for another reason.
pub async fn claim(
    store: &dyn Store,
    name: &ClusterName,
    proposed: ClusterUuid,
    etcd_cluster_id: Option<&str>,
    now: Timestamp,
    signers: &Signers,
) -> Result<Claim, StoreError> {
    let Said { note, known } = look(store, name, now, signers).await?;
    if let Some(Known { uuid, has_backups, listed }) = known {
        if note.is_none() {
            put(store, name, uuid, None).await?;
        }
        let etcd_cluster_id = note.and_then(|note| note.etcd_cluster_id).filter(|_| !has_backups);
        return Ok(Claim { uuid, is_new: false, etcd_cluster_id, listed });
    }
    put(store, name, proposed, etcd_cluster_id).await?;
    // However this store treats create-only: what is stored now is what the next machine reads.
    let own = Claim { uuid: proposed, is_new: true, etcd_cluster_id: None, listed: None };
    let Some(Note { cluster_uuid: uuid, etcd_cluster_id, .. }) = read(store, name).await? else { return Ok(own) };
    if uuid == proposed {
        return Ok(own);
    }
    let Looked { is_of, listed } = look_at(store, uuid, name, now, signers).await?;
    Ok(if is_of == Some(false) { own } else { Claim { uuid, is_new: false, etcd_cluster_id, listed } })
}

/// Makes a name belong to another UUID, after several series were merged into that one.
///
/// # Errors
/// [`StoreError`] if the old object cannot be deleted or the new one cannot be created.
pub async fn point(store: &dyn Store, name: &ClusterName, uuid: ClusterUuid) -> Result<(), StoreError> {
    if read(store, name).await?.is_some_and(|note| note.cluster_uuid == uuid) {
        return Ok(());
    }
    store.delete(&key(name)).await?;
    put(store, name, uuid, None).await
}

/// What the store says about a name.
struct Said {
    note: Option<Note>,
    known: Option<Known>,
}

/// The UUID of a name.
struct Known {
    uuid: ClusterUuid,
    has_backups: bool,
    listed: Option<Vec<ListedBackup>>,
}

async fn look(store: &dyn Store, name: &ClusterName, now: Timestamp, signers: &Signers) -> Result<Said, StoreError> {
    let note = read(store, name).await?;
    let noted = note.as_ref().map(|note| note.cluster_uuid);
    let looked = match noted {
        Some(uuid) => look_at(store, uuid, name, now, signers).await?,
        None => Looked::default(),
    };
    // Whoever can write this object can also write backups, and copy signed ones of another place: where signers are known,
    // all folders are looked at.
    if let (Some(uuid), Looked { is_of: Some(true), listed }) = (noted, &looked)
        && signers.is_empty()
    {
        let known = Known { uuid, has_backups: true, listed: listed.clone() };
        return Ok(Said { note, known: Some(known) });
    }
    let known = match (catalog::find_by_name(store, name, now, signers).await?, noted) {
        (Some(Series { cluster, entries }), _) => {
            Some(Known { uuid: cluster, has_backups: true, listed: Some(entries) })
        }
        (None, Some(uuid)) if looked.is_of.is_none() => Some(Known { uuid, has_backups: false, listed: looked.listed }),
        (None, _) => None,
    };
    if let (Some(noted), false) = (noted, known.as_ref().map(|known| known.uuid) == noted) {
        let key = key(name);
        tracing::warn!(%key, says = %noted, "the object for a cluster name contradicts the backups; using the backups");
    }
    Ok(Said { note, known })
}

/// What the store contains under a UUID.
#[derive(Default)]
struct Looked {
    /// Whether the newest backup belongs to a cluster with that name; `None` if no backup can be read.
    is_of: Option<bool>,
    /// `None` if the store does not allow listing that folder.
    listed: Option<Vec<ListedBackup>>,
}

async fn look_at(
    store: &dyn Store,
    uuid: ClusterUuid,
    name: &ClusterName,
    now: Timestamp,
    signers: &Signers,
) -> Result<Looked, StoreError> {
    let entries = match catalog::list(store, uuid).await {
        Err(error) if error.is_one_object_s() => return Ok(Looked::default()),
        listed => listed?,
    };
    let newest = match catalog::newest_true_among(store, &entries, now, signers).await {
        Err(error) if error.is_one_object_s() => None,
        newest => newest?,
    };
    Ok(Looked { is_of: newest.map(|newest| newest.manifest.cluster == *name), listed: Some(entries) })
}

/// The content of a name's object; `None` if there is none, or none that can be used.
async fn read(store: &dyn Store, name: &ClusterName) -> Result<Option<Note>, StoreError> {
    let key = key(name);
    let json = match catalog::get_if_there(store, &key, NAME_MAX).await {
        Ok(Some(json)) => json,
        Ok(None) => return Ok(None),
        Err(error) if error.is_one_object_s() => {
            tracing::warn!(%error, "the object for a cluster name cannot be read; looking in the backups for the name");
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let note = serde_json::from_slice::<Note>(&json).map_err(|error| error.to_string());
    match note.and_then(|note| checked(note, name)) {
        Ok(note) => Ok(Some(note)),
        Err(error) => {
            tracing::warn!(%key, %error, "the object for a cluster name cannot be used; looking in the backups for the \
                name");
            Ok(None)
        }
    }
}

fn checked(note: Note, name: &ClusterName) -> Result<Note, String> {
    if note.format_version != FORMAT_VERSION {
        return Err(format!(
            "it has format version {}, but this version supports {FORMAT_VERSION}",
            note.format_version
        ));
    }
    if note.cluster != *name {
        return Err(format!("it belongs to cluster {}", note.cluster));
    }
    Ok(note)
}

/// Creates the object of a name. An existing one is kept; without permission only a warning is logged.
async fn put(
    store: &dyn Store,
    name: &ClusterName,
    uuid: ClusterUuid,
    etcd_cluster_id: Option<&str>,
) -> Result<(), StoreError> {
    let note = Note {
        format_version: FORMAT_VERSION,
        cluster: name.clone(),
        cluster_uuid: uuid,
        etcd_cluster_id: etcd_cluster_id.map(str::to_owned),
        extra: Map::new(),
    };
    // Plain data with text keys: JSON can hold it.
    let mut json = serde_json::to_vec_pretty(&note).expect("a name's object is plain data");
    json.push(b'\n');
    match store.put_new(&key(name), Bytes::from(json)).await {
        Err(error) if error.is(ErrorKind::AlreadyExists) => Ok(()),
        Err(error) if error.is(ErrorKind::Denied) => {
            tracing::warn!(%error, "could not store the UUID of the cluster name");
            Ok(())
        }
        result => result,
    }
}
