//! Restores as people ask for them: by the resource, or by a control plane with a bootstrap spec. And proofs of backups.

use std::sync::Arc;

use backstay_archive::Manifest;
use backstay_protocol::api::{ApiError, ApplyRequest, ApplyResponse, ErrorCode};
use backstay_protocol::bus::RestoreState;
use backstay_protocol::own::{RestoreSpec, VerificationSpec};
use backstay_protocol::resource::Resource;
use backstay_protocol::spec::{BootstrapSpec, MachineSetSpec};
use backstay_protocol::{ClusterName, ClusterUuid, MachineId, RestoreId, SnapshotName, VerifyId};
use tokio::time::Instant;
use uuid::Uuid;

use super::apply::{answer, in_force, invalid, known_cluster, tell, typed};
use super::damaged;
use crate::directory::Handle;
use crate::directory::Message;
use crate::latest::{self, NotFound, Which};
use crate::record::ClusterRecord;
use crate::restore::Restore;
use crate::restore::plan::{Present, Target, plan, planned_at, version_notes};
use crate::restore::unsettled;
use crate::term::Term;
use crate::verify::Verification;

/// What follows a cluster's name in the id of its control plane's machine set.
const CONTROL_PLANES: &str = "-control-planes";

/// The latest restore of every cluster.
pub fn all(term: &Term) -> Vec<Resource> {
    term.directory
        .records()
        .iter()
        .filter_map(|record| Some(resource(term, record, record.restore.as_ref()?)))
        .collect()
}

fn resource(term: &Term, record: &ClusterRecord, restore: &Restore) -> Resource {
    restore.resource(&record.name, |machine| term.fleet.last(&record.name, *machine)?.beat.restore)
}

/// Asks for a restore; a dry run answers with the plan.
pub async fn apply(term: &Arc<Term>, request: &ApplyRequest) -> Result<ApplyResponse, ApiError> {
    let mut spec = typed::<RestoreSpec>(&request.resource)?;
    let name: ClusterName = request.resource.metadata.id.parse().map_err(invalid)?;
    let handle = existing(term, &name).await?;
    let record = handle.record.borrow().clone();
    let before = record.restore.as_ref().map(|restore| resource(term, &record, restore));
    if let Some(restore) = record.restore.as_ref().filter(|restore| restore.id.to_string() == spec.restore) {
        same_backup("restore", &spec.restore, &spec.snapshot, restore.source.snapshot)?;
        return Ok(answer(before.clone(), before.unwrap_or_default(), Vec::new()));
    }
    spec.started = planned_at(&spec, record.restore.as_ref().map(|latest| latest.started));
    let which = Which::parse(&spec.snapshot, spec.before).map_err(invalid)?;
    let (planned, notes) = prepare(term, &record, &spec, which).await?;
    if request.dry_run {
        return Ok(answer(before, resource(term, &record, &planned), notes));
    }
    let record = begin(&handle, planned).await?;
    let after = record.restore.as_ref().map(|restore| resource(term, &record, restore)).unwrap_or_default();
    Ok(answer(before, after, notes))
}

/// The same request again, whose answer was lost. One that names another backup is none: its file was changed.
fn same_backup(field: &str, id: &str, asked: &str, is_of: SnapshotName) -> Result<(), ApiError> {
    match asked.parse::<SnapshotName>() {
        Ok(asked) if asked != is_of => Err(ApiError::invalid(format!(
            "{field} {id} is of {is_of}: to ask for one of {asked}, leave the field {field:?} out"
        ))),
        _ => Ok(()),
    }
}

async fn begin(handle: &Handle, restore: Restore) -> Result<Arc<ClusterRecord>, ApiError> {
    tell(handle, |reply| Message::Restore { restore: Box::new(restore), reply }).await
}

async fn existing(term: &Term, name: &ClusterName) -> Result<Handle, ApiError> {
    let missing = || ApiError::invalid(format!("cluster {:?} does not exist", name.as_str()));
    known_cluster(term, name).await.ok_or_else(missing)
}

/// Checks what can be checked before anybody is told. With the plan goes what a person should know of it.
async fn prepare(
    term: &Term,
    record: &ClusterRecord,
    spec: &RestoreSpec,
    which: Which,
) -> Result<(Restore, Vec<String>), ApiError> {
    if let Some(restore) = record.restoring() {
        return Err(ApiError::invalid(format!("restore {} is under way", restore.id)));
    }
    let id = match spec.restore.as_str() {
        "" => RestoreId(Uuid::new_v4()),
        text => text.parse().map_err(invalid)?,
    };
    let uuid = match spec.clusteruuid.as_str() {
        "" => record.uuid,
        text => text.parse::<ClusterUuid>().map_err(|_| invalid(format!("invalid cluster UUID {text:?}")))?,
    };
    let manifest = manifest(term, uuid, which).await?;
    let now = Instant::now();
    let present = |machine, agent: crate::fleet::Agent| {
        let seat = agent.beat.seat.unwrap_or_default();
        let version = agent.beat.member.as_ref().map(|member| member.etcd_version.clone());
        Present {
            unfinished: unfinished(record, machine, agent.beat.restore.as_ref()),
            answers: version.is_some(),
            etcd_version: version.filter(|version| !version.is_empty()).unwrap_or_else(|| seat.etcd_version.clone()),
            seat,
        }
    };
    let agents = term.fleet.agents(&record.name, now).into_iter().map(|(id, agent)| (id, present(id, agent))).collect();
    let (cluster, etcd_cluster_id) = (record.name.clone(), record.etcd_cluster_id);
    let mut target = Target { cluster, uuid: record.uuid, etcd_cluster_id, agents };
    let strangers = target.part_strangers().map_err(invalid)?;
    let mut notes: Vec<String> = strangers.iter().map(ToString::to_string).collect();
    match plan(&target, spec, id, &manifest, term.clock.now()) {
        Ok(mut planned) => {
            notes.extend(damaged::warn(term, &record.name, &mut planned).await);
            notes.extend(version_notes(&planned));
            Ok((planned, notes))
        }
        Err(error) => Err(invalid([vec![error], notes].concat().join("; "))),
    }
}

