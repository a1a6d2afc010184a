//! Where backups go: the store in force, how it came to be so, and how an agent is told of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use age::x25519::Recipient;
use backstay_archive::seal::{self, SealError};
use backstay_archive::store::local::LocalStore;
use backstay_archive::store::s3::{S3Credentials, S3Settings, S3Store};
use backstay_archive::{Store, StoreError};
use backstay_protocol::bus;
use backstay_protocol::spec::S3ConfigSpec;
use prost::Message;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::{error, warn};

use crate::cluster::record::Kept;
use crate::config::StorageSettings;
use crate::keys::{KeyError, Keys, Sealed, replace_private};
use crate::status::StorageState;

/// The KV entry that holds the S3 configuration.
pub const S3_ENTRY: &str = "s3config";

/// The region where nobody names one.
pub const DEFAULT_REGION: &str = "us-east-1";

/// The S3 configuration at rest: what may be read, and the secrets sealed to the coordinator.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredS3 {
    /// With the secrets hidden.
    pub shown: Kept<S3ConfigSpec>,
    pub secrets: Sealed,
}

#[derive(Serialize, Deserialize)]
struct Secrets {
    secretaccesskey: String,
    sessiontoken: String,
}

impl StoredS3 {
    /// Seals the secrets of `full`.
    pub fn seal(full: Kept<S3ConfigSpec>, keys: &Keys) -> Result<Self, SealError> {
        let secrets = Secrets {
            secretaccesskey: full.spec.secretaccesskey.clone(),
            sessiontoken: full.spec.sessiontoken.clone(),
        };
        // Two texts: JSON can hold them.
        let plain = zeroize::Zeroizing::new(serde_json::to_vec(&secrets).expect("two texts"));
        let shown = Kept { spec: full.spec.redacted(), ..full };
        Ok(Self { shown, secrets: Sealed::new(&keys.recipient(), &plain)? })
    }

    /// The whole configuration, secrets included.
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

/// The file in `state_dir` with a sealed copy of the configuration.
const COPY: &str = "storage.json";

/// Keeps a copy of the configuration in `state_dir`, or none; trouble is logged, the KV has the original.
pub async fn keep_copy(state_dir: &Path, stored: Option<&StoredS3>) {
    let path = state_dir.join(COPY);
    let bytes = stored.map(serde_json::to_vec).transpose().map_err(std::io::Error::other);
    let kept = match bytes {
        Ok(Some(bytes)) => tokio::task::spawn_blocking(move || replace_private(&path, &bytes)).await,
        Ok(None) => Ok(tokio::fs::remove_file(&path).await.or_else(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(e),
        })),
        Err(error) => Ok(Err(error)),
    };
    if let Err(error) = kept.map_err(std::io::Error::other).flatten() {
        error!(%error, "the copy of the storage configuration could not be brought up to date");
    }
}

/// The copy, where there is one that can be read.
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

/// A store that backups can go to.
#[derive(Debug)]
pub struct InForce {
    pub store: Arc<dyn Store>,
    address: Address,
}

#[derive(Debug)]
enum Address {
    Local(PathBuf),
    S3 { spec: S3ConfigSpec, settings: Box<StorageSettings> },
}

impl InForce {
    pub fn local(path: PathBuf) -> Result<Self, StoreError> {
        Ok(Self { store: Arc::new(LocalStore::open(path.clone())?), address: Address::Local(path) })
    }

    pub async fn s3(spec: S3ConfigSpec, settings: &StorageSettings) -> Result<Self, StoreError> {
        let store = connect(&spec, settings).await?;
        Ok(Self { store: Arc::new(store), address: Address::S3 { spec, settings: Box::new(settings.clone()) } })
    }

    /// What `StartBackup` tells an agent; credentials are sealed to that agent alone.
    pub fn for_agent(&self, agent: &Recipient) -> Result<bus::Store, SealError> {
        let kind = match &self.address {
            Address::Local(path) => {
                bus::store::Kind::Local(bus::LocalStore { path: path.to_string_lossy().into_owned() })
            }
            Address::S3 { spec, settings } => bus::store::Kind::S3(bus::S3Store {
                bucket: spec.bucket.clone(),
                region: region(spec),
                endpoint: spec.endpoint.clone(),
                prefix: settings.prefix.clone(),
                sealed_credentials: sealed_credentials(spec, agent)?.into(),
                storage_class: settings.storage_class.clone(),
                server_side_encryption: settings.server_side_encryption.clone(),
                kms_key_id: settings.kms_key_id.clone(),
            }),
        };
        Ok(bus::Store { kind: Some(kind) })
    }

    /// What is known of it, a fact each, for people.
    pub fn facts(&self) -> Vec<String> {
        vec![self.store.url()]
    }

    /// What to say where a backup that was reported cannot be found here.
    pub fn not_visible(&self, name: &str) -> String {
        match &self.address {
            Address::Local(path) => format!(
                "{name} is not visible at {} from the coordinator: local storage needs a shared folder",
                path.display()
            ),
            Address::S3 { .. } => {
                format!("{name} was reported and is not in {}: somebody removed it", self.store.url())
            }
        }
    }
}

/// Opens the store that `spec` describes, without asking it anything.
pub async fn connect(spec: &S3ConfigSpec, settings: &StorageSettings) -> Result<S3Store, StoreError> {
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
        objects: settings.objects(),
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

/// What the rest of the coordinator sees of the storage, as it changes.
#[derive(Debug, Clone)]
pub struct View {
    pub state: StorageState,
    pub in_force: Option<Arc<InForce>>,
}

/// The storage now, and a way to hear of changes.
#[derive(Debug)]
pub struct StorageSwitch {
    sender: watch::Sender<View>,
}

impl Default for StorageSwitch {
    fn default() -> Self {
        let view = View { state: StorageState::NotInitialized, in_force: None };
        Self { sender: watch::Sender::new(view) }
    }
}

impl StorageSwitch {
    pub fn set(&self, in_force: InForce) {
        self.sender.send_replace(View { state: StorageState::Ready, in_force: Some(Arc::new(in_force)) });
    }

    pub fn clear(&self, state: StorageState) {
        self.sender.send_replace(View { state, in_force: None });
    }

    pub fn now(&self) -> View {
        self.sender.borrow().clone()
    }

    pub fn subscribe(&self) -> watch::Receiver<View> {
        self.sender.subscribe()
    }
}
