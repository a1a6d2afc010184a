//! The keys that were copied into a series when others were merged into it.

use backstay_protocol::ClusterUuid;
use bytes::Bytes;
use futures::TryStreamExt;

use crate::store::{Key, Store, StoreError};

/// No key file is larger than this many bytes.
pub(crate) const KEY_MAX: usize = 16 * 1024;

/// The sealed keys of the series that were copied into this one, by the name of each. One that cannot be read is skipped
/// with a warning: another may be the one that is needed.
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

/// The files of the keys that were copied into a series, the name of each, and what came of reading it.
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
