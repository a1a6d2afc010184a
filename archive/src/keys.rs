//! The keys that were copied into a series when other series were merged into it.

use backstay_protocol::ClusterUuid;
use bytes::Bytes;
use futures::TryStreamExt;

use crate::store::{Key, Store, StoreError};

/// Limit for the size of a key file, in bytes.
pub(crate) const KEY_MAX: usize = 16 * 1024;

/// The encrypted keys that were copied into this series: for each the UUID of the series that it came from, as text,
/// and the age file. A key that cannot be read is skipped with a warning, because another may be the one that is
/// needed.
///
/// # Errors
/// [`StoreError`] if the store does not answer, or cannot be listed.
pub async fn copied_keys(store: &dyn Store, cluster: ClusterUuid) -> Result<Vec<(String, Bytes)>, StoreError> {
    let mut keys = Vec::new();
    for (name, _, read) in key_files(store, cluster).await? {
        match read {
            Ok(key) => keys.push((name, key)),
            Err(error) if error.is_one_object_s() => tracing::warn!(%error, "skipped a key that was copied here"),
            Err(error) => return Err(error),
        }
    }
    Ok(keys)
}

/// The files of the copied keys: the name of each, its key in the store, and the result of reading it.
pub(crate) async fn key_files(
    store: &dyn Store,
    cluster: ClusterUuid,
) -> Result<Vec<(String, Key, Result<Bytes, StoreError>)>, StoreError> {
    let folder = format!("{cluster}/keys/");
    let listed: Vec<_> = store.list(&folder).try_collect().await?;
    let mut files = Vec::new();
    for object in listed {
        let name = object.key.as_str().strip_prefix(&folder).and_then(|name| name.strip_suffix(".age"));
        if let Some(name) = name.map(str::to_owned) {
            let read = store.get(&object.key, KEY_MAX).await;
            files.push((name, object.key, read));
        }
    }
    Ok(files)
}
