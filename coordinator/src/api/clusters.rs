//! Clusters, and their UUIDs.

use std::sync::Arc;

use backstay_protocol::api::{
    ApiError, ApplyRequest, ApplyResponse, DeleteRequest, DeleteResponse, ErrorCode, check_version,
};
use backstay_protocol::resource::Resource;
use backstay_protocol::spec::ClusterSpec;
use backstay_protocol::{ClusterName, types, validate};
use tokio::time::Instant;

use super::shared::{answer, in_namespace, invalid, known_cluster, missing, tell, typed, unavailable};
use crate::directory::Message;
use crate::record::{ClusterRecord, Meta};
use crate::registry;
use crate::term::Term;

/// Every cluster.
pub fn all(term: &Term) -> Vec<Resource> {
    term.directory.records().iter().map(|record| resource(record)).collect()
}

/// The UUID of every cluster.
pub fn uuids(term: &Term) -> Vec<Resource> {
    term.directory.records().iter().map(|record| record.uuid_resource()).collect()
}

/// A cluster as people see it.
fn resource(record: &ClusterRecord) -> Resource {
    record.cluster.resource(record.name.as_str())
}

/// Configures a cluster, and registers it if it is new.
pub async fn apply(term: &Arc<Term>, request: &ApplyRequest) -> Result<ApplyResponse, ApiError> {
    let spec = typed::<ClusterSpec>(&request.resource)?;
    validate::cluster(&spec, term.config.settings.backup.bounds()).map_err(invalid)?;
    let metadata = &request.resource.metadata;
    let name: ClusterName = metadata.id.parse().map_err(invalid)?;
    let meta = Meta::of(metadata);
    let found = term.directory.get(&name).map(|h| h.record.borrow().clone());
    let before = found.as_deref().map(resource);
    if request.dry_run {
        let uuid = backstay_protocol::ClusterUuid(uuid::Uuid::new_v4());
        let mut next = match found.as_deref() {
            Some(found) => {
                check_version(metadata.version, found.cluster.version)?;
                found.clone()
            }
            None => ClusterRecord::new(name, uuid, spec.clone(), term.clock.now()),
        };
        next.configure(spec, meta, term.clock.now());
        return Ok(answer(before, resource(&next), Vec::new()));
    }
    let created = match before {
        Some(_) => false,
        None => registry::register(term, &name, spec.clone(), None).await.map_err(|e| unavailable(&e))?,
    };
    let Some(handle) = term.directory.get(&name) else {
        return Err(ApiError::new(ErrorCode::Unavailable, "the coordinator is stopping; try again"));
    };
    let record =
        tell(&handle, |reply| Message::Configure { spec, meta, given: metadata.version, created, reply }).await?;
    Ok(answer(before, resource(&record), Vec::new()))
}

/// Removes a cluster's record. The next beat of one of its agents would register it again without its settings, so this
/// is refused while an agent is connected, unless it is forced or the settings do not let agents register clusters.
pub async fn delete(term: &Term, request: &DeleteRequest) -> Result<DeleteResponse, ApiError> {
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
        return Err(ApiError::invalid(handle.record.borrow().under_way()));
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
