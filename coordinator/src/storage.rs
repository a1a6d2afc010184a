//! Where backups go: the active store, how it was configured, and how an agent is told about it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use age::x25519::Recipient;
use async_trait::async_trait;
use backstay_archive::blocking::blocking;
use backstay_archive::seal::{self, SealError};
use backstay_archive::store::ErrorKind;
use backstay_archive::store::local::LocalStore;
use backstay_archive::store::s3::{Addressing, Checksum, InUse, S3Credentials, S3Settings, S3Store};
use backstay_archive::store::spec::StoreSpec;
use backstay_archive::{Store, StoreError};
use backstay_protocol::bus;
use backstay_protocol::spec::S3ConfigSpec;
use prost::Message;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::config::StorageSettings;
use crate::keys::{KeyError, Keys, Sealed, replace_private};
use crate::record::kept::Kept;
use crate::status::StorageState;

/// The KV entry that holds the S3 configuration.
pub const S3_ENTRY: &str = "s3config";

/// How long the test of a folder may take.
const LOCAL_PROBE: Duration = Duration::from_secs(10);

/// The region if none is configured.
pub const DEFAULT_REGION: &str = "us-east-1";

/// The S3 configuration as it is stored: what may be read, and the secrets encrypted to the coordinator.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredS3 {
    /// With the secrets hidden.
    pub shown: Kept<S3ConfigSpec>,
    pub secrets: Sealed,
    /// How requests to the bucket must look, as the probe found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<InUse>,
}

#[derive(Serialize, Deserialize)]
struct Secrets {
    secretaccesskey: String,
    sessiontoken: String,
}

impl StoredS3 {
    /// Encrypts the secrets of `full`.
    ///
    /// # Errors
    /// As [`Sealed::new`].
    pub fn seal(full: Kept<S3ConfigSpec>, found: Option<InUse>, keys: &Keys) -> Result<Self, SealError> {
        let secrets = Secrets {
            secretaccesskey: full.spec.secretaccesskey.clone(),
            sessiontoken: full.spec.sessiontoken.clone(),
        };
        // Two texts: JSON can hold them.
        let plain = zeroize::Zeroizing::new(serde_json::to_vec(&secrets).expect("two texts"));
        let shown = Kept { spec: full.spec.redacted(), ..full };
        Ok(Self { shown, secrets: Sealed::new(&keys.recipient(), &plain)?, found })
    }

    /// The whole configuration, secrets included.
    ///
    /// # Errors
    /// The secrets were encrypted to another coordinator, or are damaged.
    pub fn open(&self, keys: &Keys) -> Result<S3ConfigSpec, KeyError> {
        let plain = self.secrets.open(keys.identity())?;
        let secrets: Secrets = serde_json::from_slice(&plain).map_err(|_| KeyError::Base64)?;
        Ok(S3ConfigSpec {
            secretaccesskey: secrets.secretaccesskey,
            sessiontoken: secrets.sessiontoken,
            ..self.shown.spec.clone()
        })
    }
}

/// The file in `state_dir` with a copy of the configuration, whose secrets are encrypted.
const COPY: &str = "storage.json";

/// Saves a copy of the configuration in `state_dir`, or removes it. A failure is only logged, since the KV has the
/// original.
pub async fn keep_copy(state_dir: &Path, stored: Option<&StoredS3>) {
    let path = state_dir.join(COPY);
    let bytes = stored.map(serde_json::to_vec).transpose().map_err(std::io::Error::other);
    let kept = match bytes {
        Ok(Some(bytes)) => blocking(move || replace_private(&path, &bytes)).await,
        Ok(None) => tokio::fs::remove_file(&path).await.or_else(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(e),
        }),
        Err(error) => Err(error),
    };
    if let Err(error) = kept {
        error!(%error, "could not update the copy of the storage configuration");
    }
}

/// The copy, if there is one that can be read.
pub async fn read_copy(state_dir: &Path) -> Option<StoredS3> {
    let path = state_dir.join(COPY);
    let bytes = tokio::fs::read(&path).await.ok()?;
    match serde_json::from_slice(&bytes) {
        Ok(stored) => Some(stored),
        Err(error) => {
            warn!(path = %path.display(), %error, "the copy of the storage configuration cannot be read");
            None
        }
    }
}

/// How the local store is opened: a folder in a coordinator, memory in a test of one process.
#[async_trait]
pub trait Opener: Send + Sync + std::fmt::Debug {
    /// # Errors
    /// It does not exist, or can never store backups.
    async fn local(&self, path: &Path) -> Result<ActiveStore, StoreError>;

