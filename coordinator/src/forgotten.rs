//! Which clusters were deleted: an entry in the KV for each. Their backups stay in the store, and a coordinator that starts
//! registers every cluster that it finds there, except those.
//!
//! If NATS has lost its disk, nobody remembers, and a deleted cluster is registered again from the store.

use backstay_protocol::{ClusterName, Timestamp};
use serde::{Deserialize, Serialize};
use tracing::debug;

use crate::kv::{Kv, KvError};
use crate::record;

/// What is stored of a deleted cluster.
#[derive(Debug, Serialize, Deserialize)]
struct Forgotten {
    at: Timestamp,
}

fn entry(name: &ClusterName) -> String {
    format!("forgotten.{name}")
}

/// Removes a cluster's record, after recording that it was deleted.
pub async fn forget(kv: &Kv, name: &ClusterName, at: Timestamp) -> Result<(), KvError> {
    match kv.create(&entry(name), &Forgotten { at }).await {
        // It was deleted before.
        Ok(_) | Err(KvError::Conflict { .. }) => kv.delete(&record::entry(name)).await,
        Err(error) => Err(error),
    }
}

/// Whether a cluster without a record was deleted.
pub async fn is(kv: &Kv, name: &ClusterName) -> Result<bool, KvError> {
    Ok(kv.get::<Forgotten>(&entry(name)).await?.is_some())
}

/// The cluster was registered. An entry that remains nevertheless is harmless, since it is read only if there is no
/// record.
pub async fn is_no_more(kv: &Kv, name: &ClusterName) {
    let removed = async {
        match is(kv, name).await? {
            true => kv.delete(&entry(name)).await,
            false => Ok(()),
        }
    };
    if let Err(error) = removed.await {
        debug!(cluster = %name, %error, "could not remove the note that the cluster was deleted");
    }
}