/// The restore that a machine says it has not come to the end of. A beat may be older than what the record knows.
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

async fn manifest(term: &Term, uuid: ClusterUuid, which: Which) -> Result<Manifest, ApiError> {
    let found = latest::find(term, &*in_force(term)?, uuid, which).await;
    found.map_err(|error| match &error {
        NotFound::None(_) => invalid(error),
        NotFound::Unknown(_) => ApiError::new(ErrorCode::Unavailable, error.to_string()),
    })
}

/// The cluster whose control plane a machine set is.
fn cluster_of(machine_set: &str) -> Option<ClusterName> {
    machine_set.strip_suffix(CONTROL_PLANES)?.parse().ok()
}

/// What a machine set's change means for its cluster: a control plane that appears with a bootstrap spec restores it. The
/// answer is what a person should know of that.
pub async fn bootstrap(
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
        return Err(invalid("bootstrapspec needs clusteruuid and snapshot"));
    }
    // A template that is applied again must mean the same backup: it names one.
    let named = Which::Named(bootstrap.snapshot.parse().map_err(invalid)?);
    let (planned, notes) = prepare(term, &record, &spec, named).await?;
    let planned = Restore { by_template: true, ..planned };
    let serves = term.fleet.agents(name, Instant::now()).values().any(|agent| agent.beat.member.is_some());
    if serves && record.control_planes_deleted.is_none() {
        return Err(invalid(format!(
            "cluster {name} serves: `backstayctl delete machineset {name}{CONTROL_PLANES}` first, or `backstayctl \
             restore {name}`"
        )));
    }
    if !dry_run {
        begin(&handle, planned).await?;
    }
    Ok(notes)
}

/// The latest proof of every cluster.
pub fn all_proofs(term: &Term) -> Vec<Resource> {
    let records = term.directory.records();
    records.iter().filter_map(|record| Some(record.verification.as_ref()?.resource(&record.name))).collect()
}

/// Asks for a proof.
pub async fn verify(term: &Arc<Term>, request: &ApplyRequest) -> Result<ApplyResponse, ApiError> {
    let spec = typed::<VerificationSpec>(&request.resource)?;
    let name: ClusterName = request.resource.metadata.id.parse().map_err(invalid)?;
    let handle = existing(term, &name).await?;
    let record = handle.record.borrow().clone();
    let before = record.verification.as_ref().map(|proof| proof.resource(&record.name));
    if let Some(proof) = record.verification.as_ref().filter(|proof| proof.id.to_string() == spec.verify) {
        same_backup("verify", &spec.verify, &spec.snapshot, proof.snapshot)?;
        return Ok(answer(before.clone(), before.unwrap_or_default(), Vec::new()));
    }
    let verification = plan_proof(term, &record, &spec).await?;
    if request.dry_run {
        return Ok(answer(before, verification.resource(&record.name), Vec::new()));
    }
    let record = tell(&handle, |reply| Message::Verify { verification: Box::new(verification), reply }).await?;
    let after = record.verification.as_ref().map(|proof| proof.resource(&record.name)).unwrap_or_default();
    Ok(answer(before, after, Vec::new()))
}

async fn plan_proof(term: &Term, record: &ClusterRecord, spec: &VerificationSpec) -> Result<Verification, ApiError> {
    if term.fleet.agents(&record.name, Instant::now()).is_empty() {
        return Err(invalid(format!("no agent of cluster {:?} is connected", record.name.as_str())));
    }
    let newest = if spec.snapshot.is_empty() { "latest" } else { &spec.snapshot };
    let manifest = manifest(term, record.uuid, Which::parse(newest, None).map_err(invalid)?).await?;
    let id = match spec.verify.as_str() {
        "" => VerifyId(Uuid::new_v4()),
        text => text.parse().map_err(invalid)?,
    };
    let (encrypted, now) = (manifest.seal.encryption != "none", term.clock.now());
    Ok(Verification::new(id, manifest.snapshot, manifest.snapshot_sha256, encrypted, spec.boot, now))
}

/// A control plane's machine set is deleted: noted where its cluster is known, so that a template may restore it.
///
/// # Errors
/// A restore of the cluster is under way.
pub async fn control_planes_deleted(term: &Term, machine_set: &str, dry_run: bool) -> Result<bool, ApiError> {
    let Some(handle) = cluster_of(machine_set).and_then(|name| term.directory.get(&name)) else { return Ok(false) };
    if handle.record.borrow().restoring().is_some() {
        return Err(ApiError::invalid("a restore of its cluster is under way: it is needed until that has ended"));
    }
    if !dry_run {
        tell(&handle, |reply| Message::ControlPlanesDeleted { reply }).await?;
    }
    Ok(true)
}
