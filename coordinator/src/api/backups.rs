//! Backups, as the store lists them: it is the truth for them.

use backstay_archive::catalog;
use backstay_protocol::api::{ApiError, ErrorCode};
use backstay_protocol::resource::{LABEL_CLUSTER, LABEL_CLUSTER_UUID, Resource};
use backstay_protocol::selector::Selector;
use backstay_protocol::spec::BackupSpec;
use backstay_protocol::{ClusterName, SnapshotName};

use crate::record::ClusterRecord;
use crate::term::Term;

/// Those of the cluster that the selector or the id names.
pub async fn list(term: &Term, id: &str, selector: &Selector) -> Result<Vec<Resource>, ApiError> {
    let name = match (selector.required_value(LABEL_CLUSTER), id.rsplit_once('-')) {
        (Some(name), _) => name,
        (None, Some((name, _))) => name,
        (None, None) if !id.is_empty() => return Ok(Vec::new()),
        (None, None) => {
            return Err(ApiError::invalid(format!("cluster must be given: --selector {LABEL_CLUSTER}=NAME")));
        }
    };
    let name: ClusterName = name.parse().map_err(|e| ApiError::invalid(format!("{e}")))?;
    let Some(handle) = term.directory.get(&name) else {
        return Err(ApiError::new(ErrorCode::NotFound, format!("cluster {:?} does not exist", name.as_str())));
    };
    let record = handle.record.borrow().clone();
    let view = term.storage.now();
    let Some(active_store) = view.active_store else {
        let text = format!("backup storage is not configured: {}", view.state.error());
        return Err(ApiError::new(ErrorCode::Unavailable, text));
    };
    let listed = catalog::list(&*active_store.store, record.uuid).await;
    let entries = listed.map_err(|e| ApiError::new(ErrorCode::Unavailable, e.to_string()))?;
    Ok(entries.iter().map(|entry| backup(&record, entry.snapshot, entry.size)).collect())
}

fn backup(record: &ClusterRecord, snapshot: SnapshotName, size: u64) -> Resource {
    let created = snapshot.time();
    let spec = BackupSpec { createdat: Some(created), snapshot: snapshot.to_string(), size };
    let mut resource = Resource::of(BackupSpec::id(&record.name, snapshot), &spec).in_cluster(record.name.as_str());
    resource.metadata.created = Some(created.rfc3339());
    resource.metadata.updated = Some(created.rfc3339());
    resource.metadata.labels.insert(LABEL_CLUSTER_UUID.into(), record.uuid.to_string());
    resource
}
