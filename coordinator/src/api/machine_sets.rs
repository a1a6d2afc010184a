//! Machine sets and their nodes, which are stored for templates. A new control plane with a bootstrap spec restores its
//! cluster.

use std::sync::Arc;

use backstay_protocol::api::{ApiError, ApplyRequest, ApplyResponse, DeleteRequest, DeleteResponse};
use backstay_protocol::backstay_types::RestoreSpec;
use backstay_protocol::spec::{BootstrapSpec, MachineSetNodeSpec, MachineSetSpec};
use backstay_protocol::types::{self, TypeDefinition};
use backstay_protocol::{ClusterName, MachineId};
use tokio::time::Instant;

use super::shared::{existing, invalid, missing, tell, typed, unavailable};
use super::{kept, restores};
use crate::directory::Message;
use crate::latest::SnapshotSelector;
use crate::record::Kept;
use crate::restore::Restore;
use crate::term::Term;

/// The id of a control plane's machine set is the cluster's name and this.
const CONTROL_PLANES: &str = "-control-planes";

/// Stores a machine set, and restores its cluster if it asks for that.
pub async fn apply(term: &Arc<Term>, request: &ApplyRequest) -> Result<ApplyResponse, ApiError> {
    let spec = typed::<MachineSetSpec>(&request.resource)?;
    let id: ClusterName = request.resource.metadata.id.parse().map_err(invalid)?;
    let key = format!("{}{id}", kept::prefix(&types::MACHINE_SETS));
    let found = term.kv.get::<Kept<MachineSetSpec>>(&key).await.map_err(|e| unavailable(&e))?;
    let before = found.as_ref().map(|found| &found.value.spec);
    let notes = bootstrap(term, id.as_str(), before, &spec, request.dry_run).await?;
    let answer = kept::keep(term, request, id.as_str(), spec).await?;
    Ok(ApplyResponse { notes: [notes, answer.notes].concat(), ..answer })
}

/// Stores a node of a machine set.
pub async fn apply_node(term: &Term, request: &ApplyRequest) -> Result<ApplyResponse, ApiError> {
    let spec = typed::<MachineSetNodeSpec>(&request.resource)?;
    let id: MachineId = request.resource.metadata.id.parse().map_err(invalid)?;
    kept::keep(term, request, &id.to_string(), spec).await
}

/// The cluster that has this machine set as its control plane.
fn cluster_of(machine_set: &str) -> Option<ClusterName> {
    machine_set.strip_suffix(CONTROL_PLANES)?.parse().ok()
}

/// What a change of a machine set means for its cluster: a new control plane with a bootstrap spec restores it. Returns
/// what a person should know about that.
async fn bootstrap(
    term: &Arc<Term>,
    id: &str,
    before: Option<&MachineSetSpec>,
    spec: &MachineSetSpec,
    dry_run: bool,
) -> Result<Vec<String>, ApiError> {
    let earlier = before.and_then(|before| before.bootstrapspec.as_ref());
    let handle = cluster_of(id).and_then(|name| term.directory.get(&name));
    match (&spec.bootstrapspec, earlier) {
        (None, None) => Ok(Vec::new()),
        (Some(now), Some(earlier)) if now == earlier => Ok(Vec::new()),
        (None, Some(_)) => match handle.is_some_and(|handle| handle.record.borrow().restoring().is_some()) {
            true => Err(invalid("bootstrap spec can only be removed after the cluster is bootstrapped")),
            false => Ok(Vec::new()),
        },
        (Some(_), _) if !id.ends_with(CONTROL_PLANES) => {
            Err(invalid("bootstrap spec is not allowed for worker machine sets"))
        }
        (Some(_), _) if before.is_some() => Err(invalid(format!(
            "bootstrap spec is immutable after creation: `backstayctl delete machineset {id}` first"
        ))),
        (Some(now), _) => {
            let name = id.strip_suffix(CONTROL_PLANES).unwrap_or(id);
            let name: ClusterName = name.parse().map_err(invalid)?;
            restore_from(term, &name, now, dry_run).await
        }
    }
}

async fn restore_from(
    term: &Arc<Term>,
    name: &ClusterName,
    bootstrap: &BootstrapSpec,
    dry_run: bool,
) -> Result<Vec<String>, ApiError> {
    let handle = existing(term, name).await?;
    let record = handle.record.borrow().clone();
    // An earlier try began it, and its answer was lost; or the coordinator died before it kept the machine set.
    if record.was_begun_by_template(&bootstrap.clusteruuid, &bootstrap.snapshot) {
        return Ok(Vec::new());
    }
    let spec = RestoreSpec {
        clusteruuid: bootstrap.clusteruuid.clone(),
        snapshot: bootstrap.snapshot.clone(),
        ..RestoreSpec::default()
    };
    if bootstrap.clusteruuid.is_empty() || bootstrap.snapshot.is_empty() {
        return Err(invalid("bootstrapspec must have clusteruuid and snapshot"));
    }
    // A template that is applied again must mean the same backup: it names one.
    let named = SnapshotSelector::Named(bootstrap.snapshot.parse().map_err(invalid)?);
    let (planned, notes) = restores::prepare(term, &record, &spec, named).await?;
    let planned = Restore { by_template: true, ..planned };
    let serves = term.fleet.agents(name, Instant::now()).values().any(|agent| agent.beat.member.is_some());
    if serves && record.control_planes_deleted.is_none() {
        return Err(invalid(format!(
            "cluster {name} is serving: run `backstayctl delete machineset {name}{CONTROL_PLANES}` first, or use \
             `backstayctl restore {name}`"
        )));
    }
    if !dry_run {
        restores::begin(&handle, planned).await?;
    }
    Ok(notes)
}

/// Removes a machine set. A cluster that was not made by a template has none; its control plane can be deleted
/// nevertheless, so that a template may restore it.
pub async fn delete(term: &Arc<Term>, request: &DeleteRequest) -> Result<DeleteResponse, ApiError> {
    kept::may_be(&types::MACHINE_SETS, request)?;
    let noted = control_planes_deleted(term, &request.id, request.dry_run).await?;
    match remove(term, &types::MACHINE_SETS, request).await? || noted {
        true => Ok(DeleteResponse {}),
        false => Err(missing(&types::MACHINE_SETS, &request.id)),
    }
}

/// Removes a node of a machine set.
pub async fn delete_node(term: &Arc<Term>, request: &DeleteRequest) -> Result<DeleteResponse, ApiError> {
    match remove(term, &types::MACHINE_SET_NODES, request).await? {
        true => Ok(DeleteResponse {}),
        false => Err(missing(&types::MACHINE_SET_NODES, &request.id)),
    }
}

async fn remove(term: &Term, definition: &'static TypeDefinition, request: &DeleteRequest) -> Result<bool, ApiError> {
    kept::remove(term, definition, request, &format!("{}{}", kept::prefix(definition), request.id)).await
}

/// Records that a control plane's machine set was deleted, so that a template may restore its cluster.
///
/// # Errors
/// A restore of the cluster is under way.
async fn control_planes_deleted(term: &Term, machine_set: &str, dry_run: bool) -> Result<bool, ApiError> {
    let Some(handle) = cluster_of(machine_set).and_then(|name| term.directory.get(&name)) else { return Ok(false) };
    if handle.record.borrow().restoring().is_some() {
        return Err(ApiError::invalid("a restore of its cluster is running and needs it"));
    }
    if !dry_run {
        tell(&handle, |reply| Message::ControlPlanesDeleted { reply }).await?;
    }
    Ok(true)
}
