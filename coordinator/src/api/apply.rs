//! `apply`: each type has its own way into the records, the KV or the storage.

use std::sync::Arc;
use std::time::Duration;

use backstay_archive::StoreError;
use backstay_archive::store::ErrorKind;
use backstay_protocol::api::{Action, ApiError, ApplyRequest, ApplyResponse, ErrorCode, check_version};
use backstay_protocol::bus::FIRST_BEATS;
use backstay_protocol::resource::{Metadata, Resource};
use backstay_protocol::spec::{
    ClusterSpec, MachineSetNodeSpec, MachineSetSpec, ManualBackupSpec, S3_CONFIG_ID, S3ConfigSpec, Spec,
};
use backstay_protocol::types::{self, TypeDefinition};
use backstay_protocol::{ClusterName, MachineId, validate};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::get::{cluster_resource, kept_prefix};
use super::{in_namespace, restore, unavailable};
use crate::config::Storage;
use crate::directory::Handle;
use crate::directory::Message;
use crate::record::Meta;
use crate::record::{ClusterRecord, Kept};
use crate::status::{self, StorageState};
use crate::storage::{InForce, S3_ENTRY, StoredS3};
use crate::term::Term;
use crate::{registry, upkeep};

/// A resource has at most so many bytes as JSON: an answer holds two, and an entry of the KV one.
const RESOURCE_MAX: usize = 64 * 1024;
/// How long S3 may take to prove that it can be worked with.
const PROBE_TIMEOUT: Duration = Duration::from_secs(60);

/// Creates a resource or makes it what is given.
pub async fn apply(
    term: &Arc<Term>,
    definition: &'static TypeDefinition,
    request: ApplyRequest,
) -> Result<ApplyResponse, ApiError> {
    let Metadata { kind, namespace, id, .. } = &request.resource.metadata;
    if kind != definition.name {
        return Err(ApiError::invalid(format!("metadata.type is {kind:?}, the subject is for {}", definition.name)));
    }
    if !in_namespace(definition, namespace) {
        return Err(ApiError::invalid(format!(
            "{} live in namespace {:?}, not {namespace:?}",
            definition.name, definition.namespace
        )));
    }
    let bytes = serde_json::to_vec(&request.resource).map_or(usize::MAX, |json| json.len());
    // Beside it the record of a cluster has more to say, and an answer what was there before.
    let room = RESOURCE_MAX.min(term.bus.max_payload() / 4);
    if bytes > room {
        return Err(ApiError::invalid(format!(
            "the resource has {bytes} bytes as JSON, more than the {room} that are kept"
        )));
    }
    if id.is_empty() {
        return Err(ApiError::invalid("metadata.id must be specified"));
    }
    if let Err(field) = validate::unknown_fields(&request.resource.spec, &types::every_field(definition), "spec") {
        return Err(ApiError::invalid(field.to_string()));
    }
    match definition {
        d if d == &types::ETCD_BACKUP_S3_CONFIGS => s3_config(term, &request).await,
        d if d == &types::ETCD_MANUAL_BACKUPS => manual(term, &request).await,
        d if d == &types::CLUSTERS => cluster(term, &request).await,
        d if d == &types::RESTORES => restore::apply(term, &request).await,
        d if d == &types::VERIFICATIONS => restore::verify(term, &request).await,
        d if d == &types::MACHINE_SETS => machine_set(term, &request).await,
        d if d == &types::MACHINE_SET_NODES => machine_set_node(term, &request).await,
        d => Err(read_only(d)),
    }
}

pub(super) fn read_only(definition: &TypeDefinition) -> ApiError {
    ApiError::new(ErrorCode::ReadOnly, format!("{} is read-only", definition.name))
}

pub(super) fn typed<S: Spec>(resource: &Resource) -> Result<S, ApiError> {
    if !resource.spec.is_object() {
        return Err(ApiError::invalid("spec must be a map"));
    }
    resource.typed().map_err(|e| ApiError::invalid(format!("spec: {e}")))
}

pub(super) fn invalid(error: impl std::fmt::Display) -> ApiError {
    ApiError::invalid(error.to_string())
}

