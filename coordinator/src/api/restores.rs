//! Requests to restore a cluster.

use std::sync::Arc;

use backstay_protocol::api::{ApiError, ApplyRequest, ApplyResponse};
use backstay_protocol::backstay_types::RestoreSpec;
use backstay_protocol::bus::RestoreState;
use backstay_protocol::resource::Resource;
use backstay_protocol::{ClusterName, ClusterUuid, MachineId, RestoreId};
use tokio::time::Instant;
use uuid::Uuid;

use super::damaged;
use super::shared::{answer, existing, invalid, manifest, must_open, same, tell, typed};
use crate::directory::{Handle, Message};
use crate::latest::SnapshotSelector;
use crate::record::ClusterRecord;
use crate::restore::Restore;
use crate::restore::model::Live;
use crate::restore::plan::{Present, Target, plan, planned_at, version_notes};
use crate::restore::unsettled;
use crate::term::Term;

/// The latest restore of every cluster.
pub fn all(term: &Term) -> Vec<Resource> {
    term.directory
        .records()
        .iter()
        .filter_map(|record| Some(resource(term, record, record.restore.as_ref()?)))
        .collect()
}

fn resource(term: &Term, record: &ClusterRecord, restore: &Restore) -> Resource {
    let live = |machine: &MachineId| {
        let beat = term.fleet.last(&record.name, *machine)?.beat;
        Some(Live { host: beat.host, state: beat.restore })
    };
    restore.resource(&record.name, live)
}

/// Requests a restore; a dry run returns the plan.
pub async fn apply(term: &Arc<Term>, request: &ApplyRequest) -> Result<ApplyResponse, ApiError> {
    let mut spec = typed::<RestoreSpec>(&request.resource)?;
    let name: ClusterName = request.resource.metadata.id.parse().map_err(invalid)?;
    let handle = existing(term, &name).await?;
    let record = handle.record.borrow().clone();
    let before = record.restore.as_ref().map(|restore| resource(term, &record, restore));
    if let Some(restore) = record.restore.as_ref().filter(|restore| restore.id.to_string() == spec.restore) {
        same("restore", &spec.restore, "", &spec.snapshot, restore.source.snapshot)?;
        same("restore", &spec.restore, "cluster ", &spec.clusteruuid, restore.source.uuid)?;
        return Ok(answer(before.clone(), before.unwrap_or_default(), Vec::new()));
    }
    spec.started = planned_at(&spec, record.restore.as_ref().map(|latest| latest.started));
    let which = SnapshotSelector::parse(&spec.snapshot, spec.before).map_err(invalid)?;
    let (planned, notes) = prepare(term, &record, &spec, which).await?;
    if request.dry_run {
        return Ok(answer(before, resource(term, &record, &planned), notes));
    }
    let record = begin(&handle, planned).await?;
    let after = record.restore.as_ref().map(|restore| resource(term, &record, restore)).unwrap_or_default();
    Ok(answer(before, after, notes))
}

/// Tells the cluster's task to begin the restore.
pub async fn begin(handle: &Handle, restore: Restore) -> Result<Arc<ClusterRecord>, ApiError> {
    tell(handle, |reply| Message::Restore { restore: Box::new(restore), reply }).await
}

/// Checks what can be checked before any machine is told. Returns the plan, and what a person should know about it.
pub async fn prepare(
    term: &Term,
    record: &ClusterRecord,
    spec: &RestoreSpec,
    selector: SnapshotSelector,
) -> Result<(Restore, Vec<String>), ApiError> {
    if let Some(restore) = record.restoring() {
        return Err(ApiError::invalid(format!("restore {} is running", restore.id)));
    }
    let id = match spec.restore.as_str() {
        "" => RestoreId(Uuid::new_v4()),
        text => text.parse().map_err(invalid)?,
    };
    let uuid = match spec.clusteruuid.as_str() {
        "" => record.uuid,
        text => text.parse::<ClusterUuid>().map_err(|_| invalid(format!("invalid cluster UUID {text:?}")))?,
    };
    let manifest = manifest(term, uuid, selector).await?;
    let now = Instant::now();
    let present = |machine, agent: crate::fleet::Agent| {
        let twin = agent.twin(machine, now).unwrap_or_default();
        let identity = agent.beat.seat.unwrap_or_default();
        let version = agent.beat.member.as_ref().map(|member| member.etcd_version.clone());
        Present {
            twin,
            unfinished: unfinished(record, machine, agent.beat.restore.as_ref()),
            answers: version.is_some(),
            etcd_version: version
                .filter(|version| !version.is_empty())
                .unwrap_or_else(|| identity.etcd_version.clone()),
            identity,
        }
    };
    let agents = term.fleet.agents(&record.name, now).into_iter().map(|(id, agent)| (id, present(id, agent))).collect();
    let (cluster, etcd_cluster_id) = (record.name.clone(), record.etcd_cluster_id);
    let mut target = Target { cluster, uuid: record.uuid, etcd_cluster_id, agents };
    let unrelated = target.part_unrelated().map_err(invalid)?;
    let mut notes: Vec<String> = unrelated.iter().map(ToString::to_string).collect();
    match plan(&target, spec, id, &manifest, term.clock.now()) {
        Ok(mut planned) => {
            must_open(term, &manifest).await?;
            notes.extend(damaged::warn(term, &record.name, &mut planned).await);
            notes.extend(version_notes(&planned));
            Ok((planned, notes))
        }
        Err(error) => Err(invalid([vec![error], notes].concat().join("; "))),
    }
}

/// The restore that a machine reports as not finished. A beat may be older than the record.
fn unfinished(record: &ClusterRecord, machine: MachineId, state: Option<&RestoreState>) -> String {
    let known = |id: &str| {
        let restore = record.restore.as_ref().filter(|restore| restore.id.to_string() == id);
        restore.is_some_and(|restore| !unsettled::is_late(restore, machine))
    };
    match state.filter(|state| !unsettled::has_ended(state) && !known(&state.restore)) {
        Some(state) => state.restore.clone(),
        None => String::new(),
    }
}