    /// Whether a store that was opened is still there.
    ///
    /// # Errors
    /// It is gone.
    async fn is_there(&self, path: &Path) -> Result<(), StoreError>;
}

/// Folders of this machine.
#[derive(Debug)]
pub struct Folders;

#[async_trait]
impl Opener for Folders {
    async fn local(&self, path: &Path) -> Result<ActiveStore, StoreError> {
        ActiveStore::local(path.to_owned()).await
    }

    async fn is_there(&self, path: &Path) -> Result<(), StoreError> {
        let path = path.to_owned();
        let looked = blocking(move || LocalStore::open(path).map(drop));
        // A mount that does not answer is there: backups find out what it does.
        tokio::time::timeout(LOCAL_PROBE, looked).await.unwrap_or(Ok(()))
    }
}

/// A store to which backups can be written.
#[derive(Debug)]
pub struct ActiveStore {
    pub store: Arc<dyn Store>,
    address: Address,
}

#[derive(Debug)]
enum Address {
    Local(PathBuf),
    S3 { spec: S3ConfigSpec, settings: Box<StorageSettings>, bucket: S3Store },
}

impl ActiveStore {
    /// Opens the folder and tests it.
    ///
    /// # Errors
    /// Only what will not change by itself. A folder that is full or does not answer at the moment is a warning in the
    /// log; the backups will report it.
    pub async fn local(path: PathBuf) -> Result<Self, StoreError> {
        let spec = StoreSpec::Local(path.clone());
        let active_store = Self { store: spec.open().await?, address: Address::Local(path.clone()) };
        match tokio::time::timeout(LOCAL_PROBE, LocalStore::open(path)?.probe()).await {
            Ok(Ok(notes)) => notes.iter().for_each(|note| warn!(store = active_store.store.url(), "{note}")),
            Ok(Err(error)) if error.is(ErrorKind::Invalid) => return Err(error),
            Ok(Err(error)) => warn!(%error, "could not test the backup folder"),
            Err(_) => warn!(store = active_store.store.url(), "the backup folder does not answer"),
        }
        Ok(active_store)
    }

    /// A store that is open already, for a coordinator in the same process as its test. Agents are told that it is at
    /// `path`.
    pub fn of(store: Arc<dyn Store>, path: PathBuf) -> Self {
        Self { store, address: Address::Local(path) }
    }

    /// Prepares access to a bucket, without a request to it. `found` is what an earlier probe found out.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub async fn s3(spec: S3ConfigSpec, settings: &StorageSettings, found: Option<InUse>) -> Result<Self, StoreError> {
        let bucket = connect(&spec, settings, found).await?;
        let (store, settings) = (Arc::new(bucket.clone()), Box::new(settings.clone()));
        Ok(Self { store, address: Address::S3 { spec, settings, bucket } })
    }

    /// Tests that backups can be stored there, by storing and deleting an object. Returns notes on what does not work
    /// although backups do.
    ///
    /// # Errors
    /// The first request that failed.
    pub async fn probe(&self) -> Result<Vec<String>, StoreError> {
        match &self.address {
            Address::Local(path) => LocalStore::open(path.clone())?.probe().await,
            Address::S3 { bucket, .. } => bucket.probe().await,
        }
    }

    /// How requests to the bucket look.
    pub fn in_use(&self) -> Option<InUse> {
        match &self.address {
            Address::Local(_) => None,
            Address::S3 { bucket, .. } => Some(bucket.in_use()),
        }
    }

    /// What people should know about it: where it is, and how requests look.
    pub fn facts(&self) -> Vec<String> {
        let mut facts = vec![self.store.url()];
        if let Address::S3 { bucket, .. } = &self.address {
            facts.extend(bucket.told());
        }
        facts
    }

    /// The store as `StartBackup` has it; the credentials are encrypted to that agent only.
    ///
    /// # Errors
    /// As [`Sealed::new`].
    pub fn for_agent(&self, agent: &Recipient) -> Result<bus::Store, SealError> {
        let kind = match &self.address {
            Address::Local(path) => {
                bus::store::Kind::Local(bus::LocalStore { path: path.to_string_lossy().into_owned() })
            }
            Address::S3 { spec, settings, bucket } => bus::store::Kind::S3(bus::S3Store {
                bucket: spec.bucket.clone(),
                region: region(spec),
                endpoint: spec.endpoint.clone(),
                prefix: settings.prefix.clone(),
                sealed_credentials: sealed_credentials(spec, agent)?.into(),
                storage_class: settings.storage_class.clone(),
                server_side_encryption: settings.server_side_encryption.clone(),
                kms_key_id: settings.kms_key_id.clone(),
                addressing: bucket.in_use().addressing.to_string(),
                checksum: bucket.in_use().checksum.to_string(),
                absent_is_denied: bucket.in_use().absent_is_denied,
            }),
        };
        Ok(bus::Store { kind: Some(kind) })
    }

    /// What to say if a reported backup cannot be found in this store.
    pub fn not_visible(&self, name: &str) -> String {
        match &self.address {
            Address::Local(path) => format!(
                "{name} is not visible at {} from the coordinator: local storage needs a shared folder",
                path.display()
            ),
            Address::S3 { .. } => {
                format!("{name} was reported, but is not in {}: it was removed", self.store.url())
            }
        }
    }
}

