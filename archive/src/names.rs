//! Which UUID a cluster's name stands for: an object of its own, `names/<cluster>.json`, that only the first can create.
//!
//! So several machines that back up a cluster for the first time in the same second agree on one UUID. Stores from before
//! there were such objects are asked as ever, by their manifests; and where an object contradicts the backups, the backups
//! count: it may be forged, or from before a cluster got another name.

use backstay_protocol::{ClusterName, ClusterUuid, Timestamp};
use backstay_trust::Signers;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::catalog::{self, ListedBackup, Series, Vouched};
use crate::store::{ErrorKind, Key, Store, StoreError};

/// The folder of these objects. It is no UUID, so whoever looks for clusters passes it over.
const FOLDER: &str = "names";

/// The version of an object's meaning that this build writes.
const FORMAT_VERSION: u32 = 1;

/// No such object is larger than this many bytes.
const NAME_MAX: usize = 4096;

/// What stands in a name's object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    format_version: u32,
    cluster: ClusterName,
    cluster_uuid: ClusterUuid,
    /// etcd's own cluster id, 16 hexadecimal digits, where whoever came first knew it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etcd_cluster_id: Option<String>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

/// A name and its UUID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub uuid: ClusterUuid,
    /// Nobody had the name before.
    pub is_new: bool,
    /// etcd's cluster id for which the name was taken, where there is no backup yet that says more.
    pub etcd_cluster_id: Option<String>,
    /// The backups that it has, where they were listed on the way.
    pub listed: Option<Vec<ListedBackup>>,
}

/// The object of a name.
pub fn key(name: &ClusterName) -> Key {
    Key::new(&format!("{FOLDER}/{name}.json")).expect("a cluster's name is one segment of a key")
}

/// The UUID that the store has for a name.
///
/// Backups that one of `signers` vouches for say it before all others.
pub async fn find(
    store: &dyn Store,
    name: &ClusterName,
    now: Timestamp,
    signers: &Signers,
) -> Result<Option<ClusterUuid>, StoreError> {
    Ok(look(store, name, now, signers).await?.known.map(|known| known.uuid))
}

/// The UUID that the store has for a name; where it has none, `proposed`, unless somebody else is faster. What backups
/// say counts as far as their names can be true `now`.
/// `etcd_cluster_id` is etcd's own id of the cluster, where it is known.
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
    // Whatever this store makes of "only where there is none": what stands there is what the next one reads.
    let own = Claim { uuid: proposed, is_new: true, etcd_cluster_id: None, listed: None };
    let Some(Note { cluster_uuid: uuid, etcd_cluster_id, .. }) = read(store, name).await? else { return Ok(own) };
    if uuid == proposed {
        return Ok(own);
    }
    let Looked { is_of, listed, .. } = look_at(store, uuid, name, now, signers).await?;
    Ok(if is_of == Some(false) { own } else { Claim { uuid, is_new: false, etcd_cluster_id, listed } })
}

/// Makes a name stand for another UUID: for whoever put several series together.
pub async fn point(store: &dyn Store, name: &ClusterName, uuid: ClusterUuid) -> Result<(), StoreError> {
    if read(store, name).await?.is_some_and(|note| note.cluster_uuid == uuid) {
        return Ok(());
    }
    store.delete(&key(name)).await?;
    put(store, name, uuid, None).await
}

/// What the store says of a name.
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
    // Who can write the object can plant backups, too: only a signed one needs no second look.
    if let (Some(uuid), Looked { is_of: Some(true), is_signed, listed }) = (noted, &looked)
        && (*is_signed || signers.is_empty())
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

/// What stands under a UUID.
#[derive(Default)]
struct Looked {
    /// Whether the newest backup is of a cluster with that name; `None` where there is none to tell.
    is_of: Option<bool>,
    /// Whether somebody who is trusted vouches for that backup.
    is_signed: bool,
    /// `None` where the store does not let its folder be listed.
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
    Ok(Looked {
        is_signed: newest.as_ref().is_some_and(Vouched::is_signed),
        is_of: newest.map(|newest| newest.manifest.cluster == *name),
        listed: Some(entries),
    })
}

/// What a name's object says; `None` where there is none, or none that can be used.
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

/// Creates the object of a name. One that is there stays; who may not create it does without.
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
