//! `get`: resources as they stand in the records, the KV and the store.

use std::sync::Arc;

use backstay_archive::catalog;
use backstay_protocol::api::{ApiError, ErrorCode, GetRequest, GetResponse, PageError};
use backstay_protocol::codec::ContentType;
use backstay_protocol::resource::{LABEL_CLUSTER, LABEL_CLUSTER_UUID, Resource};
use backstay_protocol::selector::Selector;
use backstay_protocol::spec::{BackupSpec, MachineSetNodeSpec, MachineSetSpec, S3_CONFIG_ID, Spec};
use backstay_protocol::types::{self, TypeDefinition};
use backstay_protocol::{ClusterName, SnapshotName, Timestamp};
use serde::de::DeserializeOwned;

use super::{in_namespace, restore, seen, unavailable};
use crate::record::{ClusterRecord, Kept};
use crate::storage::{S3_ENTRY, StoredS3};
use crate::term::Term;

/// One resource by id, or all that the selector selects, in the order of ids (backups: newest first): as many as fit
/// one message in this encoding.
pub async fn get(
    term: &Arc<Term>,
    definition: &'static TypeDefinition,
    content_type: ContentType,
    request: GetRequest,
) -> Result<GetResponse, ApiError> {
    let selector: Selector = request.selector.parse().map_err(|e| ApiError::invalid(format!("{e}")))?;
    if !request.id.is_empty() && !selector.terms.is_empty() {
        return Err(ApiError::invalid("cannot specify both resource ID and selector"));
    }
    let mut items = match in_namespace(definition, &request.namespace) {
        true if definition == &types::ETCD_BACKUPS => backups(term, &request.id, &selector).await?,
        true => all(term, definition).await?,
        false => Vec::new(),
    };
    items.retain(|item| selector.matches(&item.metadata.labels));
    if !request.id.is_empty() {
        items.retain(|item| item.metadata.id == request.id);
        if items.is_empty() {
            let namespace = if request.namespace.is_empty() { definition.namespace } else { &request.namespace };
            return Err(ApiError::not_found(&format!("{}({namespace}/{})", definition.name, request.id)));
        }
    }
    // What a list adds to each item: a comma, or a tag and a length.
    let size = |item: &Resource| content_type.encode(item).map_or(usize::MAX / 2, |bytes| bytes.len()) + 8;
    GetResponse::page(items, &request.after, term.bus.max_payload(), size).map_err(|error| match error {
        PageError::Gone(_) => ApiError::new(ErrorCode::Conflict, error.to_string()),
        PageError::TooLarge { .. } => ApiError::new(ErrorCode::Internal, format!("{}: {error}", definition.name)),
    })
}

async fn all(term: &Term, definition: &'static TypeDefinition) -> Result<Vec<Resource>, ApiError> {
    let of_clusters = |project: fn(&ClusterRecord) -> Option<Resource>| -> Vec<Resource> {
        term.directory.records().iter().filter_map(|record| project(record)).collect()
    };
    Ok(match definition {
        d if d == &types::CLUSTERS => of_clusters(|r| Some(cluster_resource(r))),
        d if d == &types::CLUSTER_UUIDS => of_clusters(|r| Some(r.uuid_resource())),
        d if d == &types::ETCD_MANUAL_BACKUPS => of_clusters(|r| Some(r.manual.as_ref()?.resource(r.name.as_str()))),
        d if d == &types::ETCD_BACKUP_STATUSES => of_clusters(|r| Some(r.status.as_ref()?.resource(r.name.as_str()))),
        d if d == &types::ETCD_BACKUP_OVERALL_STATUSES => term.overall.resource().await.into_iter().collect(),
        d if d == &types::ETCD_BACKUP_S3_CONFIGS => s3_config(term).await?.into_iter().collect(),
        d if d == &types::AGENTS => seen::agents(term),
        d if d == &types::COORDINATOR_STATUSES => vec![seen::coordinator(term)],
        d if d == &types::BACKUP_RUNS => seen::runs(term),
        d if d == &types::RESTORES => restore::all(term),
        d if d == &types::VERIFICATIONS => restore::all_proofs(term),
        d if d == &types::MACHINE_SETS => kept::<MachineSetSpec>(term).await?,
        _ => kept::<MachineSetNodeSpec>(term).await?,
    })
}

/// A cluster as people see it.
pub fn cluster_resource(record: &ClusterRecord) -> Resource {
    record.cluster.resource(record.name.as_str())
}

async fn s3_config(term: &Term) -> Result<Option<Resource>, ApiError> {
    let found = term.kv.get::<StoredS3>(S3_ENTRY).await.map_err(|e| unavailable(&e))?;
    Ok(found.map(|found| found.value.shown.resource(S3_CONFIG_ID)))
}

/// The KV entries of a type that is only kept.
pub fn kept_prefix(definition: &TypeDefinition) -> String {
    format!("resource.{}.", definition.plural())
}

async fn kept<S: Spec + DeserializeOwned>(term: &Term) -> Result<Vec<Resource>, ApiError> {
    let prefix = kept_prefix(S::definition());
    let mut items = Vec::new();
    for key in term.kv.keys(&prefix).await.map_err(|e| unavailable(&e))? {
        if let Some(found) = term.kv.get::<Kept<S>>(&key).await.map_err(|e| unavailable(&e))? {
            items.push(found.value.resource(&key[prefix.len()..]));
        }
    }
    Ok(items)
}

/// Backups are read from the store, which is the truth for them.
async fn backups(term: &Term, id: &str, selector: &Selector) -> Result<Vec<Resource>, ApiError> {
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
    let Some(in_force) = view.in_force else {
        let text = format!("backup storage is not configured: {}", view.state.error());
        return Err(ApiError::new(ErrorCode::Unavailable, text));
    };
    let listed = catalog::list(&*in_force.store, record.uuid).await;
    let entries = listed.map_err(|e| ApiError::new(ErrorCode::Unavailable, e.to_string()))?;
    Ok(entries.iter().map(|entry| backup(&record, entry.snapshot, entry.size)).collect())
}

fn backup(record: &ClusterRecord, snapshot: SnapshotName, size: u64) -> Resource {
    let created = Timestamp::from_seconds(snapshot.unix_seconds());
    let spec = BackupSpec { createdat: Some(created), snapshot: snapshot.to_string(), size };
    let mut resource = Resource::of(BackupSpec::id(&record.name, snapshot), &spec).in_cluster(record.name.as_str());
    resource.metadata.created = Some(created.rfc3339());
    resource.metadata.updated = Some(created.rfc3339());
    resource.metadata.labels.insert(LABEL_CLUSTER_UUID.into(), record.uuid.to_string());
    resource
}