/// Opens the store that `spec` describes, without a request. The settings take precedence over what was found out.
async fn connect(spec: &S3ConfigSpec, settings: &StorageSettings, found: Option<InUse>) -> Result<S3Store, StoreError> {
    let (addressing, checksum) = match (settings.addressing, settings.checksum, found) {
        (Addressing::Auto, Checksum::Auto, Some(found)) => (found.addressing, found.checksum),
        (Addressing::Auto, said, Some(found)) => (found.addressing, said),
        (said, Checksum::Auto, Some(found)) => (said, found.checksum),
        (addressing, checksum, _) => (addressing, checksum),
    };
    let credentials = (!spec.accesskeyid.is_empty()).then(|| S3Credentials {
        access_key_id: spec.accesskeyid.clone(),
        secret_access_key: spec.secretaccesskey.clone(),
        session_token: (!spec.sessiontoken.is_empty()).then(|| spec.sessiontoken.clone()),
    });
    S3Store::new(S3Settings {
        bucket: spec.bucket.clone(),
        region: region(spec),
        endpoint: spec.endpoint.clone(),
        prefix: settings.prefix.clone(),
        credentials,
        ca_file: settings.ca.clone(),
        ca_source: "ca in [storage]",
        objects: settings.objects(),
        addressing,
        checksum,
        absent_is_denied: found.is_some_and(|found| found.absent_is_denied),
    })
    .await
}

fn region(spec: &S3ConfigSpec) -> String {
    if spec.region.is_empty() { DEFAULT_REGION.into() } else { spec.region.clone() }
}

fn sealed_credentials(spec: &S3ConfigSpec, agent: &Recipient) -> Result<Vec<u8>, SealError> {
    if spec.accesskeyid.is_empty() {
        return Ok(Vec::new());
    }
    let plain = bus::Credentials {
        access_key_id: spec.accesskeyid.clone(),
        secret_access_key: spec.secretaccesskey.clone(),
        session_token: spec.sessiontoken.clone(),
    };
    let plain = zeroize::Zeroizing::new(plain.encode_to_vec());
    seal::seal_bytes(std::slice::from_ref(agent), &plain)
}

/// The state of the storage for the rest of the coordinator, as it changes.
#[derive(Debug, Clone)]
pub struct View {
    pub state: StorageState,
    pub active_store: Option<Arc<ActiveStore>>,
}

/// The state of the storage, and a way to be told about changes.
#[derive(Debug)]
pub struct StorageSwitch {
    sender: watch::Sender<View>,
}

impl Default for StorageSwitch {
    fn default() -> Self {
        let view = View { state: StorageState::NotInitialized, active_store: None };
        Self { sender: watch::Sender::new(view) }
    }
}

impl StorageSwitch {
    pub fn set(&self, active_store: ActiveStore) {
        info!("storing backups in {}", active_store.facts().join(", "));
        self.sender.send_replace(View { state: StorageState::Ready, active_store: Some(Arc::new(active_store)) });
    }

    pub fn clear(&self, state: StorageState) {
        self.sender.send_if_modified(|view| {
            let is_news = view.active_store.is_some() || view.state != state;
            *view = View { state, active_store: None };
            is_news
        });
    }

    pub fn now(&self) -> View {
        self.sender.borrow().clone()
    }

    pub fn subscribe(&self) -> watch::Receiver<View> {
        self.sender.subscribe()
    }
}
