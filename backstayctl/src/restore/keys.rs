//! The identity that decrypts a backup: the one that was given, or the cluster's own, which is in the store, encrypted
//! to the recovery key.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use backstay_archive::seal::{self, Identity};
use backstay_archive::{Key, Manifest, Store, keys};
use zeroize::Zeroizing;

use super::error::RestoreFailure;

/// The largest key file, in bytes.
const KEY_FILE_MAX: usize = 16 * 1024;

/// The identity that decrypts the backup; `None` if it is not encrypted.
///
/// # Errors
/// No key file was given, it cannot be read, or none of its keys decrypts the backup.
pub async fn opener(
    store: &dyn Store,
    manifest: &Manifest,
    file: Option<&Path>,
) -> Result<Option<Identity>, RestoreFailure> {
    if manifest.seal.encryption == "none" {
        return Ok(None);
    }
    let recipients = manifest.seal.recipients.join(", ");
    let Some(path) = file else { return Err(RestoreFailure::NoIdentity { recipients }) };
    let given = read(path)?;
    if opens(&given, manifest) {
        return Ok(Some(given));
    }
    let key = Key::cluster_key(manifest.cluster_uuid);
    let wrong = |cause: String| RestoreFailure::WrongIdentity {
        path: path.to_owned(),
        recipients: recipients.clone(),
        key: format!("{}/{key}", store.url()),
        cause,
    };
    let own = match store.get(&key, KEY_FILE_MAX).await {
        Ok(sealed) => unsealed(&given, &sealed),
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

fn read(path: &Path) -> Result<Identity, RestoreFailure> {
    let failed = |cause| RestoreFailure::ReadIdentity { path: path.to_owned(), cause };
    // Room for all that is taken: the buffer never grows and leaves no copy behind.
    let mut text = Zeroizing::new(String::with_capacity(KEY_FILE_MAX));
    File::open(path).and_then(|file| file.take(KEY_FILE_MAX as u64).read_to_string(&mut text)).map_err(failed)?;
    seal::parse_identity(&text).map_err(|cause| RestoreFailure::Identity { path: path.to_owned(), cause })
}
