//! `delete`: what goes, and what keeps it from going.

use std::sync::Arc;

use backstay_protocol::ClusterName;
use backstay_protocol::api::{ApiError, DeleteRequest, DeleteResponse};
use backstay_protocol::spec::S3_CONFIG_ID;
use backstay_protocol::types::{self, TypeDefinition};
use tokio::time::Instant;

use super::apply::{known_cluster, read_only, tell};
use super::get::kept_prefix;
use super::{in_namespace, restore, unavailable};
use crate::config::Storage;
use crate::directory::Message;
use crate::status::StorageState;
use crate::storage::S3_ENTRY;
use crate::term::Term;
use crate::upkeep;

/// Removes a resource that people may remove.
pub async fn delete(
    term: &Arc<Term>,
    definition: &'static TypeDefinition,
    request: DeleteRequest,
) -> Result<DeleteResponse, ApiError> {
    if request.force && definition != &types::CLUSTERS {
        return Err(ApiError::invalid(format!("{} need no force: it is there for clusters", definition.name)));
    }
    match definition {
        d if d == &types::CLUSTERS => cluster(term, &request).await,
        d if d == &types::ETCD_MANUAL_BACKUPS => manual(term, &request).await,
        d if d == &types::ETCD_BACKUP_S3_CONFIGS => kept(term, d, &request, S3_ENTRY.to_owned()).await,
        d if d == &types::MACHINE_SETS || d == &types::MACHINE_SET_NODES => {
            kept(term, d, &request, format!("{}{}", kept_prefix(d), request.id)).await
        }
        d => Err(read_only(d)),
    }
}

fn missing(definition: &TypeDefinition, id: &str) -> ApiError {
    ApiError::not_found(&format!("{}({}/{id})", definition.name, definition.namespace))
}

/// Removes a cluster's record. An agent of it that is heard would register it again without its settings; so it stays as
/// long as one is connected, unless that is forced, or the settings keep agents from registering clusters.
async fn cluster(term: &Term, request: &DeleteRequest) -> Result<DeleteResponse, ApiError> {
    let definition = &types::CLUSTERS;
    let missing = || missing(definition, &request.id);
    let name: ClusterName = request.id.parse().map_err(|_| missing())?;
    if !in_namespace(definition, &request.namespace) || !term.directory.contains(&name) {
        return Err(missing());
    }
    let comes_back = term.config.settings.auto_register_clusters && !request.force;
    let handle = match comes_back {
        // A coordinator that just began to lead has not heard every agent yet.
        true => known_cluster(term, &name).await,
        false => term.directory.get(&name),
    };
    let handle = handle.ok_or_else(missing)?;
    let connected = term.fleet.agents(&name, Instant::now()).len();
    if connected > 0 && comes_back {
        return Err(still_connected(&name, connected));
    }
    if handle.record.borrow().restoring().is_some() {
        return Err(crate::cluster::restoring::under_way(&handle.record.borrow()));
    }
    if !request.dry_run {
        tell(&handle, |reply| Message::Forget { reply }).await?;
    }
    Ok(DeleteResponse {})
}

fn still_connected(name: &ClusterName, connected: usize) -> ApiError {
    let (agents, are, them) = if connected == 1 { ("agent", "is", "it") } else { ("agents", "are", "them") };
    ApiError::invalid(format!(
        "{connected} {agents} of cluster {:?} {are} connected and would register it again at once, without its schedule: \
         stop {them} first, or delete it with --force",
        name.as_str()
    ))
}

/// Removes the manual backup that stands in a cluster's record.
async fn manual(term: &Term, request: &DeleteRequest) -> Result<DeleteResponse, ApiError> {
    let definition = &types::ETCD_MANUAL_BACKUPS;
    let missing = || missing(definition, &request.id);
    let name: ClusterName = request.id.parse().map_err(|_| missing())?;
    let found = term.directory.get(&name).filter(|_| in_namespace(definition, &request.namespace));
    let handle = found.filter(|handle| handle.record.borrow().manual.is_some()).ok_or_else(missing)?;
    if !request.dry_run {
        tell(&handle, |reply| Message::DropManual { reply }).await?;
    }
    Ok(DeleteResponse {})
}

/// Removes what has an entry of its own.
async fn kept(
    term: &Term,
    definition: &'static TypeDefinition,
    request: &DeleteRequest,
    key: String,
) -> Result<DeleteResponse, ApiError> {
    let missing = || missing(definition, &request.id);
    let known_id = definition != &types::ETCD_BACKUP_S3_CONFIGS || request.id == S3_CONFIG_ID;
    let plain = request.id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if !known_id || !plain || !in_namespace(definition, &request.namespace) {
        return Err(missing());
    }
    let noted = definition == &types::MACHINE_SETS
        && restore::control_planes_deleted(term, &request.id, request.dry_run).await?;
    let _one_at_a_time = term.configuring.lock().await;
    let found = term.kv.get::<serde_json::Value>(&key).await.map_err(|e| unavailable(&e))?;
    if found.is_none() {
        // A cluster that no template made has none, and can be restored by one all the same.
        return if noted { Ok(DeleteResponse {}) } else { Err(missing()) };
    }
    if request.dry_run {
        return Ok(DeleteResponse {});
    }
    term.kv.delete(&key).await.map_err(|e| unavailable(&e))?;
    if definition == &types::ETCD_BACKUP_S3_CONFIGS && term.config.storage == Storage::S3 {
        upkeep::keep_copy(term, None).await;
        term.storage.clear(StorageState::NotInitialized);
        upkeep::refresh_overall(term).await.map_err(|e| unavailable(&e))?;
    }
    Ok(DeleteResponse {})
}
