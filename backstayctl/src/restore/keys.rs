//! The identity that decrypts a backup: the one that was given, or the cluster's own, which is in the store, encrypted
//! to the recovery key.

use backstay_archive::seal::{self, Identity};
use backstay_archive::store::ErrorKind;
use backstay_archive::{Key, Manifest, Store, keys};
use backstay_daemon::key_file::KEY_FILE_MAX;

use super::error::RestoreFailure;
use super::trust::KeyFile;

/// The identity that decrypts the backup; `None` if it is not encrypted.
///
/// # Errors
/// No key file was given, or none of its keys decrypts the backup. Or one was given, so that an encrypted backup is
/// expected, and this one is not encrypted.
pub async fn opener(
    store: &dyn Store,
    manifest: &Manifest,
    file: Option<KeyFile>,
    allow_unencrypted: bool,
) -> Result<Option<Identity>, RestoreFailure> {
    if manifest.seal.encryption == "none" {
        return match file {
            Some(file) if !allow_unencrypted => {
                Err(RestoreFailure::NotEncrypted { snapshot: manifest.snapshot, path: file.path })
            }
            _ => Ok(None),
        };
    }
    let recipients = manifest.seal.recipients.join(", ");
    let Some(KeyFile { path, identity: given, .. }) = file else {
        return Err(RestoreFailure::NoIdentity { recipients });
    };
    let public = given.to_public().to_string();
    if opens(&given, manifest) {
        return Ok(Some(given));
    }
    let key = Key::cluster_key(manifest.cluster_uuid);
    let wrong = |cause: String| RestoreFailure::WrongIdentity {
        path: path.clone(),
        recipients: recipients.clone(),
        public: public.clone(),
        key: format!("{}/{key}", store.url()),
        cause,
    };
    let own = match store.get(&key, KEY_FILE_MAX).await {
        Ok(sealed) => unsealed(&given, &sealed),
        // A store that only `once` wrote to has no such key.
        Err(error) if error.is(ErrorKind::NotFound) => Err("there is no such object".into()),
        Err(error) => Err(error.to_string()),
    };
    let why = match own {
        Ok(own) if opens(&own, manifest) => return Ok(Some(own)),
        Ok(own) => format!("it contains the key of {}", own.to_public()),
        Err(error) => error,
    };
    // A backup that was copied here from another series is sealed to that one's key, which was copied too.
    let copied = keys::copied_keys(store, manifest.cluster_uuid).await?;
    let copied = copied.iter().filter_map(|(_, sealed)| unsealed(&given, sealed).ok());
    copied.into_iter().find(|key| opens(key, manifest)).map(Some).ok_or_else(|| wrong(why))
}

fn unsealed(identity: &Identity, sealed: &[u8]) -> Result<Identity, String> {
    let text = seal::open_bytes(identity, sealed).map_err(|error| error.to_string())?;
    seal::parse_identity(&String::from_utf8_lossy(&text)).map_err(|error| error.to_string())
}

fn opens(identity: &Identity, manifest: &Manifest) -> bool {
    let public = identity.to_public().to_string();
    manifest.seal.recipients.contains(&public)
}
