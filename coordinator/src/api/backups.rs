//! Backups, listed from the store, which is the only truth about them. [`list`] uses the names only, [`described`] the
//! manifests as well.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use backstay_archive::catalog::{self, ListedBackup, Progress, Reading};
use backstay_archive::manifest::Verdict;
use backstay_archive::{Manifest, Store};
use backstay_protocol::api::{ApiError, ErrorCode};
use backstay_protocol::backstay_types::StoredBackupSpec;
use backstay_protocol::resource::{LABEL_CLUSTER, LABEL_CLUSTER_UUID, Resource};
use backstay_protocol::selector::Selector;
use backstay_protocol::spec::{BackupSpec, Spec};
use backstay_protocol::{ClusterName, SnapshotName};

use crate::record::ClusterRecord;
use crate::restore::plan::proof;
use crate::term::Term;

/// How many manifests are read for one answer; for more, the caller asks for the next page.
const DESCRIBED_MAX: usize = 256;
/// How long the store may take to return them.
const DESCRIBED_TIMEOUT: Duration = Duration::from_secs(75);

/// A cluster, and its backups, newest first.
struct Listed {
    record: Arc<ClusterRecord>,
    store: Arc<dyn Store>,
    entries: Vec<ListedBackup>,
}

/// The backups of the cluster that the selector or the id names.
pub async fn list(term: &Term, id: &str, selector: &Selector) -> Result<Vec<Resource>, ApiError> {
    let Some(Listed { record, entries, .. }) = listed(term, id, selector).await? else { return Ok(Vec::new()) };
    Ok(entries.iter().map(|entry| backup(&record, entry)).collect())
}

/// The same with what their manifests say; if `after` is not empty, only those that follow it. The second value is
/// whether there are more.
pub async fn described(
    term: &Term,
    id: &str,
    selector: &Selector,
    after: &str,
) -> Result<(Vec<Resource>, bool), ApiError> {
    let Some(Listed { record, store, mut entries }) = listed(term, id, selector).await? else {
        return Ok((Vec::new(), false));
    };
    let id_of = |entry: &ListedBackup| BackupSpec::id(&record.name, entry.snapshot);
    if !id.is_empty() {
        entries.retain(|entry| id_of(entry) == id);
    }
    if !after.is_empty() {
        let gone = || ApiError::new(ErrorCode::Conflict, format!("the list changed: {after:?} is gone; begin again"));
        let at = entries.iter().position(|entry| id_of(entry) == after).ok_or_else(gone)?;
        entries.drain(..=at);
    }
    let more = entries.len() > DESCRIBED_MAX;
    entries.truncate(DESCRIBED_MAX);
    let late = |_| {
        let seconds = DESCRIBED_TIMEOUT.as_secs();
        let text = format!("the store did not give {} manifests within {seconds} s", entries.len());
        ApiError::new(ErrorCode::Unavailable, text)
    };
    let read = tokio::time::timeout(DESCRIBED_TIMEOUT, manifests(&*store, &entries)).await.map_err(late)??;
    let resources = entries.iter().map(|entry| stored(&record, entry, read.get(&entry.snapshot)));
    Ok((resources.collect(), more))
}

async fn listed(term: &Term, id: &str, selector: &Selector) -> Result<Option<Listed>, ApiError> {
    let name = match (selector.required_value(LABEL_CLUSTER), id.rsplit_once('-')) {
        (Some(name), _) => name,
        (None, Some((name, _))) => name,
        (None, None) if !id.is_empty() => return Ok(None),
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
        return Err(ApiError::new(ErrorCode::Unavailable, view.state.unavailable()));
    };
    let listed = catalog::list(&*active_store.store, record.uuid).await;
    let entries = listed.map_err(|e| ApiError::new(ErrorCode::Unavailable, e.to_string()))?;
    Ok(Some(Listed { record, store: active_store.store.clone(), entries }))
}

/// What the manifests say. One that cannot be read does not affect the others.
async fn manifests(store: &dyn Store, entries: &[ListedBackup]) -> Result<HashMap<SnapshotName, Manifest>, ApiError> {
    let (progress, mut read) = (Progress::default(), HashMap::new());
    let mut reading = Reading::new(store, &progress);
    let all = reading.each(entries.to_vec(), |entry, found| drop(read.insert(entry.snapshot, found.manifest))).await;
    all.map_err(|e| ApiError::new(ErrorCode::Unavailable, e.to_string()))?;
    reading.end();
    Ok(read)
}

fn backup(record: &ClusterRecord, entry: &ListedBackup) -> Resource {
    let (snapshot, size) = (entry.snapshot, entry.size);
    let spec = BackupSpec { createdat: Some(snapshot.time()), snapshot: snapshot.to_string(), size };
    resource(record, snapshot, &spec)
}

fn stored(record: &ClusterRecord, entry: &ListedBackup, manifest: Option<&Manifest>) -> Resource {
    let known = StoredBackupSpec {
        cluster: record.name.to_string(),
        snapshot: entry.snapshot.to_string(),
        createdat: Some(entry.snapshot.time()),
        stored: entry.size,
        ..StoredBackupSpec::default()
    };
    let spec = match manifest {
        None => {
            StoredBackupSpec { error: "its manifest cannot be read: the coordinator's log says why".into(), ..known }
        }
        Some(manifest) => StoredBackupSpec {
            size: Some(manifest.snapshot_bytes),
            revision: u64::try_from(manifest.origin.revision).ok(),
            proven: proven(manifest).into(),
            proof: proof(manifest),
            sha256: manifest.snapshot_sha256.clone(),
            encrypted: Some(manifest.seal.encryption != "none"),
            etcdversion: manifest.origin.etcd_version.clone(),
            etcdclusterid: manifest.origin.etcd_cluster_id.clone(),
            ..known
        },
    };
    resource(record, entry.snapshot, &spec)
}

/// What was checked before it became visible, in one word.
fn proven(manifest: &Manifest) -> &'static str {
    match &manifest.inspection {
        Some(found) if found.contents.is_none() => "checksum",
        Some(found) if found.verdict == Verdict::Equal && !found.is_own(&manifest.origin) => "pages+member",
        Some(_) => "pages",
        None => "checksum",
    }
}

fn resource<S: Spec>(record: &ClusterRecord, snapshot: SnapshotName, spec: &S) -> Resource {
    let created = snapshot.time();
    let mut resource = Resource::of(BackupSpec::id(&record.name, snapshot), spec).in_cluster(record.name.as_str());
    resource.metadata.created = Some(created.rfc3339());
    resource.metadata.updated = Some(created.rfc3339());
    resource.metadata.labels.insert(LABEL_CLUSTER_UUID.into(), record.uuid.to_string());
    resource
}