pub(super) fn answer(before: Option<Resource>, resource: Resource, notes: Vec<String>) -> ApplyResponse {
    let action = match &before {
        None => Action::Created,
        Some(before) if before.metadata.version == resource.metadata.version && before.spec == resource.spec => {
            Action::Unchanged
        }
        Some(_) => Action::Updated,
    };
    ApplyResponse { action, before, resource, notes }
}

async fn s3_config(term: &Arc<Term>, request: &ApplyRequest) -> Result<ApplyResponse, ApiError> {
    if term.config.storage != Storage::S3 {
        return Err(ApiError::invalid(
            "the coordinator is configured for the local backend: [storage] backend = \"s3\" switches to S3",
        ));
    }
    if request.resource.metadata.id != S3_CONFIG_ID {
        return Err(ApiError::invalid(format!("there is one S3 configuration, its id is {S3_CONFIG_ID:?}")));
    }
    let _one_at_a_time = term.configuring.lock().await;
    let found = term.kv.get::<StoredS3>(S3_ENTRY).await.map_err(|e| unavailable(&e))?;
    if let Some(found) = &found {
        check_version(request.resource.metadata.version, found.value.shown.version)?;
    }
    // What cannot be opened any more (the identity was changed) is replaced by what is applied.
    let stored = found.as_ref().and_then(|f| f.value.open(&term.keys).ok());
    let spec = typed::<S3ConfigSpec>(&request.resource)?.unhidden(stored.as_ref()).map_err(invalid)?;
    let now = term.clock.now();
    let mut full = match (&found, &stored) {
        (Some(found), Some(stored)) => Kept { spec: stored.clone(), ..found.value.shown.clone() },
        (Some(found), None) => found.value.shown.clone(),
        (None, _) => Kept::new(spec.clone(), now),
    };
    full.set(spec.clone(), now);
    let before = found.as_ref().map(|f| f.value.shown.resource(S3_CONFIG_ID));
    if request.dry_run {
        validate::s3_config(&spec).map_err(invalid)?;
        let shown = Kept { spec: spec.redacted(), ..full };
        let note = "dry run: whether the bucket can be worked with was not tried".to_owned();
        return Ok(answer(before, shown.resource(S3_CONFIG_ID), vec![note]));
    }
    let prepared = prepare_s3(term, &spec).await;
    let (in_force, notes) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            let counted = term.overall.update(&*term.clock, status::count_attempt).await;
            counted.map_err(|e| unavailable(&e))?;
            return Err(error);
        }
    };
    let sealed = StoredS3::seal(full, in_force.in_use(), &term.keys);
    let sealed = sealed.map_err(|e| ApiError::new(ErrorCode::Internal, e.to_string()))?;
    let written = match &found {
        Some(found) => term.kv.update(S3_ENTRY, &sealed, found.revision).await,
        None => term.kv.create(S3_ENTRY, &sealed).await,
    };
    written.map_err(|e| unavailable(&e))?;
    upkeep::keep_copy(term, Some(&sealed)).await;
    let now = term.storage.now().in_force;
    if now.is_none_or(|now| now.in_use() != in_force.in_use()) || stored.as_ref() != Some(&spec) {
        term.storage.set(in_force);
    }
    let name = term.config.storage.name();
    let counted = term
        .overall
        .update(&*term.clock, |s| status::with_storage(&status::count_attempt(s), name, &StorageState::Ready));
    counted.await.map_err(|e| unavailable(&e))?;
    Ok(answer(before, sealed.shown.resource(S3_CONFIG_ID), notes))
}

