//! Keys: the coordinator's own identity, and one identity for each cluster.
//!
//! A cluster's identity is stored twice: in the KV, encrypted to the coordinator, and in the store as `<uuid>/key.age`,
//! encrypted to the coordinator and to the operator's recovery recipients.

use std::io::Write;
use std::path::{Path, PathBuf};

use age::secrecy::ExposeSecret;
use age::x25519::{Identity, Recipient};
use backstay_archive::seal::{self, SealError};
use backstay_archive::store::ErrorKind;
use backstay_archive::{Key, Manifest, Store, StoreError, catalog, keys};
use backstay_protocol::{ClusterUuid, SnapshotName};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::kv::{Kv, KvError};
const KEY_FILE_MAX: usize = 16 * 1024;

/// Why a key is not available.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cannot read the coordinator's identity {path}: {cause}; create one with `backstay-coordinator init`")]
    Read { path: PathBuf, cause: std::io::Error },
    #[error("{path}: {cause}")]
    Identity { path: PathBuf, cause: SealError },
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error(transparent)]
    Kv(#[from] KvError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the cluster's key in the KV is not the base64 of an age file")]
    Base64,
    #[error("neither {store} nor the KV has the key of cluster {cluster}: its backups need the recovery key")]
    Missing { store: String, cluster: ClusterUuid },
    #[error(
        "{store}/{key} is encrypted for another coordinator: put that coordinator's identity file back, or move the \
         object away so that this coordinator creates a new key (the existing backups then need the recovery key)"
    )]
    Foreign { store: String, key: Key },
    #[error(
        "{snapshot} is encrypted only for {recipients}, and this coordinator has none of these keys: restore it on each \
         machine with `backstayctl restore --store {store} --cluster-uuid {cluster} --snapshot {snapshot} --identity FILE \
         --data-dir DIR`, where FILE holds such a key"
    )]
    NoneOfOurs { store: String, cluster: ClusterUuid, snapshot: SnapshotName, recipients: String },
}

/// Reads the coordinator's identity from its file.
///
/// # Errors
/// [`KeyError::Read`] or [`KeyError::Identity`].
pub fn load_identity(path: PathBuf) -> Result<Identity, KeyError> {
    let text = std::fs::read_to_string(&path).map_err(|cause| KeyError::Read { path: path.clone(), cause })?;
    seal::parse_identity(&text).map_err(|cause| KeyError::Identity { path, cause })
}

/// Writes a new file that only its owner can read; on disk when this returns.
///
/// # Errors
/// The file exists already, or cannot be written.
pub fn write_private(path: &Path, text: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

/// A secret stored in the KV.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// The base64 of an age file that the coordinator can open.
    pub age: String,
}

impl Sealed {
    /// Encrypts `plain` to the coordinator.
    ///
    /// # Errors
    /// age cannot encrypt it.
    pub fn new(recipient: &Recipient, plain: &[u8]) -> Result<Self, SealError> {
        Ok(Self { age: BASE64.encode(seal::seal_bytes(std::slice::from_ref(recipient), plain)?) })
    }

    /// The plain bytes, which are cleared from memory when they are dropped.
    ///
    /// # Errors
    /// It is not base64, or was encrypted to another coordinator.
    pub fn open(&self, identity: &Identity) -> Result<impl std::ops::Deref<Target = Vec<u8>> + use<>, KeyError> {
        let sealed = BASE64.decode(&self.age).map_err(|_| KeyError::Base64)?;
        Ok(seal::open_bytes(identity, &sealed)?)
    }
}

/// The keys that the coordinator uses.
pub struct Keys {
    identity: Identity,
    recovery: Vec<Recipient>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("recipient", &self.identity.to_public().to_string()).finish_non_exhaustive()
    }
}