/// Checks the configuration by itself, then against S3: list, create, complete, delete.
async fn prepare_s3(term: &Term, spec: &S3ConfigSpec) -> Result<(InForce, Vec<String>), ApiError> {
    validate::s3_config(spec).map_err(invalid)?;
    let (tried, settings) = (spec.clone(), term.config.settings.storage.clone());
    // A task of its own: where nobody waits for it any more, it still removes what it put there.
    let probe = term.tasks.spawn(async move {
        let in_force = InForce::s3(tried, &settings, None).await?;
        let notes = in_force.probe().await?;
        Ok::<_, StoreError>((in_force, notes))
    });
    match tokio::time::timeout(PROBE_TIMEOUT, probe).await {
        Ok(Ok(probed)) => probed.map_err(|error| invalid(with_endpoint(&error, spec))),
        Ok(Err(panicked)) => {
            Err(ApiError::new(ErrorCode::Internal, format!("the store could not be tried: {panicked}")))
        }
        Err(_) => Err(ApiError::invalid(format!(
            "failed to try bucket {:?}: S3 does not answer within {}s ({})",
            spec.bucket,
            PROBE_TIMEOUT.as_secs(),
            endpoint(spec)
        ))),
    }
}

/// Where nobody answers, it matters where that was.
fn with_endpoint(error: &StoreError, spec: &S3ConfigSpec) -> String {
    match error.is(ErrorKind::Unavailable) && (spec.endpoint.is_empty() || !error.cause.contains(&spec.endpoint)) {
        true => format!("{error} ({})", endpoint(spec)),
        false => error.to_string(),
    }
}

fn endpoint(spec: &S3ConfigSpec) -> String {
    match spec.endpoint.as_str() {
        "" => "at AWS, or where the coordinator's environment says: no endpoint is set".into(),
        endpoint => format!("endpoint {endpoint}"),
    }
}

async fn manual(term: &Arc<Term>, request: &ApplyRequest) -> Result<ApplyResponse, ApiError> {
    let spec = typed::<ManualBackupSpec>(&request.resource)?;
    let name: ClusterName = request.resource.metadata.id.parse().map_err(invalid)?;
    let Some(handle) = known_cluster(term, &name).await else {
        return Err(ApiError::invalid(format!("cluster {:?} does not exist", name.as_str())));
    };
    let record = handle.record.borrow().clone();
    let before = record.manual.as_ref().map(|m| m.resource(name.as_str()));
    // What was accepted once is not judged again: its time may lie in the past by now.
    let repeated = record.manual.as_ref().is_some_and(|m| m.spec == spec);
    if repeated {
        let resource = before.clone().unwrap_or_default();
        return Ok(answer(before, resource, Vec::new()));
    }
    let at = validate::manual_backup(&spec, term.clock.now()).map_err(invalid)?;
    in_force(term)?;
    if term.fleet.agents(&name, Instant::now()).is_empty() {
        return Err(ApiError::invalid(format!("no agent of cluster {:?} is connected", name.as_str())));
    }
    if request.dry_run {
        let mut next = (*record).clone();
        next.accept_manual(at.seconds, term.clock.now()).map_err(invalid)?;
        return Ok(answer(before, manual_resource(&next), Vec::new()));
    }
    let record = tell(&handle, |reply| Message::Manual { seconds: at.seconds, reply }).await?;
    Ok(answer(before, manual_resource(&record), Vec::new()))
}

fn manual_resource(record: &ClusterRecord) -> Resource {
    record.manual.as_ref().map(|m| m.resource(record.name.as_str())).unwrap_or_default()
}

/// The storage that backups go to.
///
/// # Errors
/// There is none, and why.
pub(super) fn in_force(term: &Term) -> Result<Arc<InForce>, ApiError> {
    let view = term.storage.now();
    let none = || ApiError::invalid(format!("backup storage is not configured: {}", view.state.error()));
    view.in_force.clone().ok_or_else(none)
}

/// The cluster's task and a connected agent; a coordinator that just began to lead waits for the first beats.
pub(super) async fn known_cluster(term: &Term, name: &ClusterName) -> Option<Handle> {
    let mut arrivals = term.fleet.arrivals();
    let wait = async {
        while !term.directory.contains(name) || term.fleet.agents(name, Instant::now()).is_empty() {
            if arrivals.changed().await.is_err() {
                return;
            }
            // Registration follows the first beat.
            tokio::task::yield_now().await;
        }
    };
    let _ = tokio::time::timeout_at(term.since + FIRST_BEATS, wait).await;
    term.directory.get(name)
}