impl Keys {
    pub fn new(identity: Identity, recovery: Vec<Recipient>) -> Self {
        Self { identity, recovery }
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    pub fn recipient(&self) -> Recipient {
        self.identity.to_public()
    }

    /// Who can decrypt a backup of `cluster`: the cluster's own key, which is created if there is none yet, and the
    /// operator's recovery keys. Empty if encryption is off.
    ///
    /// # Errors
    /// The store or the KV does not answer, or the cluster's key is encrypted to another coordinator.
    pub async fn recipients(
        &self,
        kv: &Kv,
        store: &dyn Store,
        cluster: ClusterUuid,
    ) -> Result<Vec<Recipient>, KeyError> {
        if self.recovery.is_empty() {
            return Ok(Vec::new());
        }
        let mut recipients = vec![self.cluster_identity(kv, store, cluster).await?.to_public()];
        recipients.extend(self.recovery.iter().cloned());
        Ok(recipients)
    }

    /// The identity that a cluster's backups are encrypted to. It is never created here.
    ///
    /// # Errors
    /// There is none, or it cannot be read from the store or the KV.
    pub async fn existing_identity(
        &self,
        kv: &Kv,
        store: &dyn Store,
        cluster: ClusterUuid,
    ) -> Result<Identity, KeyError> {
        let entry = format!("key.{cluster}");
        match self.stored_identity(store, cluster).await {
            Ok(Some(identity)) => return Ok(identity),
            Ok(None) => {}
            Err(error) => return self.kept_instead(kv, &entry, error).await,
        }
        match kv.get::<Sealed>(&entry).await? {
            Some(found) => self.parse(&found.value.open(&self.identity)?),
            None => Err(KeyError::Missing { store: store.url(), cluster }),
        }
    }

    /// The copy in the KV, if only the object in the store cannot be read (it is archived, or a policy refuses it).
    async fn kept_instead(&self, kv: &Kv, entry: &str, error: KeyError) -> Result<Identity, KeyError> {
        let KeyError::Store(cause) = &error else { return Err(error) };
        if !cause.is_one_object_s() {
            return Err(error);
        }
        let Some(kept) = kv.get::<Sealed>(entry).await? else { return Err(error) };
        let Ok(plain) = kept.value.open(&self.identity) else { return Err(error) };
        warn!(%error, "a cluster's key file cannot be read; using the copy in the KV");
        self.parse(&plain)
    }

    /// The identity that decrypts one backup of a cluster: the cluster's own, or that of the cluster from which the
    /// backup was copied.
    ///
    /// # Errors
    /// As [`existing_identity`](Self::existing_identity).
    pub async fn identity_of(
        &self,
        kv: &Kv,
        store: &dyn Store,
        cluster: ClusterUuid,
        snapshot: SnapshotName,
    ) -> Result<Identity, KeyError> {
        match catalog::own_manifest(store, cluster, snapshot).await {
            Ok(Some(manifest)) => self.opener(kv, store, &manifest).await,
            // Where the manifest cannot be read now, whoever restores says so.
            _ => self.existing_identity(kv, store, cluster).await,
        }
    }

    /// The same of a backup whose manifest was read already.
    async fn opener(&self, kv: &Kv, store: &dyn Store, manifest: &Manifest) -> Result<Identity, KeyError> {
        let cluster = manifest.cluster_uuid;
        let own = self.existing_identity(kv, store, cluster).await;
        let opens = |key: &Identity| manifest.seal.recipients.contains(&key.to_public().to_string());
        if own.as_ref().is_ok_and(opens) {
            return own;
        }
        for (name, sealed) in keys::copied_keys(store, cluster).await? {
            // One that is sealed to another coordinator is not for this one.
            let Ok(plain) = seal::open_bytes(&self.identity, &sealed) else { continue };
            match self.parse(&plain) {
                Ok(key) if opens(&key) => return Ok(key),
                Ok(_) => {}
                // Another may be the one.
                Err(error) => warn!(%cluster, %name, %error, "skipped a copied key file: it does not contain a key"),
            }
        }
        own
    }

    /// Checks that this coordinator has a key that opens a backup.
    ///
    /// # Errors
    /// It has none, or the store or the KV did not give it.
    pub async fn must_open(&self, kv: &Kv, store: &dyn Store, manifest: &Manifest) -> Result<(), KeyError> {
        let Manifest { cluster_uuid: cluster, snapshot, seal, .. } = manifest;
        if seal.encryption == "none" {
            return Ok(());
        }
        let recipients = &seal.recipients;
        match self.opener(kv, store, manifest).await {
            Ok(key) if recipients.is_empty() || recipients.contains(&key.to_public().to_string()) => Ok(()),
            Ok(_) | Err(KeyError::Missing { .. }) if !recipients.is_empty() => Err(KeyError::NoneOfOurs {
                store: store.url(),
                cluster: *cluster,
                snapshot: *snapshot,
                recipients: recipients.join(", "),
            }),
            found => found.map(drop),
        }
    }

    /// The cluster's identity: from the store, where it stays; otherwise from the KV; otherwise a new one.
    async fn cluster_identity(&self, kv: &Kv, store: &dyn Store, cluster: ClusterUuid) -> Result<Identity, KeyError> {
        let entry = format!("key.{cluster}");
        match self.stored_identity(store, cluster).await {
            Ok(Some(identity)) => {
                self.keep_in_kv(kv, &entry, &identity).await?;
                return Ok(identity);
            }
            Ok(None) => {}
            Err(error) => return self.kept_instead(kv, &entry, error).await,
        }
        let identity = match kv.get::<Sealed>(&entry).await? {
            Some(found) => {
                warn!(%cluster, store = store.url(), "the store has no key of this cluster, although the KV has one: check \
                    that the right folder or bucket is in use; the key is written there");
                match found.value.open(&self.identity) {
                    Ok(plain) => self.parse(&plain)?,
                    Err(error) => {
                        warn!(%cluster, %error, "the key in the KV is encrypted for another coordinator: creating a new one");
                        self.replace_in_kv(kv, &entry, found.revision).await?
                    }
                }
            }
            None => Identity::generate(),
        };
        self.keep_in_kv(kv, &entry, &identity).await?;
        match store.put_new(&Key::cluster_key(cluster), self.key_file(&identity)?.into()).await {
            Ok(()) => Ok(identity),
            // Another coordinator was faster: its key counts.
            Err(e) if e.is(ErrorKind::AlreadyExists) => {
                self.stored_identity(store, cluster).await?.ok_or(KeyError::Store(e))
            }
            Err(e) => Err(e.into()),
        }
    }

    async fn stored_identity(&self, store: &dyn Store, cluster: ClusterUuid) -> Result<Option<Identity>, KeyError> {
        let key = Key::cluster_key(cluster);
        let Some(sealed) = catalog::get_if_there(store, &key, KEY_FILE_MAX).await? else { return Ok(None) };
        let foreign = |_| KeyError::Foreign { store: store.url(), key: key.clone() };
        let plain = seal::open_bytes(&self.identity, &sealed).map_err(foreign)?;
        self.parse(&plain).map(Some)
    }

    async fn replace_in_kv(&self, kv: &Kv, entry: &str, revision: u64) -> Result<Identity, KeyError> {
        let identity = Identity::generate();
        kv.update(entry, &self.sealed(&identity)?, revision).await?;
        Ok(identity)
    }

    fn sealed(&self, identity: &Identity) -> Result<Sealed, SealError> {
        Sealed::new(&self.recipient(), identity.to_string().expose_secret().as_bytes())
    }

    async fn keep_in_kv(&self, kv: &Kv, entry: &str, identity: &Identity) -> Result<(), KeyError> {
        match kv.create(entry, &self.sealed(identity)?).await {
            Ok(_) | Err(KvError::Conflict { .. }) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn parse(&self, plain: &[u8]) -> Result<Identity, KeyError> {
        Ok(seal::parse_identity(&String::from_utf8_lossy(plain))?)
    }

    fn key_file(&self, identity: &Identity) -> Result<Vec<u8>, SealError> {
        let text = seal::identity_file(identity, "a cluster's key, created by Backstay");
        let mut recipients = vec![self.recipient()];
        recipients.extend(self.recovery.iter().cloned());
        seal::seal_bytes(&recipients, text.as_bytes())
    }
}

/// Replaces a file that only its owner can read, completely or not at all.
///
/// # Errors
/// The file system refuses; the old file is unchanged then.
pub fn replace_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    match std::fs::remove_file(&fresh) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    write_private(&fresh, bytes)?;
    std::fs::rename(&fresh, path)
}