pub(super) async fn tell(
    handle: &Handle,
    message: impl FnOnce(crate::directory::Reply) -> Message,
) -> Result<Arc<ClusterRecord>, ApiError> {
    let (reply, answer) = oneshot::channel();
    let stopping =
        || ApiError::new(ErrorCode::Unavailable, "the coordinator is stopping or has lost its lease: try again");
    handle.inbox.send(message(reply)).await.map_err(|_| stopping())?;
    answer.await.map_err(|_| stopping())?
}

async fn cluster(term: &Arc<Term>, request: &ApplyRequest) -> Result<ApplyResponse, ApiError> {
    let spec = typed::<ClusterSpec>(&request.resource)?;
    validate::cluster(&spec, term.config.settings.backup.bounds()).map_err(invalid)?;
    let metadata = &request.resource.metadata;
    let name: ClusterName = metadata.id.parse().map_err(invalid)?;
    let meta = Meta::of(metadata);
    let found = term.directory.get(&name).map(|h| h.record.borrow().clone());
    let before = found.as_deref().map(cluster_resource);
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
        return Ok(answer(before, cluster_resource(&next), Vec::new()));
    }
    let created = match before {
        Some(_) => false,
        None => registry::register(term, &name, spec.clone(), None).await.map_err(|e| unavailable(&e))?,
    };
    let Some(handle) = term.directory.get(&name) else {
        return Err(ApiError::new(ErrorCode::Unavailable, "the coordinator is stopping: try again"));
    };
    let record =
        tell(&handle, |reply| Message::Configure { spec, meta, given: metadata.version, created, reply }).await?;
    Ok(answer(before, cluster_resource(&record), Vec::new()))
}

async fn machine_set(term: &Arc<Term>, request: &ApplyRequest) -> Result<ApplyResponse, ApiError> {
    let spec = typed::<MachineSetSpec>(&request.resource)?;
    let id: ClusterName = request.resource.metadata.id.parse().map_err(invalid)?;
    let key = format!("{}{id}", kept_prefix(&types::MACHINE_SETS));
    let found = term.kv.get::<Kept<MachineSetSpec>>(&key).await.map_err(|e| unavailable(&e))?;
    let before = found.as_ref().map(|found| &found.value.spec);
    let notes = restore::bootstrap(term, id.as_str(), before, &spec, request.dry_run).await?;
    let answer = keep(term, request, id.as_str(), spec).await?;
    Ok(ApplyResponse { notes: [notes, answer.notes].concat(), ..answer })
}

async fn machine_set_node(term: &Term, request: &ApplyRequest) -> Result<ApplyResponse, ApiError> {
    let spec = typed::<MachineSetNodeSpec>(&request.resource)?;
    let id: MachineId = request.resource.metadata.id.parse().map_err(invalid)?;
    keep(term, request, &id.to_string(), spec).await
}

/// A resource that is only kept.
async fn keep<S: Spec>(term: &Term, request: &ApplyRequest, id: &str, spec: S) -> Result<ApplyResponse, ApiError> {
    let key = format!("{}{id}", kept_prefix(S::definition()));
    let now = term.clock.now();
    let metadata = &request.resource.metadata;
    let found = term.kv.get::<Kept<S>>(&key).await.map_err(|e| unavailable(&e))?;
    let before = found.as_ref().map(|f| f.value.resource(id));
    let mut next = match &found {
        Some(found) => {
            check_version(metadata.version, found.value.version)?;
            found.value.clone()
        }
        None => Kept::new(spec.clone(), now),
    };
    next.configure(spec, Meta::of(metadata), now);
    if found.is_none() {
        next.version = 1;
    }
    if !request.dry_run {
        let written = match &found {
            Some(found) if found.value == next => Ok(found.revision),
            Some(found) => term.kv.update(&key, &next, found.revision).await,
            None => term.kv.create(&key, &next).await,
        };
        written.map_err(|e| unavailable(&e))?;
    }
    Ok(answer(before, next.resource(id), Vec::new()))
}
